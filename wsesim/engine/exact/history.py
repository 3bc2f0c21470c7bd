"""What has run on a wafer, and the state that it left: as a list of records, or written out for all PEs.

The state of a window follows from the segments whose windows overlap it. A segment is settled if all of its PEs, ramps
and links are free again before the new segment begins; it then has no influence. So the effects of the unsettled
segments, with their places and the cycles between their bases, are a cache key of the state. There is no such key if
nothing says that the new segment begins late enough; then the state itself is compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from wsesim.engine.exact.effect import Effect
from wsesim.engine.expand.segment import Plan, Segment
from wsesim.engine.flow.state import NEVER, REQUEST_FIELDS, STATE_FIELDS, Requests
from wsesim.engine.graph.taskgraph import Int64
from wsesim.machine import Machine, Rect

OTHERS = {name: width for name, width in STATE_FIELDS.items() if name != "pe_free"}


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A segment that ran from `base` on."""

    segment: Segment
    effect: Effect
    base: int


@dataclass(frozen=True, slots=True)
class StateKey:
    """Cache key of a window's state: `predecessors`, in cycles after `reference_cycle`."""

    predecessors: Hashable
    reference_cycle: int


class History:
    """The records of one run, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._covered: dict[tuple[Plan, Plan, int, int], bool] = {}

    def key(self, segment: Segment) -> StateKey | None:
        """Cache key of the window's entry state, and its reference cycle; None if there is none."""
        window = segment.window
        met = self._met(window)
        if not met:
            return StateKey((), 0)
        newest = met[-1]
        if not self._begins_after(newest, segment):
            return None
        floor = newest.base + newest.effect.first_free_cycles
        there = [r for r in met if r is newest or r.base + max(r.effect.settled_cycles) > floor]
        unsettled = tuple((_place(r.segment.window, window), r.effect, r.base - newest.base) for r in there)
        return StateKey(unsettled, newest.base)

    def pe_free(self, window: Rect) -> Int64:
        """When the window's PEs are free, from the records that overlap it, in their order."""
        free = np.zeros((window.rows, window.columns), np.int64)
        for record in self._met(window):
            _overlay(free, window, record.segment.window, record.effect.after.pe_free, record.base)
        return free.reshape(-1)

    def others(self, window: Rect, since: int) -> list[Int64]:
        """The window's State without `pe_free`, in cycles after `since`; 0 for what is free before."""
        met = self._met(window)
        found = []
        for number, (name, width) in enumerate(OTHERS.items(), start=1):
            field = np.zeros((window.rows, window.columns, width), np.int64)
            for record in (r for r in met if r.base + r.effect.settled_cycles[number] > since):
                after = getattr(record.effect.after, name)
                _overlay(field, window, record.segment.window, after, record.base - since)
            found.append(np.maximum(field, 0, out=field).reshape(-1))
        return found

    def asked(self, window: Rect, requests: Requests, since: int) -> Iterator[tuple[Int64, Int64]]:
        """For ramps in, then for links: the first of `requests`, and the last request before; where both may matter.

        Only last requests after `since` matter.
        """
        met = [r for r in self._met(window) if r.base + r.effect.last_request_cycles > since]
        if not met:
            return
        where = reduce(Rect.hull, (_common(window, r.segment.window) for r in met))
        for name, width in REQUEST_FIELDS.items():
            last = np.full((where.rows, where.columns, width), NEVER, np.int64)
            for r in met:
                _overlay(last, where, r.segment.window, getattr(r.effect.requests, f"{name}_last"), r.base, latest=True)
            first = getattr(requests, f"{name}_first").reshape(window.rows, window.columns, width)
            yield _part(first, _within(where, window)), last

    def _met(self, window: Rect) -> list[Record]:
        return [record for record in self.records if record.segment.window.overlaps(window)]

    def _begins_after(self, newest: Record, segment: Segment) -> bool:
        """Whether all PEs that begin the segment have tasks in `newest`, so that it cannot begin before they end."""
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
    """The state after a run, written out for all PEs of a machine; it answers as History does."""

    def __init__(self, machine: Machine) -> None:
        self._window = Rect(0, 0, machine.columns, machine.rows)
        shape = machine.rows, machine.columns
        self._fields = [np.zeros((*shape, width), np.int64) for width in STATE_FIELDS.values()]
        self._asked = [np.full((*shape, width), NEVER, np.int64) for width in REQUEST_FIELDS.values()]

    def pe_free(self, window: Rect) -> Int64:
        return _part(self._fields[0], window).reshape(-1)

    def others(self, window: Rect, since: int) -> list[Int64]:
        return [np.maximum(_part(field, window) - since, 0).reshape(-1) for field in self._fields[1:]]

    def asked(self, window: Rect, requests: Requests, since: int) -> Iterator[tuple[Int64, Int64]]:
        for field, name in zip(self._asked, REQUEST_FIELDS, strict=True):
            last = _part(field, window)
            yield getattr(requests, f"{name}_first").reshape(last.shape), last

    def write(self, record: Record) -> None:
        effect, base, window = record.effect, record.base, record.segment.window
        for field, name in zip(self._fields, STATE_FIELDS, strict=True):
            _overlay(field, self._window, window, getattr(effect.after, name), base)
        for field, name in zip(self._asked, REQUEST_FIELDS, strict=True):
            _overlay(field, self._window, window, getattr(effect.requests, f"{name}_last"), base, latest=True)

    def hold(self, pes: Int64, cycle: int) -> None:
        """Keeps `pes` [n, (x, y)] busy until `cycle`."""
        np.maximum.at(self._fields[0][:, :, 0], (pes[:, 1], pes[:, 0]), cycle)


def _part(field: Int64, window: Rect) -> Int64:
    return field[window.y : window.y + window.rows, window.x : window.x + window.columns]


def _overlay(field: Int64, window: Rect, inner: Rect, values: Int64, base: int, *, latest: bool = False) -> None:
    """Writes the values of window `inner`, in cycles after `base`, over a `field` [rows, columns, ...] of `window`.

    NEVER is not written. With `latest`, a value is only written over an earlier one.
    """
    both = _common(window, inner)
    there = _part(field, _within(both, window))
    own = _part(values.reshape(inner.rows, inner.columns, *field.shape[2:]), _within(both, inner))
    moved = own + base
    np.copyto(there, moved, where=(own != NEVER) & (moved > there) if latest else own != NEVER)


def _common(window: Rect, other: Rect) -> Rect:
    x, y = max(window.x, other.x), max(window.y, other.y)
    east = min(window.x + window.columns, other.x + other.columns)
    south = min(window.y + window.rows, other.y + other.rows)
    return Rect(x, y, east - x, south - y)


def _within(inner: Rect, outer: Rect) -> Rect:
    return Rect(inner.x - outer.x, inner.y - outer.y, inner.columns, inner.rows)


def _place(inner: Rect, outer: Rect) -> tuple[int, int]:
    return inner.x - outer.x, inner.y - outer.y
