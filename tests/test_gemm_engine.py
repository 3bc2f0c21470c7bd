"""Matrix products on the engine: cycles by hand, and the shortcuts loop and fold against the full graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS
from wsesim.engine.exact.loop import LoopRun, loop
from wsesim.engine.exact.mesh import folded_side, loop_folded
from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.gemm import (
    Tiles,
    align_round,
    gemm_step,
    summa_step,
    tiles_of,
    transposed_step,
)
from wsesim.engine.expand.merge import merge
from wsesim.engine.expand.segment import Segment, plan_of
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.state import STATE_FIELDS
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, NO_PORTS, WEST, Int64, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.machine import Fabric, Machine, Rect, load_machine
from wsesim.machine.parts import SlowPE
from wsesim.program.gemm import ring
from wsesim.software import WSESIM

TOY = load_machine("toy4x4")
CODE = WSESIM.gemm
WSE2 = load_machine("wse2").with_(
    {"op.fma.fp16": 4, "op.fma.relaunch": 7.06}
)  # where the exchange of small tiles decides
SMALL = Tiles(400, 1, 1)  # long messages and little work: the exchange decides
LARGE = Tiles(7, 7, 7)  # the product decides
Body = Callable[[int, Machine, Tiles], TaskGraph]


def all_rows(side: int) -> PELines:
    return PELines(np.arange(side * side).reshape(side, side), EAST, WEST, "rows")


def stepped(algorithm: str, step: Callable[..., None]) -> Body:
    def body(side: int, machine: Machine, tiles: Tiles) -> TaskGraph:
        canvas = Canvas(Rect(0, 0, side, side), machine, "fp16")
        step(canvas, all_rows(side), ring(side, algorithm), tiles, "product")
        return built(canvas)

    return body


def built(canvas: Canvas) -> TaskGraph:
    graph = canvas.builder.build()
    verify(graph)
    return graph


def alignment(lines: int, side: int, forward: list[bool], elements: int, machine: Machine) -> TaskGraph:
    canvas = Canvas(Rect(0, 0, side, lines), machine, "fp16")
    rows = PELines(np.arange(lines * side).reshape(lines, side), EAST, WEST, "rows")
    align_round(canvas, rows, ring(side, "meshgemm"), np.array(forward), elements, "align")
    return built(canvas)


BODIES: dict[str, Callable[[int, Machine, Tiles], TaskGraph]] = {
    "meshgemm": stepped("meshgemm", gemm_step),
    "cannon": stepped("cannon", gemm_step),
    "transposed": stepped("meshgemm", transposed_step),
    "alignment": lambda side, machine, tiles: alignment(
        side, side, [row % 2 == 1 for row in range(side)], tiles.left, machine
    ),
}


def in_one_graph(body: TaskGraph, runs: int) -> TaskGraph:
    window = Rect(0, 0, body.columns, body.rows)
    return merge([Segment("run", window, plan_of(body))] * runs, window)


def assert_as_whole(run: LoopRun, body: TaskGraph, runs: int, machine: Machine) -> None:
    """Assert that `loop` leaves exactly the state of the full graph."""
    whole = simulate(in_one_graph(body, runs), machine.fabric, NO_PORTS, NO_PORTS)
    for name in STATE_FIELDS:
        np.testing.assert_array_equal(getattr(run.state, name), getattr(whole.state_after, name), err_msg=name)
    assert run.runs == runs
    assert run.end_cycles == whole.task_end.max()
    assert run.link_events == whole.link_events


# By hand, on toy4x4: a task is started in 1, a copy launched in 1, a message takes ramp out 1, hops, its length and
# ramp in 1. Two PEs in a row, tiles of 4 elements, 2 wavelets: the send begins after 1 + the round's instructions + 1;
# 1 + 1 + 2 + 1 later the tile is there.
def test_a_round_by_hand() -> None:
    graph = alignment(1, 2, [True], 4, TOY)
    end = 1 + CODE.round_instructions + 1 + 5
    assert loop(graph, 1, TOY.fabric).state.pe_free.tolist() == [end, end]
    assert loop(graph, 5, TOY.fabric).state.pe_free.tolist() == [5 * end, 5 * end]


# 2 x 2 PEs, A 1 x 1 element a tile, B 1 x 8. A's send begins at B0 = 1 + instructions + 1, B's two copies later; it is
# 4 wavelets, there at B0 + 2 + 1 + 1 + 4 + 1 = B0 + 9. The product is set up after one more copy: eight FMAs of one
# element and one turn of the loop.
def test_a_step_by_hand() -> None:
    begin = 1 + CODE.step_instructions + CODE.exchange_instructions + 1
    fma = TOY.op("fma")
    product = begin + 2 + 1 + fma.launch + fma.work_cycles(1, 8, "fp16") + TOY.loop_cycles
    assert product > begin + 9
    graph = BODIES["meshgemm"](2, TOY, Tiles(1, 1, 8))
    assert loop(graph, 1, TOY.fabric).state.pe_free.tolist() == [product + 3] * 4  # A there 1, B there and joined 2


def test_without_exchange_a_step_is_its_product() -> None:
    canvas = Canvas(Rect(0, 0, 2, 2), TOY, "fp16")
    gemm_step(canvas, all_rows(2), ring(2, "meshgemm"), Tiles(1, 1, 8), "product", exchange=False, loops=2)
    fma = TOY.op("fma")
    end = 1 + CODE.step_instructions + fma.launch + fma.work_cycles(1, 16, "fp16") + 2 * TOY.loop_cycles
    assert loop(built(canvas), 3, TOY.fabric).end_cycles == 3 * end


def test_tiles_are_padded() -> None:
    assert tiles_of(10, 11, 12, 5) == Tiles(2, 3, 3)


@pytest.mark.parametrize("tiles", [SMALL, LARGE])
@pytest.mark.parametrize("name", BODIES)
def test_loop_is_the_full_graph(name: str, tiles: Tiles) -> None:
    for side in (1, 2, 3, 6):
        for machine in (TOY, WSE2):
            body = BODIES[name](side, machine, tiles)
            assert_as_whole(loop(body, 2 * side, machine.fabric), body, 2 * side, machine)


@given(
    name=st.sampled_from(sorted(BODIES)),
    side=st.integers(1, 5),
    runs=st.integers(1, 12),
    sizes=st.tuples(*(st.integers(1, 9),) * 3),
    fabric=st.sampled_from(FABRICS),
    slow=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(2, 9)), max_size=2),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_loop_is_the_full_graph_on_any_machine(
    name: str, side: int, runs: int, sizes: tuple[int, int, int], fabric: Fabric, slow: list[tuple[int, int, int]]
) -> None:
    stragglers = tuple(SlowPE(x, y, Fraction(factor)) for x, y, factor in slow)
    machine = dataclasses.replace(WSE2, fabric=fabric, slow=stragglers)
    body = BODIES[name](side, machine, Tiles(*sizes))
    assert_as_whole(loop(body, runs, machine.fabric), body, runs, machine)


def test_a_loop_whose_product_decides_is_simulated_twice() -> None:
    run = loop(BODIES["meshgemm"](6, WSE2, LARGE), 1000, WSE2.fabric)
    assert (run.simulated, run.period, run.runs) == (2, 1, 1000)
    assert (
        run.end_cycles == loop(BODIES["meshgemm"](6, WSE2, LARGE), 1, WSE2.fabric).end_cycles + 999 * run.period_cycles
    )


def test_longer_periods_are_found() -> None:
    """If the exchange takes longest, a mesh repeats after several steps, not after each step."""
    body = BODIES["meshgemm"](3, WSE2, SMALL)
    run = loop(body, 200, WSE2.fabric)
    assert run.period > 1 and run.simulated < 200
    assert_as_whole(run, body, 200, WSE2)


def test_runs_that_overtake_each_other_are_simulated_as_one_graph() -> None:
    """PE 0 asks for the link behind PE 1 in its second run before PE 1 does in its first."""
    builder = GraphBuilder(3, 1)
    sent = builder.tasks(np.array([0, 1]), "send", np.array([1, 500]), 0, streams=True)
    received = builder.tasks(np.array([2, 2]), "receive", 0, 1)
    messages = builder.messages(sent, EAST, np.array([2, 1]), 40)
    builder.drops(messages, np.array([2, 1]), received)
    body = builder.build()
    for most, runs in ((None, 4), (3, 3)):
        run = loop(body, 4, WSE2.fabric, most=most)
        assert (run.simulated, run.period) == (runs, 0)
        assert_as_whole(run, body, runs, WSE2)


def test_runs_that_meet_in_one_cycle_are_simulated_as_one_graph() -> None:
    """PE 2's message of the first run and PE 1's of the second request PE 1's link in one cycle: PE 1's is first."""
    builder = GraphBuilder(3, 1)
    sent = builder.tasks(np.array([1, 2]), "send", np.array([20, 39]), 0, streams=True)
    received = builder.tasks(np.array([0, 0]), "receive", 0, 20)
    builder.drops(builder.messages(sent, WEST, np.array([1, 2]), 4), np.array([1, 2]), received)
    body = builder.build()
    first = simulate(body, WSE2.fabric)
    second = simulate(body, WSE2.fabric, state=first.state_after)
    link = 4 * 1 + WEST
    assert first.requests.link_last[link] == second.requests.link_first[link]
    assert_as_whole(loop(body, 2, WSE2.fabric), body, 2, WSE2)


def test_most_ends_a_loop_that_does_not_repeat() -> None:
    body = BODIES["meshgemm"](12, WSE2, SMALL)
    run = loop(body, 50, WSE2.fabric, most=3)
    assert (run.runs, run.simulated, run.period) == (3, 3, 0)
    assert_as_whole(run, body, 3, WSE2)


@pytest.mark.parametrize("tiles", [SMALL, LARGE])
@pytest.mark.parametrize("name", ["meshgemm", "transposed"])
@pytest.mark.parametrize("side", [*range(5, 25), 31, 40])
def test_a_folded_mesh_takes_as_long_as_the_whole(side: int, name: str, tiles: Tiles) -> None:
    body = BODIES[name]
    folded = loop_folded(lambda s: body(s, WSE2, tiles), side, side, WSE2.fabric)
    whole = loop(body(side, WSE2, tiles), side, WSE2.fabric)
    assert folded.end_cycles == whole.end_cycles
    if side >= 16 and tiles == LARGE:
        assert folded.state.columns == folded_side(side, 2) < side


@given(
    name=st.sampled_from(["meshgemm", "transposed"]),
    side=st.integers(13, 26),
    sizes=st.tuples(st.sampled_from([1, 3, 200]), st.integers(1, 9), st.integers(1, 9)),
    fabric=st.sampled_from(FABRICS),
    activate=st.integers(0, 40),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_folded_mesh_takes_as_long_as_the_whole_on_any_machine(
    name: str, side: int, sizes: tuple[int, int, int], fabric: Fabric, activate: int
) -> None:
    machine = dataclasses.replace(WSE2, fabric=fabric, activate_cycles=activate)
    folded = loop_folded(lambda s: BODIES[name](s, machine, Tiles(*sizes)), side, side, fabric)
    assert folded.end_cycles == loop(BODIES[name](side, machine, Tiles(*sizes)), side, fabric).end_cycles


@pytest.mark.parametrize("runs", [1, 2, 3, 4])
@pytest.mark.parametrize("tiles", [SMALL, LARGE])
@pytest.mark.parametrize("name", ["meshgemm", "transposed"])
@pytest.mark.parametrize("side", [26, 27])
def test_every_pe_is_as_its_class(side: int, name: str, tiles: Tiles, runs: int) -> None:
    """Positions near an end are those of the small mesh, the others the two in its middle: PE by PE, run by run."""
    small = folded_side(side, runs)
    assert small < side
    edge = 2 * runs + 2
    place = np.arange(side)
    middle = edge + (place - edge) % 2
    class_of = np.where(place < edge, place, np.where(place >= side - edge, place - side + small, middle))
    states = [loop(BODIES[name](s, WSE2, tiles), runs, WSE2.fabric).state.pe_free.reshape(s, s) for s in (side, small)]
    np.testing.assert_array_equal(states[0], states[1][np.ix_(class_of, class_of)])


@pytest.mark.parametrize("side", [*range(2, 13), 23, 24])
def test_two_lines_stand_for_all(side: int) -> None:
    rows = alignment(side, side, [row % 2 == 1 for row in range(side)], 49, WSE2)
    whole = loop(rows, side // 2, WSE2.fabric).state.pe_free.reshape(side, side)
    two = loop(alignment(2, side, [False, True], 49, WSE2), side // 2, WSE2.fabric).state.pe_free.reshape(2, side)
    np.testing.assert_array_equal(whole, two[np.arange(side) % 2])


@pytest.mark.parametrize("tiles", [SMALL, LARGE, Tiles(9, 9, 1)])
@pytest.mark.parametrize("name", ["meshgemm", "cannon", "transposed"])
def test_no_tile_comes_before_its_buffer_is_free(name: str, tiles: Tiles) -> None:
    """What a TaskGraph cannot say holds on equal PEs: a tile comes after the step began in which its receive is
    launched, and a PE's own tiles have left when its step ends."""
    side, runs = 7, 7
    body = BODIES[name](side, WSE2, tiles)
    graph = in_one_graph(body, runs)
    timeline = simulate(graph, WSE2.fabric, NO_PORTS, NO_PORTS)
    step = step_of_task(graph, runs)
    begins = extreme(np.minimum, timeline.task_start, graph.pe * runs + step, side * side * runs)
    ends = extreme(np.maximum, timeline.task_end, graph.pe * runs + step, side * side * runs)
    receiver = graph.pe[graph.drop_task] * runs + step[graph.drop_task]
    assert (timeline.drop_head > begins[receiver]).all()
    sender = graph.pe[graph.source] * runs + step[graph.source]
    assert (timeline.message_tail <= ends[sender]).all()


