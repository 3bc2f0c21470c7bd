"""What has run on a wafer, and the state that it left.

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
from wsesim.engine.fold import REQUEST_FIELDS, STATE_FIELDS
from wsesim.engine.state import NEVER
from wsesim.engine.taskgraph import Int64
from wsesim.machine import Machine, Rect


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
        met = self._met(window)
        if not met:
            return (), 0
        newest = met[-1]
        if not self._begins_after(newest, segment):
            return None
        floor = newest.base + newest.effect.first_free_cycles
        there = [r for r in met if r is newest or r.base + r.effect.settled_cycles > floor]
        return tuple((_place(r.segment.window, window), r.effect, r.base - newest.base) for r in there), newest.base

    def fields(self, window: Rect, count: int = len(STATE_FIELDS)) -> list[Int64]:
        """The window's part of the first `count` State fields: what the records that meet it left, in their order."""
        widths = tuple(STATE_FIELDS.values())[:count]
        found = [np.zeros(width * window.pes, np.int64) for width in widths]
        for record in self._met(window):
            for field, width, (places, values) in zip(found, widths, record.effect.changes, strict=False):
                inside, there = _moved(places, record.segment.window, window, width)
                field[there] = values[inside] + record.base
        return found

    def asked(self, window: Rect, since: int) -> list[Int64]:
        """When the window's ramps in and its links were asked for last, if that was after `since`."""
        found = [np.full(width * window.pes, NEVER, np.int64) for width in REQUEST_FIELDS.values()]
        for record in (r for r in self._met(window) if r.base + r.effect.last_request_cycles > since):
            requests = zip(found, REQUEST_FIELDS.values(), record.effect.requests, strict=True)
            for field, width, (places, _, last) in requests:
                inside, there = _moved(places, record.segment.window, window, width)
                field[there] = np.maximum(field[there], last[inside] + record.base)
        return found

    def _met(self, window: Rect) -> list[Record]:
        return [record for record in self.records if record.segment.window.overlaps(window)]

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


class Planes:
    """The same, written out for all PEs of a machine."""

    def __init__(self, machine: Machine | None = None) -> None:
        self._columns = machine.columns if machine else 0
        shape = (machine.rows, machine.columns) if machine else (0, 0)
        self._fields = [np.zeros((*shape, width), np.int64) for width in STATE_FIELDS.values()]
        self._asked = [np.full((*shape, width), NEVER, np.int64) for width in REQUEST_FIELDS.values()]

    def fields(self, window: Rect, count: int = len(STATE_FIELDS)) -> list[Int64]:
        return [_view(field, window) for field in self._fields[:count]]

    def asked(self, window: Rect, since: int) -> list[Int64]:
        return [_view(field, window) for field in self._asked]

    def write(self, record: Record) -> None:
        effect, base = record.effect, record.base
        for field, (places, values) in zip(self._fields, effect.changes, strict=True):
            field.reshape(-1)[self._flat(record, places, field.shape[2])] = values + base
        for field, (places, _, last) in zip(self._asked, effect.requests, strict=True):
            flat = self._flat(record, places, field.shape[2])
            field.reshape(-1)[flat] = np.maximum(field.reshape(-1)[flat], last + base)

    def hold(self, pes: Int64, cycle: int) -> None:
        """`pes` [n, (x, y)] are not free before `cycle`."""
        np.maximum.at(self._fields[0][:, :, 0], (pes[:, 1], pes[:, 0]), cycle)

    def _flat(self, record: Record, places: Int64, width: int) -> Int64:
        """Places of a window's array as places of the wafer's."""
        window = record.segment.window
        row, rest = np.divmod(places, window.columns * width)
        flat: Int64 = (row * self._columns + window.y * self._columns + window.x) * width + rest
        return flat


def _view(field: Int64, window: Rect) -> Int64:
    return field[window.y : window.y + window.rows, window.x : window.x + window.columns].reshape(-1)


def _moved(places: Int64, inner: Rect, outer: Rect, width: int) -> tuple[Int64, Int64]:
    """Which places of a window's array lie in another window, and where: (indices into `places`, places there)."""
    if inner == outer:
        return np.arange(places.size), places
    pe, rest = np.divmod(places, width)
    row, column = np.divmod(pe, inner.columns)
    x, y = column + inner.x - outer.x, row + inner.y - outer.y
    inside = np.flatnonzero((x >= 0) & (x < outer.columns) & (y >= 0) & (y < outer.rows))
    there: Int64 = (y[inside] * outer.columns + x[inside]) * width + rest[inside]
    return inside, there


def _place(inner: Rect, outer: Rect) -> tuple[int, int]:
    return inner.x - outer.x, inner.y - outer.y
