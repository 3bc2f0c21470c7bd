"""Wafer: runs segments one after the other on the state of a whole wafer, and remembers what it has seen.

Everything that one segment leaves to the next is State: when each PE, ramp and link is free. A segment begins at
`base`, the earliest cycle at which a PE that waits for nothing could start; whatever was free before `base` is as
good as free at `base`, since nothing of the segment happens earlier. So a segment whose tasks and state, minus
`base`, were seen before would run as before: `remember` is exact. Segments one after the other are exact too unless a
ramp or a link is asked for earlier than an earlier segment's last request; such ramps and links are counted as
`late_requests`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from wsesim.engine.exact.effect import Effect
from wsesim.engine.exact.fold import LineCache, RunOptions, run_plan
from wsesim.engine.exact.history import History, Planes, Record
from wsesim.engine.exact.plane_kernels import add_to_digest
from wsesim.engine.expand.segment import Segment
from wsesim.engine.flow.state import NEVER, STATE_FIELDS, State
from wsesim.engine.graph.taskgraph import Int64
from wsesim.machine import Machine, Rect

MOST_RECORDS = 128


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRun:
    """One segment of a run: when it began, when its last task ended, and whether it was simulated or remembered."""

    segment: Segment
    base: int
    effect: Effect
    remembered: bool
    late_requests: int
    credit: tuple[int, int] | None = None  # PE that the sources waited for before they could send

    def __repr__(self) -> str:
        how = "remembered" if self.remembered else "simulated"
        return f"<SegmentRun {self.segment.name}: cycles {self.base:,} to {self.end:,}, {how}>"

    @property
    def end(self) -> int:
        return self.base + self.effect.end_cycles


class EffectCache:
    """Effects by (segment's plan, state relative to base), the most recent `capacity`; and those of single lines.

    `simulations` counts the segments that had to be simulated. The effect of a 20,000-PE layer is about 4 MB. `fold`
    False simulates every segment as one graph.
    """

    def __init__(
        self, *, keep_timelines: bool = True, remember: bool = True, fold: bool = True, capacity: int = 128
    ) -> None:
        self.keep_timelines = keep_timelines
        self.remember = remember
        self.fold = fold
        self.capacity = capacity
        self.simulations = 0
        self.recalls = 0
        self.link_events = 0
        self.lines: LineCache = {}
        self._effects: dict[Hashable, Effect] = {}
        self._named: dict[Hashable, tuple[Effect, int, int]] = {}

    def recall(self, key: Hashable) -> Effect | None:
        found = self._effects.pop(key, None) if self.remember else None
        if found is not None:
            self.recalls += 1
            self._effects[key] = found  # now the most recent
        return found

    def store(self, key: Hashable, effect: Effect) -> None:
        self.simulations += 1
        self.link_events += effect.link_events
        self._effects[key] = effect
        if len(self._effects) > self.capacity:
            del self._effects[next(iter(self._effects))]
        while len(self.lines) > 64 * self.capacity:
            del self.lines[next(iter(self.lines))]

    def recall_named(self, name: Hashable) -> tuple[Effect, int, int] | None:
        """The effect, its base's distance and its late requests, of a segment in a state of that name."""
        found = self._named.pop(name, None) if self.remember else None
        if found is not None:
            self.recalls += 1
            self._named[name] = found
        return found

    def store_named(self, name: Hashable, found: tuple[Effect, int, int]) -> None:
        self._named[name] = found
        if len(self._named) > self.capacity:
            del self._named[next(iter(self._named))]


class Wafer:
    """The state of all PEs, ramps and links, in cycles since the run's origin.

    At first it is a list of what has run: the state of a window follows from the few records that meet it. After
    MOST_RECORDS, or once somebody was held, it is written out.
    """

    def __init__(self, machine: Machine, cache: EffectCache, *, free_links: bool = False) -> None:
        self.machine = machine
        self.cache = cache
        self.free_links = free_links
        self._past: History | Planes = History()

    def run(self, segment: Segment, credit: tuple[int, int] | None = None) -> SegmentRun:
        """Simulates the segment, or recalls what it did, and advances the state of its window."""
        name = self._past.name(segment) if isinstance(self._past, History) else None
        known = (segment.plan, self.free_links, name[0]) if name else None
        found = self.cache.recall_named(known) if known else None
        if found is not None and name is not None:
            effect, after, late = found
            base, remembered = name[1] + after, True
        else:
            base, effect, late, remembered = self._look_and_run(segment)
            if name is not None:
                self.cache.store_named(known, (effect, base - name[1], late))
        self._append(Record(segment, effect, base))
        return SegmentRun(segment, base, effect, remembered, late, credit)

    def repeat(self, moved: Iterable[tuple[SegmentRun, int]], times: int) -> None:
        """The same runs once more, each later by its cycles times `times`: what lies between is overwritten by them."""
        planes = self._write_out()
        for run, cycles in moved:
            planes.write(Record(run.segment, run.effect, run.base + times * cycles))

    def hold(self, sources: Int64, targets: Int64) -> tuple[int, int]:
        """Flow control: `sources` keep what they would send until all `targets` (both [n, (x, y)]) are free.

        The receiving block has one buffer and gives one credit a chunk, which costs nothing here. Returns the target
        that was free last.
        """
        window = _around(targets)
        free = self._past.pe_free(window).reshape(window.rows, window.columns)
        there = free[targets[:, 1] - window.y, targets[:, 0] - window.x]
        last = int(there.argmax())
        if there[last] > 0:  # nobody was free before
            self._write_out().hold(sources, int(there[last]))
        return int(targets[last, 0]), int(targets[last, 1])

    def pe_free(self, x: int, y: int) -> int:
        """Cycle at which one PE has ended its last task."""
        return int(self._past.pe_free(Rect(x, y, 1, 1))[0])

    def _look_and_run(self, segment: Segment) -> tuple[int, Effect, int, bool]:
        """Base, effect, late requests, and whether it was remembered; by the state itself."""
        plan, window = segment.plan, segment.window
        free = self._past.pe_free(window)
        base = int(free[plan.starters].min())
        free = np.where(plan.busy, np.maximum(free - base, 0), 0)  # others have no say
        state = State(plan.columns, plan.rows, free, *self._past.others(window, base))
        key = (plan, self.free_links, _digest(state))
        effect = self.cache.recall(key)
        remembered = effect is not None
        if effect is None:
            effect = self._simulate(segment, state)
            self.cache.store(key, effect)
        return base, effect, self._late(window, base, effect), remembered

    def _simulate(self, segment: Segment, state: State) -> Effect:
        cache = self.cache
        options = RunOptions(self.machine.fabric, self.free_links, cache.fold, cache.keep_timelines)
        return run_plan(segment.plan, state, options, cache.lines if cache.remember else {})

    def _late(self, window: Rect, base: int, effect: Effect) -> int:
        """Ramps and links that a segment asked for before an earlier one did for the last time."""
        return sum(
            int(((first != NEVER) & (first + base < last)).sum())
            for first, last in self._past.asked(window, effect.requests, base + effect.first_request_cycles)
        )

    def _append(self, record: Record) -> None:
        if isinstance(self._past, Planes):
            self._past.write(record)
            return
        self._past.records.append(record)
        if len(self._past.records) > MOST_RECORDS:
            self._write_out()

    def _write_out(self) -> Planes:
        if isinstance(self._past, History):
            planes = Planes(self.machine)
            for record in self._past.records:
                planes.write(record)
            self._past = planes
        return self._past


def _around(positions: Int64) -> Rect:
    """The rectangle around (x, y) positions."""
    (x0, y0), (x1, y1) = positions.min(axis=0).tolist(), positions.max(axis=0).tolist()
    return Rect(x0, y0, x1 - x0 + 1, y1 - y0 + 1)


def _digest(state: State) -> tuple[int, ...]:
    """128 bits of a relative state."""
    digest = np.zeros(2, np.int64)
    for number, name in enumerate(STATE_FIELDS):
        add_to_digest(getattr(state, name), number, digest)
    return tuple(digest.tolist())
