"""Shelves by dynamic programming: the cheapest shelves of a catalogue that hold all layers on a frame's rows.

best[u, p] is the lowest cost of units 0, ..., u - 1 on shelves within the first p rows. A shelf of h rows that holds
the next n units leads from best[u, p] to best[u + n, p + h], if its rows lie in one run. The cost of a shelf is the
cycles of its blocks, of the transfers between them, and of the transfer to it from a shelf like itself. So the result
is exact for shelves that are alike, and off by the differences of transfers between unlike ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim_compiler.search.plans import Frame, Plan, Shelf, Units
from wsesim_compiler.search.prices import Prices

HEIGHTS = 4  # tried for each number and width of blocks, from the lowest to the highest that all shelves can have
MOST_BESIDE = 12  # blocks on a shelf
MOST_IN_RUN = 8  # shelves between two dead rows
INFINITE = np.int64(1) << 60


class Shelves:
    """Prices of shelves, and the best stack of them."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.units = Units(prices.partition)
        kinds = {prices.probe.kind((layer,)) for layer in self.units.layers}
        self._alike = len(kinds) == 1
        self._cycles: dict[tuple[Shelf, int], int | None] = {}

    def cycles(self, shelf: Shelf, first: int, limit: int | None = None) -> int | None:
        """Of a shelf whose first unit is number `first`; None if a block does not fit, or takes more than `limit`."""
        held = len(shelf.widths) * shelf.units
        whole = self._alike and first + held <= self.units.count
        key = (shelf, first % 2 if whole else first)
        if key not in self._cycles:
            self._cycles[key] = self._priced(shelf, first)
        found = self._cycles[key]
        if found is None or limit is None:
            return found
        return found if self.busiest(shelf, first) <= limit else None

    def busiest(self, shelf: Shelf, first: int) -> int:
        """Cycles of its slowest block."""
        starts = range(first, self.units.count, shelf.units)
        priced = (
            self.prices.block_cycles(self.units.stages(start, shelf.units), (columns, shelf.rows))
            for start, columns in zip(starts, shelf.widths, strict=False)
        )
        return max(cycles or 0 for cycles in priced)

    def _priced(self, shelf: Shelf, first: int) -> int | None:
        total, x = 0, 0
        blocks: list[Block] = []
        starts = list(range(first, self.units.count, shelf.units))[: len(shelf.widths)]
        for start, columns in zip(starts, shelf.widths, strict=False):
            own = self.prices.block_cycles(self.units.stages(start, shelf.units), (columns, shelf.rows))
            if own is None:
                return None
            total += own
            blocks.append(Block("", x, 0, columns, shelf.rows, "rows"))
            x += columns
        below = Block("", blocks[-1].x, shelf.rows, blocks[-1].columns, shelf.rows, "rows")
        for before, after in pairwise([*blocks, below]):
            total += self.prices.move_cycles(before, after, self.units.stages(first, shelf.units))
        return total

    def best(self, frame: Frame, catalogue: Iterable[Shelf], limit: int | None = None) -> Plan | None:
        """The cheapest plan from the shelves of a catalogue; None if no stack of them holds all layers."""
        shelves = [s for s in catalogue if s.rows <= frame.rows and sum(s.widths) <= frame.columns]
        count, rows = self.units.count, frame.rows
        cost = np.full((count + 1, rows + 1), INFINITE)
        shelf_of = np.full((count + 1, rows + 1), -1, np.int32)
        row_of, unit_of = np.zeros_like(shelf_of), np.zeros_like(shelf_of)
        cost[0] = 0
        left = _left(frame)
        for first in range(count):
            if cost[first, -1] >= INFINITE:
                continue
            for number, shelf in enumerate(shelves):
                own = self.cycles(shelf, first, limit) if _may_begin(shelf, first) else None
                if own is None:
                    continue
                stop = min(count, first + len(shelf.widths) * shelf.units)
                reached = np.where(
                    left[: rows + 1 - shelf.rows] >= shelf.rows, cost[first, : rows + 1 - shelf.rows], INFINITE
                )
                better = reached + own < cost[stop, shelf.rows :]
                cost[stop, shelf.rows :][better] = (reached + own)[better]
                shelf_of[stop, shelf.rows :][better] = number
                row_of[stop, shelf.rows :][better] = np.flatnonzero(better)
                unit_of[stop, shelf.rows :][better] = first
            _keep_best(first + 1, cost, shelf_of, row_of, unit_of)
        if cost[count, -1] >= INFINITE:
            return None
        found: list[Shelf] = []
        unit, row = count, rows
        while unit:
            found.append(shelves[shelf_of[unit, row]])
            unit, row = int(unit_of[unit, row]), int(row_of[unit, row])
        return Plan(frame, tuple(reversed(found)))

    def catalogue(self, frame: Frame, layers_per_block: Iterable[int], heights: int = HEIGHTS) -> list[Shelf]:
        """Shelves of equal blocks of whole layers, of as many layers each."""
        found: list[Shelf] = []
        tallest = max((rows for _, rows in frame.runs), default=0)
        for layers in layers_per_block:
            stages = self.units.stages(0, 2 * layers)
            for beside in range(1, min(MOST_BESIDE, ceil_div(len(self.units.layers), layers)) + 1):
                columns = frame.columns // beside
                needed = ceil_div(len(self.units.layers), layers * beside)
                highest = min(tallest, frame.rows // needed)
                least = self.prices.probe.lowest(stages, columns, tallest) if tallest else 0
                tried = {self.used(h) for h in _filling(frame)}
                if 0 < least <= highest:
                    tried |= {least, *(self.used(round(h)) for h in np.geomspace(least, highest, heights))}
                found += [Shelf(h, (columns,) * beside, 2 * layers) for h in sorted(tried) if h >= least > 0]
        return found

    def halves(self, frame: Frame, heights: int = HEIGHTS) -> list[Shelf]:
        """Shelves on which attention and FFN of each layer have a block of their own."""
        if not self.units.divisible:
            return []
        attention, ffn = self.units.layers[0].halves
        found: list[Shelf] = []
        layers = len(self.units.layers)
        tallest = max((rows for _, rows in frame.runs), default=0)
        for beside in range(1, min(MOST_BESIDE, layers) + 1):
            pair, needed = frame.columns // beside, ceil_div(layers, beside)
            highest = min(tallest, frame.rows // needed)
            for tenths in (2, 3, 4, 5):
                columns = (pair * tenths // 10, pair - pair * tenths // 10)
                least = max(
                    self.prices.probe.lowest((half,), width, highest) or tallest + 1
                    for half, width in zip((attention, ffn), columns, strict=True)
                )
                if highest and least <= highest:
                    tried = {least, *(self.used(round(h)) for h in np.geomspace(least, highest, heights))}
                    found += [Shelf(h, columns * beside, 1) for h in sorted(tried) if h >= least]
        return found

    def used(self, rows: int) -> int:
        return self.prices.probe.used_rows(rows)


def _filling(frame: Frame) -> set[int]:
    """Between dead rows: the heights at which some shelves fill a run of rows, as many as it may have."""
    if len(frame.runs) == 1:
        return set()
    return {rows // count for _, rows in frame.runs for count in range(1, MOST_IN_RUN + 1) if rows >= count}


def _may_begin(shelf: Shelf, first: int) -> bool:
    """Whether its blocks have whole layers, or one half each, from unit `first` on."""
    return first % 2 == 0 and (shelf.units == 1 or shelf.units % 2 == 0)


def _left(frame: Frame) -> np.ndarray:
    """Rows that lie together from each row on; 0 behind the last."""
    return np.concatenate([*(np.arange(rows, 0, -1) for _, rows in frame.runs), np.zeros(1, np.int64)]).astype(np.int64)


def _keep_best(unit: int, cost: np.ndarray, *notes: np.ndarray) -> None:
    """Fewer rows that cost less are as good with more rows."""
    own = cost[unit]
    least = np.minimum.accumulate(own)
    source = np.maximum.accumulate(np.where(own == least, np.arange(own.size), 0))
    cost[unit] = least
    for note in notes:
        note[unit] = note[unit][source]
