"""An audit hook that limits a process while it reads a hostile file: files, sockets and programs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
_RUNNING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn", "socket.connect")
_LISTENING = ("socket.bind", "socket.getaddrinfo")

_opened: list[str] | None = None
_folders: tuple[str, ...] | None = None


class Escaped(BaseException):
    """A reader has written outside its folder, started a program or called somebody."""


@contextmanager
def files_read() -> Iterator[list[str]]:
    """The files that are opened meanwhile."""
    global _opened
    _install()
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def fence(*folders: str | Path) -> None:
    """From now on this process writes in these folders only, starts no program, and has no network."""
    global _folders
    _install()
    _folders = tuple(os.path.realpath(folder) + os.sep for folder in folders)


def lift_fence() -> None:
    """Lift the limits of this process."""
    global _folders
    _folders = None


@cache
def _install() -> None:
    """Installs the hook once. Python cannot remove a hook."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes | Path):
        _opened.append(os.fsdecode(arguments[0]))
    if _folders is None:
        return
    if event == "open":
        if arguments[2] & _WRITING:
            _require_inside(event, arguments[0])
    elif event in _CHANGING:
        _require_inside(event, arguments[1] if event in ("os.symlink", "os.link") else arguments[0])
    elif event in _RUNNING:
        raise Escaped(f"{event} {arguments!r:.200}")
    elif event in _LISTENING:
        raise OSError(errno.EACCES, "there is no network here")


def _require_inside(event: str, path: Any) -> None:
    assert _folders is not None
    if isinstance(path, int) or path is None:
        return
    name = os.path.realpath(os.fsdecode(path))
    if not (name + os.sep).startswith(_folders) and name != os.devnull:
        raise Escaped(f"{event} {name}")
