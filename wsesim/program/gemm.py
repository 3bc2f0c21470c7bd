"""Distributed matrix products on a block of P x P PEs: which tile is where at each step, who sends to whom.

C = A B with A [M, K], B [K, N] and C [M, N] in P x P tiles of equal size (padded): PE (i, j), row i and column j, holds
tile (i, j) of each. Tiles of a ring algorithm go round a ring of the P positions of a line; two rings are known:
    meshgemm   0, 2, 4, ..., 5, 3, 1: no neighbour is farther than two hops (WaferLLM's interleaved cyclic shift)
    cannon     0, 1, 2, ..., P - 1: the last one's neighbour is P - 1 hops away
With q(p) for the place of position p on the ring, PE (i, j) works at step s on the slice of K that has the place
q(i) + q(j) - s (mod P): A's tiles go to the next place of their row after each step, B's to the next place of their
column. Before the first step row i of A (and, unless it was laid out so, column j of B) is moved by -q(i) places, the
shorter way round; every line exchanges in all of the P // 2 rounds, those that need fewer keep what they had.
    transposed C = A B^T: A stays, B [N, K] goes along its columns as above, and the sums of C go along their rows; PE
               (i, j) adds to C's tile (i, l), q(l) = q(i) + q(j) - s. After the last step row i of C moves by q(i) + 1.
    summa      no ring: at step s column s of A is broadcast along the rows, row s of B along the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsesim.errors import UnknownNameError

Positions = NDArray[np.int64]

RINGS = ("meshgemm", "cannon")
ALGORITHMS = (*RINGS, "summa")


@dataclass(frozen=True, slots=True, eq=False)
class Ring:
    """The P positions of a line as a ring: `order` [P] by place, `place` [P] by position."""

    order: Positions
    place: Positions

    @property
    def size(self) -> int:
        return int(self.order.size)

    @property
    def rounds(self) -> int:
        """Rounds of an alignment: the farthest that a tile has to go, the shorter way round."""
        return self.size // 2

    def next(self, forward: bool = True) -> Positions:
        """[P] position that each one sends to."""
        neighbour: Positions = self.order[(self.place + (1 if forward else -1)) % self.size]
        return neighbour

    def turns(self, places: Positions) -> Positions:
        """Places to move, ahead if positive, the shorter way round; half the ring goes ahead."""
        ahead: Positions = places % self.size
        return np.where(2 * ahead > self.size, ahead - self.size, ahead)

    @property
    def skew(self) -> Positions:
        """[P] places by which the tiles of each line are moved before the first step."""
        return self.turns(-self.place)

    @property
    def unskew(self) -> Positions:
        """[P] places by which the sums of a transposed product are moved after the last step."""
        return self.turns(self.place + 1)


@lru_cache(maxsize=64)
def ring(size: int, algorithm: str) -> Ring:
    """The ring that `algorithm` lays over a line of `size` positions. Raises UnknownNameError."""
    if algorithm not in RINGS:
        raise UnknownNameError("ring", algorithm, RINGS)
    line = np.arange(size)
    order = line if algorithm == "cannon" else np.concatenate((line[::2], line[1::2][::-1]))
    return Ring(_frozen(order), _frozen(np.argsort(order)))


def slices(of: Ring, step: int) -> Positions:
    """[P, P] position whose slice of K (transposed: of N) PE (i, j) works on at `step`."""
    held: Positions = of.order[(of.place[:, None] + of.place[None, :] - step) % of.size]
    return held


def _frozen(array: Positions) -> Positions:
    array.flags.writeable = False
    return array
