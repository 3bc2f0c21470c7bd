"""fold: lines of PEs that cannot be told apart are simulated once.

A phase's lines share no PE and no link. Lines with the same tasks, whose PEs, ramps and links are free at the same
cycles after the line's own beginning, do the same from then on: one is simulated, and what it did is written to all.
Phases follow one another as they do on every PE. That is exact unless a ramp or a link is asked for by a later phase
before an earlier one has asked for it for the last time. Then the lines of the earlier phase on which that happens and
the later phase are simulated as one graph (`join.py`); where that is not exact either, the whole window is.

Paths of messages, of which no timeline is wanted, are walked (`walk.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.errors import GraphSizeError
from wsesim.engine.exact.join import joined_graph
from wsesim.engine.exact.line_kernels import Fields, gather, hash_rows, rows_equal, scatter
from wsesim.engine.exact.lines import LineEffect, line_effects
from wsesim.engine.exact.walk import walk
from wsesim.engine.expand.paths import Paths
from wsesim.engine.expand.segment import EqualLines, LineGraph, Phase, Plan, line_counts
from wsesim.engine.flow.records import Constants
from wsesim.engine.flow.simulate import constants, simulate
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.engine.flow.timeline import Times
from wsesim.engine.graph.taskgraph import Int64, TaskGraph, directions
from wsesim.machine import Fabric

NO_PORTS = np.empty(0, np.int64)
STATE_FIELDS = {"pe_free": 1, "ramp_out_free": 1, "ramp_in_free": 1, "link_free": 4}  # and their values per PE
REQUEST_FIELDS = {"ramp": 1, "link": 4}

GRAPH_LIMIT_BYTES = 8_000_000_000
BYTES_PER_ENTRY = 290
"""Peak memory of one graph over its tasks and messages: 1.45 GB for 5.0 million of them (AMD EPYC, numpy 2.4)."""

LineCache = dict[Hashable, LineEffect]
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
    known: LineCache,
    *,
    fold: bool = True,
    free_links: bool = False,
    keep_timelines: bool = True,
) -> Outcome:
    """Runs a plan from a State: folded, or walked, where that is exact (and `fold` allows it), else as one graph.

    Raises GraphSizeError, before it is drawn, for a graph that would take more than GRAPH_LIMIT_BYTES.
    """
    short, parts = None, plan.parts
    if fold and isinstance(parts, Paths):
        short = None if keep_timelines else walked(plan, parts, constants(fabric, free_links, state), state)
    elif fold and not isinstance(parts, Paths) and parts:
        short = _Folding(plan, parts, fabric, known, free_links, keep_timelines).run(state)
    return short or _run_whole(plan, fabric, state, free_links, keep_timelines)


def walked(plan: Plan, paths: Paths, fabric: Constants, state: State) -> Outcome | None:
    """The messages followed one after the other; None if that cannot be done."""
    now = _fields(state)
    before = Fields(state.pe_free, state.ramp_out_free, state.ramp_in_free, state.link_free, *now[4:])
    end = walk(paths, plan.columns, before, now, fabric)
    return None if end is None else _outcome(now, end, int((paths.hops1 + paths.hops2).sum()), ())


def check_size(columns: int, rows: int, tasks: int, messages: int) -> None:
    """Raises GraphSizeError for a graph of so many tasks and messages on columns x rows PEs that is too large."""
    needed = BYTES_PER_ENTRY * (tasks + messages)
    if needed > GRAPH_LIMIT_BYTES:
        raise GraphSizeError(
            f"{tasks:,} tasks and {messages:,} messages on {columns} x {rows} PEs meet out of order and make one graph "
            f"of about {needed / 1e9:.0f} GB, which is more than {GRAPH_LIMIT_BYTES / 1e9:.0f} GB; use smaller blocks, "
            "or a collective with fewer messages than ring"
        )


def _run_whole(plan: Plan, fabric: Fabric, state: State, free_links: bool, keep_timelines: bool) -> Outcome:
    check_size(plan.columns, plan.rows, *plan.counts)
    timeline = simulate(plan.graph, fabric, NO_PORTS, NO_PORTS, state, free_links=free_links)
    after = {name: getattr(timeline.state_after, name) for name in STATE_FIELDS}
    members = np.arange(plan.graph.pes, dtype=np.int64)[None, :]
    piece = Piece(plan.graph, timeline.times() if keep_timelines else None, members, np.zeros(1, np.int64))
    return Outcome(after, timeline.requests, int(timeline.task_end.max()), timeline.link_events, (piece,))


class _Course:
    """How far the phases have come: the window's fields after them, and what was found on the way."""

    def __init__(self, now: Fields, pieces: Iterable[Piece] = (), end: int = 0, link_events: int = 0) -> None:
        self.now = now
        self.pieces = list(pieces)
        self.end = end
        self.link_events = link_events

    def copy(self) -> _Course:
        return _Course(Fields(*(field.copy() for field in self.now)), self.pieces, self.end, self.link_events)

    def add(self, piece: Piece, end: int, link_events: int) -> None:
        self.pieces.append(piece)
        self.end = max(self.end, end)
        self.link_events += link_events

    def outcome(self) -> Outcome:
        return _outcome(self.now, self.end, self.link_events, tuple(self.pieces))


