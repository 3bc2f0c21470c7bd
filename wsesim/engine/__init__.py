"""Timing: task graphs, and what they cost in cycles on a mesh of PEs."""

from wsesim.cache import use_numba_cache

use_numba_cache()
