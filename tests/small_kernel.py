"""A kernel that compiles at once, run as a new process would run it."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsesim import cache, jit

READ, COMPILED = "read", "compiled"


def doubled(values: Any) -> None:
    for i in range(values.size):
        values[i] *= 2


def run_doubled() -> str:
    """Runs the kernel; whether its code was read or compiled."""
    cache._done.clear()
    kernel = jit.njit(_nrt=False)(doubled)
    values = np.arange(3)
    kernel(values)
    assert values.tolist() == [0, 2, 4]
    return READ if kernel.stats.cache_hits else COMPILED
