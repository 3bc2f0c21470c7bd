"""What the messages of all errors have in common: one line, of bounded length, that no terminal acts upon."""

from __future__ import annotations

import pytest

from wsesim.errors import MOST_MESSAGE, InvalidInputError, UnknownNameError, WsesimError, brief, first_line


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a: 1", "a: 1"),
        ("these are wrong:\n  a\n  b\n", "these are wrong: a; b"),
        ("a\x1b[31m\0b", "a\\x1b[31m\\x00b"),
        ("a\udc80", "a\\udc80"),
        ("ä Ω", "ä Ω"),
        ("", ""),
    ],
)
def test_a_message_is_one_printable_line(message: str, shown: str) -> None:
    assert str(WsesimError(message)) == shown
    assert str(InvalidInputError(message)) == shown


def test_a_message_of_a_megabyte_is_cut() -> None:
    message = str(WsesimError("x " * (1 << 20)))
    assert len(message) == MOST_MESSAGE
    assert message.endswith("...")
    assert len(str(WsesimError("\0" * (1 << 20)))) <= MOST_MESSAGE


def test_what_is_said_of_a_path_that_is_too_long_stays() -> None:
    message = str(WsesimError(f"/a/{'x' * 5000}/model.onnx: File name too long"))
    assert message.startswith("/a/xxx")
    assert message.endswith("xxx/model.onnx: File name too long")
    assert len(message) < 350


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("abc", "'abc'"),
        (12, "12"),
        ("a" * 100, "'" + "a" * 27 + "..." + "a" * 28 + "'"),
        ([0] * 100, "[0, 0, 0, 0, 0, 0, ...]"),
        ({"a": "b" * 100}, "{'a': '" + "b" * 27 + "..." + "b" * 20 + "..."),
        pytest.param(10**5000, "a number of thousands of digits", id="digits"),
    ],
)
def test_a_value_is_shown_in_60_characters(value: object, shown: str) -> None:
    assert brief(value) == shown
    assert len(shown) <= 60


def test_a_library_is_quoted_by_its_first_line() -> None:
    assert first_line(ValueError("\n  no such thing\nPlease file an issue with the following pages")) == "no such thing"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 5000))) == 200


def test_a_long_unknown_name_is_not_echoed_whole() -> None:
    assert (
        str(UnknownNameError("model", "x" * 5000, ("tiny",))) == f"unknown model '{'x' * 97}...{'x' * 98}'; known: tiny"
    )
