"""Where files that can be made again are kept."""

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
