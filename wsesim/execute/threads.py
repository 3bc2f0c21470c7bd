"""`prange`, and which threads run it: chosen when the first parallel loop starts, so it is imported from here.

Of numba's layers TBB is the fastest, and hands a part to whichever thread is awake. OpenMP busy-waits at the end of
every loop: with one more busy process on two cores a token took four to seven times as long as with numba's own queue.
So the order is TBB, numba's own queue, OpenMP. TBB comes as a wheel, whose library lies where no loader looks for it.
"""

from __future__ import annotations

import ctypes
import os
from importlib import metadata

import numba
from numba import prange as prange

LAYERS = ["tbb", "workqueue", "omp"]


def _load_tbb() -> None:
    """Loads the wheel's library, if there is one, so that numba finds it by its name."""
    try:
        files = metadata.files("tbb") or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == "libtbb.so.12":
            ctypes.CDLL(str(file.locate().resolve()), mode=ctypes.RTLD_GLOBAL)  # type: ignore[attr-defined]


if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = LAYERS
    _load_tbb()
