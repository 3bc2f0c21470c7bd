"""fold: equal lines are simulated once, and the cycles are those of the whole graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import on_machine, program
from tests.test_wafer import assert_same
from wsesim.engine.errors import GraphSizeError
from wsesim.engine.exact import fold
from wsesim.engine.exact.fold import RunOptions, run_plan
from wsesim.engine.exact.join import joined_graph
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.expand.segment import EqualLines, Plan, line_graph
from wsesim.engine.flow.state import STATE_FIELDS, Requests, State
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, SOUTH, Int64, TaskGraph
from wsesim.engine.observe.path import step_path
from wsesim.engine.steps.timing import Timing
from wsesim.machine import load_machine
from wsesim.machine.parts import SlowPE
from wsesim.program.collectives import COLLECTIVES

TOY = load_machine("toy4x4")


@pytest.mark.parametrize("strategy", ["pipelined", "shared"])
@pytest.mark.parametrize("machine", ["toy4x4", "wse3"])
def test_folded_steps_equal_unfolded_ones(machine: str, strategy: str) -> None:
    made = program("tiny", machine, strategy)
    folded, whole = Timing(made), Timing(made, EffectCache(fold=False))
    for context in (0, 100):
        assert_same(folded.decode(context, 4), whole.decode(context, 4))
    assert_same(folded.prefill(2 * made.prefill_chunk + 1), whole.prefill(2 * made.prefill_chunk + 1))


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("machine", ["toy4x4", "wse3"])
def test_every_collective_is_folded(machine: str, collective: str) -> None:
    made = program("tiny", machine, "shared", collective=collective)
    folded, whole = Timing(made), Timing(made, EffectCache(fold=False))
    assert_same(folded.decode(10), whole.decode(10))
    assert_same(folded.prefill(2 * made.prefill_chunk), whole.prefill(2 * made.prefill_chunk))


def test_one_cache_may_serve_several_machines() -> None:
    """Equal tasks on another fabric are other lines, and have their own cycles."""
    made, cache = program("tiny", "toy4x4"), EffectCache(keep_timelines=False)
    for machine in (made, on_machine(made, hop_cycles=3), made):
        assert Timing(machine, cache).decode(16).cycles == Timing(machine).decode(16).cycles


def test_a_straggler_is_told_apart() -> None:
    made = program("tiny", "wse3", "shared")
    block = made.block(made.kernels[3].block)
    slow = tuple(SlowPE(block.x + dx, block.y + dy, Fraction(5, 2)) for dx, dy in ((1, 2), (block.columns - 1, 0)))
    limping = dataclasses.replace(made, machine=dataclasses.replace(made.machine, slow=slow))
    step = Timing(limping).decode(10)
    assert_same(step, Timing(limping, EffectCache(fold=False)).decode(10))
    assert step.cycles > Timing(made).decode(10).cycles


Sent = tuple[int, tuple[int, ...]]
"""A phase of lines along a direction: each line's first PE sends to its last, after a launch of its own."""


def lines_of(columns: int, rows: int, phases: tuple[Sent, ...]) -> Plan:
    numbers = np.arange(columns * rows).reshape(rows, columns)

    def line(direction: int, launch: int) -> EqualLines:
        length = rows if direction == SOUTH else columns
        builder = GraphBuilder(1, rows) if direction == SOUTH else GraphBuilder(columns, 1)
        _send(builder, np.arange(length)[None, :], direction, np.array([launch]))
        return EqualLines(line_graph(builder.build()), np.empty(0, np.int64))

    drawn = [[line(direction, launch) for launch in launches] for direction, launches in phases]
    places = [numbers.T if direction == SOUTH else numbers for direction, _ in phases]
    parts = tuple(
        tuple(EqualLines(equal.line, place[number : number + 1]) for number, equal in enumerate(own))
        for own, place in zip(drawn, places, strict=True)
    )
    return Plan(columns, rows, parts, lambda: _whole(columns, rows, phases))


def _whole(columns: int, rows: int, phases: tuple[Sent, ...]) -> TaskGraph:
    numbers, builder = np.arange(columns * rows).reshape(rows, columns), GraphBuilder(columns, rows)
    for direction, launches in phases:
        lines = numbers.T if direction == SOUTH else numbers
        _send(builder, lines[: len(launches)], direction, np.array(launches))
    return builder.build()


def _send(builder: GraphBuilder, lines: Int64, direction: int, launches: Int64) -> None:
    hops = lines.shape[1] - 1
    sent = builder.tasks(lines[:, 0], "send", launches, 0, streams=True)
    received = builder.tasks(lines[:, -1], "receive", 1, 5)
    builder.drops(builder.messages(sent, direction, hops, 3), hops, received)


