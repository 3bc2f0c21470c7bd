"""Random task graphs for the tests of the engine."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from wsesim.engine.flow.state import State
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import (
    BLOCKING,
    EAST,
    MEMORY,
    NORTH,
    SOUTH,
    STREAM,
    WEST,
    Int64,
    Operation,
    TaskGraph,
)
from wsesim.machine import Fabric

SILICON = Fabric(
    hop_cycles=2,
    ramp_send_cycles=7,
    ramp_receive_cycles=3,
    turn_cycles=20,
    wavelet_numerator=9,
    wavelet_denominator=8,
    queue_wavelets=8,
)
# No delay of turns, a wavelet per cycle, and a queue that long messages soon overflow.
PLAIN = Fabric(2, 7, 3, 0, 1, 1, 4)
# A queue that holds fewer wavelets than a hop takes cycles: even a free message holds the links behind it.
SHALLOW = Fabric(5, 0, 1, 3, 3, 2, 2)
FABRICS = (SILICON, PLAIN, SHALLOW)


class Mesh:
    """A TaskGraph under construction, one PE at a time, in coordinates."""

    def __init__(self, columns: int, rows: int) -> None:
        self.builder = GraphBuilder(columns, rows)
        self.columns = columns

    def task(self, x: int, y: int, label: Operation | str = "k", launch: int = 0, work: int = 0, **fields: int) -> int:
        return int(self.builder.tasks(y * self.columns + x, label, launch, work, **fields)[0])

    def send(self, source: int, direction: int, hops: int, wavelets: int, sink: int, **fields: int) -> int:
        """A message with one drop, at its end."""
        message = self.builder.messages(source, direction, hops, wavelets, **fields)
        self.builder.drops(message, hops + fields.get("hops2", 0), sink)
        return int(message[0])


@st.composite
def graphs(
    draw: st.DrawFn, xy_only: bool = True, most_tasks: int = 24, ordered: bool = True, queue_wavelets: int = 0
) -> TaskGraph:
    """Tasks in a random order on a small mesh, with messages to tasks on other PEs.

    If `ordered`, messages go to later tasks only; otherwise tasks may wait for each other. With `queue_wavelets`, of a
    Fabric, some sinks are STREAM.
    """
    columns, rows = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    if columns * rows == 1:
        columns = 2
    builder = GraphBuilder(columns, rows)
    pes = draw(st.lists(st.integers(0, columns * rows - 1), min_size=2, max_size=most_tasks))
    small = st.integers(0, 30)
    for pe in pes:
        fields = draw(st.tuples(small, small, st.integers(0, 2), st.booleans(), st.integers(0, 2)))
        builder.tasks(pe, f"k{pe % 3}", *fields)
    for source in range(len(pes)):
        _add_messages(draw, builder, pes, source, xy_only, source + 1 if ordered else 0)
    builder.ports(draw(st.lists(st.integers(0, len(pes) - 1), max_size=4)))
    builder.outputs([len(pes) - 1])
    graph = builder.build()
    return _streamed(graph, queue_wavelets, draw(st.integers(0, 2**32 - 1))) if queue_wavelets else graph


def _streamed(graph: TaskGraph, queue_wavelets: int, seed: int) -> TaskGraph:
    """Two drops of three become STREAM if their task is not BLOCKING, and they fit or it is its PE's first task."""
    wanted = np.random.default_rng(seed).random(graph.drop_count) < 2 / 3
    fits = graph.wavelets[graph.drop_message()] <= queue_wavelets * graph.drop_hop
    first = (np.diff(graph.pe, prepend=-1) != 0)[graph.drop_task]
    may = (graph.start[graph.drop_task] != BLOCKING) & (fits | first)
    return dataclasses.replace(graph, drop_sink=np.where(wanted & may, STREAM, MEMORY).astype(np.int8))


def _add_messages(
    draw: st.DrawFn, builder: GraphBuilder, pes: list[int], source: int, xy_only: bool, first_sink: int
) -> None:
    later = [t for t in range(first_sink, len(pes)) if pes[t] != pes[source]]
    if not later:
        return
    wavelets = 0
    for i, sink in enumerate(draw(st.lists(st.sampled_from(later), max_size=2))):
        x_first = xy_only or bool(draw(st.integers(0, 1)))
        (direction, hops), (direction2, hops2) = _legs(pes[source], pes[sink], builder.columns, x_first)
        shares = i > 0 and draw(st.booleans())
        wavelets = wavelets if shares else draw(st.sampled_from((1, 2, 5, 8, 9, 17, 40)))
        message = builder.messages(source, direction, hops, wavelets, direction2, hops2, shares)
        builder.drops(message, hops + hops2, sink)
        steps = [1, -1, -builder.columns, builder.columns]
        for hop in range(1, hops + hops2):
            router = pes[source] + min(hop, hops) * steps[direction] + max(hop - hops, 0) * steps[direction2]
            passed = [t for t in later if pes[t] == router]
            if passed and draw(st.integers(0, 1)) == 1:
                builder.drops(message, hop, draw(st.sampled_from(passed)))


def _legs(source: int, sink: int, columns: int, x_first: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    dx, dy = sink % columns - source % columns, sink // columns - source // columns
    legs = [(EAST if dx > 0 else WEST, abs(dx)), (SOUTH if dy > 0 else NORTH, abs(dy))]
    if not x_first:
        legs.reverse()
    if legs[0][1] == 0:
        legs.reverse()
    return legs[0], legs[1]


@st.composite
def port_times(draw: st.DrawFn, graph: TaskGraph) -> tuple[Int64, Int64]:
    ports = graph.port_task.size
    head = draw(st.lists(st.integers(-50, 200), min_size=ports, max_size=ports))
    length = draw(st.lists(st.integers(0, 60), min_size=ports, max_size=ports))
    return np.array(head, np.int64), np.array(head, np.int64) + np.array(length, np.int64)


@st.composite
def states(draw: st.DrawFn, columns: int, rows: int) -> State:
    """A State with random cycles, negative ones too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def cycles(n: int) -> Int64:
        return rng.integers(-40, 120, n)

    pes = columns * rows
    return State(columns, rows, cycles(pes), cycles(pes), cycles(pes), cycles(4 * pes))
