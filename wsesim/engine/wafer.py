"""Wafer: runs segments one after the other on the state of a whole wafer, and remembers what it has seen.

Everything that one segment leaves to the next is State: when each PE, ramp and link is free. A segment begins at
`base`, the earliest cycle at which a PE that waits for nothing could start; whatever was free before `base` is as
good as free at `base`, since nothing of the segment happens earlier. So a segment whose graph and state, minus
`base`, were seen before would run as before: `remember` is exact. Segments one after the other are exact too unless a
link is asked for earlier than an earlier segment's last request; such requests are counted as `late_requests`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand import Segment
from wsesim.engine.simulate import simulate
from wsesim.engine.state import NEVER, State
from wsesim.engine.taskgraph import Int64
from wsesim.engine.timeline import Timeline
from wsesim.machine import Machine, Rect

NO_PORTS = np.empty(0, np.int64)
PE_FIELDS = ("pe_free", "ramp_out_free", "ramp_in_free", "ramp_last_request")
LINK_FIELDS = ("link_free", "link_last_request")


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """What a segment does to the State of its window, relative to its base: changed places and their new values."""

    changes: tuple[tuple[str, Int64, Int64], ...]
    end_cycles: int
    late_requests: int
    link_events: int
    timeline: Timeline | None


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRun:
    """One segment of a run: when it began, when its last task ended, and whether it was simulated or remembered."""

    segment: Segment
    base: int
    effect: Effect
    remembered: bool
    credit: tuple[int, int] | None = None  # PE that the sources waited for before they could send

    @property
    def end(self) -> int:
        return self.base + self.effect.end_cycles


class Memory:
    """Effects by (segment's plan, state relative to base), the most recent `capacity`.

    `simulations` counts what had to be simulated. The effect of a 20,000-PE layer is about 4 MB, its timeline 50 MB.
    """

    def __init__(self, *, keep_timelines: bool = True, remember: bool = True, capacity: int = 128) -> None:
        self.keep_timelines = keep_timelines
        self.remember = remember
        self.capacity = capacity
        self.simulations = 0
        self.recalls = 0
        self.link_events = 0
        self._effects: dict[Hashable, Effect] = {}

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


class Wafer:
    """The state of all PEs, ramps and links, in cycles since the run's origin."""

    def __init__(self, machine: Machine, memory: Memory, *, free_links: bool = False) -> None:
        self.machine = machine
        self.memory = memory
        self.free_links = free_links
        self._planes = {name: _plane(machine, name, 1) for name in PE_FIELDS}
        self._planes |= {name: _plane(machine, name, 4) for name in LINK_FIELDS}

    def run(self, segment: Segment, credit: tuple[int, int] | None = None) -> SegmentRun:
        """Simulates the segment, or recalls what it did, and advances the state of its window."""
        base, state = self._relative(segment)
        key = (segment.plan, self.free_links, _digest(state))
        effect = self.memory.recall(key)
        remembered = effect is not None
        if effect is None:
            effect = self._simulate(segment, state)
            self.memory.store(key, effect)
        self._advance(segment.window, base, effect)
        return SegmentRun(segment, base, effect, remembered, credit)

    def hold(self, sources: Int64, targets: Int64) -> tuple[int, int]:
        """Flow control: `sources` keep what they would send until all `targets` (both [n, (x, y)]) are free.

        The receiving block has one buffer and gives one credit a chunk, which costs nothing here. Returns the target
        that was free last.
        """
        plane = self._planes["pe_free"][:, :, 0]
        free = plane[targets[:, 1], targets[:, 0]]
        last = int(free.argmax())
        np.maximum.at(plane, (sources[:, 1], sources[:, 0]), free[last])
        return int(targets[last, 0]), int(targets[last, 1])

    def pe_free(self, x: int, y: int) -> int:
        """Cycle at which one PE has ended its last task."""
        return int(self._planes["pe_free"][y, x, 0])

    def _relative(self, segment: Segment) -> tuple[int, State]:
        """The window's state minus `base`, nothing before it."""
        plan, window = segment.plan, segment.window
        there = {name: _view(plane, window).reshape(-1) for name, plane in self._planes.items()}
        base = int(there["pe_free"][plan.starters].min())
        there["pe_free"] = np.where(plan.busy, there["pe_free"], base)  # others have no say
        since = {name: _since(values, base, asked=name.endswith("last_request")) for name, values in there.items()}
        return base, State(plan.graph.columns, plan.graph.rows, **since)

    def _simulate(self, segment: Segment, state: State) -> Effect:
        graph = segment.plan.graph
        timeline = simulate(graph, self.machine.fabric, NO_PORTS, NO_PORTS, state, free_links=self.free_links)
        changes = []
        for name in (*PE_FIELDS, *LINK_FIELDS):
            before, after = getattr(state, name), getattr(timeline.state_after, name)
            changed = segment.plan.busy if name == "pe_free" else before != after
            places = np.flatnonzero(changed)
            changes.append((name, self._flat(places, segment.window, name), after[places]))
        kept = timeline if self.memory.keep_timelines else None
        end = int(timeline.task_end.max())
        return Effect(tuple(changes), end, timeline.late_requests, timeline.link_events, kept)

    def _flat(self, places: Int64, window: Rect, name: str) -> Int64:
        """Places of a window's array as places of the wafer's, for a window in its north-west corner."""
        width = self._planes[name].shape[2]
        row, rest = np.divmod(places, window.columns * width)
        flat: Int64 = row * (self.machine.columns * width) + rest
        return flat

    def _advance(self, window: Rect, base: int, effect: Effect) -> None:
        corner = window.y * self.machine.columns + window.x
        for name, places, values in effect.changes:
            plane = self._planes[name]
            plane.reshape(-1)[places + corner * plane.shape[2]] = values + base


def _plane(machine: Machine, name: str, width: int) -> Int64:
    plane = np.zeros((machine.rows, machine.columns, width), np.int64)
    if name.endswith("last_request"):
        plane.fill(NEVER)
    return plane


def _since(values: Int64, base: int, *, asked: bool) -> Int64:
    """Cycles after `base`; what was free before is free at `base`, what was asked for before does not count."""
    relative: Int64 = values - base
    floor = np.where(relative > 0, relative, NEVER) if asked else np.maximum(relative, 0)
    return floor.astype(np.int64, copy=False)


def _view(plane: Int64, window: Rect) -> Int64:
    return plane[window.y : window.y + window.rows, window.x : window.x + window.columns]


def _digest(state: State) -> bytes:
    """Hash of a relative state; links and ramps are nearly all free, so only the others are hashed."""
    digest = hashlib.blake2b(state.pe_free.astype(np.int32).tobytes(), digest_size=16)
    for name in (*PE_FIELDS[1:], *LINK_FIELDS):
        values = getattr(state, name)
        places = np.flatnonzero(values > 0)
        digest.update(len(places).to_bytes(8, "little"))
        digest.update(places.astype(np.int32).tobytes())
        digest.update(values[places].astype(np.int32).tobytes())
    return digest.digest()
