"""simulate: by hand, against its twin in plain Python, and by invariant."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS, PLAIN, SILICON, Mesh, graphs, port_times, states
from wsesim.engine.errors import DeadlockError, ProfileError, TaskGraphError
from wsesim.engine.flow import event_loop, reference
from wsesim.engine.flow.records import Constants, World
from wsesim.engine.flow.reference import Hold
from wsesim.engine.flow.simulate import Kernel, simulate
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, EAST, LAUNCHED, NORTH, SOUTH, WEST, Int64, TaskGraph
from wsesim.engine.graph.verify import RULES, obeys, verify
from wsesim.engine.observe.traffic import link_wavelets, pe_busy_cycles
from wsesim.machine import Fabric


def run(mesh: Mesh, fabric: Fabric = PLAIN, head: tuple[int, ...] = (), tail: tuple[int, ...] = ()) -> Timeline:
    """Verify a graph and simulate it with the kernel and its twin, which must agree."""
    graph = mesh.builder.build()
    verify(graph)
    times = np.array(head, np.int64), np.array(tail or head, np.int64)
    timeline = simulate(graph, fabric, *times)
    assert_equal(timeline, reference.simulate(graph, fabric, *times))
    return timeline


def assert_equal(one: Timeline | State | Requests, other: Timeline | State | Requests) -> None:
    names = [field.name for field in dataclasses.fields(one)] if isinstance(one, Timeline) else one._fields
    for name in names:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, State | Requests):
            assert_equal(a, b)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


def outcome(simulator: Callable[..., Timeline], *arguments: object, **options: object) -> Timeline | str:
    try:
        return simulator(*arguments, **options)
    except DeadlockError as error:
        return str(error)


# By hand. PLAIN: hop 2, ramp 7 out and 3 in, no turn, a wavelet per cycle, queues of 4.


def test_one_message_pays_ramps_hops_and_its_length() -> None:
    mesh = Mesh(6, 1)
    source, sink = mesh.task(0, 0, launch=10, work=5), mesh.task(5, 0, launch=1, work=1)
    mesh.send(source, EAST, 5, 4, sink)
    timeline = run(mesh)
    assert timeline.message_head[0] == 15
    assert timeline.drop_head[0] == 15 + 7 + 5 * 2 + 3
    assert timeline.drop_tail[0] == timeline.drop_head[0] + 4
    assert timeline.task_end[1] == timeline.drop_tail[0] + 2
    assert timeline.link_events == 5


def test_a_wavelet_takes_nine_eighths_of_a_cycle_rounded_up_once() -> None:
    mesh = Mesh(2, 1)
    mesh.send(mesh.task(0, 0), EAST, 1, 9, mesh.task(1, 0))
    timeline = run(mesh, SILICON)
    assert timeline.drop_tail[0] - timeline.drop_head[0] == 11


def test_a_chain_stores_and_forwards() -> None:
    mesh = Mesh(4, 1)
    tasks = [mesh.task(x, 0, launch=16, work=4) for x in range(4)]
    for x in range(3):
        mesh.send(tasks[x], EAST, 1, 4, tasks[x + 1])
    stage = 7 + 2 + 4 + 3 + 16 + 4
    assert run(mesh).task_end.tolist() == [20, 20 + stage, 20 + 2 * stage, 20 + 3 * stage]


def test_start_kinds_differ_in_what_they_wait_for() -> None:
    mesh = Mesh(1, 3)
    for y, start in enumerate((BLOCKING, LAUNCHED, ACTIVATED)):
        mesh.builder.ports(mesh.task(0, y, launch=10, work=5, start=start))
    timeline = run(mesh, head=(100, 100, 100), tail=(120, 120, 120))
    assert timeline.task_start.tolist() == [120, 0, 100]
    assert timeline.task_begin.tolist() == [130, 100, 110]
    assert timeline.task_end.tolist() == [135, 120, 120]


def test_a_streaming_task_sends_from_its_begin_and_not_faster_than_it_works() -> None:
    mesh = Mesh(2, 1)
    mesh.send(mesh.task(0, 0, launch=10, work=50, streams=1), EAST, 1, 4, mesh.task(1, 0))
    timeline = run(mesh)
    assert timeline.drop_head[0] == 10 + 7 + 2 + 3
    assert timeline.drop_tail[0] == 60 + 7 + 2 + 3
    assert timeline.state_after.ramp_out_free[0] == 60


def test_a_streamed_chain_takes_what_hpdc24_says() -> None:
    """B + (2 T_R + 2) (P - 1): per PE two ramps, a hop, and a cycle in which the sum is made."""
    fabric = Fabric(1, 2, 2, 0, 1, 1, 6)
    for length, wavelets in ((2, 1), (5, 3), (9, 40)):
        mesh = Mesh(length, 1)
        tasks = [mesh.task(0, 0, streams=1)]
        for x in range(1, length):
            tasks.append(mesh.task(x, 0, launch=3, work=wavelets, start=LAUNCHED, streams=1, delay=1))
            mesh.send(tasks[-2], EAST, 1, wavelets, tasks[-1])
        assert simulate(mesh.builder.build(), fabric).task_end[-1] == wavelets + 6 * (length - 1)


def test_a_delay_comes_after_the_work_of_every_kind_of_task() -> None:
    mesh = Mesh(1, 3)
    for y, start in enumerate((BLOCKING, LAUNCHED, ACTIVATED)):
        mesh.builder.ports(mesh.task(0, y, launch=10, work=5, start=start, delay=3))
    assert run(mesh, head=(100, 100, 100), tail=(120, 120, 120)).task_end.tolist() == [138, 123, 123]


def test_a_multicast_drops_at_every_router_on_its_way() -> None:
    mesh = Mesh(4, 1)
    message = mesh.builder.messages(mesh.task(0, 0), EAST, 3, 4)
    mesh.builder.drops(np.repeat(message, 3), [3, 1, 2], [mesh.task(x, 0) for x in (3, 1, 2)])
    timeline = run(mesh)
    assert timeline.drop_head.tolist() == [12, 14, 16]
    assert timeline.drop_tail.tolist() == [16, 18, 20]


def test_a_multicast_in_two_directions_leaves_in_one_ramp_pass() -> None:
    for shares, second in ((1, 12), (0, 16)):
        mesh = Mesh(3, 1)
        source = mesh.task(1, 0)
        mesh.send(source, EAST, 1, 4, mesh.task(2, 0))
        mesh.send(source, WEST, 1, 4, mesh.task(0, 0), shares_ramp=shares)
        assert run(mesh).drop_head.tolist() == [12, second]


@pytest.mark.parametrize("added_first", ["straight", "turning"])
@pytest.mark.parametrize(("y", "heads"), [(0, [14, 18]), (1, [18, 14])])
def test_the_lower_pe_wins_a_tie_and_the_loser_waits_for_the_tail(added_first: str, y: int, heads: list[int]) -> None:
    # From (0, y) straight on and from (1, 1 - y) round the corner, both ask for the link (1, y) -> (2, y) at
    # cycle 9.
    mesh = Mesh(3, 2)
    sinks = [mesh.task(2, y, "for straight"), mesh.task(2, y, "for turning")]
    for name in sorted(("straight", "turning"), reverse=added_first == "turning"):
        if name == "straight":
            mesh.send(mesh.task(0, y, name), EAST, 2, 4, sinks[0])
        else:
            mesh.send(mesh.task(1, 1 - y, name), SOUTH if y else NORTH, 1, 4, sinks[1], direction2=EAST, hops2=1)
    timeline, graph = run(mesh), mesh.builder.build()
    by_sink = {graph.operation_of(t).label: h for t, h in zip(graph.drop_task, timeline.drop_head, strict=True)}
    assert [by_sink["for straight"], by_sink["for turning"]] == heads


def test_a_turn_costs_the_head_its_cycles() -> None:
    mesh = Mesh(3, 3)
    mesh.send(mesh.task(0, 0), EAST, 2, 4, mesh.task(2, 2), direction2=SOUTH, hops2=2)
    assert run(mesh, SILICON).drop_head[0] == 7 + 2 * 2 + 20 + 2 * 2 + 3


def test_a_star_is_bound_by_the_ramp_into_its_root() -> None:
    pes, wavelets = 9, 16
    mesh = Mesh(pes, 1)
    root = mesh.task(0, 0)
    for x in range(1, pes):
        mesh.send(mesh.task(x, 0), WEST, x, wavelets, root)
    first_head = 7 + 2
    assert run(mesh).task_start[0] == first_head + wavelets * (pes - 1) + 3


def test_a_blocked_message_holds_the_links_that_its_queues_cannot_free() -> None:
    # `long` has the ramp into (3, 0) from 9 to 21, when `blocked`, there since 13, gets it. Two queues of 4
    # hold 8 of its 10 wavelets: the last link has 6 to pass from 21 on, the one before 2, the first none.
    mesh = Mesh(4, 2)
    sinks = [mesh.task(3, 0) for _ in range(2)]
    mesh.send(mesh.task(3, 1, "long"), NORTH, 1, 12, sinks[0])
    mesh.send(mesh.task(0, 0, "blocked"), EAST, 3, 10, sinks[1])
    mesh.send(mesh.task(1, 0, "behind", work=5), EAST, 1, 1, mesh.task(2, 0))
    timeline = run(mesh)
    east = timeline.state_after.link_free[EAST::4]
    assert [east[0], east[2]] == [17, 21 + 6]
    blocked, behind, long = timeline.drop_head
    assert [long, blocked, behind] == [9 + 3, 21 + 3, (21 + 2) + 2 + 3]


def test_free_links_take_the_contention_away() -> None:
    mesh = Mesh(3, 1)
    root = mesh.task(0, 0)
    for x in (1, 2):
        mesh.send(mesh.task(x, 0), WEST, x, 100, root)
    graph = mesh.builder.build()
    assert simulate(graph, PLAIN).task_start[0] == 7 + 2 + 200 + 3
    assert simulate(graph, PLAIN, free_links=True).task_start[0] == 7 + 4 + 100 + 3


def test_first_and_last_requests_of_links_and_ramps() -> None:
    """Two messages over one link, 30 cycles apart: asked for at their ramp's pass and the way to the router."""
    mesh = Mesh(2, 1)
    for work in (0, 30):
        mesh.send(mesh.task(0, 0, work=work), EAST, 1, 1, mesh.task(1, 0))
    graph = mesh.builder.build()
    timeline = simulate(graph, PLAIN, state=State.idle(2, 1, cycle=100))
    asked = timeline.requests
    assert [asked.link_first[EAST], asked.link_last[EAST]] == (timeline.message_head + PLAIN.ramp_send_cycles).tolist()
    assert asked.link_last[EAST] - asked.link_first[EAST] == 30
    assert [asked.ramp_first[1], asked.ramp_last[1]] == [asked.link_first[EAST] + 2, asked.link_last[EAST] + 2]
    assert (np.delete(asked.link_first, EAST) == NEVER).all() and asked.ramp_first[0] == asked.ramp_last[0] == NEVER
    assert_equal(timeline, reference.simulate(graph, PLAIN, state=State.idle(2, 1, cycle=100)))


