"""Collectives on lines of PEs, as tasks and messages.

Store and forward: a PE receives a sum into its memory. Then it activates a task that adds its own values and sends the
result on meanwhile. Streamed: the operation is set up before its wavelets come. It takes them from the fabric and sends
each one on `stream_cycles` later. The sums that a PE keeps are one operation, set up once. A broadcast is one message
in each direction; every PE on its way keeps a copy.

Lines of one kind (along, across, segments) have COLOURS colours. Chains alternate between two, so that no PE
receives and sends in one colour. The merges between groups have two others, and a broadcast has the fifth. A ring has
two colours in each direction.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.graph.taskgraph import BLOCKING, LAUNCHED, RECEIVE, Int64, Operation
from wsesim.program.collectives import group_count, parse_collective, reduction, ring_order
from wsesim.program.kernels import ACROSS, ALONG, SEGMENT
from wsesim.program.layout import ceil_div

Positions = npt.NDArray[np.intp]

COLOURS = 5  # of one kind of lines
BROADCAST_COLOUR = 4  # among them
KINDS = ((ALONG, "rows"), (ACROSS, "columns"), (SEGMENT,))  # rows and columns are those of a matrix product
EMBED_COLOUR = COLOURS * len(KINDS)  # the first one of the embedding


def first_colour(kind: str) -> int:
    """Number of the first colour of lines of a kind, among the colours of a stage."""
    return COLOURS * next(number for number, kinds in enumerate(KINDS) if kind in kinds)


def ring_colour(place: Positions, backward: npt.NDArray[np.bool_]) -> Positions:
    """Colours of messages from their places around a ring: two in each direction, alternating."""
    return 2 * backward + place % 2


@dataclass(frozen=True, slots=True)
class Combine:
    """What a PE does with a partial result that it receives.

    It runs `op` on `elements` elements, and `extra_cycles` more. The result has `sent_elements`. If `streams`, the
    result leaves while the PE works, else at the end.
    """

    op: str
    elements: int
    sent_elements: int
    streams: bool
    extra_cycles: int = 0


def _stage_cycles(canvas: Canvas) -> int:
    """From a wavelet at a running operation to its result on the way out."""
    return canvas.machine.stream_cycles + canvas.software.stage_cycles


def all_reduce(canvas: Canvas, lines: PELines, used: int, elements: int, algorithm: str, label: str) -> None:
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
    root = reduce(canvas, lines, used, adding(elements), algorithm, label)
    broadcast(canvas, lines, root, elements, label, streamed=named.streamed)


def routes_name(kind: str, collective: str) -> str:
    """The name of a collective's routes on lines of a kind: the same whether it is streamed or not."""
    return f"{kind} {dataclasses.replace(parse_collective(collective), streamed=False)}"


def adding(elements: int) -> Combine:
    """Adds its own and sends meanwhile: the core keeps the pace of the link."""
    return Combine("relay", elements, elements, True)


def keeping(elements: int, *, streams: bool = False) -> Combine:
    """Copies it to memory; sends it on if it `streams`."""
    return Combine(RECEIVE, elements, elements, streams)


def reduce(canvas: Canvas, lines: PELines, used: int, combine: Combine, algorithm: str, label: str) -> int:
    """Merges the first `used` positions of each line; the position of the root.

    A result that leaves only when all of it is merged is stored and forwarded, whatever the algorithm says.
    """
    plan = reduction(used, algorithm)
    if used == 1:
        return plan.root
    canvas.reroute(lines, routes_name(lines.kind, algorithm), label)
    if lines.count == 0:
        return plan.root
    streamed = parse_collective(algorithm).streamed and combine.streams
    merges = _merges(used, algorithm)
    last, received = _stage_tasks(canvas, lines, merges, combine, streamed, label)
    moves = _Moves(merges.source, merges.target, merges.colour)
    _send(canvas, lines, last[:, merges.source], received, moves, combine.sent_elements)
    return plan.root


