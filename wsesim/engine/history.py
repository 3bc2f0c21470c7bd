"""What a run knows of a window without looking at its state: the segments that ran there, and when.

A segment's state is decided by the segments whose windows meet its own. One that is settled, all of whose PEs, ramps
and links are free again before the new segment begins, is as good as none. So the effects of the unsettled ones, where
they stand and when they began after one another, name the state: if a segment was seen after the same ones before, it
does the same. Where the beginning cannot be bounded from below, there is no such name, and the state is looked at.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from wsesim.engine.effect import Effect
from wsesim.engine.expand import Segment
from wsesim.engine.expand.segment import Plan
from wsesim.machine import Rect


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A segment that ran from `base` on."""

    segment: Segment
    effect: Effect
    base: int


class History:
    """The records of one run, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._covered: dict[tuple[Plan, Plan, int, int], bool] = {}

    def name(self, segment: Segment) -> tuple[Hashable, int] | None:
        """A name for the state that the segment meets, and the cycle that its base is to be counted from."""
        window = segment.window
        met = [record for record in self.records if record.segment.window.overlaps(window)]
        if not met:
            return (), 0
        newest = met[-1]
        if not self._begins_after(newest, segment):
            return None
        floor = newest.base + newest.effect.first_free_cycles
        there = [r for r in met if r is newest or r.base + r.effect.settled_cycles > floor]
        return tuple((_place(r.segment.window, window), r.effect, r.base - newest.base) for r in there), newest.base

    def _begins_after(self, newest: Record, segment: Segment) -> bool:
        """Whether all PEs that begin the segment had tasks in `newest`."""
        old, new = newest.segment, segment
        place = _place(new.window, old.window)
        key = (old.plan, new.plan, *place)
        if key not in self._covered:
            row, column = np.divmod(new.plan.starters, new.plan.columns)
            x, y = column + place[0], row + place[1]
            inside = (x >= 0) & (x < old.plan.columns) & (y >= 0) & (y < old.plan.rows)
            self._covered[key] = bool(inside.all() and old.plan.busy[y * old.plan.columns + x].all())
        return self._covered[key]


def _place(inner: Rect, outer: Rect) -> tuple[int, int]:
    return inner.x - outer.x, inner.y - outer.y
