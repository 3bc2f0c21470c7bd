"""The twins of `plane_kernels.py` in NumPy: same names and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsesim.engine.exact.plane_kernels import ODD1, ODD2, ODD3
from wsesim.engine.flow.state import NEVER


def add_to_digest(values: Any, seed: int, digest: Any) -> None:
    places = np.flatnonzero(values)
    mixed = _mixed(values[places] * ODD1 + places * ODD2 + seed)
    digest += [mixed.sum(), _mixed(mixed ^ ODD1).sum()]


def _mixed(words: Any) -> Any:
    words = (words ^ (words >> 30)) * ODD2
    words = (words ^ (words >> 27)) * ODD3
    return words ^ (words >> 31)


def keep_changes(before: Any, after: Any) -> int:
    after[after == before] = NEVER
    return int(after.max(initial=0))


def keep_busy(busy: Any, after: Any) -> tuple[int, int]:
    after[~busy] = NEVER
    return int(after[busy].min(initial=-NEVER)), int(after.max(initial=0))


def span(first: Any, last: Any) -> tuple[int, int]:
    there = first != NEVER
    return int(first[there].min(initial=-NEVER)), int(last[there].max(initial=0))