def assert_equal_to_the_whole(plan: Plan, state: State) -> int:
    """The number of pieces that it was run in."""
    folded, whole = (run_plan(plan, state, RunOptions(TOY.fabric, fold=fold), {}) for fold in (True, False))
    for name in STATE_FIELDS:
        np.testing.assert_array_equal(getattr(folded.after, name), getattr(whole.after, name), err_msg=name)
    for name, one, other in zip(Requests._fields, folded.requests, whole.requests, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert (folded.end_cycles, folded.link_events) == (whole.end_cycles, whole.link_events)
    return len(folded.pieces)


def test_phases_that_ask_in_order_are_folded() -> None:
    plan = lines_of(4, 3, ((SOUTH, (1, 1, 1, 3)), (EAST, (1, 1, 1))))
    assert assert_equal_to_the_whole(plan, State.idle(4, 3)) == 7


def test_lines_that_are_asked_for_out_of_order_are_joined_to_the_next_phase() -> None:
    """The bottom row's message is at the corner long before that column's own: one phase after the other would give the
    corner's ramp to the column's first."""
    plan = lines_of(4, 3, ((SOUTH, (1, 1, 1, 200)), (EAST, (1, 1, 1))))
    assert assert_equal_to_the_whole(plan, State.idle(4, 3)) == 4, "three columns; the fourth with all rows"


def test_what_cannot_be_joined_is_simulated_as_one_graph() -> None:
    """The third phase asks for the corner's ramp before the first one does; the second has nothing to do with it."""
    plan = lines_of(4, 3, ((SOUTH, (1, 1, 1, 200)), (SOUTH, (1, 1, 1)), (EAST, (1, 1, 1))))
    assert assert_equal_to_the_whole(plan, State.idle(4, 3)) == 1


def test_requests_in_one_cycle_are_in_the_order_of_their_sources() -> None:
    """Both phases request the corner's ramp in cycle 14. The later one's source has the lower number: it is first."""
    plan = lines_of(2, 2, ((EAST, (0, 12)), (SOUTH, (0, 0))))
    asked = run_plan(plan, State.idle(2, 2), RunOptions(TOY.fabric, fold=False), {}).requests
    assert asked.ramp_first[3] == asked.ramp_last[3] == 14
    assert assert_equal_to_the_whole(plan, State.idle(2, 2)) == 2, "the first row; the second with both columns"
    a_cycle_later = lines_of(2, 2, ((EAST, (0, 12)), (SOUTH, (0, 1))))
    assert assert_equal_to_the_whole(a_cycle_later, State.idle(2, 2)) == 4


@settings(deadline=None)
@given(st.data())
def test_any_phases_equal_the_whole_graph(data: st.DataObject) -> None:
    columns, rows = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 5))
    launch = st.integers(0, 40)
    phases = tuple(
        (direction, tuple(data.draw(st.lists(launch, min_size=count, max_size=count))))
        for number in range(data.draw(st.integers(1, 4)))
        for direction, count in [((SOUTH, columns), (EAST, rows))[number % 2]]
    )
    free = data.draw(st.lists(st.integers(0, 60), min_size=columns * rows, max_size=columns * rows))
    state = State.idle(columns, rows)._replace(pe_free=np.array(free, np.int64))
    assert_equal_to_the_whole(lines_of(columns, rows, phases), state)


def test_lines_simulated_together_do_not_meet() -> None:
    """Kinds of one phase are laid end to end: each ends as it does alone."""
    plan = lines_of(4, 3, ((SOUTH, (1, 1, 5, 1)), (EAST, (1, 1, 1))))
    idle = State.idle(4, 3)
    free = idle.pe_free.copy()
    free[[0, 1, 2]] = [7, 40, 3]
    assert_equal_to_the_whole(
        plan, idle._replace(pe_free=free, ramp_out_free=idle.ramp_out_free + np.arange(12) % 5 * 9)
    )


@pytest.mark.parametrize("collective", ["ring", "streamed_ring"])
def test_a_ring_is_joined_where_its_neighbours_are_ready_at_different_times(
    collective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Around a ring, neighbours end as far apart as the ring is long."""
    joined: list[object] = []

    def noted(lines: Sequence[EqualLines], columns: int, rows: int) -> TaskGraph:
        joined.append(lines)
        return joined_graph(lines, columns, rows)

    monkeypatch.setattr(fold, "joined_graph", noted)
    made = program("tiny", "wse3", "shared", block=(64, 16), collective=collective)
    step = Timing(made).decode(10)
    assert joined
    assert_same(step, Timing(made, EffectCache(fold=False)).decode(10))
    assert sum(part.cycles for part in step_path(step, made.machine)) == step.cycles


def test_one_graph_that_is_too_large_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = lines_of(4, 3, ((SOUTH, (1, 1, 1, 200)), (EAST, (1, 1, 1))))
    assert plan.counts == (plan.graph.task_count, plan.graph.message_count) == (14, 7)
    monkeypatch.setattr(fold, "GRAPH_LIMIT_BYTES", 11 * fold.BYTES_PER_ENTRY)
    monkeypatch.setattr(fold, "joined_graph", lambda *lines: pytest.fail("drawn"))
    undrawn = Plan(4, 3, plan.parts, lambda: pytest.fail("drawn"))
    with pytest.raises(GraphSizeError, match=r"^8 tasks and 4 messages on 4 x 3 PEs .* use smaller blocks"):
        run_plan(undrawn, State.idle(4, 3), RunOptions(TOY.fabric), {})
    with pytest.raises(GraphSizeError, match=r"^14 tasks and 7 messages"):
        run_plan(undrawn, State.idle(4, 3), RunOptions(TOY.fabric, fold=False), {})
    monkeypatch.setattr(fold, "GRAPH_LIMIT_BYTES", 21 * fold.BYTES_PER_ENTRY)
    assert run_plan(plan, State.idle(4, 3), RunOptions(TOY.fabric, fold=False), {}).end_cycles > 0