def step_of_task(graph: TaskGraph, runs: int) -> Int64:
    pointers = graph.pe_ptr().astype(np.int64)
    each = np.diff(pointers)[0] // runs
    steps: Int64 = (np.arange(graph.task_count) - pointers[graph.pe]) // each
    return steps


def extreme(ufunc: np.ufunc, values: Int64, group: Int64, groups: int) -> Int64:
    found = np.full(groups, 2**62 if ufunc is np.minimum else -1, np.int64)
    ufunc.at(found, group, values)
    return found


def summa(side: int, tiles: Tiles, machine: Machine = WSE2) -> TaskGraph:
    canvas = Canvas(Rect(0, 0, side, side), machine, "fp16")
    for step in range(side):
        summa_step(canvas, all_rows(side), step, tiles, "product")
    return built(canvas)


def test_summa_brings_every_tile_to_every_pe() -> None:
    graph = summa(5, LARGE)
    received = np.bincount(graph.pe[graph.drop_task], graph.wavelets[graph.drop_message()], 25).reshape(5, 5)
    tile = WSE2.wavelets(49, "fp16")
    assert (received == 2 * 4 * tile).all()  # of each row and column, the tiles of the four others


def slow_hops(hop_cycles: int) -> Machine:
    return dataclasses.replace(WSE2, fabric=dataclasses.replace(WSE2.fabric, hop_cycles=hop_cycles))