@dataclass(slots=True)
class _Folding:
    """One folded run of phases."""

    plan: Plan
    phases: tuple[Phase, ...]
    fabric: Fabric
    known: LineCache
    free_links: bool
    keep_timelines: bool

    def run(self, state: State) -> Outcome | None:
        """None if the phases ask for a ramp or a link out of order, other than two neighbours that can be joined."""
        course = _Course(_fields(state))
        if all(self._fold(phase, course) for phase in self.phases):
            return course.outcome()
        return self._run_joining(state)

    def _run_joining(self, state: State) -> Outcome | None:
        """As `run`; a phase that asks out of order is simulated together with lines of the one before it."""
        course = _Course(_fields(state))
        before: tuple[Phase, _Course] | None = None  # the last phase, and what was before it
        for phase in self.phases:
            kept = course.copy()
            if self._fold(phase, course):
                before = phase, kept
                continue
            joined = self._joined(*before, phase, kept) if before else None
            if joined is None:
                return None
            course, before = joined, None
        return course.outcome()

    def _fold(self, phase: Phase, course: _Course) -> bool:
        """Adds what the lines of a phase do; False, with the course spoilt, if they ask out of order."""
        for equal, bases, kinds, effects in self._lines(phase, course.now):
            own_links = directions(equal.line.graph)
            for effect, kind in zip(effects, kinds, strict=True):
                found = effect.after, effect.first, effect.last
                if not scatter(course.now, equal.members, kind, bases, own_links, *found):
                    return False
                piece = Piece(equal.line.graph, effect.timeline, equal.members[kind], bases[kind])
                course.add(piece, int(bases[kind].max()) + effect.end_cycles, effect.link_events * kind.size)
        return True

    def _lines(self, phase: Phase, now: Fields) -> Iterator[tuple[EqualLines, Int64, list[Int64], list[LineEffect]]]:
        """Equal lines, the cycle at which each begins, the lines by kind, and what each kind does."""
        room = np.empty(5 * now.pe_free.size, np.int64)
        for equal in phase:
            line, members = equal.line, equal.members
            bases = np.empty(len(members), np.int64)
            states = room[: 5 * members.size].reshape(len(members), -1)
            gather(now, members, line.busy, line.starters, directions(line.graph), bases, states)
            kinds = _kinds(states)
            yield equal, bases, kinds, self._effects(line, states, kinds)

    def _joined(self, last: Phase, before: _Course, phase: Phase, after: _Course) -> _Course | None:
        """The course through `last` and `phase`; `before` and `after` are the courses before and after `last`.

        The lines of `last` on which `phase` asks too early for something are simulated with `phase` as one graph. That
        may show more such lines. None if lines of `last` are not the reason.
        """
        late, chosen = self._late(phase, after.now), np.zeros(after.now.pe_free.size, np.bool_)
        while late.any():
            own = [equal.members[late[equal.members].any(axis=1)] for equal in last]
            found = chosen.copy()
            for members in own:
                found[members] = True
            if (found == chosen).all() or not found[late].all():
                return None
            chosen = found
            others, joined = _apart(last, chosen)
            course = before.copy()
            folded = self._fold(others, course)
            assert folded, "they were before"
            late = self._simulate((*joined, *phase), course)
        return course

    def _late(self, phase: Phase, now: Fields) -> NDArray[np.bool_]:
        """PEs whose ramp or links `phase` asks for before they were asked for the last time: [PEs]."""
        late = np.zeros(now.pe_free.size, np.bool_)
        for equal, bases, kinds, effects in self._lines(phase, now):
            pes = equal.members.shape[1]
            for effect, kind in zip(effects, kinds, strict=True):
                own, since = equal.members[kind], bases[kind][:, None]
                links = 4 * own[:, :, None] + directions(equal.line.graph)
                ramps_late = (effect.first[:pes] != NEVER) & (effect.first[:pes] + since < now.ramp_last[own])
                asked = effect.first[pes:].reshape(pes, 2)
                links_late = (asked != NEVER) & (asked + since[:, :, None] < now.link_last[links])
                late[own[ramps_late | links_late.any(axis=2)]] = True
        return late

    def _simulate(self, lines: tuple[EqualLines, ...], course: _Course) -> NDArray[np.bool_]:
        """Adds what the lines do in one graph; PEs whose ramp or links were asked for later before: [PEs]."""
        columns, rows, now = self.plan.columns, self.plan.rows, course.now
        check_size(columns, rows, *line_counts(lines))
        graph = joined_graph(lines, columns, rows)
        state = State(columns, rows, *now[: len(STATE_FIELDS)])
        timeline = simulate(graph, self.fabric, NO_PORTS, NO_PORTS, state, free_links=self.free_links)
        asked = timeline.requests
        late: NDArray[np.bool_] = (asked.ramp_first != NEVER) & (asked.ramp_first < now.ramp_last)
        late |= ((asked.link_first != NEVER) & (asked.link_first < now.link_last)).reshape(-1, 4).any(axis=1)
        for name in STATE_FIELDS:
            getattr(now, name)[:] = getattr(timeline.state_after, name)
        for name in REQUEST_FIELDS:
            first, last = getattr(asked, f"{name}_first"), getattr(asked, f"{name}_last")
            firsts, lasts = getattr(now, f"{name}_first"), getattr(now, f"{name}_last")
            firsts[:] = np.where(firsts == NEVER, first, firsts)
            lasts[:] = np.maximum(lasts, last)
        members = np.arange(graph.pes, dtype=np.int64)[None, :]
        piece = Piece(graph, timeline.times() if self.keep_timelines else None, members, np.zeros(1, np.int64))
        course.add(piece, int(timeline.task_end.max()), timeline.link_events)
        return late

    def _effects(self, line: LineGraph, states: Int64, kinds: list[Int64]) -> list[LineEffect]:
        """What each kind of line does; those that nobody has seen are simulated together."""
        states = states[[kind[0] for kind in kinds]]
        keys = [(line.digest, self.fabric, self.free_links, state.tobytes()) for state in states]
        unseen = [number for number, key in enumerate(keys) if key not in self.known]
        if unseen:
            found = line_effects(line, self.fabric, states[unseen], self.free_links, self.keep_timelines)
            self.known.update(zip((keys[number] for number in unseen), found, strict=True))
        return [self.known[key] for key in keys]


def _apart(phase: Phase, chosen: NDArray[np.bool_]) -> tuple[Phase, Phase]:
    """The lines of a phase of which no PE is chosen, and the others."""
    parts: tuple[list[EqualLines], list[EqualLines]] = ([], [])
    for equal in phase:
        among = chosen[equal.members].any(axis=1)
        for part, lines in zip(parts, (~among, among), strict=True):
            if lines.any():
                part.append(EqualLines(equal.line, equal.members[lines]))
    return tuple(parts[0]), tuple(parts[1])


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