def test_far_events_are_dealt_out_in_order() -> None:
    # Launch and work of up to 4e9 cycles in a run that begins at -1e15: events in every level of the
    # calendar.
    mesh = Mesh(10, 1)
    for i, cycles in enumerate((5, 5_000, 20_000_000, 2_000_000_000, 2_000_000_000)):
        mesh.send(mesh.task(2 * i, 0, work=cycles), EAST, 1, 1, mesh.task(2 * i + 1, 0, launch=cycles))
    graph, state = mesh.builder.build(), State.idle(10, 1, cycle=-(10**15))
    early = state._replace(pe_free=state.pe_free + np.arange(10) * 10**14)
    for begin in (state, early):
        timeline = simulate(graph, PLAIN, state=begin)
        assert_equal(timeline, reference.simulate(graph, PLAIN, state=begin))


def test_observers_count_busy_cycles_and_wavelets() -> None:
    mesh = Mesh(3, 3)
    sink = mesh.task(0, 0, start=LAUNCHED)
    mesh.send(mesh.task(2, 2, launch=3, work=4), WEST, 2, 5, sink, direction2=NORTH, hops2=2)
    graph = mesh.builder.build()
    timeline = simulate(graph, PLAIN)
    busy, wavelets = pe_busy_cycles(graph, timeline), link_wavelets(graph)
    assert busy[8] == 7
    assert busy[0] == timeline.task_end[0]
    assert {(int(pe), int(d)) for pe, d in zip(*np.nonzero(wavelets), strict=True)} == {
        (8, WEST),
        (7, WEST),
        (6, NORTH),
        (3, NORTH),
    }
    assert set(wavelets[wavelets > 0]) == {5}


