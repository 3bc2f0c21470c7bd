"""fold: lines of PEs that cannot be told apart are simulated once.

A phase's lines share no PE and no link. Lines with the same tasks, whose PEs, ramps and links are free at the same
cycles after the line's own beginning, do the same from then on: one is simulated, and what it did is written to all.
Phases follow one another as they do on every PE. That is exact unless a ramp or a link is asked for by a later phase
before an earlier one has asked for it for the last time; then the whole graph is simulated instead.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wsesim.engine.expand.segment import EqualLines, LineGraph, Plan
from wsesim.engine.lines import LineEffect, line_effects
from wsesim.engine.simulate import simulate
from wsesim.engine.state import NEVER, Requests, State
from wsesim.engine.taskgraph import Int64, TaskGraph, directions
from wsesim.engine.timeline import Timeline
from wsesim.machine import Fabric

NO_PORTS = np.empty(0, np.int64)
STATE_FIELDS = {"pe_free": 1, "ramp_out_free": 1, "ramp_in_free": 1, "link_free": 4}  # and their values per PE
REQUEST_FIELDS = {"ramp": 1, "link": 4}

LineMemory = dict[Hashable, LineEffect]
"""Effects by (line, free links, state after the line's base)."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some PEs of a window and when their tasks ran.

    PE k of `graph` is PE `members[l, k]` of the window for each of the lines l that were simulated at once; there the
    times of `timeline` count from `bases[l]` on, cycles after the segment's base. No timeline: it was not kept.
    """

    graph: TaskGraph
    timeline: Timeline | None
    members: Int64
    bases: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a window's tasks did to its State, when they asked for ramps and links, and how it was found out.

    All cycles count as those of the State before.
    """

    after: dict[str, Int64]
    requests: Requests
    end_cycles: int
    link_events: int
    pieces: tuple[Piece, ...]


def run_plan(
    plan: Plan,
    fabric: Fabric,
    state: State,
    memory: LineMemory,
    *,
    fold: bool = True,
    free_links: bool = False,
    keep_timelines: bool = True,
) -> Outcome:
    """Runs a plan from a State: folded where that is exact (and `fold` allows it), else as one graph."""
    if plan.phases and fold:
        folded = _Folding(plan, fabric, memory, free_links, keep_timelines).run(state)
        if folded is not None:
            return folded
    return _run_whole(plan, fabric, state, free_links, keep_timelines)


def _run_whole(plan: Plan, fabric: Fabric, state: State, free_links: bool, keep_timelines: bool) -> Outcome:
    timeline = simulate(plan.graph, fabric, NO_PORTS, NO_PORTS, state, free_links=free_links)
    after = {name: getattr(timeline.state_after, name) for name in STATE_FIELDS}
    members = np.arange(plan.graph.pes, dtype=np.int64)[None, :]
    piece = Piece(plan.graph, timeline if keep_timelines else None, members, np.zeros(1, np.int64))
    return Outcome(after, timeline.requests, int(timeline.task_end.max()), timeline.link_events, (piece,))


@dataclass(slots=True)
class _Folding:
    """One folded run of a plan."""

    plan: Plan
    fabric: Fabric
    memory: LineMemory
    free_links: bool
    keep_timelines: bool

    def run(self, state: State) -> Outcome | None:
        """None if the phases ask for a ramp or a link out of order."""
        now = _Now(state)
        pieces: list[Piece] = []
        end = events = 0
        for equal in (equal for phase in self.plan.phases for equal in phase):
            bases, states = now.of(equal)
            kinds = _kinds(states)
            for effect, kind in zip(self._effects(equal.line, states, kinds), kinds, strict=True):
                members = equal.members[kind]
                if not now.advance(effect, members, bases[kind]):
                    return None
                pieces.append(Piece(equal.line.graph, effect.timeline, members, bases[kind]))
                end = max(end, int(bases[kind].max()) + effect.end_cycles)
                events += effect.link_events * kind.size
        return Outcome(now.state, Requests(*now.requests), end, events, tuple(pieces))

    def _effects(self, line: LineGraph, states: Int64, kinds: list[Int64]) -> list[LineEffect]:
        """What each kind of line does; those that nobody has seen are simulated together."""
        states = states[[kind[0] for kind in kinds]]
        keys = [(line, self.free_links, state.tobytes()) for state in states]
        unseen = [number for number, key in enumerate(keys) if key not in self.memory]
        if unseen:
            found = line_effects(line, self.fabric, states[unseen], self.free_links, self.keep_timelines)
            self.memory.update(zip((keys[number] for number in unseen), found, strict=True))
        return [self.memory[key] for key in keys]


class _Now:
    """State and requests of a window while its phases go by."""

    def __init__(self, state: State) -> None:
        self.state = {name: getattr(state, name).copy() for name in STATE_FIELDS}
        pes = state.columns * state.rows
        self.requests = [np.full(width * pes, NEVER, np.int64) for width in (1, 1, 4, 4)]

    def of(self, equal: EqualLines) -> tuple[Int64, Int64]:
        """Bases [lines], and per line all that it depends on, after its base: [lines, values].

        What was free before the base is as good as free at the base: nothing of the line happens earlier.
        """
        members, count = equal.members, len(equal.members)
        free = self.state["pe_free"][members]
        bases = free[:, equal.line.starters].min(axis=1)
        links = 4 * members[:, :, None] + directions(equal.line.graph)
        values = [
            np.where(equal.line.busy[None, :], free, bases[:, None]),  # others have no say
            self.state["ramp_out_free"][members],
            self.state["ramp_in_free"][members],
            self.state["link_free"][links].reshape(count, -1),
        ]
        return bases, np.maximum(np.concatenate(values, axis=1) - bases[:, None], 0)

    def advance(self, effect: LineEffect, members: Int64, bases: Int64) -> bool:
        """Writes what lines did; False if they asked for something that was asked for later already."""
        for (name, width), (places, values) in zip(STATE_FIELDS.items(), effect.changes, strict=True):
            self.state[name][_flat(members, places, width)] = values[None, :] + bases[:, None]
        for number, (places, first, last) in enumerate(effect.requests):
            flat = _flat(members, places, (1, 4)[number])
            begun, ended = self.requests[2 * number : 2 * number + 2]
            if (first[None, :] + bases[:, None] < ended[flat]).any():
                return False
            begun[flat] = np.where(begun[flat] == NEVER, first[None, :] + bases[:, None], begun[flat])
            ended[flat] = last[None, :] + bases[:, None]
        return True


def _flat(members: Int64, places: Int64, width: int) -> Int64:
    """Places of a line's own array as places of the window's: [lines, places]."""
    pe, rest = np.divmod(places, width)
    return width * members[:, pe] + rest


def _kinds(states: Int64) -> list[Int64]:
    """Lines by equal rows of `states`: those of equal hash, if they are what they seem to be."""
    hashes = states @ _multipliers(states.shape[1])
    _, first, kind = np.unique(hashes, return_index=True, return_inverse=True)
    if not (states == states[first[kind]]).all():
        return _compared_kinds(states)
    order = np.argsort(kind, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


@lru_cache(maxsize=64)
def _multipliers(size: int) -> Int64:
    return np.random.default_rng(size).integers(-(2**62), 2**62, size) | 1


def _compared_kinds(states: Int64) -> list[Int64]:
    """The same, row by row."""
    left = np.arange(len(states))
    kinds = []
    while left.size:
        same = (states[left] == states[left[0]]).all(axis=1)
        kinds.append(left[same])
        left = left[~same]
    return kinds
