"""Files that can be made again: where they lie, and how they are read and kept.

A run never depends on them. A file that cannot be read is made again. Where none can be written, the run goes on
without. Standard error gets one line about it, once per folder and process.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import platformdirs

from wsesim.files import read_bytes, write_whole

UNUSED_S = 30 * 24 * 3600
"""A kept file that was not read for so long is removed when another is kept beside it."""

_DAY_S = 24 * 3600

T = TypeVar("T")

_done: set[tuple[str, Path]] = set()
"""What was said about which folder, and which folders were looked through for unused files."""


def cache_dir() -> Path:
    """The user's cache folder for wsesim, or WSESIM_CACHE_DIR where that is set; it need not exist yet."""
    chosen = os.environ.get("WSESIM_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("wsesim"))


def kernels_dir() -> Path:
    """The folder of compiled kernels: in NUMBA_CACHE_DIR where that is set, else in `cache_dir`."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or cache_dir()) / "kernels"


def read_kept(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """What `parse` makes of a kept file. None if there is no file, if it cannot be read, or if `parse` raises."""
    try:
        if not path.exists():
            return None
        value = parse(read_bytes(path, "a kept file"))
    except Exception:  # a damaged file can make a parser raise anything
        _say_once("damaged", path.parent, f"{path} is damaged or cannot be read: it is made again")
        return None
    _mark_as_used(path)
    return value


def keep(path: Path, data: str | bytes) -> None:
    """Writes a file for `read_kept`, never half of it. What else is at `path` makes way, but for a folder with files.

    Raises nothing if the disk is full or the folder cannot be written.
    """
    try:
        make_way(path)
        write_whole(path, data)
        _remove_unused(path)
    except OSError as error:
        _say_once("kept", path.parent, f"cannot keep {path}: {error.strerror or error}; going on without")


def make_way(path: Path) -> None:
    """Removes what is at `path` unless it is a regular file. Raises OSError for a folder with files."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            path.rmdir()
        elif not stat.S_ISREG(mode):
            path.unlink()


def _mark_as_used(path: Path) -> None:
    with contextlib.suppress(OSError):  # others' folder, a disk that is read only
        if time.time() - path.stat().st_mtime > _DAY_S:
            os.utime(path)


def _remove_unused(path: Path) -> None:
    """Files like `path` beside it that nobody used of late. Another process may do the same: a file can be gone."""
    if ("looked through", path.parent) in _done:
        return
    _done.add(("looked through", path.parent))
    with os.scandir(path.parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                like = entry.name.endswith((path.suffix, ".partial")) and entry.is_file(follow_symlinks=False)
                if like and time.time() - entry.stat().st_mtime > UNUSED_S:
                    os.unlink(entry)


def _say_once(what: str, folder: Path, line: str) -> None:
    if (what, folder) not in _done:
        _done.add((what, folder))
        print(line, file=sys.stderr, flush=True)