# Against the twin.


def uncompiled_run() -> Kernel:
    """The kernel of event_loop.py as plain Python, which reads a record's fields as attributes of a `numpy.record`."""
    module = uncompiled_kernels()

    def run(world: World, constants: Constants) -> None:
        module.run(World(*(a.view(np.recarray) if a.dtype.names else a for a in world)), constants)

    return run


def uncompiled_kernels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("uncompiled_kernels", event_loop.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fabric", FABRICS)
@pytest.mark.parametrize("free_links", [False, True])
@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_kernel_and_twin_agree(data: st.DataObject, fabric: Fabric, free_links: bool) -> None:
    graph = data.draw(graphs(xy_only=False))
    verify(graph)
    arguments = (graph, fabric, *data.draw(port_times(graph)), data.draw(states(graph.columns, graph.rows)))
    kernel = outcome(simulate, *arguments, free_links=free_links)
    twin = outcome(reference.simulate, *arguments, free_links=free_links)
    if isinstance(kernel, Timeline) and isinstance(twin, Timeline):
        assert_equal(kernel, twin)
    else:
        assert kernel == twin


@pytest.mark.parametrize("fabric", FABRICS)
def test_the_uncompiled_kernel_agrees(fabric: Fabric) -> None:
    plain = uncompiled_run()

    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(data=st.data())
    def agree(data: st.DataObject) -> None:
        graph = data.draw(graphs())
        arguments = (graph, fabric, *data.draw(port_times(graph)))
        assert_equal(simulate(*arguments), simulate(*arguments, kernel=plain))

    agree()


def congested(columns: int, rows: int, rounds: int, seed: int) -> TaskGraph:
    """All PEs send to random PEs, X first, in rounds."""
    rng, mesh = np.random.default_rng(seed), Mesh(columns, rows)
    pe = np.arange(columns * rows)
    sources = mesh.builder.tasks(pe, "k", 5, 10)
    for _ in range(rounds):
        sinks = mesh.builder.tasks(pe, "k", rng.integers(0, 20, pe.size), 10, rng.integers(0, 3, pe.size))
        target = (pe + rng.integers(1, pe.size, pe.size)) % pe.size
        dx, dy = target % columns - pe % columns, target // columns - pe // columns
        across, down = np.where(dx > 0, EAST, WEST), np.where(dy > 0, SOUTH, NORTH)
        message = mesh.builder.messages(
            sources,
            np.where(dx == 0, down, across),
            np.where(dx == 0, abs(dy), abs(dx)),
            rng.integers(1, 60, pe.size),
            np.where(dx == 0, across, down),
            np.where(dx == 0, 0, abs(dy)),
        )
        mesh.builder.drops(message, abs(dx) + abs(dy), sinks[target])
        sources = sinks
    return mesh.builder.build()


@pytest.mark.parametrize("fabric", FABRICS)
def test_kernel_and_twin_agree_under_load(fabric: Fabric) -> None:
    graph = congested(8, 6, rounds=6, seed=7)
    verify(graph)
    timeline = simulate(graph, fabric)
    assert_equal(timeline, reference.simulate(graph, fabric))
    assert timeline.link_events == (graph.hops1 + graph.hops2).sum()


# By invariant.


@pytest.mark.parametrize("fabric", FABRICS)
def test_nothing_carries_two_messages_at_once_and_the_first_to_come_is_served_first(fabric: Fabric) -> None:
    graph = congested(6, 5, rounds=5, seed=3)
    trace: list[Hold] = []
    reference.simulate(graph, fabric, trace=trace)
    used: dict[tuple[str, int], list[Hold]] = {}
    for hold in trace:
        used.setdefault(hold.place, []).append(hold)
    waits = 0
    for holds in used.values():
        holds.sort(key=lambda hold: hold.granted)
        for hold, following in itertools.pairwise(holds):
            assert hold.requested <= hold.granted < hold.free <= following.granted
            assert (hold.requested, hold.message) < (following.requested, following.message)
            waits += following.granted > following.requested
    assert waits > 100


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_no_effect_comes_before_its_cause(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    head, tail = data.draw(port_times(graph))
    t = simulate(graph, SILICON, head, tail)
    message = graph.drop_message()
    sent = graph.source
    assert (t.task_begin - t.task_start >= graph.launch).all()
    assert (t.task_end - t.task_begin >= graph.work + graph.delay).all()
    first_result = np.where(graph.streams[sent] == 1, t.task_begin[sent] + graph.delay[sent], t.task_end[sent])
    assert (t.message_head >= first_result).all()
    assert (t.message_tail >= t.task_end[sent]).all()
    assert (t.drop_head >= t.message_head[message] + 7 + 2 * graph.drop_hop + 3).all()
    assert (t.drop_tail >= t.message_tail[message] + 7 + 2 * graph.drop_hop + 3).all()
    same_pe = graph.pe[1:] == graph.pe[:-1]
    assert (t.task_start[1:] >= t.task_end[:-1])[same_pe].all()
    for tasks, heads, tails in ((graph.drop_task, t.drop_head, t.drop_tail), (graph.port_task, head, tail)):
        assert (t.task_begin[tasks] >= heads).all()
        assert (t.task_end[tasks] >= tails + graph.delay[tasks]).all()
        assert (t.task_start[tasks] >= tails)[graph.start[tasks] == BLOCKING].all()
        assert (t.task_start[tasks] >= heads)[graph.start[tasks] == ACTIVATED].all()


@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_contention_only_delays_and_a_later_beginning_only_shifts(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    head, tail = data.draw(port_times(graph))
    busy = simulate(graph, SILICON, head, tail)
    free = simulate(graph, SILICON, head, tail, free_links=True)
    later = simulate(graph, SILICON, head + 5000, tail + 5000, State.idle(graph.columns, graph.rows, cycle=5000))
    for name in (
        "task_start",
        "task_begin",
        "task_end",
        "message_head",
        "message_tail",
        "drop_head",
        "drop_tail",
    ):
        assert (getattr(busy, name) >= getattr(free, name)).all()
        np.testing.assert_array_equal(getattr(later, name), getattr(busy, name) + 5000)


def test_the_order_in_which_pes_are_written_changes_nothing() -> None:
    def star(order: Int64) -> Timeline:
        mesh = Mesh(7, 7)
        pe = np.arange(49)[order]
        first = mesh.builder.tasks(pe, "send", 3, 4)
        second = mesh.builder.tasks(pe, "receive", 3, 4)
        sender = pe % 7 != 3
        hops = abs(pe % 7 - 3)[sender]
        direction = np.where(pe % 7 < 3, EAST, WEST)[sender]
        message = mesh.builder.messages(first[sender], direction, hops, 5 + pe[sender] % 11)
        centre = second[np.argsort(pe)][pe // 7 * 7 + 3][sender]
        mesh.builder.drops(message, hops, centre)
        return run(mesh, SILICON)

    rng = np.random.default_rng(5)
    assert_equal(star(np.arange(49)), star(rng.permutation(49)))


# What cannot run.


def test_tasks_that_wait_for_each_other_are_named() -> None:
    mesh = Mesh(3, 1)
    a, b, c = (mesh.task(x, 0, name) for x, name in enumerate("abc"))
    mesh.send(a, EAST, 1, 1, b)
    mesh.send(b, WEST, 1, 1, a)
    mesh.send(b, EAST, 1, 1, c)
    graph = mesh.builder.build()
    verify(graph)
    for simulator in (simulate, reference.simulate):
        with pytest.raises(DeadlockError) as caught:
            simulator(graph, PLAIN)
        assert caught.value.waiting == ("a at (0, 0)", "b at (1, 0)")
        assert str(caught.value) == (
            "deadlock, 3 tasks cannot finish: a at (0, 0) waits for b at (1, 0) waits for a at (0, 0)"
        )


def test_a_program_in_the_wrong_order_is_a_deadlock() -> None:
    mesh = Mesh(2, 1)
    receive, send = mesh.task(0, 0, "receive"), mesh.task(0, 0, "send")
    reply = mesh.task(1, 0, "reply")
    mesh.send(send, EAST, 1, 1, reply)
    mesh.send(reply, WEST, 1, 1, receive)
    with pytest.raises(DeadlockError, match=r"receive at .* waits for reply at .* waits for send at .* waits for rec"):
        simulate(mesh.builder.build(), PLAIN)


def circle(wavelets: int) -> TaskGraph:
    """Four messages round the edge of 3 x 3 PEs, each along two sides."""
    mesh = Mesh(3, 3)
    corners = ((0, 0, EAST, SOUTH), (2, 0, SOUTH, WEST), (2, 2, WEST, NORTH), (0, 2, NORTH, EAST))
    senders = [mesh.task(x, y, f"send{i}") for i, (x, y, _, _) in enumerate(corners)]
    sinks = [mesh.task(x, y, f"sink{i}") for i, (x, y, _, _) in enumerate(corners)]
    for i, (_, _, first, second) in enumerate(corners):
        mesh.send(senders[i], first, 2, wavelets, sinks[(i + 2) % 4], direction2=second, hops2=2)
    return mesh.builder.build()


def test_messages_that_turn_in_a_circle_deadlock_if_they_overflow_the_queues() -> None:
    # Each holds the two links of its first side and waits for the next side: 8 wavelets fit into its two
    # queues.
    assert simulate(circle(8), PLAIN).link_events == 16
    for simulator in (simulate, reference.simulate):
        with pytest.raises(DeadlockError) as caught:
            simulator(circle(9), PLAIN)
        assert sorted(caught.value.waiting) == [
            "message of send0 at (0, 0)",
            "message of send1 at (2, 0)",
            "message of send2 at (2, 2)",
            "message of send3 at (0, 2)",
        ]


def test_arguments_that_do_not_suit_each_other_are_named() -> None:
    mesh = Mesh(2, 1)
    mesh.builder.ports(mesh.task(0, 0))
    graph, zero = mesh.builder.build(), np.zeros(1, np.int64)
    with pytest.raises(ProfileError, match="1 ports, but 0 heads"):
        simulate(graph, PLAIN, zero[:0], zero)
    with pytest.raises(ProfileError, match=r"port 0: its tail \(-1\)"):
        simulate(graph, PLAIN, zero, zero - 1)
    with pytest.raises(ProfileError, match="3 x 1 PEs for a graph of 2 x 1"):
        simulate(graph, PLAIN, zero, zero, State.idle(3, 1))
    with pytest.raises(ProfileError, match="at least 1"):
        simulate(graph, dataclasses.replace(PLAIN, hop_cycles=0), zero, zero)


def valid_graph() -> TaskGraph:
    """a at (0, 0) sends two messages that share a ramp pass to b at (1, 1); c stands at (1, 0)."""
    mesh = Mesh(2, 2)
    a, c, b = mesh.task(0, 0, "a"), mesh.task(1, 0, "c"), mesh.task(1, 1, "b")
    message = mesh.builder.messages(a, EAST, 1, 4, SOUTH, 1)
    mesh.builder.drops(np.repeat(message, 2), [1, 2], [c, b])
    mesh.send(a, SOUTH, 1, 4, b, direction2=EAST, hops2=1, shares_ramp=1)
    mesh.builder.ports(a)
    mesh.builder.outputs(b)
    return mesh.builder.build()


BROKEN: list[tuple[dict[str, list[int]], str]] = [
    ({"drop_task": [1, 7, 2]}, "task 7 of 3: .* name tasks of the graph"),
    ({"outputs": [-1]}, "task -1 of 3: .* name tasks of the graph"),
    ({"pe": [0, 1, 4]}, "b at PE 4 of 2 x 2: a task stands on a PE"),
    ({"pe": [0, 3, 1]}, r"b at \(1, 0\): tasks are sorted"),
    ({"work": [0, -1, 0]}, r"c at \(1, 0\): launch, work and delay cycles are not negative"),
    ({"delay": [0, 0, -1]}, r"b at \(1, 1\): launch, work and delay"),
    ({"start": [0, 0, 3]}, "start is BLOCKING"),
    ({"operation": [3, 0, 0]}, "a task has an operation of the graph"),
    ({"colour": [0, -1]}, "the colour of a message is not negative"),
    ({"wavelets": [0, 4]}, r"a at \(0, 0\): a message has at least one wavelet"),
    ({"hops1": [0, 1]}, "at least one hop"),
    ({"hops2": [-1, 1]}, "no leg is negative"),
    ({"direction1": [4, 3]}, "EAST, WEST, NORTH or SOUTH"),
    ({"direction2": [1, 0]}, "perpendicular"),
    ({"hops1": [2, 1]}, "inside the mesh"),
    ({"direction2": [2, 0]}, "inside the mesh"),
    ({"drop_ptr": [0, 0, 3]}, "dropped at least once"),
    ({"drop_hop": [1, 1, 2]}, "last drop of a message is at its last router"),
    ({"drop_hop": [2, 2, 2]}, "ascending"),
    ({"drop_hop": [0, 2, 2]}, "ascending"),
    ({"drop_task": [2, 2, 2]}, r"b at \(1, 1\): a drop feeds a task on the PE of its router"),
    ({"drop_sink": [0, 2, 0]}, "MEMORY or STREAM"),
    ({"drop_sink": [0, 0, 1]}, r"b at \(1, 1\): a task that receives a STREAM is LAUNCHED or ACTIVATED: BLOCKING"),
    ({"shares_ramp": [1, 1]}, "shares the ramp"),
    ({"wavelets": [4, 5]}, "shares the ramp.*of equal length"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_each_rule_of_a_task_graph_is_checked(broken: dict[str, list[int]], message: str) -> None:
    graph = valid_graph()
    verify(graph)
    with pytest.raises(TaskGraphError, match=message):
        verify(dataclasses.replace(graph, **_arrays(broken)))


def _arrays(broken: dict[str, list[int]]) -> dict[str, Any]:
    return {name: np.array(values, getattr(valid_graph(), name).dtype) for name, values in broken.items()}


def test_arrays_of_unequal_length_are_named() -> None:
    graph = valid_graph()
    for field in dataclasses.fields(graph):
        if field.name not in ("columns", "rows", "operations", "pe", "source", "drop_task", "port_task", "outputs"):
            shorter = dataclasses.replace(graph, **{field.name: getattr(graph, field.name)[:-1]})
            with pytest.raises(TaskGraphError, match=rf"{field.name} has \d entries, where the graph needs \d"):
                verify(shorter)


def test_no_rule_of_a_task_graph_is_left_out() -> None:
    caught = set()
    for broken, _ in BROKEN:
        graph = dataclasses.replace(valid_graph(), **_arrays(broken))
        caught.add(next(rule.text for rule in RULES if rule.broken_by(graph).size))
    assert caught == {rule.text for rule in RULES}


COLUMNS = sorted({name for broken, _ in BROKEN for name in broken} - {"drop_ptr"})


@settings(deadline=None, max_examples=300, derandomize=True)
@given(data=st.data())
def test_one_pass_over_the_rules_says_what_they_say(data: st.DataObject) -> None:
    graph = data.draw(graphs(queue_wavelets=PLAIN.queue_wavelets))
    assert obeys(graph)
    name = data.draw(st.sampled_from([name for name in COLUMNS if getattr(graph, name).size]))
    column = getattr(graph, name).copy()
    place = data.draw(st.integers(0, column.size - 1))
    column[place] += data.draw(st.sampled_from([-3, -1, 1, 2, 40]))
    broken = dataclasses.replace(graph, **{name: column})
    assert obeys(broken) == (not any(rule.broken_by(broken).size for rule in RULES))
