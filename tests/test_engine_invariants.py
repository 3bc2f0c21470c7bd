"""Properties of every task graph, tested on random ones."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS, SILICON, graphs, port_times, states
from wsesim.engine.errors import DeadlockError
from wsesim.engine.flow import reference
from wsesim.engine.flow.reference import Hold
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, LAUNCHED, Int64, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.engine.observe.traffic import link_wavelets
from wsesim.machine import Fabric

TASK_TIMES = ("task_start", "task_begin", "task_end")
TIMES = (*TASK_TIMES, "message_head", "message_tail", "drop_head", "drop_tail")

on_random_graphs = settings(deadline=None, max_examples=80, derandomize=True)


def traced(graph: TaskGraph, fabric: Fabric, head: Int64, tail: Int64) -> tuple[Timeline, list[Hold]]:
    """How long the twin holds links and ramps, in a run whose kernel gives the same result."""
    holds: list[Hold] = []
    twin = reference.simulate(graph, fabric, head, tail, trace=holds)
    kernel = simulate(graph, fabric, head, tail)
    for name in TIMES:
        np.testing.assert_array_equal(getattr(kernel, name), getattr(twin, name), err_msg=name)
    return kernel, holds


@pytest.mark.parametrize("fabric", FABRICS)
@on_random_graphs
@given(data=st.data())
def test_no_link_and_no_ramp_carries_two_messages_at_once(data: st.DataObject, fabric: Fabric) -> None:
    graph = data.draw(graphs())
    _, holds = traced(graph, fabric, *data.draw(port_times(graph)))
    by_place = sorted(holds, key=lambda hold: (hold.place, hold.granted))
    for hold, following in itertools.pairwise(by_place):
        assert hold.requested <= hold.granted < hold.free
        if hold.place == following.place:
            assert hold.free <= following.granted


@pytest.mark.parametrize("fabric", FABRICS)
@on_random_graphs
@given(data=st.data())
def test_wavelets_sent_are_wavelets_received(data: st.DataObject, fabric: Fabric) -> None:
    graph = data.draw(graphs())
    timeline, holds = traced(graph, fabric, *data.draw(port_times(graph)))
    carried, received = np.zeros(4 * graph.pes, np.int64), np.zeros(graph.pes, np.int64)
    for hold in holds:
        kind, number = hold.place
        (carried if kind == "link" else received)[number] += graph.wavelets[hold.message]
    np.testing.assert_array_equal(carried.reshape(-1, 4), link_wavelets(graph))
    sent = np.zeros(graph.pes, np.int64)
    np.add.at(sent, graph.pe[graph.drop_task], graph.wavelets[graph.drop_message()])
    np.testing.assert_array_equal(received, sent)
    assert timeline.link_events == (graph.hops1 + graph.hops2).sum()


def longest_path(graph: TaskGraph, fabric: Fabric, head: Int64, tail: Int64) -> tuple[Int64, Int64]:
    """Begin and end of each task if no message ever waits: passes over all tasks until nothing changes."""
    begin = end = np.full(graph.task_count, -(2**40))
    while True:
        found = _one_pass(graph, fabric, begin, end, head, tail)
        if all(np.array_equal(a, b) for a, b in zip(found, (begin, end), strict=True)):
            return begin, end
        begin, end = found


def _one_pass(
    graph: TaskGraph, fabric: Fabric, begin: Int64, end: Int64, head: Int64, tail: Int64
) -> tuple[Int64, Int64]:
    message = graph.drop_message()
    source = graph.source[message]
    cycles = -(-graph.wavelets[message].astype(np.int64) * fabric.wavelet_numerator // fabric.wavelet_denominator)
    leaves = np.where(graph.streams[source] == 1, begin[source] + graph.delay[source], end[source])
    way = fabric.ramp_send_cycles + fabric.hop_cycles * graph.drop_hop + fabric.ramp_receive_cycles
    turned = graph.drop_hop > graph.hops1[message]
    drop_head = leaves + way + fabric.turn_cycles * turned
    drop_tail = np.maximum(drop_head + cycles, np.maximum(leaves + cycles, end[source]) + way)
    heads, tails = np.full((2, graph.task_count), -(2**62))
    for times, of_drops, of_ports in ((heads, drop_head, head), (tails, drop_tail, tail)):
        np.maximum.at(times, graph.drop_task, of_drops)
        np.maximum.at(times, graph.port_task, of_ports)
    first = np.diff(graph.pe, prepend=-1) != 0
    free = np.where(first, 0, np.roll(end, 1))
    waits = np.select([graph.start == BLOCKING, graph.start == ACTIVATED], [tails, heads], free)
    ready = np.maximum(free, waits) + graph.launch
    new_begin = np.where(graph.start == LAUNCHED, np.maximum(ready, heads), ready)
    worked = new_begin + graph.work
    return new_begin, np.where(graph.start == BLOCKING, worked, np.maximum(worked, tails)) + graph.delay


@pytest.mark.parametrize("fabric", FABRICS)
@on_random_graphs
@given(data=st.data())
def test_nothing_ends_before_the_longest_path_to_it(data: st.DataObject, fabric: Fabric) -> None:
    graph = data.draw(graphs())
    times = data.draw(port_times(graph))
    begin, end = longest_path(graph, fabric, *times)
    busy, free = (simulate(graph, fabric, *times, free_links=free) for free in (False, True))
    assert (busy.task_begin >= begin).all()
    assert (busy.task_end >= end).all()
    np.testing.assert_array_equal(free.task_begin, begin)
    np.testing.assert_array_equal(free.task_end, end)


@pytest.mark.parametrize("field", ["hop_cycles", "ramp_send_cycles", "ramp_receive_cycles", "turn_cycles"])
@on_random_graphs
@given(data=st.data())
def test_a_slower_network_is_never_faster_where_nothing_contends(data: st.DataObject, field: str) -> None:
    graph = data.draw(graphs())
    times = data.draw(port_times(graph))
    slow = dataclasses.replace(SILICON, **{field: getattr(SILICON, field) + data.draw(st.integers(1, 9))})
    before, after = (simulate(graph, fabric, *times, free_links=True) for fabric in (SILICON, slow))
    for name in TIMES:
        assert (getattr(after, name) >= getattr(before, name)).all()


def beside(one: TaskGraph, other: TaskGraph) -> TaskGraph:
    """Both graphs on one mesh: `one` in the west, `other` in the columns after it."""
    columns, rows = one.columns + other.columns, max(one.rows, other.rows)

    def moved(graph: TaskGraph, x: int) -> Int64:
        return graph.pe // graph.columns * columns + graph.pe % graph.columns + x

    pe = np.concatenate((moved(one, 0), moved(other, one.columns)))
    order = np.argsort(pe, kind="stable")
    rank = np.argsort(order, kind="stable")
    tasks = {name: np.concatenate((getattr(one, name), getattr(other, name)))[order] for name in PER_TASK}
    source = rank[np.concatenate((one.source, other.source + one.task_count))]
    by_source = np.argsort(source, kind="stable")
    messages = {name: np.concatenate((getattr(one, name), getattr(other, name)))[by_source] for name in PER_MESSAGE}
    message = np.argsort(by_source)[np.concatenate((one.drop_message(), other.drop_message() + one.message_count))]
    by_message = np.argsort(message, kind="stable")
    drop_task = rank[np.concatenate((one.drop_task, other.drop_task + one.task_count))]
    return dataclasses.replace(
        one,
        columns=columns,
        rows=rows,
        operations=(*one.operations, *other.operations),
        operation=np.concatenate((one.operation, other.operation + len(one.operations)))[order].astype(np.int32),
        pe=pe[order].astype(np.int32),
        source=source[by_source].astype(np.int32),
        out_ptr=np.searchsorted(source[by_source], np.arange(pe.size + 1)).astype(np.int32),
        drop_ptr=np.searchsorted(message[by_message], np.arange(source.size + 1)).astype(np.int32),
        drop_hop=np.concatenate((one.drop_hop, other.drop_hop))[by_message],
        drop_sink=np.concatenate((one.drop_sink, other.drop_sink))[by_message],
        drop_task=drop_task[by_message].astype(np.int32),
        port_task=rank[np.concatenate((one.port_task, other.port_task + one.task_count))].astype(np.int32),
        outputs=np.empty(0, np.int32),
        **tasks,
        **messages,
    )


PER_TASK = ("start", "streams", "launch", "work", "delay")
PER_MESSAGE = ("wavelets", "direction1", "hops1", "direction2", "hops2", "shares_ramp", "colour")


@pytest.mark.parametrize("fabric", FABRICS)
@on_random_graphs
@given(data=st.data())
def test_tasks_that_share_no_pe_and_no_link_do_not_notice_each_other(data: st.DataObject, fabric: Fabric) -> None:
    one, other = data.draw(graphs()), data.draw(graphs())
    alone = [simulate(graph, fabric, *_at_zero(graph)) for graph in (one, other)]
    for first, second, mine in ((one, other, alone), (other, one, alone[::-1])):
        both = beside(first, second)
        verify(both)
        together = simulate(both, fabric, *_at_zero(both))
        left = both.pe % both.columns < first.columns
        for name in TASK_TIMES:
            np.testing.assert_array_equal(getattr(together, name)[left], getattr(mine[0], name))
            np.testing.assert_array_equal(getattr(together, name)[~left], getattr(mine[1], name))


def _at_zero(graph: TaskGraph) -> tuple[Int64, Int64]:
    nothing = np.zeros(graph.port_task.size, np.int64)
    return nothing, nothing


@pytest.mark.parametrize("fabric", FABRICS)
@on_random_graphs
@given(data=st.data())
def test_tasks_that_may_wait_for_each_other_run_or_are_reported_never_hang(data: st.DataObject, fabric: Fabric) -> None:
    graph = data.draw(graphs(xy_only=False, ordered=False))
    arguments = (graph, fabric, *data.draw(port_times(graph)), data.draw(states(graph.columns, graph.rows)))
    stuck = []
    for simulator in (simulate, reference.simulate):
        try:
            simulator(*arguments)
        except DeadlockError as error:
            stuck.append(error)
    assert len(stuck) in (0, 2), "kernel and twin disagree"
    if stuck:
        assert str(stuck[0]) == str(stuck[1])
        assert stuck[0].unfinished_tasks > 0
        assert len(set(stuck[0].waiting)) >= 1
