"""Opening, parsing and writing files of a user: what is refused, in one line that names the file."""

from __future__ import annotations

import ast
import os
import tracemalloc
from pathlib import Path

import pytest
from pydantic import BaseModel

from wsesim.errors import InvalidInputError, brief
from wsesim.files import open_file, parse_json, parse_toml, read_bytes, read_text, shown, validated


def refusal(call: object, *arguments: object) -> str:
    assert callable(call)
    with pytest.raises(InvalidInputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_regular_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ä")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b", "a text") == "ä"
    with open_file(tmp_path / "a", "a text") as file:
        assert file.read(1) == b"\xc3"


def test_what_is_no_regular_file_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "it is a pipe" in refusal(open_file, tmp_path / "pipe", "a text")
    assert "it is a folder" in refusal(open_file, tmp_path, "a text")
    assert "it is a device" in refusal(open_file, "/dev/zero", "a text")
    assert "No such file" in refusal(open_file, tmp_path / "absent", "a text")
    assert "null" in refusal(open_file, "a\0b", "a text")


def test_a_file_is_read_up_to_a_limit_and_as_utf8(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12\xff")
    assert read_bytes(tmp_path / "a", "a text", 3) == b"12\xff"
    assert "larger than 2 bytes" in refusal(read_bytes, tmp_path / "a", "a text", 2)
    assert "byte 2 is not UTF-8" in refusal(read_text, tmp_path / "a", "a text")


@pytest.mark.parametrize("text", ["[" * 200_000, "NaN", "[Infinity]", "9" * 5000, "{", b"\xff", ""])
def test_json_that_is_refused(text: str | bytes) -> None:
    assert refusal(parse_json, text, "a.json").startswith("a.json: is n")


@pytest.mark.parametrize("text", ["a = " + "[" * 200_000, "a = " + "9" * 5000, "a", "a = 1\na = 2"])
def test_toml_that_is_refused(text: str) -> None:
    assert refusal(parse_toml, text, "a.toml").startswith("a.toml: is n")


class Schema(BaseModel, strict=True):
    weight_map: dict[str, str]


def test_a_schema_names_the_first_entry_that_is_wrong() -> None:
    assert validated("a.json", Schema, {"weight_map": {"w": "f"}}).weight_map == {"w": "f"}
    said = refusal(validated, "a.json", Schema, {"weight_map": {"w": 1}})
    assert said == "a.json: weight_map.w: Input should be a valid string, not 1"
    assert refusal(validated, "a.json", Schema, {}) == "a.json: weight_map: Field required"
    assert "[1" in refusal(validated, "a.json", Schema, [1] * 10_000)


def test_names_and_values_are_shown_on_one_line_and_cut() -> None:
    assert shown("model.weight") == "model.weight"
    assert shown("a\nb\ud800") == "a\\nb\\ud800"
    assert shown("x" * 5000) == "x" * 60
    nested: object = 1
    for _ in range(100_000):
        nested = [nested]
    assert brief(nested).startswith("[[[[")
    assert brief([1] * 10**6) == "[1, 1, 1, 1, 1, 1, ...]"
    assert brief("a\n") == "'a\\n'"
    assert len(brief({"k": "x" * 5000})) == 60


def test_a_limit_costs_no_memory(tmp_path: Path) -> None:
    """Python sets aside as many bytes as are asked for, whatever the file holds."""
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "empty").touch()
    tracemalloc.start()
    assert read_bytes(tmp_path / "a", "a text", 1 << 40) == b"abc"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert read_bytes(tmp_path / "empty", "a text", 1 << 40) == b""
    assert read_bytes("/proc/self/status", "a text").startswith(b"Name:")


OWN_FILES = {
    "wsesim/files.py",
    "wsesim/digests.py",  # sources of the package
    "wsesim/machine/presets.py",  # presets of the package
    "wsesim/software/load.py",  # presets of the package
    "wsesim/report/published.py",  # measurements of the package
    "wsesim/cli/__init__.py",  # where output goes that nobody takes
    "models/wsesim_models/cache.py",  # what a pull writes
    "compiler/wsesim_compiler/frontends/exported/archive.py",  # members of an archive that is open
    "wsesim/report/page/page.py",  # scripts and styles of the package itself
}


def test_files_of_a_user_are_opened_in_one_place() -> None:
    root = Path(__file__).parents[1]
    opening = ("open", "read_text", "read_bytes")
    found = set()
    for package in ("wsesim", "compiler/wsesim_compiler", "models/wsesim_models"):
        for file in (root / package).rglob("*.py"):
            calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
            methods = {call.attr for call in calls if isinstance(call, ast.Attribute)}
            functions = {call.id for call in calls if isinstance(call, ast.Name)}
            if methods & set(opening) or "open" in functions:
                found.add(str(file.relative_to(root)))
    assert found == OWN_FILES
