"""Wafer: runs segments one after the other on the state of a whole wafer, and recalls effects that it has seen.

A segment leaves only a State to the next: when each PE, ramp and link is free. A segment begins at its `base`, the
earliest cycle at which a PE that waits for no message can start. Nothing of the segment happens earlier, so whatever is
free before `base` counts as free at `base`. The effect of a segment therefore follows from its plan and from the state
in cycles after `base`. To recall an effect by these two is exact.

Segments one after the other are exact unless a segment requests a ramp or a link before an earlier segment's last
request for it. Such ramps and links are counted as `late_requests`.
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
    """One segment of a run: its base, its effect, and whether the effect was recalled or simulated.

    `credit` is the PE (wafer coordinates) that the sources waited for before they could send; None if they did not.
    """

    segment: Segment
    base: int
    effect: Effect
    recalled: bool
    late_requests: int
    credit: tuple[int, int] | None = None

    def __repr__(self) -> str:
        how = "recalled" if self.recalled else "simulated"
        return f"<SegmentRun {self.segment.name}: cycles {self.base:,} to {self.end:,}, {how}>"

    @property
    def end(self) -> int:
        return self.base + self.effect.end_cycles


class EffectCache:
    """Effects of segments that have run, the most recent `capacity` of each kind; it may serve several Wafers.

    An effect is found by the effects of the unsettled segments before it (`recall_after`), and else by a digest of the
    state that it meets (`recall`). Effects of single lines serve every segment (`lines`). CPU time of a decode step of
    llama3.1-8b, wse3, with and without each cache on its way (AMD EPYC):

    - cold 170 ms; the same step again, from known effects 4 ms
    - again, by digests only: 63 ms; with the state written out for the whole wafer (`Planes`) at once: 107 ms
    - cold, without `recall`: 620 ms; a prompt of 32 tokens 17 s instead of 2.8 s
    - at a second context 80 ms; without `lines` 110 ms

    `simulations`, `recalls` and `link_events` count the work. The effect of a layer on 20,000 PEs is about 4 MB.
    `remember` False recalls nothing, `fold` False simulates every segment as one graph.
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
        self._after: dict[Hashable, tuple[Effect, int, int]] = {}

    def recall(self, key: Hashable) -> Effect | None:
        """Look up the cached effect by (plan, free links, digest of the state)."""
        found = self._effects.pop(key, None) if self.remember else None
        if found is not None:
            self.recalls += 1
            self._effects[key] = found  # now the most recent
        return found

    def store(self, key: Hashable, effect: Effect) -> None:
        """Keeps the effect of a segment that was simulated."""
        self.simulations += 1
        self.link_events += effect.link_events
        self._effects[key] = effect
        if len(self._effects) > self.capacity:
            del self._effects[next(iter(self._effects))]
        while len(self.lines) > 64 * self.capacity:
            del self.lines[next(iter(self.lines))]

    def recall_after(self, key: Hashable) -> tuple[Effect, int, int] | None:
        """Look up the cached effect by (plan, unsettled predecessors).

        Also the cycles from the reference of the key (`History.key`) to the base, and the late requests.
        """
        found = self._after.pop(key, None) if self.remember else None
        if found is not None:
            self.recalls += 1
            self._after[key] = found
        return found

    def store_after(self, key: Hashable, found: tuple[Effect, int, int]) -> None:
        self._after[key] = found
        if len(self._after) > self.capacity:
            del self._after[next(iter(self._after))]


class Wafer:
    """The state of all PEs, ramps and links, in cycles since the run's origin.

    A short run is a History, a list of what has run: the state of a window follows from the few records that overlap
    it. After MOST_RECORDS records, or when PEs are held, the state is written out for the whole wafer (Planes).
    """

    def __init__(self, machine: Machine, cache: EffectCache, *, free_links: bool = False) -> None:
        self.machine = machine
        self.cache = cache
        self.free_links = free_links
        self._past: History | Planes = History()

    def run(self, segment: Segment, credit: tuple[int, int] | None = None) -> SegmentRun:
        """Simulates the segment or recalls its effect, and advances the state of its window."""
        key = self._past.key(segment) if isinstance(self._past, History) else None
        known = (segment.plan, self.free_links, key.predecessors) if key else None
        found = self.cache.recall_after(known) if known else None
        if found is not None and key is not None:
            effect, after, late = found
            base, recalled = key.reference_cycle + after, True
        else:
            base, effect, late, recalled = self._look_and_run(segment)
            if key is not None:
                self.cache.store_after(known, (effect, base - key.reference_cycle, late))
        self._append(Record(segment, effect, base))
        return SegmentRun(segment, base, effect, recalled, late, credit)

    def repeat(self, moved: Iterable[tuple[SegmentRun, int]], times: int) -> None:
        """Apply the state left by the last of `times` skipped repetitions.

        `moved`: the runs of the last repetition, each with its cycles from one repetition to the next.
        """
        planes = self._write_out()
        for run, cycles in moved:
            planes.write(Record(run.segment, run.effect, run.base + times * cycles))

    def hold(self, sources: Int64, targets: Int64) -> tuple[int, int]:
        """Flow control: `sources` do not send until all `targets` (both [n, (x, y)]) are free.

        The receiving block has one buffer and gives one credit a chunk, which costs nothing here. Returns the target
        that is free last.
        """
        window = _around(targets)
        free = self._past.pe_free(window).reshape(window.rows, window.columns)
        there = free[targets[:, 1] - window.y, targets[:, 0] - window.x]
        last = int(there.argmax())
        if there[last] > 0:  # at cycle 0 everything is free
            self._write_out().hold(sources, int(there[last]))
        return int(targets[last, 0]), int(targets[last, 1])

    def pe_free(self, x: int, y: int) -> int:
        """Cycle at which one PE ends its last task."""
        return int(self._past.pe_free(Rect(x, y, 1, 1))[0])

    def _look_and_run(self, segment: Segment) -> tuple[int, Effect, int, bool]:
        """Base, effect, late requests, and whether the effect was recalled, from the state of the window."""
        plan, window = segment.plan, segment.window
        free = self._past.pe_free(window)
        base = int(free[plan.starters].min())
        free = np.where(plan.busy, np.maximum(free - base, 0), 0)  # PEs without tasks do not matter
        state = State(plan.columns, plan.rows, free, *self._past.others(window, base))
        key = (plan, self.free_links, _digest(state))
        effect = self.cache.recall(key)
        recalled = effect is not None
        if effect is None:
            effect = self._simulate(segment, state)
            self.cache.store(key, effect)
        return base, effect, self._late(window, base, effect), recalled

    def _simulate(self, segment: Segment, state: State) -> Effect:
        cache = self.cache
        options = RunOptions(self.machine.fabric, self.free_links, cache.fold, cache.keep_timelines)
        return run_plan(segment.plan, state, options, cache.lines if cache.remember else {})

    def _late(self, window: Rect, base: int, effect: Effect) -> int:
        """Ramps and links that a segment requests before the last request of an earlier segment."""
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
