"""fold: lines of PEs that cannot be told apart are simulated once.

The lines of a phase share no PE and no link. Lines are of one kind if they have the same tasks, and if their PEs, ramps
and links are free at the same cycles after the line's own base. All lines of a kind do the same: one is simulated, and
its effect is written to all.

Phases follow one another, as on every PE. That is exact if a later phase requests every ramp and link only after the
last request of an earlier one. The same cycle is too early: in it, the numbers of the source PEs decide, and not the
phases. Where it is too early, the lines of the earlier phase that are in the way are simulated in one graph with the
later phase (`join.py`). If that is not exact either, the whole window is simulated as one graph.

Paths of messages are walked (`walk.py`), unless their timeline is wanted.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.errors import GraphSizeError
from wsesim.engine.exact.effect import Effect, Piece, effect_of
from wsesim.engine.exact.join import joined_graph
from wsesim.engine.exact.line_kernels import LINE_STATE, LineEffect, gather, hash_rows, rows_equal, scatter
from wsesim.engine.exact.lines import line_effects, times_of
from wsesim.engine.exact.walk import walk
from wsesim.engine.expand.paths import Paths
from wsesim.engine.expand.segment import EqualLines, LineGraph, Phase, Plan, line_counts
from wsesim.engine.flow.records import Constants, Records
from wsesim.engine.flow.simulate import constants, simulate
from wsesim.engine.flow.state import NEVER, REQUEST_FIELDS, STATE_FIELDS, Requests, State
from wsesim.engine.graph.taskgraph import Int64, directions
from wsesim.machine import Fabric

GRAPH_LIMIT_BYTES = 8_000_000_000
BYTES_PER_ENTRY = 290
"""Peak memory of one graph over its tasks and messages: 1.45 GB for 5.0 million of them (AMD EPYC, numpy 2.4)."""

LineCache = dict[Hashable, LineEffect]
"""Effects by (digest of the line, fabric, free links, timelines kept, state after the line's base)."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How plans are run: on which fabric, with links that are always free, folded or not, and with timelines or not."""

    fabric: Fabric
    free_links: bool = False
    fold: bool = True
    keep_timelines: bool = True


def run_plan(plan: Plan, state: State, options: RunOptions, known: LineCache) -> Effect:
    """The Effect of a plan on a window in `state`, none of whose cycles is negative.

    The plan is folded or walked if that is exact, and else run as one graph. `known` are the effects of lines so far;
    new ones are added. Raises GraphSizeError for a graph that would take more than GRAPH_LIMIT_BYTES, before it is
    drawn.
    """
    short, parts = None, plan.parts
    if options.fold and isinstance(parts, Paths):
        fabric = constants(options.fabric, options.free_links, state)
        short = None if options.keep_timelines else walked(plan, parts, fabric, state)
    elif options.fold and not isinstance(parts, Paths) and parts:
        short = _Folding(plan, parts, options, known).run(state)
    return short or _run_whole(plan, state, options)


def walked(plan: Plan, paths: Paths, fabric: Constants, state: State) -> Effect | None:
    """The Effect of messages that are followed one after the other; None if that is not exact."""
    after, requests = state.copy(), Requests.none(plan.columns * plan.rows)
    end = walk(paths, state, after, requests, fabric)
    if end is None:
        return None
    links = int((paths.hops1 + paths.hops2).sum())
    return effect_of(plan, state, after, requests, end_cycles=end, link_events=links, pieces=())


def check_size(columns: int, rows: int, tasks: int, messages: int) -> None:
    """Raises GraphSizeError for a graph of so many tasks and messages on columns x rows PEs that is too large."""
    needed = BYTES_PER_ENTRY * (tasks + messages)
    if needed > GRAPH_LIMIT_BYTES:
        raise GraphSizeError(
            f"{tasks:,} tasks and {messages:,} messages on {columns} x {rows} PEs meet out of order and make one graph "
            f"of about {needed / 1e9:.0f} GB, which is more than {GRAPH_LIMIT_BYTES / 1e9:.0f} GB; use smaller blocks, "
            "or a collective with fewer messages than ring"
        )


def _run_whole(plan: Plan, state: State, options: RunOptions) -> Effect:
    check_size(plan.columns, plan.rows, *plan.counts)
    run = simulate(plan.graph, options.fabric, state=state, free_links=options.free_links)
    members = np.arange(plan.graph.pes, dtype=np.int64)[None, :]
    piece = Piece(plan.graph, run.times() if options.keep_timelines else None, members, np.zeros(1, np.int64))
    end = int(run.task_end.max())
    return effect_of(
        plan, state, run.state_after, run.requests, end_cycles=end, link_events=run.link_events, pieces=(piece,)
    )


class _Course:
    """The phases so far: the window's State after them, their requests, and the rest of their Effect."""

    def __init__(self, now: State, requests: Requests) -> None:
        self.now = now
        self.requests = requests
        self.pieces: list[Piece] = []
        self.end = 0
        self.link_events = 0

    @staticmethod
    def begin(state: State) -> _Course:
        return _Course(state.copy(), Requests.none(state.columns * state.rows))

    def copy(self) -> _Course:
        other = _Course(self.now.copy(), self.requests.copy())
        other.pieces, other.end, other.link_events = list(self.pieces), self.end, self.link_events
        return other

    def add(self, piece: Piece, end: int, link_events: int) -> None:
        self.pieces.append(piece)
        self.end = max(self.end, end)
        self.link_events += link_events

    def effect(self, plan: Plan, before: State) -> Effect:
        return effect_of(
            plan,
            before,
            self.now,
            self.requests,
            end_cycles=self.end,
            link_events=self.link_events,
            pieces=tuple(self.pieces),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Lines that do the same: `lines` are rows of `equal.members`. Each begins at its entry of `bases`."""

    equal: EqualLines
    bases: Int64
    lines: Int64
    effect: LineEffect


@dataclass(slots=True)
class _Folding:
    """One folded run of phases."""

    plan: Plan
    phases: tuple[Phase, ...]
    options: RunOptions
    known: LineCache

    def run(self, state: State) -> Effect | None:
        """None if the phases request a ramp or a link out of order, other than two neighbours that can be joined."""
        course = _Course.begin(state)
        if all(self._fold(phase, course) for phase in self.phases):
            return course.effect(self.plan, state)
        joined = self._run_joining(state)
        return joined.effect(self.plan, state) if joined else None

    def _run_joining(self, state: State) -> _Course | None:
        """As `run`; a phase with requests out of order is simulated together with lines of the phase before it."""
        course = _Course.begin(state)
        before: tuple[Phase, _Course] | None = None  # the phase before, and the course up to it
        for phase in self.phases:
            kept = course.copy()
            if self._fold(phase, course):
                before = phase, kept
                continue
            joined = self._joined(*before, phase, kept) if before else None
            if joined is None:
                return None
            course, before = joined, None
        return course

    def _fold(self, phase: Phase, course: _Course) -> bool:
        """Adds the effects of a phase's lines. False, with the course spoilt, if their requests are out of order."""
        for kind in self._kinds(phase, course.now):
            equal, effect, bases = kind.equal, kind.effect, kind.bases[kind.lines]
            own = directions(equal.line.graph)
            if not scatter(course.now, course.requests, equal.members, kind.lines, kind.bases, own, effect):
                return False
            times = times_of(effect) if self.options.keep_timelines else None
            piece = Piece(equal.line.graph, times, equal.members[kind.lines], bases)
            course.add(piece, int(bases.max()) + int(effect.end), int(effect.link_events) * kind.lines.size)
        return True

    def _kinds(self, phase: Phase, now: State) -> Iterator[_Kind]:
        """The lines of a phase by kind, with the effect of each kind from the State `now`."""
        room = np.empty(now.pe_free.size, LINE_STATE)
        for equal in phase:
            line, members = equal.line, equal.members
            bases = np.empty(len(members), np.int64)
            states = room[: members.size].reshape(members.shape)
            gather(now, members, line.busy, line.starters, directions(line.graph), bases, states)
            kinds = _equal_rows(states.view(np.int64))
            for lines, effect in zip(kinds, self._effects(line, states, kinds), strict=True):
                yield _Kind(equal, bases, lines, effect)

    def _joined(self, last: Phase, before: _Course, phase: Phase, after: _Course) -> _Course | None:
        """The course through `last` and `phase`; `before` and `after` are the courses before and after `last`.

        The lines of `last` that `phase` comes too early for are simulated with `phase` as one graph. That may show more
        such lines. None if lines of `last` are not the reason.
        """
        late, chosen = self._late(phase, after), np.zeros(after.now.pe_free.size, np.bool_)
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

    def _late(self, phase: Phase, course: _Course) -> NDArray[np.bool_]:
        """PEs whose ramp or links `phase` requests no later than the last request so far: [PEs]."""
        late = np.zeros(course.now.pe_free.size, np.bool_)
        for kind in self._kinds(phase, course.now):
            asked, own, since = kind.effect.requests, kind.equal.members[kind.lines], kind.bases[kind.lines]
            ramps = _too_early(asked["ramp_first"][None], since[:, None], course.requests.ramp_last[own])
            links = 4 * own[:, :, None] + directions(kind.equal.line.graph)
            first = asked["link_first"][None]
            links_late = _too_early(first, since[:, None, None], course.requests.link_last[links])
            late[own[ramps | links_late.any(axis=2)]] = True
        return late

    def _simulate(self, lines: tuple[EqualLines, ...], course: _Course) -> NDArray[np.bool_]:
        """Adds the effect of the lines as one graph; PEs with requests no later than the last one before: [PEs]."""
        columns, rows, before = self.plan.columns, self.plan.rows, course.requests
        check_size(columns, rows, *line_counts(lines))
        graph = joined_graph(lines, columns, rows)
        run = simulate(graph, self.options.fabric, state=course.now, free_links=self.options.free_links)
        late = _too_early(run.requests.ramp_first, 0, before.ramp_last)
        late |= _too_early(run.requests.link_first, 0, before.link_last).reshape(-1, 4).any(axis=1)
        for name in STATE_FIELDS:
            getattr(course.now, name)[:] = getattr(run.state_after, name)
        for name in REQUEST_FIELDS:
            first, last = getattr(run.requests, f"{name}_first"), getattr(run.requests, f"{name}_last")
            firsts, lasts = getattr(before, f"{name}_first"), getattr(before, f"{name}_last")
            firsts[:] = np.where(firsts == NEVER, first, firsts)
            lasts[:] = np.maximum(lasts, last)
        members = np.arange(graph.pes, dtype=np.int64)[None, :]
        times = run.times() if self.options.keep_timelines else None
        course.add(Piece(graph, times, members, np.zeros(1, np.int64)), int(run.task_end.max()), run.link_events)
        return late

    def _effects(self, line: LineGraph, states: Records, kinds: Iterable[Int64]) -> list[LineEffect]:
        """The effect of each kind of line; those that are not known are simulated together."""
        options, states = self.options, states[[lines[0] for lines in kinds]]
        how = line.digest, options.fabric, options.free_links, options.keep_timelines
        keys = [(*how, own.tobytes()) for own in states]
        unknown = [number for number, key in enumerate(keys) if key not in self.known]
        if unknown:
            found = line_effects(line, options.fabric, states[unknown], options.free_links, options.keep_timelines)
            self.known.update(zip((keys[number] for number in unknown), found, strict=True))
        return [self.known[key] for key in keys]


def _too_early(first: Int64, since: Int64 | int, last: Int64) -> NDArray[np.bool_]:
    """Where a request is made, in cycles after `since`, and no later than the last one before."""
    early: NDArray[np.bool_] = (first != NEVER) & (first + since <= last)
    return early


def _apart(phase: Phase, chosen: NDArray[np.bool_]) -> tuple[Phase, Phase]:
    """The lines of a phase of which no PE is chosen, and the others."""
    parts: tuple[list[EqualLines], list[EqualLines]] = ([], [])
    for equal in phase:
        among = chosen[equal.members].any(axis=1)
        for part, lines in zip(parts, (~among, among), strict=True):
            if lines.any():
                part.append(EqualLines(equal.line, equal.members[lines]))
    return tuple(parts[0]), tuple(parts[1])


def _equal_rows(words: Int64) -> list[Int64]:
    """The numbers of equal rows, together. Rows of equal hash are compared."""
    hashes = np.empty(len(words), np.int64)
    hash_rows(words, _multipliers(words.shape[1]), hashes)
    _, first, kind = np.unique(hashes, return_index=True, return_inverse=True)
    if not rows_equal(words, first[kind]):
        return _compared_rows(words)
    order = np.argsort(kind, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


@lru_cache(maxsize=64)
def _multipliers(size: int) -> Int64:
    return np.random.default_rng(size).integers(-(2**62), 2**62, size) | 1


def _compared_rows(words: Int64) -> list[Int64]:
    """The same, row by row."""
    left = np.arange(len(words))
    kinds = []
    while left.size:
        same = (words[left] == words[left[0]]).all(axis=1)
        kinds.append(left[same])
        left = left[~same]
    return kinds
