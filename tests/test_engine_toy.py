"""simulate on toy4x4, by hand: hop, turn and both ramps take 1 cycle, a wavelet 1, a queue holds 4.

A message of w wavelets that leaves at e and goes h hops without waiting is at the PE from e + 1 + h + 1 on (ramp, hops,
ramp), and complete w cycles later.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine_graphs import Mesh
from tests.test_engine_simulate import assert_equal
from wsesim.engine.flow import reference
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, EAST, LAUNCHED, NORTH, REROUTE, SOUTH, WEST, Operation
from wsesim.engine.graph.verify import verify
from wsesim.machine import load_machine

TOY = load_machine("toy4x4").fabric


def run(mesh: Mesh) -> Timeline:
    """Verify a graph and simulate it with the kernel and its twin, which must agree."""
    graph = mesh.builder.build()
    verify(graph)
    timeline = simulate(graph, TOY)
    twin = reference.simulate(graph, TOY)
    assert_equal(timeline, twin)
    return timeline


@pytest.mark.parametrize(
    ("start", "times"),
    [
        (BLOCKING, (13, 15, 21)),  # from the tail on: 13, + 2 of launch, + 6 of work
        (LAUNCHED, (0, 9, 15)),  # set up at 0, begins with the head, 9; + 6 is after the tail
        (ACTIVATED, (9, 11, 17)),  # set up from the head on: 9 + 2, + 6
    ],
)
def test_start_kinds(start: int, times: tuple[int, int, int]) -> None:
    # The source ends at 2 + 3 = 5; two hops: head 5 + 1 + 2 + 1 = 9, four wavelets: tail 13.
    mesh = Mesh(4, 4)
    source = mesh.task(0, 0, launch=2, work=3)
    mesh.send(source, EAST, 2, 4, mesh.task(2, 0, launch=2, work=6, start=start))
    t = run(mesh)
    assert (t.drop_head[0], t.drop_tail[0]) == (9, 13)
    assert (t.task_start[1], t.task_begin[1], t.task_end[1]) == times


def test_a_short_task_ends_with_the_tail_of_what_it_took_in() -> None:
    # Head 1 + 1 + 1 = 3, tail 3 + 8 = 11; LAUNCHED with 2 of work would be done at 5.
    mesh = Mesh(4, 4)
    mesh.send(mesh.task(0, 0), SOUTH, 1, 8, mesh.task(0, 1, work=2, start=LAUNCHED))
    assert run(mesh).task_end.tolist() == [0, 11]


def test_a_streaming_task_with_a_delay() -> None:
    # Begin 1, end 1 + 6 + 1 = 8. The head leaves at 1 + 1 = 2 and is there at 2 + 3 = 5; the last wavelet enters the
    # ramp when the task ends, not at 2 + 4: it is there at 8 + 3 = 11.
    mesh = Mesh(4, 4)
    source = mesh.task(0, 0, launch=1, work=6, streams=1, delay=1)
    mesh.send(source, EAST, 1, 4, mesh.task(1, 0))
    t = run(mesh)
    assert t.task_end[0] == 8
    assert (t.drop_head[0], t.drop_tail[0]) == (5, 11)


def test_a_multicast_drops_on_its_way() -> None:
    # Leaves at 0, two wavelets: after 1 hop 0 + 1 + 1 + 1 = 3 to 5, after 3 hops 5 to 7.
    mesh = Mesh(4, 4)
    message = mesh.builder.messages(mesh.task(0, 2), EAST, 3, 2)
    mesh.builder.drops(np.repeat(message, 2), [1, 3], [mesh.task(1, 2), mesh.task(3, 2)])
    t = run(mesh)
    assert t.drop_head.tolist() == [3, 5]
    assert t.drop_tail.tolist() == [5, 7]


def test_a_turn() -> None:
    # At the corner at 0 + 1 + 2 = 3, round it at 4, at the last router at 5, in the PE at 6. Three wavelets on the link
    # behind the corner from 4 to 7, at the router until 8, in the PE until 9.
    mesh = Mesh(4, 4)
    mesh.send(mesh.task(0, 0), EAST, 2, 3, mesh.task(2, 1), direction2=SOUTH, hops2=1)
    t = run(mesh)
    assert (t.drop_head[0], t.drop_tail[0]) == (6, 9)


def test_two_messages_on_one_link() -> None:
    # a, from (0, 0), asks for the link (1, 0) -> (2, 0) at 1 + 1 = 2; so does b, from (1, 0), which ends at 1. The
    # lower PE wins: a has the link from 2 to 5, its head is in the PE at 2 + 1 + 1 = 4. b has it from 5 on: 5 + 2 = 7.
    # The ramp is free then: a has it from 3 to 6.
    mesh = Mesh(4, 4)
    sinks = [mesh.task(2, 0) for _ in range(2)]
    mesh.send(mesh.task(0, 0), EAST, 2, 3, sinks[0])
    mesh.send(mesh.task(1, 0, work=1), EAST, 1, 3, sinks[1])
    t = run(mesh)
    assert t.drop_head.tolist() == [4, 7]
    assert t.drop_tail.tolist() == [7, 10]


def test_two_messages_into_one_ramp() -> None:
    # Both heads are at the router at 1 + 1 = 2. The lower PE has the ramp from 2 to 6, the other from 6 to 10.
    mesh = Mesh(4, 4)
    root = mesh.task(1, 0)
    mesh.send(mesh.task(0, 0), EAST, 1, 4, root)
    mesh.send(mesh.task(2, 0), WEST, 1, 4, root)
    t = run(mesh)
    assert t.drop_head.tolist() == [3, 7]
    assert t.drop_tail.tolist() == [7, 11]
    assert t.task_start[1] == 11


def test_a_full_queue_holds_the_link_behind_it() -> None:
    # `long` has the ramp into (2, 0) from 2 to 10. `blocked`, six wavelets, is there at 3 and enters at 10: the queue
    # of (2, 0) holds four, so two pass the link (1, 0) -> (2, 0) after 10: it is free at 12. The link before is free as
    # always, at 1 + 6: two wavelets fit into the queue of (1, 0). `behind` asked at 3 and gets the link at 12; the ramp
    # is free at 10 + 6 = 16.
    mesh = Mesh(4, 4)
    sink = mesh.task(2, 0)
    mesh.send(mesh.task(3, 0, "long"), WEST, 1, 8, sink)
    mesh.send(mesh.task(0, 0, "blocked"), EAST, 2, 6, sink)
    mesh.send(mesh.task(1, 0, "behind", work=2), EAST, 1, 1, sink)
    t = run(mesh)
    blocked, behind, long = t.drop_head
    assert (long, blocked, behind) == (3, 11, 17)
    assert t.state_after.link_free[EAST::4][:2].tolist() == [7, 13]  # `behind` has the second one for a cycle


def test_a_reroute_stands_between_two_kernels() -> None:
    # a ends at 3, the routes are changed from 3 to 13, b ends at 15: its wavelet is there at 15 + 3. What b waits for,
    # from (0, 1), is there at 0 + 3 + 1 = 4, long before.
    mesh = Mesh(4, 4)
    mesh.task(0, 0, "a", work=3)
    mesh.task(0, 0, Operation("b", REROUTE), work=load_machine("toy4x4").reroute_cycles)
    b = mesh.task(0, 0, "b", work=2)
    mesh.send(mesh.task(0, 1, "feeds b"), NORTH, 1, 1, b)
    mesh.send(b, EAST, 1, 1, mesh.task(1, 0))
    t = run(mesh)
    assert t.task_end[:3].tolist() == [3, 13, 15]
    assert t.drop_tail[1] == 4
    assert t.drop_head[0] == 18


@pytest.mark.parametrize(("shares", "second"), [(1, 3), (0, 7)])
def test_two_directions_share_a_ramp_pass_or_follow_each_other(shares: int, second: int) -> None:
    # Four wavelets: the ramp out is busy from 0 to 4. Sharing it, the second message is there at 3 too, else at 4 + 3.
    mesh = Mesh(4, 4)
    source = mesh.task(1, 1)
    mesh.send(source, EAST, 1, 4, mesh.task(2, 1))
    mesh.send(source, SOUTH, 1, 4, mesh.task(1, 2), shares_ramp=shares)
    assert run(mesh).drop_head.tolist() == [3, second]