@pytest.mark.parametrize(("side", "slower"), [(3, False), (24, True)])
def test_only_cannon_pays_for_the_length_of_the_line(side: int, slower: bool) -> None:
    """The ring that wraps around has a neighbour P - 1 hops away, the interleaved one none beyond two."""
    far, tiles = slow_hops(20), Tiles(2, 2, 2)
    ends = [loop(BODIES[name](side, far, tiles), side, far.fabric).end_cycles for name in ("meshgemm", "cannon")]
    assert (ends[0] < ends[1]) == slower and ends[0] <= ends[1]


def test_summa_waits_for_broadcasts_and_a_shift_does_not() -> None:
    """A step of SUMMA waits for its tiles. A shifted tile arrives one step early."""
    near, far = (
        int(simulate(summa(12, LARGE, machine), machine.fabric, NO_PORTS, NO_PORTS).task_end.max())
        for machine in (WSE2, slow_hops(4))
    )
    assert near < far
    near, far = (
        loop(BODIES["meshgemm"](12, machine, LARGE), 12, machine.fabric).end_cycles for machine in (WSE2, slow_hops(4))
    )
    assert near == far


def test_more_of_anything_takes_longer() -> None:
    def cycles(**changes: Any) -> int:
        fabric = {k: v for k, v in changes.items() if hasattr(WSE2.fabric, k)}
        others = {k: v for k, v in changes.items() if k not in fabric}
        machine = dataclasses.replace(WSE2, fabric=dataclasses.replace(WSE2.fabric, **fabric), **others)
        return loop(BODIES["meshgemm"](5, machine, SMALL), 5, machine.fabric).end_cycles

    chain = [cycles(), cycles(hop_cycles=2), cycles(hop_cycles=2, wavelet_numerator=2)]
    assert all(one < other for one, other in pairwise(chain))
    assert cycles(activate_cycles=WSE2.activate_cycles + 1) > cycles()
