"""Where files that can be made again are kept, and how they are written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The user's cache folder for wsesim, or WSESIM_CACHE_DIR where that is set; it need not exist yet."""
    chosen = os.environ.get("WSESIM_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("wsesim"))


def use_numba_cache() -> Path:
    """Compiled kernels are kept in the user's cache directory unless NUMBA_CACHE_DIR says otherwise; where they are.

    To be called before the first kernel is defined, which then remembers the folder.
    """
    folder = Path(os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir() / "numba")))
    folder.mkdir(parents=True, exist_ok=True)  # where it cannot be, numba says nothing that one understands
    if "numba" in sys.modules:  # it has read its environment
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


def kernels_are_compiled() -> bool:
    """Whether any compiled kernel is kept."""
    return any(use_numba_cache().rglob("*.nbi"))


def write_whole(path: Path, text: str) -> None:
    """Writes beside `path` first, then moves it there: nobody ever reads half a file.

    Through a link to what it points at; what is no regular file (a pipe, a device) is written to, never replaced.
    """
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
