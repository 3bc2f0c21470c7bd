"""Collectives on lines of PEs, as tasks and messages.

Store and forward: a PE receives a sum into its memory, then a task is activated that adds it while it sends on.
Streamed: the operation is set up before its wavelets come, takes them from the fabric and sends each on `stream_cycles`
later; sums that a PE keeps for itself go into one operation, set up once. A broadcast is one message in each direction
that every PE on the way keeps a copy of.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wsesim.engine.expand.canvas import Canvas, Lines
from wsesim.engine.graph.taskgraph import BLOCKING, COLLECTIVE, LAUNCHED, Int64
from wsesim.program.collectives import parse_collective, reduction, ring_order
from wsesim.program.layout import ceil_div

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Step:
    """What a PE does with what it receives: `work` cycles, and whether the result leaves meanwhile or after."""

    work_cycles: int
    streams: bool
    elements: int


def all_reduce(canvas: Canvas, lines: Lines, used: int, elements: int, algorithm: str, label: str) -> None:
    """Sum (or maximum) of the first `used` positions of each line, on all of its positions."""
    if lines.length == 1:
        return
    canvas.reroute(lines, routes_name(lines.kind, algorithm), label)
    if lines.count == 0:
        return
    named = parse_collective(algorithm)
    if named.algorithm == "ring" and used > 1:
        _Ring(canvas, lines, used, elements, named.streamed, label).draw()
        rest = dataclasses.replace(lines, pes=lines.pes[:, used - 1 :])
        broadcast(canvas, rest, 0, elements, label, streamed=named.streamed)
        return
    root = reduce(canvas, lines, used, sum_step(canvas, elements), algorithm, label)
    broadcast(canvas, lines, root, elements, label, streamed=named.streamed)


def routes_name(kind: str, collective: str) -> str:
    """Names the routes of a collective on lines of a kind; whether it is streamed is no matter of routes."""
    return f"{kind} {dataclasses.replace(parse_collective(collective), streamed=False)}"


def sum_step(canvas: Canvas, elements: int) -> Step:
    """Add while sending: the core keeps the pace of the link."""
    return Step(canvas.machine.op("relay").work_cycles(elements, 1, canvas.dtype), True, elements)


def reduce(canvas: Canvas, lines: Lines, used: int, step: Step, algorithm: str, label: str) -> int:
    """Merges the first `used` positions of each line; the position of the root.

    What leaves only when all of it is merged is stored and forwarded whatever the algorithm says.
    """
    plan = reduction(used, algorithm)
    if used == 1:
        return plan.root
    canvas.reroute(lines, routes_name(lines.kind, algorithm), label)
    if lines.count == 0:
        return plan.root
    streamed = parse_collective(algorithm).streamed and step.streams
    merges = _merges(used, algorithm)
    last, received = _stage_tasks(canvas, lines, merges, step, streamed, label)
    wavelets = canvas.wavelets(step.elements)
    _send(canvas, lines, last[:, merges.source], received, merges.source, merges.target, wavelets)
    return plan.root


@dataclass(frozen=True, slots=True, eq=False)
class _Merges:
    """A Reduction as arrays: source and target of each merge; positions that receive nothing; and for each rank the
    merges that are the rank-th of their targets, with how many more come after them there.
    """

    length: int
    root: int
    source: Positions
    target: Positions
    leaves: Positions
    ranks: tuple[tuple[Positions, Positions], ...]


@lru_cache(maxsize=256)
def _merges(length: int, algorithm: str) -> _Merges:
    plan = reduction(length, algorithm)
    source, target = np.array([(m.source, m.target) for m in plan.merges]).T
    order = np.argsort(target, kind="stable")
    taken = np.bincount(target, minlength=length)
    first = np.cumsum(taken) - taken
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size) - first[target[order]]
    left = taken[target] - 1 - rank  # sums that the PE takes after this one
    by_rank = [np.flatnonzero(rank == number) for number in range(int(taken.max()))]
    ranks = tuple((merges, left[merges]) for merges in by_rank)
    return _Merges(length, plan.root, source, target, np.flatnonzero(taken == 0), ranks)


def _send(
    canvas: Canvas, lines: Lines, senders: Int64, receivers: Int64, source: Positions, target: Positions, wavelets: int
) -> None:
    """One message for each (line, entry) from task `senders` on position `source` to `receivers` on `target`."""
    shape = senders.shape
    hops = np.broadcast_to(np.abs(target - source), shape).ravel()
    direction = np.broadcast_to(np.where(target > source, lines.forward, lines.backward), shape).ravel()
    messages = canvas.builder.messages(senders.ravel(), direction, hops, wavelets)
    canvas.builder.drops(messages, hops, receivers.ravel())


def _stage_tasks(
    canvas: Canvas, lines: Lines, plan: _Merges, step: Step, streamed: bool, label: str
) -> tuple[Int64, Int64]:
    """Tasks of a reduction: each position's last one [lines, used], and the one that each merge is received by."""
    count = lines.pes.shape[0]
    last = np.full((count, plan.length), -1, np.int64)
    received = np.full((count, plan.source.size), -1, np.int64)
    last[:, plan.leaves] = canvas.send(lines.pes[:, plan.leaves], label).reshape(count, -1)
    for rank, (merges, left) in enumerate(plan.ranks):
        targets = plan.target[merges]
        stage = _streamed(canvas, rank, left, targets != plan.root) if streamed else _stored(canvas)
        tasks = _receive(canvas, lines.pes[:, targets], stage, step, label)
        received[:, merges] = last[:, targets] = tasks
    return last, received


