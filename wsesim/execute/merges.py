"""Reductions as stack programs: the merges of `collectives.reduction`, in an order that needs few live
partial sums."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsesim.program.collectives import Reduction, reduction


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Visit `order[v]`, push its partial sum, add the `children[v]` entries below it (the deepest first),
    keep the sum.

    What is left after the last visit is bit for bit the sum on the reduction's root: float addition commutes,
    and every position still adds its own partial first, then what it receives in the order of the merges.
    """

    order: NDArray[np.int32]
    children: NDArray[np.int32]
    depth: int

    @property
    def length(self) -> int:
        return len(self.order)


@lru_cache(maxsize=1024)
def schedule(length: int, algorithm: str) -> Schedule:
    """The stack program of `reduction(length, algorithm)`. Raises UnknownNameError."""
    merges = reduction(length, algorithm)
    received = _received(merges)
    order = _after_children(merges.root, received)
    assert len(order) == length, "a reduction reaches every position once"
    counts = np.array([len(received[p]) for p in order], np.int32)
    return Schedule(np.array(order, np.int32), counts, _depth(counts))


def _received(merges: Reduction) -> list[list[int]]:
    received: list[list[int]] = [[] for _ in range(merges.length)]
    for merge in merges.merges:
        received[merge.target].append(merge.source)
    return received


def _after_children(root: int, received: list[list[int]]) -> list[int]:
    """Positions so that each comes after what it receives, the senders one complete subtree after the
    other."""
    order, pending = [], [root]
    while pending:
        position = pending.pop()
        order.append(position)
        pending.extend(received[position])
    return order[::-1]


def _depth(counts: NDArray[np.int32]) -> int:
    """Stack entries at the fullest moment, the newest partial included."""
    height, fullest = 0, 0
    for count in counts:
        fullest = max(fullest, height + 1)
        height += 1 - int(count)
    return fullest
