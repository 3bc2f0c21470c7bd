"""Readers that fail in different ways. `python -m tests.fuzz_probes` shows the harness's table of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.area import Area
from tests.fuzz.command import main
from wsesim.errors import InvalidInputError

_ROOM_BYTES = 300 << 20
_SEED = b"0123456789"


def _random_byte(rng: Random, content: bytes) -> bytes:
    return bytes([rng.randrange(256)]) + content[1:]


def accepts(path: Path) -> None:
    assert path.read_bytes()[1:] == _SEED[1:]


def refuses(path: Path) -> None:
    raise InvalidInputError(f"{path}: is refused")


class OwnWordsError(InvalidInputError):
    """An error that breaks the rule of its base class: one line of bounded length."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text


def refuses_in_two_lines(path: Path) -> None:
    raise OwnWordsError("one\ntwo")


def refuses_in_silence(path: Path) -> None:
    raise OwnWordsError("")


def echoes(path: Path) -> None:
    raise OwnWordsError("x" * 5000)


def raises(path: Path) -> None:
    raise ValueError("wrong")


def panics(path: Path) -> None:
    raise BaseException("as a native library does")


def warns(path: Path) -> None:
    warnings.warn("odd", RuntimeWarning, stacklevel=1)


def loops(path: Path) -> None:
    while True:
        pass


def waits_in_native_code(path: Path) -> None:
    time.sleep(60)


def takes_memory(path: Path) -> None:
    bytearray(10 << 30)


def recurses(path: Path) -> None:
    recurses(path)


def aborts_now_and_then(path: Path) -> None:
    """The file's time of change is the number of the case."""
    if path.stat().st_mtime_ns % 3 == 1:
        os.abort()


def leaves(path: Path) -> None:
    os._exit(0)


def writes_elsewhere(path: Path) -> None:
    (path.parent.parent / "escaped").write_bytes(b"")


def runs_a_program(path: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def calls(path: Path) -> None:
    with socket.socket() as line:
        line.connect(("127.0.0.1", 9))


def _area(read: Callable[[Path], None]) -> Area:
    return Area(
        read.__name__, "a.txt", lambda: (_SEED,), _random_byte, read, room_bytes=_ROOM_BYTES, warm=lambda _: False
    )


_READERS = (
    *(accepts, refuses, refuses_in_two_lines, refuses_in_silence, echoes, raises, panics, warns, loops),
    *(
        waits_in_native_code,
        takes_memory,
        recurses,
        aborts_now_and_then,
        leaves,
        writes_elsewhere,
        runs_a_program,
        calls,
    ),
)
AREAS = tuple(map(_area, _READERS))

if __name__ == "__main__":
    sys.exit(main(modules=("tests.fuzz_probes",)))
