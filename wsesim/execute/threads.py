"""`prange`, and which threads run it: chosen when the first parallel loop starts, so it is imported from here.

Of numba's layers OpenMP busy-waits at the end of every parallel loop. On a machine whose cores have other work too, a
token then takes five to ten times as long as with numba's own queue of work (measured), which sleeps.
"""

from __future__ import annotations

import os

import numba
from numba import prange as prange

LAYER = "workqueue"

if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = LAYER
