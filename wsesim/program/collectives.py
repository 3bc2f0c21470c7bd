"""Collectives on a line of PEs: who adds whose partial sum, in which order.

The engine turns these merges into tasks and messages, execute adds in the same order: the placement decides both the
cycles and the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import isqrt

from wsesim.errors import UnknownNameError

ALGORITHMS = ("chain", "two_phase")


@dataclass(frozen=True, slots=True)
class Merge:
    """Position `target` adds what position `source` has summed so far."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """Merges in an order in which they may be done one after the other; the sum ends on `root`."""

    length: int
    root: int
    merges: tuple[Merge, ...]


@lru_cache(maxsize=1024)
def reduction(length: int, algorithm: str) -> Reduction:
    """The merges of `algorithm` on a line of `length` PEs. Raises UnknownNameError."""
    if algorithm == "chain":
        return Reduction(length, length - 1, _towards(range(length), length - 1))
    if algorithm == "two_phase":
        return _two_phase(length)
    raise UnknownNameError("collective", algorithm, ALGORITHMS)


def _two_phase(length: int) -> Reduction:
    """Groups of about sqrt(length) reduce to their middles, the middles to the middle one (K-tree, K = 2)."""
    count = max(1, isqrt(length))
    edges = [length * g // count for g in range(count + 1)]
    roots = [(a + b) // 2 for a, b in pairwise(edges)]
    within = [
        merge for (a, b), root in zip(pairwise(edges), roots, strict=True) for merge in _towards(range(a, b), root)
    ]
    centre = roots[count // 2]
    return Reduction(length, centre, (*within, *_towards(roots, centre)))


def _towards(positions: range | list[int], root: int) -> tuple[Merge, ...]:
    """Chains along `positions` (ascending) from both ends towards `root`, the western one first."""
    west = [p for p in positions if p <= root]
    east = [p for p in reversed(positions) if p >= root]
    pairs = [*pairwise(west), *pairwise(east)]
    return tuple(Merge(source, target) for source, target in pairs)