@dataclass(frozen=True, slots=True, eq=False)
class _Merges:
    """A Reduction as arrays: source, target and colour of each merge, and the positions that receive nothing.

    `ranks[r]` has the merges that are number r at their target, and how many follow each of them there.
    """

    length: int
    root: int
    source: Positions
    target: Positions
    colour: Positions
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
    left = taken[target] - 1 - rank  # sums that the target receives after this one
    by_rank = [np.flatnonzero(rank == number) for number in range(int(taken.max()))]
    ranks = tuple((merges, left[merges]) for merges in by_rank)
    colour = _merge_colours(source.tolist(), target.tolist(), algorithm)
    return _Merges(length, plan.root, source, target, colour, np.flatnonzero(taken == 0), ranks)


def _merge_colours(source: list[int], target: list[int], algorithm: str) -> Positions:
    """Colour of each merge: 0 and 1 in turn from the leaves on; 2 and 3 between roots of groups, which merge last."""
    height, colours = dict.fromkeys(source, 0), []
    between = len(source) + 1 - group_count(len(source) + 1, algorithm)
    for number, (a, b) in enumerate(zip(source, target, strict=True)):
        colours.append(height[a] % 2 + 2 * (number >= between))
        height[b] = max(height.get(b, 0), height[a] + 1)
    return np.array(colours)


@dataclass(frozen=True, slots=True, eq=False)
class _Moves:
    """Source and target position, and colour, of messages along a line: [moves]."""

    source: Positions
    target: Positions
    colour: Positions


def _send(canvas: Canvas, lines: PELines, senders: Int64, receivers: Int64, moves: _Moves, elements: int) -> None:
    """One message for each line and move, from its task of `senders` to that of `receivers`: both [lines, moves]."""

    def of_all_lines(values: Positions) -> Positions:
        return np.broadcast_to(values, senders.shape).ravel()

    hops = canvas.hops(lines, moves.source, moves.target).ravel()
    direction = of_all_lines(np.where(moves.target > moves.source, lines.forward, lines.backward))
    colour = first_colour(lines.kind) + of_all_lines(moves.colour)
    wavelets = canvas.wavelets(elements)
    messages = canvas.builder.messages(senders.ravel(), direction, hops, wavelets, colour=colour)
    canvas.builder.drops(messages, hops, receivers.ravel())


def _stage_tasks(
    canvas: Canvas, lines: PELines, plan: _Merges, combine: Combine, streamed: bool, label: str
) -> tuple[Int64, Int64]:
    """The tasks of a reduction: the last one of each position [lines, used], and the receiver of each merge."""
    count = lines.pes.shape[0]
    last = np.full((count, plan.length), -1, np.int64)
    received = np.full((count, plan.source.size), -1, np.int64)
    last[:, plan.leaves] = canvas.send(lines.pes[:, plan.leaves], label, combine.sent_elements).reshape(count, -1)
    for rank, (merges, left) in enumerate(plan.ranks):
        targets = plan.target[merges]
        stage = _streamed(canvas, rank, left, targets != plan.root) if streamed else _stored(canvas)
        tasks = _receive(canvas, lines.pes[:, targets], stage, combine, label)
        received[:, merges] = last[:, targets] = tasks
    return last, received


@dataclass(frozen=True, slots=True)
class _Stage:
    """How sums are received: the kind of start, and the cycles of launch and delay, for each position or for all."""

    start: int
    launch: Int64 | int
    delay: Int64 | int


def _stored(canvas: Canvas) -> _Stage:
    return _Stage(BLOCKING, canvas.machine.activate_cycles, 0)


def _alone(canvas: Canvas, op: str, streamed: bool) -> _Stage:
    """One operation for every message."""
    if streamed:
        return _Stage(LAUNCHED, canvas.machine.op(op).launch, _stage_cycles(canvas))
    return _stored(canvas)


def _streamed(canvas: Canvas, rank: int, left: Int64, passes_on: npt.NDArray[np.bool_]) -> _Stage:
    """The last sum of a PE is an operation of its own if it is passed on. The others are one operation into memory."""
    own = passes_on & (left == 0)
    launch = np.where(own | (rank == 0), canvas.machine.op("elementwise").launch, 0)
    delay = np.where((left == 0) | (passes_on & (left == 1)), _stage_cycles(canvas), 0)
    return _Stage(LAUNCHED, launch, delay)


