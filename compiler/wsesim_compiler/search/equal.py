"""Equal blocks: the size at which blocks with as many layers each are fastest, between the tables of some frames.

For each number of blocks side by side, blocks are first as wide and as high as the frame lets all of them be. The
fastest of these are then made smaller, or higher and narrower, or lower and wider, in ever finer steps, as long as that
is faster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim_compiler.placement.refuse import largest
from wsesim_compiler.search.plans import SERPENTINE, Frame, Plan, Shelf, Units
from wsesim_compiler.search.prices import Prices, Size

STARTS = 2  # largest sizes from which others are tried
RATIO = 1.15**0.5  # of widths and heights that are tried
STEPS = (8, 4, 2, 1)  # of the ratio by which a side is made shorter or longer at once
Rank = tuple[int, int]
"""Cycles, then PEs: the lowest is the best."""


def besides(count: int, most: int) -> list[int]:
    """How many of `count` blocks may stand side by side, at most `most`: the fewest for each number of rows of them."""
    return [n for n in range(1, min(count, most) + 1) if n == 1 or ceil_div(count, n) < ceil_div(count, n - 1)]


def shorter(side: int, steps: int) -> int:
    """A side that is some steps of the ratio shorter, or longer: a power of it, the same for every side; at least 1."""
    if not steps:
        return side
    return max(1, round(RATIO ** (math.ceil(math.log(side, RATIO) - 0.5) - steps)))


class EqualBlocks:
    """Plans of blocks with `layers` layers each; the last one has the rest. `size` fixes the size of all."""

    def __init__(self, prices: Prices, layers: int, *, size: Size | None = None, order: str = SERPENTINE) -> None:
        self.prices, self.layers, self.size, self.order = prices, layers, size, order
        units = Units(prices.partition)
        groups = [units.stages(first, 2 * layers) for first in range(0, units.count, 2 * layers)]
        counts = Counter(map(prices.probe.kind, groups))
        first_of = {prices.probe.kind(group): group for group in reversed(groups)}
        self._kinds = [(first_of[kind], count) for kind, count in counts.items()]
        self.count = len(groups)
        self._ranks: dict[Size, Rank | None] = {}

    def best(self, frames: Sequence[Frame]) -> Plan | None:
        """The fastest plan of all frames; None if the blocks stand in none of them."""
        found: list[tuple[int, int, int, Plan]] = []
        beside: list[int] = []
        for number, frame in enumerate(sorted(frames, key=lambda frame: (-frame.rows, frame.cycles))):
            starts = sorted(self._largest(frame, beside), key=self._rank_of)[:STARTS]
            beside = beside or [frame.columns // columns for columns, _ in starts]
            for size in starts if not found else ():
                self._improve(frame, size)
            ranked = ((rank, self.plan(frame, size)) for size, rank in self._ranks.items() if rank)
            found += [(frame.cycles + rank[0], rank[1], number, plan) for rank, plan in ranked if plan]
        return min(found, key=lambda entry: entry[:3])[3] if found else None

    def rank(self, size: Size) -> Rank | None:
        """Of all blocks at this size, each handing over to the next one east; None if one does not fit."""
        if size not in self._ranks:
            self._ranks[size] = self._ranked(size)
        return self._ranks[size]

    def plan(self, frame: Frame, size: Size) -> Plan | None:
        """As many blocks side by side as there is room for, in rows; None if they do not stand."""
        columns, rows = size
        beside = min(self.count, frame.columns // columns)
        if not beside:
            return None
        shelf = Shelf(rows, (columns,) * beside, 2 * self.layers)
        plan = Plan(frame, (shelf,) * ceil_div(self.count, beside), self.order)
        return plan if plan.tops() else None

    def _largest(self, frame: Frame, beside: Sequence[int]) -> Iterator[Size]:
        """The largest sizes at which the blocks stand and fit, for each number side by side."""
        for n in beside or besides(self.count, frame.columns):
            columns = frame.columns // n
            rows = self._highest(frame, columns, n)
            size = self.size or (columns, self.prices.probe.used_rows(rows) if rows else 0)
            if size[1] and self.plan(frame, size) and self.rank(size):
                yield size
            if self.size:
                return

    def _highest(self, frame: Frame, columns: int, beside: int) -> int:
        """The most rows at which blocks of so many columns stand; 0 if they stand at none."""
        return largest(frame.rows // ceil_div(self.count, beside), lambda rows: bool(self.plan(frame, (columns, rows))))

    def _improve(self, frame: Frame, size: Size) -> None:
        """Ranks better and better sizes: smaller ones, and those with one side shorter and the other longer."""
        for steps in STEPS if not self.size else ():
            better: Size | None = size
            while better:
                size = better
                tried = [self._changed(size, *less) for less in product((steps, 0, -steps), repeat=2)]
                fitting = [t for t in tried if t != size and self.plan(frame, t) and self.rank(t)]
                smallest = min(fitting, key=self._rank_of, default=size)
                better = smallest if self._rank_of(smallest) < self._rank_of(size) else None

    def _changed(self, size: Size, across: int, along: int) -> Size:
        rows = shorter(size[1], along)
        return shorter(size[0], across), self.prices.probe.used_rows(rows) if along else rows

    def _rank_of(self, size: Size) -> Rank:
        rank = self.rank(size)
        assert rank is not None, "only sizes that fit are compared"
        return rank

    def _ranked(self, size: Size) -> Rank | None:
        columns, rows = size
        cycles = 0
        for stages, count in self._kinds:
            own = self.prices.block_cycles(stages, size)
            if own is None:
                return None
            west, east = (Block("", x, 0, columns, rows, "rows") for x in (0, columns))
            cycles += count * (own + self.prices.move_cycles(west, east, stages))
        return cycles, columns * rows
