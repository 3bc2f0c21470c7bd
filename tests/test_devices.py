"""Pipes and devices in place of a file. They are refused at once; reading them could block or never end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command_line import TOY, run

COMPILE = ("compile", "tiny", *TOY)
INPUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnx": ("m.onnx", ("compile", "{}", *TOY)),
    "pt2": ("m.pt2", ("compile", "{}", *TOY)),
    "factory": ("m.py", ("compile", "{}:make", *TOY)),
    "saved program": ("m.txt", ("simulate", "{}")),
    "placement": ("m.toml", (*COMPILE, "--placement", "{}")),
    "defects": ("m.toml", (*COMPILE, "--defects", "{}")),
    "from": ("m.txt", ("compile", "--from", "{}", *TOY)),
    "machine": ("m.toml", ("compile", "tiny", "--machine", "{}")),
    "weights": ("m.gguf", ("complete", "a", "--model", "tiny", *TOY, "--weights", "{}")),
}
LONGEST_WAIT_S = 60


class _WaitedError(BaseException):
    """A BaseException, so that no reader catches it as a fault of the file."""


@contextmanager
def alarm() -> Iterator[None]:
    """Interrupts a test that waits, so that it fails and the other tests go on."""

    def end(number: int, frame: object) -> None:
        raise _WaitedError

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST_WAIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", INPUTS)
def test_it_is_refused_at_once(name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, words = INPUTS[name]
    path = tmp_path / file
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with alarm():
        left = run(capsys, *(word.format(path) for word in words))
    assert left.status == 2, left.err
    assert left.out == ""
    last = left.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert str(path) in last


@pytest.mark.parametrize("name", INPUTS)
def test_what_is_not_there_is_refused_too(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same options with regular files work. So the refusals above are about the files."""
    file, words = INPUTS[name]
    left = run(capsys, *(word.format(tmp_path / file) for word in words))
    assert left.status == 2
    assert str(tmp_path / file) in left.err.splitlines()[-1]