def _receive(canvas: Canvas, pes: Int64, stage: _Stage, combine: Combine, label: str) -> Int64:
    """Tasks that receive and combine one partial result each: [lines, positions]."""
    launch = np.broadcast_to(stage.launch, pes.shape).ravel()
    delay = np.broadcast_to(stage.delay, pes.shape).ravel()
    operation = Operation(label, combine.op, combine.elements, 1, canvas.dtype, combine.extra_cycles, collective=True)
    tasks = canvas.task(pes, operation, launch, start=stage.start, streams=combine.streams, delay=delay)
    return tasks.reshape(pes.shape)


def broadcast(
    canvas: Canvas,
    lines: PELines,
    root: int,
    elements: int,
    label: str,
    *,
    streamed: bool = False,
    colour: int | None = None,
) -> None:
    """Every position of each line receives what its `root` has; in the `colour` of broadcasts if None."""
    if lines.length == 1 or lines.count == 0:
        return
    stage = _alone(canvas, "copy", streamed)
    sent = canvas.send(lines.pes[:, root], label, elements)
    others = np.array([p for p in range(lines.length) if p != root])
    received = _receive(canvas, lines.pes[:, others], stage, keeping(elements), label)
    own = first_colour(lines.kind) + BROADCAST_COLOUR if colour is None else colour
    spread(canvas, lines, root, elements, sent, received, own)


def spread(canvas: Canvas, lines: PELines, root: int, elements: int, sent: Int64, received: Int64, colour: int) -> None:
    """The message of each line's task `sent` on `root` to the tasks `received` [lines, others] of all others."""
    first = True
    others = np.array([p for p in range(lines.length) if p != root])
    for direction, side in ((lines.backward, others < root), (lines.forward, others > root)):
        if not side.any():
            continue
        hops = canvas.hops(lines, np.array([root]), others[side])
        far, wavelets = hops.max(axis=1), canvas.wavelets(elements)
        messages = canvas.builder.messages(sent, direction, far, wavelets, shares_ramp=not first, colour=colour)
        canvas.builder.drops(np.repeat(messages, hops.shape[1]), hops.ravel(), received[:, side].ravel())
        first = False


class _Ring:
    """An AllReduce around a ring: each range of the vector is summed on its way round, then passed round once more."""

    def __init__(self, canvas: Canvas, lines: PELines, used: int, elements: int, streamed: bool, label: str) -> None:
        width = ceil_div(elements, canvas.tokens)  # each token's vector is cut, so that its sums have one order
        self.canvas, self.lines, self.label = canvas, lines, label
        self.places = np.array(ring_order(used))
        self.elements = canvas.tokens * ceil_div(width, used)
        self.ranges = np.arange(min(used, width))
        self.streamed = streamed

    def draw(self) -> None:
        """Range r begins at the successor of place r and ends at place r. From there it goes round once more."""
        self._turn(self.ranges + 1, _alone(self.canvas, "elementwise", self.streamed), adding(self.elements))
        passing = keeping(self.elements, streams=True)
        self._turn(self.ranges, _alone(self.canvas, "copy", self.streamed), passing)

    def _turn(self, first: Positions, stage: _Stage, combine: Combine) -> None:
        """Every range goes from place `first` to the one before it, received at each as `stage` says."""
        at = first % self.places.size
        holder = self.canvas.send(self._pes(at), self.label, self.elements).reshape(-1, at.size)
        for _ in range(self.places.size - 1):
            after = (at + 1) % self.places.size
            received = _receive(self.canvas, self._pes(after), stage, combine, self.label)
            source, target = self.places[at], self.places[after]
            moves = _Moves(source, target, ring_colour(at, target < source))
            _send(self.canvas, self.lines, holder, received, moves, self.elements)
            holder, at = received, after

    def _pes(self, places: Positions) -> Int64:
        """PEs [lines, ranges] at some places of the ring."""
        return self.lines.pes[:, self.places[places]]
