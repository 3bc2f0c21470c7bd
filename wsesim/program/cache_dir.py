"""Where files that can be made again are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The user's cache folder for wsesim, or WSESIM_CACHE_DIR where that is set; it need not exist yet."""
    chosen = os.environ.get("WSESIM_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("wsesim"))