@dataclass(frozen=True, slots=True)
class _Stage:
    """How a sum is received: kind of start, and cycles of launch and delay, for each position or for all."""

    start: int
    launch: Int64 | int
    delay: Int64 | int


def _stored(canvas: Canvas) -> _Stage:
    return _Stage(BLOCKING, canvas.machine.activate_cycles, 0)


def _alone(canvas: Canvas, op: str, streamed: bool) -> _Stage:
    """An operation for every message."""
    if streamed:
        return _Stage(LAUNCHED, canvas.machine.op(op).launch, canvas.machine.stream_cycles)
    return _stored(canvas)


def _streamed(canvas: Canvas, rank: int, left: Int64, passes_on: npt.NDArray[np.bool_]) -> _Stage:
    """A PE's last sum is an operation of its own if it is passed on; the others are one operation into memory."""
    own = passes_on & (left == 0)
    launch = np.where(own | (rank == 0), canvas.machine.op("elementwise").launch, 0)
    delay = np.where((left == 0) | (passes_on & (left == 1)), canvas.machine.stream_cycles, 0)
    return _Stage(LAUNCHED, launch, delay)


def _receive(canvas: Canvas, pes: Int64, stage: _Stage, step: Step, label: str) -> Int64:
    """Tasks [lines, positions] that take in a sum each."""
    launch = np.broadcast_to(stage.launch, pes.shape).ravel()
    delay = np.broadcast_to(stage.delay, pes.shape).ravel()
    tasks = canvas.task(
        pes, label, launch, step.work_cycles, start=stage.start, streams=step.streams, kind=COLLECTIVE, delay=delay
    )
    return tasks.reshape(pes.shape)


def broadcast(canvas: Canvas, lines: Lines, root: int, elements: int, label: str, *, streamed: bool = False) -> None:
    """Every position of each line receives what its `root` has."""
    if lines.length == 1 or lines.count == 0:
        return
    stage = _alone(canvas, "copy", streamed)
    sent = canvas.send(lines.pes[:, root], label)
    others = np.array([p for p in range(lines.length) if p != root])
    received = _receive(canvas, lines.pes[:, others], stage, Step(0, False, elements), label)
    spread(canvas, lines, root, elements, sent, received)


def spread(canvas: Canvas, lines: Lines, root: int, elements: int, sent: Int64, received: Int64) -> None:
    """The message of each line's task `sent` on `root`, to `received` [lines, others] on all its other positions."""
    count, first = lines.pes.shape[0], True
    others = np.array([p for p in range(lines.length) if p != root])
    for direction, side in ((lines.backward, others < root), (lines.forward, others > root)):
        distance = np.abs(others[side] - root)
        if not distance.size:
            continue
        far = int(distance.max())
        messages = canvas.builder.messages(sent, direction, far, canvas.wavelets(elements), shares_ramp=not first)
        hops = np.broadcast_to(distance, (count, distance.size)).ravel()
        canvas.builder.drops(np.repeat(messages, distance.size), hops, received[:, side].ravel())
        first = False


class _Ring:
    """An AllReduce around a ring: each range of the vector is summed on its way round, then passed round once more."""

    def __init__(self, canvas: Canvas, lines: Lines, used: int, elements: int, streamed: bool, label: str) -> None:
        width = ceil_div(elements, canvas.tokens)  # a token's vector is cut, so that its order is its own
        self.canvas, self.lines, self.label = canvas, lines, label
        self.places = np.array(ring_order(used))
        self.adding = sum_step(canvas, canvas.tokens * ceil_div(width, used))
        self.ranges = np.arange(min(used, width))
        self.streamed = streamed

    def draw(self) -> None:
        """Range r begins on the successor of place r and comes to place r last; from there it goes round again."""
        passing = Step(0, True, self.adding.elements)
        self._turn(self.ranges + 1, _alone(self.canvas, "elementwise", self.streamed), self.adding)
        self._turn(self.ranges, _alone(self.canvas, "copy", self.streamed), passing)

    def _turn(self, first: Positions, stage: _Stage, step: Step) -> None:
        """Every range goes from place `first` to the one before it, received at each as `stage` says."""
        at = first % self.places.size
        holder = self.canvas.send(self._pes(at), self.label).reshape(-1, at.size)
        for _ in range(self.places.size - 1):
            after = (at + 1) % self.places.size
            received = _receive(self.canvas, self._pes(after), stage, step, self.label)
            source, target = self.places[at], self.places[after]
            wavelets = self.canvas.wavelets(step.elements)
            _send(self.canvas, self.lines, holder, received, source, target, wavelets)
            holder, at = received, after

    def _pes(self, places: Positions) -> Int64:
        """PEs [lines, ranges] at some places of the ring."""
        return self.lines.pes[:, self.places[places]]
