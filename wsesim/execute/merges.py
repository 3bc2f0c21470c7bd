"""Reductions as stack programs: the merges of `collectives.reduction`, in an order that needs few live partial sums.

Around a ring every element has an order of its own: there the partial sums of all positions stay, and each element's
are added up from its own place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsesim.program.collectives import Reduction, parse_collective, reduction, ring_order
from wsesim.program.kernels import Linear


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Visit `order[v]`, push its partial sum, add the `children[v]` entries below it (the deepest first),
    keep the sum.

    What is left after the last visit is bit for bit the sum on the reduction's root: float addition commutes,
    and every position still adds its own partial first, then what it receives in the order of the merges.
    `split`: nothing is added (`children` are 0), the partials of all positions are left in the order of the ring.
    """

    order: NDArray[np.int32]
    children: NDArray[np.int32]
    depth: int
    split: bool = False

    @property
    def length(self) -> int:
        return len(self.order)

    def stored(self, decode: Schedule) -> NDArray[np.int32]:
        """Of each visit its position's place among the visits of a decode step, in whose order tiles are stored."""
        place = np.empty(self.length, np.int32)
        place[decode.order] = np.arange(self.length)
        return place[self.order]

    def first(self, elements: NDArray[np.integer]) -> NDArray[np.int32]:
        """The entry at which the sum of each element of a vector begins, to go around; none if nothing is split."""
        if not self.split:
            return np.empty(0, np.int32)
        return ((elements + 1) % self.length).astype(np.int32)


@lru_cache(maxsize=1024)
def schedule(length: int, collective: str) -> Schedule:
    """The stack program of a vector that is reduced whole, `reduction(length, collective)`. Raises UnknownNameError."""
    merges = reduction(length, collective)
    received = _received(merges)
    order = _after_children(merges.root, received)
    assert len(order) == length, "a reduction reaches every position once"
    counts = np.array([len(received[p]) for p in order], np.int32)
    return Schedule(np.array(order, np.int32), counts, _depth(counts))


@lru_cache(maxsize=1024)
def split_schedule(length: int, collective: str) -> Schedule:
    """The stack program of an AllReduce, whose vector a ring splits. Raises UnknownNameError."""
    if parse_collective(collective).algorithm != "ring" or length == 1:
        return schedule(length, collective)
    return Schedule(np.array(ring_order(length), np.int32), np.zeros(length, np.int32), length, split=True)


def linear_schedule(kernel: Linear) -> Schedule:
    """What is not sent back is reduced whole."""
    of = split_schedule if kernel.broadcast else schedule
    return of(kernel.layout.used, kernel.reduce)


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
