"""Cells: sets of shapes of a block. A cell is divided where a bound needs to know more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise, product

from wsesim_compiler.search.prices import Size


@dataclass(frozen=True, slots=True)
class Cell:
    """Blocks of at least `small` and at most `large` PEs along each side."""

    small: Size
    large: Size

    @property
    def pes(self) -> int:
        """PEs of the smallest block."""
        return self.small[0] * self.small[1]

    @property
    def spread(self) -> float:
        """The greater ratio, of both sides, of the largest length to the smallest; 1 if there is only one shape."""
        return max(large / small for small, large in zip(self.small, self.large, strict=True))

    def halves(self) -> tuple[Cell, Cell]:
        """Two cells with the same shapes, divided along the side with the greater ratio."""
        (columns, rows), (most_columns, most_rows) = self.small, self.large
        if most_columns * rows >= most_rows * columns:
            middle = _middle(columns, most_columns)
            return Cell(self.small, (middle, most_rows)), Cell((middle + 1, rows), self.large)
        middle = _middle(rows, most_rows)
        return Cell(self.small, (most_columns, middle)), Cell((columns, middle + 1), self.large)


def cells_of(columns: int, rows: int, along: int) -> list[Cell]:
    """All shapes of at most columns x rows, upright or turned, in at most (along + 1)^2 cells."""
    least, most = sorted((columns, rows))
    edges = sorted({*_edges(most, along), least + 1})
    sides = product(pairwise(edges), repeat=2)
    cells = [Cell((west, north), (east - 1, south - 1)) for (west, east), (north, south) in sides]
    return [cell for cell in cells if min(cell.small) <= least]


def _middle(low: int, high: int) -> int:
    """Where to divide the lengths low, ..., high: the last of the lower part."""
    return min(high - 1, math.isqrt(low * high))


def _edges(length: int, along: int) -> list[int]:
    """Geometric steps from 1 to behind the length."""
    return sorted({min(length, round((length + 1) ** (n / along))) for n in range(along)} | {length + 1})
