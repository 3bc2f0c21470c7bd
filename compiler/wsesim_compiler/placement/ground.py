"""Ground: where blocks can stand on a wafer with dead PEs.

Rows on which a PE is dead carry no block; routes pass between the rows above and below them on other columns. Narrower
grounds, beside the dead PEs, have more such rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, product

import numpy as np

from wsesim.machine import Machine

MOST_GROUNDS = 4
MOST_EDGES = 64


@dataclass(frozen=True, slots=True)
class Ground:
    """Neighbouring columns, and the runs of rows on which none of their PEs is dead: (first row, how many)."""

    x: int
    columns: int
    runs: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.runs)

    @property
    def tallest(self) -> int:
        return max(rows for _, rows in self.runs)

    def stack(self, heights: Iterable[int]) -> tuple[int, ...] | None:
        """First row of each, one below the other and each as far north as it can be; None if they do not stand."""
        found: list[int] = []
        runs = iter(self.runs)
        y, left = next(runs)
        for height in heights:
            while left < height:
                y, left = next(runs, (0, -1))
                if left < 0:
                    return None
            found.append(y)
            y, left = y + height, left - height
        return tuple(found)

    def highest(self, above: int, count: int, below: int) -> int:
        """The greatest height at which `count` equal bands stand between a table above and one below; 0 if at none."""
        high = (self.rows - above - below) // count
        low = high if len(self.runs) == 1 else 0
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.stack((above, *[middle] * count, below)) else (low, middle - 1)
        return low


def grounds(machine: Machine) -> tuple[Ground, ...]:
    """Grounds of the usable rectangle, those with most PEs first; the whole of it where no PE is dead."""
    usable = machine.usable
    if not machine.dead:
        return (Ground(usable.x, usable.columns, ((usable.y, usable.rows),)),)
    dead = np.zeros((usable.rows, usable.columns), np.bool_)
    for x, y in machine.dead:
        dead[y - usable.y, x - usable.x] = True
    found = (ground for first, stop in _spans(dead) for ground in _standing(dead, first, stop, usable.x, usable.y))
    ranked = sorted(dict.fromkeys(found), key=lambda g: (-g.columns * g.rows, g.x, g.runs))
    return tuple(ranked[:MOST_GROUNDS])


def _spans(dead: np.ndarray) -> Iterator[tuple[int, int]]:
    """First column and the one behind the last, for every pair of edges: the rectangle's own and those of dead PEs."""
    columns = dead.shape[1]
    single = dead[~dead.all(axis=1)].any(axis=0)  # whole dead rows part no columns
    whole = np.asarray(dead.all(axis=0))
    places = np.flatnonzero(single if single.sum() <= MOST_EDGES else whole).tolist()
    for first, stop in product([0, *(place + 1 for place in places)], [*places, columns]):
        if first < stop and not whole[first:stop].any():
            yield first, stop


def _standing(dead: np.ndarray, first: int, stop: int, x: int, y: int) -> Iterator[Ground]:
    """The runs of clean rows of these columns, parted where no column leads from one to the next."""
    ours = dead[:, first:stop]
    broken = np.asarray(ours.any(axis=1))
    runs: list[tuple[int, int]] = []
    for clean, group in groupby(range(len(broken)), key=lambda row: not broken[row]):
        rows = list(group)
        if clean:
            runs.append((y + rows[0], len(rows)))
        elif runs and ours[rows].any(axis=0).all():
            yield Ground(x + first, stop - first, tuple(runs))
            runs = []
    if runs:
        yield Ground(x + first, stop - first, tuple(runs))
