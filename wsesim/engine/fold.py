"""fold: lines of PEs that cannot be told apart are simulated once.

A phase's lines share no PE and no link. Lines with the same tasks, whose PEs, ramps and links are free at the same
cycles after the line's own beginning, do the same from then on: one is simulated, and what it did is written to all.
Phases follow one another as they do on every PE. That is exact unless a ramp or a link is asked for by a later phase
before an earlier one has asked for it for the last time; then the whole graph is simulated instead.

Paths of messages, of which no timeline is wanted, are walked (`walk.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wsesim.engine.expand.segment import LineGraph, Phase, Plan
from wsesim.engine.line_kernels import Fields, gather, hash_rows, rows_equal, scatter
from wsesim.engine.lines import LineEffect, line_effects
from wsesim.engine.records import Constants
from wsesim.engine.simulate import constants, simulate
from wsesim.engine.state import NEVER, Requests, State
from wsesim.engine.taskgraph import Int64, TaskGraph, directions
from wsesim.engine.timeline import Times
from wsesim.engine.walk import Paths, walk
from wsesim.machine import Fabric

NO_PORTS = np.empty(0, np.int64)
STATE_FIELDS = {"pe_free": 1, "ramp_out_free": 1, "ramp_in_free": 1, "link_free": 4}  # and their values per PE
REQUEST_FIELDS = {"ramp": 1, "link": 4}

LineMemory = dict[Hashable, LineEffect]
"""Effects by (digest of the line, fabric, free links, state after the line's base)."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some PEs of a window and when their tasks ran.

    PE k of `graph` is PE `members[l, k]` of the window for each of the lines l that were simulated at once; there the
    times of `timeline` count from `bases[l]` on, cycles after the segment's base. No timeline: it was not kept.
    """

    graph: TaskGraph
    timeline: Times | None
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
    """Runs a plan from a State: folded, or walked, where that is exact (and `fold` allows it), else as one graph."""
    short, parts = None, plan.parts
    if fold and isinstance(parts, Paths):
        short = None if keep_timelines else walked(plan, parts, constants(fabric, free_links, state), state)
    elif fold and not isinstance(parts, Paths) and parts:
        short = _Folding(parts, fabric, memory, free_links, keep_timelines).run(state)
    return short or _run_whole(plan, fabric, state, free_links, keep_timelines)


def walked(plan: Plan, paths: Paths, fabric: Constants, state: State) -> Outcome | None:
    """The messages followed one after the other; None if that cannot be done."""
    now = _fields(state)
    before = Fields(state.pe_free, state.ramp_out_free, state.ramp_in_free, state.link_free, *now[4:])
    end = walk(paths, plan.columns, before, now, fabric)
    return None if end is None else _outcome(now, end, int((paths.hops1 + paths.hops2).sum()), ())


def _run_whole(plan: Plan, fabric: Fabric, state: State, free_links: bool, keep_timelines: bool) -> Outcome:
    timeline = simulate(plan.graph, fabric, NO_PORTS, NO_PORTS, state, free_links=free_links)
    after = {name: getattr(timeline.state_after, name) for name in STATE_FIELDS}
    members = np.arange(plan.graph.pes, dtype=np.int64)[None, :]
    piece = Piece(plan.graph, timeline.times() if keep_timelines else None, members, np.zeros(1, np.int64))
    return Outcome(after, timeline.requests, int(timeline.task_end.max()), timeline.link_events, (piece,))


@dataclass(slots=True)
class _Folding:
    """One folded run of phases."""

    phases: tuple[Phase, ...]
    fabric: Fabric
    memory: LineMemory
    free_links: bool
    keep_timelines: bool

    def run(self, state: State) -> Outcome | None:
        """None if the phases ask for a ramp or a link out of order."""
        now, room = _fields(state), np.empty(5 * state.pe_free.size, np.int64)
        pieces: list[Piece] = []
        end = events = 0
        for equal in (equal for phase in self.phases for equal in phase):
            line, members, own_links = equal.line, equal.members, directions(equal.line.graph)
            bases = np.empty(len(members), np.int64)
            states = room[: 5 * members.size].reshape(len(members), -1)
            gather(now, members, line.busy, line.starters, own_links, bases, states)
            kinds = _kinds(states)
            for effect, kind in zip(self._effects(line, states, kinds), kinds, strict=True):
                if not scatter(now, members, kind, bases, own_links, effect.after, effect.first, effect.last):
                    return None
                pieces.append(Piece(line.graph, effect.timeline, members[kind], bases[kind]))
                end = max(end, int(bases[kind].max()) + effect.end_cycles)
                events += effect.link_events * kind.size
        return _outcome(now, end, events, tuple(pieces))

    def _effects(self, line: LineGraph, states: Int64, kinds: list[Int64]) -> list[LineEffect]:
        """What each kind of line does; those that nobody has seen are simulated together."""
        states = states[[kind[0] for kind in kinds]]
        keys = [(line.digest, self.fabric, self.free_links, state.tobytes()) for state in states]
        unseen = [number for number, key in enumerate(keys) if key not in self.memory]
        if unseen:
            found = line_effects(line, self.fabric, states[unseen], self.free_links, self.keep_timelines)
            self.memory.update(zip((keys[number] for number in unseen), found, strict=True))
        return [self.memory[key] for key in keys]


def _fields(state: State) -> Fields:
    """A copy of the state, and no requests yet."""
    pes = state.columns * state.rows
    fields = [getattr(state, name).copy() for name in STATE_FIELDS]
    return Fields(*fields, *(np.full(width * pes, NEVER, np.int64) for width in (1, 1, 4, 4)))


def _outcome(now: Fields, end: int, link_events: int, pieces: tuple[Piece, ...]) -> Outcome:
    after = dict(zip(STATE_FIELDS, now[: len(STATE_FIELDS)], strict=True))
    return Outcome(after, Requests(*now[len(STATE_FIELDS) :]), end, link_events, pieces)


def _kinds(states: Int64) -> list[Int64]:
    """Lines by equal rows of `states`: those of equal hash, if they are what they seem to be."""
    hashes = np.empty(len(states), np.int64)
    hash_rows(states, _multipliers(states.shape[1]), hashes)
    _, first, kind = np.unique(hashes, return_index=True, return_inverse=True)
    if not rows_equal(states, first[kind]):
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
