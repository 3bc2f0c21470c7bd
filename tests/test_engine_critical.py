"""The critical path: by hand, and its parts sum to the cycles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS, PLAIN, SILICON, Mesh, graphs, port_times, states
from wsesim.engine.errors import DeadlockError
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.state import State
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, EAST, LAUNCHED, NO_PORTS, REROUTE, SOUTH, WEST, Operation
from wsesim.engine.observe.critical_path import CriticalPath, Origin, critical_path
from wsesim.machine import Fabric


def path_to_last(
    mesh: Mesh, fabric: Fabric = PLAIN, state: State | None = None, port: int | None = None
) -> CriticalPath:
    """The path to the end of the task that ends last."""
    graph = mesh.builder.build()
    times = NO_PORTS if port is None else np.array([port], np.int64)
    timeline = simulate(graph, fabric, times, times, state)
    return critical_path(graph, timeline, fabric, int(np.argmax(timeline.task_end)))


def kinds(path: CriticalPath) -> list[tuple[str, str, int]]:
    return [(step.kind, step.label, step.cycles) for step in path.steps]


def test_a_message_between_two_tasks() -> None:
    mesh = Mesh(3, 3)
    source, sink = mesh.task(0, 0, "a", launch=10, work=5), mesh.task(2, 1, "b", launch=1, work=2)
    mesh.send(source, EAST, 2, 8, sink, direction2=SOUTH, hops2=1)
    path = path_to_last(mesh, SILICON)
    assert kinds(path) == [
        ("launch", "a", 10),
        ("compute", "a", 5),
        ("network", "a", 7 + 3 * 2 + 20 + 9 + 3),
        ("launch", "b", 1),
        ("compute", "b", 2),
    ]
    assert (path.steps[2].pe, path.steps[2].to_pe) == (0, 5)
    assert path.origin == Origin("pe", 0, 0)


def test_contention_is_a_wait() -> None:
    mesh = Mesh(3, 1)
    root = mesh.task(0, 0, "root", work=1)
    mesh.send(mesh.task(1, 0, "near"), WEST, 1, 100, root)
    mesh.send(mesh.task(2, 0, "far"), WEST, 2, 50, root)
    # `far` asks for the link (1, 0) -> (0, 0) at 9, which `near` has until 107.
    assert kinds(path_to_last(mesh)) == [
        ("wait", "far", 98),
        ("network", "far", 7 + 4 + 50 + 3),
        ("compute", "root", 1),
    ]


def test_a_launched_task_is_on_the_path_only_from_the_head_on() -> None:
    for launch, expected in (
        (10, [("compute", "a", 30), ("network", "a", 12), ("compute", "b", 40)]),
        (90, [("launch", "b", 90), ("compute", "b", 40)]),
    ):
        mesh = Mesh(2, 1)
        sink = mesh.task(1, 0, "b", launch=launch, work=40, start=LAUNCHED)
        mesh.send(mesh.task(0, 0, "a", work=30), EAST, 1, 4, sink)
        assert kinds(path_to_last(mesh)) == expected


def test_a_streaming_chain_is_bound_by_heads_or_by_the_slow_source() -> None:
    for work, expected in (
        (2, [("launch", "a", 1), ("network", "a", 12), ("launch", "b", 1), ("compute", "b", 20)]),
        (90, [("launch", "a", 1), ("compute", "a", 90), ("network", "a", 12)]),
    ):
        mesh = Mesh(2, 1)
        sink = mesh.task(1, 0, "b", launch=1, work=20, start=ACTIVATED)
        mesh.send(mesh.task(0, 0, "a", launch=1, work=work, streams=1), EAST, 1, 4, sink)
        assert kinds(path_to_last(mesh)) == expected


def test_a_delay_is_computing_on_the_way_through_a_streaming_task() -> None:
    mesh = Mesh(2, 1)
    sink = mesh.task(1, 0, "b", work=2, start=LAUNCHED, delay=5)
    mesh.send(mesh.task(0, 0, "a", launch=1, work=2, streams=1, delay=4), EAST, 1, 40, sink)
    assert kinds(path_to_last(mesh)) == [
        ("launch", "a", 1),
        ("compute", "a", 4),
        ("network", "a", 7 + 2 + 40 + 3),
        ("compute", "b", 5),
    ]


def test_the_ramp_out_is_a_wait_and_a_reroute_has_its_own_kind() -> None:
    mesh = Mesh(3, 1)
    source = mesh.task(1, 0, "a")
    mesh.send(source, WEST, 1, 50, mesh.task(0, 0, "b"))
    far = mesh.task(2, 0, "c")
    mesh.send(source, EAST, 1, 4, far)
    mesh.task(2, 0, Operation("switch", REROUTE), launch=7, work=200)
    assert kinds(path_to_last(mesh)) == [
        ("wait", "a", 50),
        ("network", "a", 7 + 2 + 4 + 3),
        ("reroute", "switch", 7),
        ("reroute", "switch", 200),
    ]


def test_the_origin_is_a_port_or_the_pe() -> None:
    for start in (BLOCKING, LAUNCHED, ACTIVATED):
        mesh = Mesh(2, 1)
        mesh.builder.ports(mesh.task(1, 0, work=5, start=start))
        busy = State.idle(2, 1, cycle=50)
        assert path_to_last(mesh, state=busy, port=70).origin == Origin("port", 0, 70)
        assert path_to_last(mesh, state=busy, port=30).origin == Origin("pe", 1, 50)


@pytest.mark.parametrize("fabric", FABRICS)
@pytest.mark.parametrize("free_links", [False, True])
@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_the_steps_add_up_to_the_latency(data: st.DataObject, fabric: Fabric, free_links: bool) -> None:
    graph = data.draw(graphs(queue_wavelets=data.draw(st.sampled_from((0, fabric.queue_wavelets)))))
    head, tail = data.draw(port_times(graph))
    state = data.draw(states(graph.columns, graph.rows))
    try:
        timeline = simulate(graph, fabric, head, tail, state, free_links=free_links)
    except DeadlockError:
        reject()  # streams that wait for their tasks may hold each other's links
    for task in range(graph.task_count):
        path = critical_path(graph, timeline, fabric, task)
        ends = [path.origin.cycle, *(step.start_cycle + step.cycles for step in path.steps)]
        assert ends[-1] == path.end_cycle == timeline.task_end[task]
        assert [step.start_cycle for step in path.steps] == ends[:-1]
        for step, following in itertools.pairwise(s for s in path.steps if s.kind != "wait"):
            assert step.to_pe == following.pe
        if path.origin.kind == "port":
            assert path.origin.cycle in (head[path.origin.number], tail[path.origin.number])
        else:
            assert path.origin.cycle == state.pe_free[path.origin.number]
