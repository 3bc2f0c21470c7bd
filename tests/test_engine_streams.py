"""Drops whose sink is STREAM: their task takes them in itself, and what waits for it fills the queues and holds links.

By hand on toy4x4: hop, turn and both ramps take 1 cycle, a wavelet 1, a queue holds 4.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS, Mesh, graphs, port_times, states
from tests.test_engine_simulate import assert_equal, outcome, uncompiled_run
from wsesim.engine.errors import DeadlockError, TaskGraphError
from wsesim.engine.flow import reference
from wsesim.engine.flow.reference import Hold
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, EAST, LAUNCHED, MEMORY, NORTH, SOUTH, STREAM, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.machine import Fabric, load_machine

TOY = load_machine("toy4x4").fabric


def stream(mesh: Mesh, source: int, direction: int, hops: int, wavelets: int, task: int) -> None:
    """A message with one drop, at its end, whose sink is the task."""
    mesh.builder.drops(mesh.builder.messages(source, direction, hops, wavelets), hops, task, STREAM)


def run(mesh: Mesh) -> Timeline:
    graph = mesh.builder.build()
    verify(graph)
    timeline = simulate(graph, TOY)
    assert_equal(timeline, reference.simulate(graph, TOY))
    return timeline


# By hand.


@pytest.mark.parametrize(
    ("start", "sink", "times"),
    [
        # The head is at (1, 0) at 0 + 1 + 1 = 2, in the memory at 3. The task's PE is free at 20.
        (LAUNCHED, MEMORY, (3, 22, 23)),  # begins when it is set up, 20 + 2; works for 1
        (LAUNCHED, STREAM, (23, 23, 26)),  # set up at 22, so the ramp is entered at 22: in the PE from 23 to 26
        (ACTIVATED, STREAM, (21, 23, 24)),  # entered at 20, in the PE from 21 to 24; set up from 21 on, done at 24
    ],
)
def test_a_stream_waits_until_its_task_takes_it_in(start: int, sink: int, times: tuple[int, int, int]) -> None:
    mesh = Mesh(4, 4)
    mesh.task(1, 0, "before", work=20)
    task = mesh.task(1, 0, "task", launch=2, work=1, start=start)
    mesh.builder.drops(mesh.builder.messages(mesh.task(0, 0), EAST, 1, 3), 1, task, sink)
    t = run(mesh)
    assert (t.drop_head[0], t.task_begin[2], t.task_end[2]) == times


def test_a_stream_that_comes_late_is_as_if_into_memory() -> None:
    # In the PE from 9 + 1 + 2 + 1 = 13 on, long after the task was set up; six wavelets, until 19.
    ends = []
    for sink in (MEMORY, STREAM):
        mesh = Mesh(4, 4)
        task = mesh.task(2, 0, launch=2, work=5, start=LAUNCHED)
        mesh.builder.drops(mesh.builder.messages(mesh.task(0, 0, work=9), EAST, 2, 6), 2, task, sink)
        ends.append(run(mesh).task_end[1])
    assert ends == [19, 19]


def test_what_waits_holds_the_link_behind_it() -> None:
    # Six wavelets wait in (2, 0) from 3 until the task is set up at 20. Its queue holds four, so two pass the link
    # (1, 0) -> (2, 0) after 20: it is free at 22. `behind` asked for it at 2 + 1 = 3, gets it at 22, is at the
    # router at 23 and waits for the ramp until 20 + 6 = 26.
    mesh = Mesh(4, 4)
    task = mesh.task(2, 0, "task", launch=20, start=LAUNCHED)
    after = mesh.task(2, 0, "after")
    stream(mesh, mesh.task(0, 0), EAST, 2, 6, task)
    mesh.send(mesh.task(1, 0, "behind", work=2), EAST, 1, 1, after)
    t = run(mesh)
    assert t.drop_head.tolist() == [20 + 1, 26 + 1]
    assert t.state_after.link_free[EAST::4][:2].tolist() == [7, 23]


def test_a_multicast_goes_on_when_the_first_task_takes_it_in() -> None:
    # At (1, 0) at 2, taken in at 10; at (2, 0) at 10 + 1, in its memory at 12.
    mesh = Mesh(4, 4)
    near, far = mesh.task(1, 0, launch=10, start=LAUNCHED), mesh.task(2, 0)
    message = np.repeat(mesh.builder.messages(mesh.task(0, 0), EAST, 2, 2), 2)
    mesh.builder.drops(message, [1, 2], [near, far], [STREAM, MEMORY])
    assert run(mesh).drop_head.tolist() == [11, 12]


def test_two_streams_of_one_task_enter_in_the_order_of_their_senders() -> None:
    # Both wait until 10; the lower PE has the ramp from 10 to 13, the other from 13 to 16.
    mesh = Mesh(4, 4)
    task = mesh.task(1, 1, launch=10, start=LAUNCHED)
    stream(mesh, mesh.task(1, 2), NORTH, 1, 3, task)
    stream(mesh, mesh.task(1, 0), SOUTH, 1, 3, task)
    t = run(mesh)
    assert t.drop_head.tolist() == [11, 14]
    assert t.task_end[1] == 17


# Against the twin, and by invariant.


@pytest.mark.parametrize("fabric", FABRICS)
@pytest.mark.parametrize("ordered", [True, False])
@settings(deadline=None, max_examples=120, derandomize=True)
@given(data=st.data())
def test_kernel_and_twin_agree(data: st.DataObject, fabric: Fabric, ordered: bool) -> None:
    graph = data.draw(graphs(xy_only=ordered, ordered=ordered, queue_wavelets=fabric.queue_wavelets))
    verify(graph)
    arguments = (graph, fabric, *data.draw(port_times(graph)), data.draw(states(graph.columns, graph.rows)))
    free_links = data.draw(st.booleans())
    kernel = outcome(simulate, *arguments, free_links=free_links)
    twin = outcome(reference.simulate, *arguments, free_links=free_links)
    if isinstance(kernel, Timeline) and isinstance(twin, Timeline):
        assert_equal(kernel, twin)
    else:
        assert kernel == twin


def test_the_uncompiled_kernel_agrees() -> None:
    plain = uncompiled_run()

    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(data=st.data())
    def agree(data: st.DataObject) -> None:
        graph = data.draw(graphs(queue_wavelets=TOY.queue_wavelets))
        arguments = (graph, TOY, *data.draw(port_times(graph)))
        kernel, uncompiled = outcome(simulate, *arguments), outcome(simulate, *arguments, kernel=plain)
        if isinstance(kernel, Timeline) and isinstance(uncompiled, Timeline):
            assert_equal(kernel, uncompiled)
        else:
            assert kernel == uncompiled

    agree()


@pytest.mark.parametrize("fabric", FABRICS)
@settings(deadline=None, max_examples=120, derandomize=True)
@given(data=st.data())
def test_no_stream_is_taken_in_before_its_task_has_begun(data: st.DataObject, fabric: Fabric) -> None:
    graph = data.draw(graphs(queue_wavelets=fabric.queue_wavelets))
    holds: list[Hold] = []
    try:
        t = reference.simulate(graph, fabric, *data.draw(port_times(graph)), trace=holds)
    except DeadlockError:
        return
    taken = (graph.drop_sink == STREAM).nonzero()[0]
    task = graph.drop_task[taken]
    launched = graph.start[task] == LAUNCHED
    first = (np.diff(graph.pe, prepend=-1) != 0)[task]
    opens = np.where(first, 0, t.task_end[task - 1]) + np.where(launched, graph.launch[task], 0)
    assert (t.drop_head[taken] >= opens + fabric.ramp_receive_cycles).all()
    assert (t.task_begin[task] >= t.drop_head[taken]).all()
    by_place = sorted(holds, key=lambda hold: (hold.place, hold.granted))
    for hold, following in itertools.pairwise(by_place):
        assert hold.place != following.place or hold.free <= following.granted


@settings(deadline=None, max_examples=120, derandomize=True)
@given(data=st.data())
def test_a_stream_is_never_taken_in_earlier_than_by_memory_where_nothing_contends(data: st.DataObject) -> None:
    graph = data.draw(graphs(queue_wavelets=TOY.queue_wavelets))
    times = data.draw(port_times(graph))
    memory = dataclasses.replace(graph, drop_sink=np.zeros_like(graph.drop_sink))
    streamed = outcome(simulate, graph, TOY, *times, free_links=True)
    if isinstance(streamed, Timeline):
        assert (streamed.drop_head >= simulate(memory, TOY, *times, free_links=True).drop_head).all()


# What cannot run.


def crossed(wavelets: int) -> TaskGraph:
    """a sends p, then q; b takes q's in before p's: the stream that is first on the links is taken in second."""
    mesh = Mesh(4, 1)
    a = mesh.task(0, 0, "a")
    q = mesh.task(2, 0, "takes q", start=LAUNCHED)
    p = mesh.task(2, 0, "takes p", start=LAUNCHED)
    stream(mesh, a, EAST, 2, wavelets, p)
    stream(mesh, a, EAST, 2, 1, q)
    return mesh.builder.build()


def test_streams_taken_in_against_their_order_deadlock_with_their_cycle() -> None:
    # p holds the link (1, 0) -> (2, 0) while more than four of its wavelets are left; q waits for that link.
    assert simulate(crossed(4), TOY).link_events == 4
    for simulator in (simulate, reference.simulate):
        with pytest.raises(DeadlockError) as caught:
            simulator(crossed(5), TOY)
        assert caught.value.waiting == (
            "takes q at (2, 0)",
            "message of a at (0, 0)",
            "message of a at (0, 0)",
            "takes p at (2, 0)",
        )


def test_two_pes_that_stream_to_each_other_before_they_take_in_deadlock() -> None:
    # Each PE's first task takes in what the other's second task sends.
    mesh = Mesh(2, 1)
    takes = [mesh.task(x, 0, f"takes{x}", start=LAUNCHED) for x in range(2)]
    sends = [mesh.task(x, 0, f"sends{x}") for x in range(2)]
    stream(mesh, sends[0], EAST, 1, 1, takes[1])
    stream(mesh, sends[1], 1, 1, 1, takes[0])
    with pytest.raises(DeadlockError, match=r"takes0 at .* sends1 at .* takes1 at .* sends0 at .* waits for takes0"):
        simulate(mesh.builder.build(), TOY)


def behind_another(wavelets: int, feeds: tuple[int, int] | None, sent_first: bool = True) -> TaskGraph:
    """`task` at (3, 0) takes in a stream from (0, 0) after `before`, which a task on PE `feeds` feeds."""
    mesh = Mesh(4, 2)
    feeder = mesh.task(*feeds, "feeder") if feeds and sent_first else None
    sender = mesh.task(0, 0, "sender")
    if feeds and not sent_first:
        feeder = mesh.task(*feeds, "feeder")
    before, task = mesh.task(3, 0, "before"), mesh.task(3, 0, "task", start=ACTIVATED)
    if feeds and feeder is not None:
        turns = {"direction2": NORTH, "hops2": 1} if feeds[1] else {}
        mesh.send(feeder, EAST, 3 - feeds[0], 1, before, **turns)
    stream(mesh, sender, EAST, 3, wavelets, task)
    return mesh.builder.build()


@pytest.mark.parametrize(
    "graph",
    [
        behind_another(12, (1, 1)),  # fits into three queues of 4
        behind_another(13, None),  # `before` waits for nothing
        behind_another(13, (0, 0)),  # `before` waits for what the same PE sent before
    ],
)
def test_a_stream_that_fits_or_whose_task_is_next_is_accepted(graph: TaskGraph) -> None:
    assert simulate(graph, TOY).task_end.size == graph.task_count


@pytest.mark.parametrize("graph", [behind_another(13, (1, 1)), behind_another(13, (0, 0), sent_first=False)])
def test_a_long_stream_whose_task_may_wait_for_others_is_refused(graph: TaskGraph) -> None:
    verify(graph)
    for simulator in (simulate, reference.simulate):
        with pytest.raises(TaskGraphError, match=r"task at \(3, 0\): a stream of 13 wavelets .* 3 queues of 4"):
            simulator(graph, TOY)


def test_a_blocking_task_cannot_take_a_stream_in() -> None:
    mesh = Mesh(4, 4)
    stream(mesh, mesh.task(0, 0), EAST, 1, 1, mesh.task(1, 0, "k", start=BLOCKING))
    with pytest.raises(TaskGraphError, match=r"k at \(1, 0\): a task that receives a STREAM is LAUNCHED or ACTIVATED"):
        verify(mesh.builder.build())
