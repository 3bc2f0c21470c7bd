"""Ground: where blocks can stand on a wafer with dead PEs.

On some grounds blocks leave out the rows and the columns of dead PEs, so that no line of a block crosses one. Such a
ground counts rows and columns without those. On other grounds a row with a dead PE carries no block; routes pass
between the rows above and below it on other columns. Narrower grounds lie beside dead PEs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby, product

import numpy as np

from wsesim.machine import Machine, Rect
from wsesim.program.parts import Block

MOST_GROUNDS = 2  # of those on which blocks leave out rows, and of the others
MOST_EDGES = 64
MOST_IN_ROW = 4  # dead PEs on a row that is left out


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Columns and rows of the wafer that blocks leave out, ascending.

    `around`: the dead PEs for which they do. If none are given, blocks leave out all of the columns and rows.
    """

    columns: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    around: tuple[tuple[int, int], ...] = ()

    def opened(self, blocks: Sequence[Block]) -> list[Block]:
        """The blocks as they stand on the wafer. Before, their places do not count what is left out.

        They leave out no more than the dead PEs in or between them require.
        """
        if not self.around:
            return [_opened(block, self.columns, self.rows) for block in blocks]
        met: set[tuple[int, int]] = set()
        while True:
            columns, rows = (tuple(sorted(set(places))) for places in zip(*met, strict=True)) if met else ((), ())
            found = [_opened(block, columns, rows) for block in blocks]
            hull = reduce(Rect.hull, (block.rect for block in found))
            more = {pe for pe in self.around if hull.has(*pe)} - met
            if not more:
                return found
            met |= more


NOTHING = LeftOut()


def _opened(block: Block, columns: tuple[int, ...], rows: tuple[int, ...]) -> Block:
    """The block with its gaps, from a place that is counted without these columns and rows."""
    x, across = _between(block.x, block.columns, columns)
    y, down = _between(block.y, block.rows, rows)
    return dataclasses.replace(block, x=x, y=y, left_out_columns=across, left_out_rows=down)


def _between(first: int, count: int, left_out: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The first place on the wafer, and what is left out between it and the last."""
    ends = [first, first + count - 1]
    for place in left_out:
        ends = [end + (place <= end) for end in ends]
    return ends[0], tuple(place for place in left_out if ends[0] < place < ends[1])


@dataclass(frozen=True, slots=True)
class Ground:
    """Neighbouring columns, and runs of rows on which blocks can stand: (first row, how many).

    Columns and rows are numbered without those that are `left_out`.
    """

    x: int
    columns: int
    runs: tuple[tuple[int, int], ...]
    left_out: LeftOut = NOTHING

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
    spans = list(_spans(dead))
    found: list[Ground] = []
    for most in (MOST_IN_ROW, 0):
        own = {ground for span in spans for ground in _standing(dead, span, most, usable)} - {*found}
        found += sorted(own, key=_rank)[:MOST_GROUNDS]
    return tuple(sorted(found, key=_rank))


def _rank(ground: Ground) -> tuple[object, ...]:
    return -ground.columns * ground.rows, ground.x, ground.runs, ground.left_out.columns


def _spans(dead: np.ndarray) -> Iterator[tuple[int, int]]:
    """First column and the one behind the last, for every pair of edges: the rectangle's own and those of dead PEs."""
    columns = dead.shape[1]
    single = dead[~dead.all(axis=1)].any(axis=0)  # whole dead rows part no columns
    whole = np.asarray(dead.all(axis=0))
    places = np.flatnonzero(single if single.sum() <= MOST_EDGES else whole).tolist()
    for first, stop in product([0, *(place + 1 for place in places)], [*places, columns]):
        if first < stop and not whole[first:stop].any():
            yield first, stop


def _standing(dead: np.ndarray, span: tuple[int, int], most: int, usable: Rect) -> Iterator[Ground]:
    """The grounds on a span of columns, on which rows with up to `most` dead PEs are left out, with the PEs' columns.

    Rows with more of them end a run, and a ground where no column leads from one run to the next. So do the rows before
    the first one without a dead PE, and those after the last.
    """
    ours = dead[:, slice(*span)]
    count = ours.sum(axis=1)
    clean = np.flatnonzero(count == 0)
    if not clean.size:
        return
    out = (count > 0) & (count <= most)
    out[: clean[0]] = out[clean[-1] :] = False
    kept = ~ours[out].any(axis=0)
    if not kept.any():
        return
    broken, corner = (count > 0) & ~out, (usable.x + span[0], usable.y)
    runs: list[list[int]] = []
    for ends, group in groupby(range(len(count)), key=lambda row: bool(broken[row])):
        rows = list(group)
        if not ends:
            runs.append(rows)
        elif runs and ours[rows][:, kept].any(axis=0).all():
            yield _ground(ours, out, runs, corner)
            runs = []
    if runs:
        yield _ground(ours, out, runs, corner)


def _ground(ours: np.ndarray, out: np.ndarray, runs: Sequence[Sequence[int]], corner: tuple[int, int]) -> Ground:
    """The ground of these runs of rows, from which those that are `out` are left out. `ours` begins at the corner."""
    x, y = corner
    own = out.copy()
    own[: runs[0][0]] = own[runs[-1][-1] + 1 :] = False
    kept = ~ours[own].any(axis=0)
    numbers = y + np.cumsum(~own) - 1  # of the rows that are not left out
    closed = [[int(numbers[row]) for row in run if not own[row]] for run in runs]
    dead = np.argwhere(ours & own[:, None]).tolist() if len(runs) == 1 else []  # rows between runs stay where they are
    left_out = LeftOut(
        tuple((x + np.flatnonzero(~kept)).tolist()),
        tuple((y + np.flatnonzero(own)).tolist()),
        tuple((x + column, y + row) for row, column in dead),
    )
    return Ground(x, int(kept.sum()), tuple((run[0], len(run)) for run in closed if run), left_out)
