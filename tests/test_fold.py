"""fold: lines that cannot be told apart, simulated once, equal the whole graph, cycle for cycle."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from tests.programs import on_machine, program
from tests.test_wafer import assert_same, times_of
from wsesim.engine.builder import GraphBuilder
from wsesim.engine.expand.segment import EqualLines, Plan, Segment, line_graph
from wsesim.engine.fold import run_plan
from wsesim.engine.state import State
from wsesim.engine.taskgraph import EAST, SOUTH, Int64, TaskGraph
from wsesim.engine.timing import Timing
from wsesim.engine.wafer import Memory, Wafer
from wsesim.machine import Rect, load_machine
from wsesim.machine.machine import SlowPE
from wsesim.program.collectives import COLLECTIVES

TOY = load_machine("toy4x4")


@pytest.mark.parametrize("strategy", ["pipelined", "shared"])
@pytest.mark.parametrize("machine", ["toy4x4", "wse3"])
def test_folded_steps_equal_unfolded_ones(machine: str, strategy: str) -> None:
    made = program("tiny", machine, strategy)
    folded, whole = Timing(made), Timing(made, Memory(fold=False))
    for context in (0, 100):
        assert_same(folded.decode(context, 4), whole.decode(context, 4))
    assert_same(folded.prefill(2 * made.prefill_chunk + 1), whole.prefill(2 * made.prefill_chunk + 1))


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("machine", ["toy4x4", "wse3"])
def test_every_collective_is_folded(machine: str, collective: str) -> None:
    made = program("tiny", machine, "shared", collective=collective)
    folded, whole = Timing(made), Timing(made, Memory(fold=False))
    assert_same(folded.decode(10), whole.decode(10))
    assert_same(folded.prefill(2 * made.prefill_chunk), whole.prefill(2 * made.prefill_chunk))


def test_one_memory_may_serve_several_machines() -> None:
    """A line's tasks say nothing of the fabric: lines of another one are others."""
    made, memory = program("tiny", "toy4x4"), Memory(keep_timelines=False)
    for machine in (made, on_machine(made, hop_cycles=3), made):
        assert Timing(machine, memory).decode(16).cycles == Timing(machine).decode(16).cycles


def test_a_straggler_is_told_apart() -> None:
    made = program("tiny", "wse3", "shared")
    block = made.block(made.kernels[3].block)
    slow = tuple(SlowPE(block.x + dx, block.y + dy, Fraction(5, 2)) for dx, dy in ((1, 2), (block.columns - 1, 0)))
    limping = dataclasses.replace(made, machine=dataclasses.replace(made.machine, slow=slow))
    step = Timing(limping).decode(10)
    assert_same(step, Timing(limping, Memory(fold=False)).decode(10))
    assert step.cycles > Timing(made).decode(10).cycles


def lines_of(count: int, launches: tuple[int, ...]) -> Plan:
    """Columns of three PEs whose first sends south, after a launch of its own, then rows whose first sends east."""
    window = Rect(0, 0, count, 3)

    def line(direction: int, length: int, launch: int, words: int) -> TaskGraph:
        builder = GraphBuilder(1, length) if direction == SOUTH else GraphBuilder(length, 1)
        sent = builder.tasks(0, "send", launch, 0, streams=True)
        received = builder.tasks(length - 1, "receive", 1, 5)
        builder.drops(builder.messages(sent, direction, length - 1, words), length - 1, received)
        return builder.build()

    numbers = np.arange(window.pes).reshape(window.rows, window.columns)
    down = tuple(
        EqualLines(line_graph(line(SOUTH, 3, launch, 3)), numbers.T[column : column + 1])
        for column, launch in enumerate(launches)
    )
    east = (EqualLines(line_graph(line(EAST, count, 1, 2)), numbers),)
    return Plan(count, 3, (down, east), lambda: both(window, launches))


def both(window: Rect, launches: tuple[int, ...]) -> TaskGraph:
    builder = GraphBuilder(window.columns, window.rows)
    columns, last = np.arange(window.columns), window.columns - 1
    sent = builder.tasks(columns, "send", np.array(launches), 0, streams=True)
    received = builder.tasks(columns + 2 * window.columns, "receive", 1, 5)
    builder.drops(builder.messages(sent, SOUTH, 2, 3), 2, received)
    rows = np.arange(3) * window.columns
    sent = builder.tasks(rows, "send", 1, 0, streams=True)
    received = builder.tasks(rows + last, "receive", 1, 5)
    builder.drops(builder.messages(sent, EAST, last, 2), last, received)
    return builder.build()


def ends(plan: Plan, fold: bool) -> tuple[Int64, int]:
    memory = Memory(fold=fold)
    run = Wafer(TOY, memory).run(Segment("s", Rect(0, 0, plan.columns, plan.rows), plan))
    return times_of(run, "task_end"), len(run.effect.pieces)


def test_phases_that_ask_in_order_are_folded() -> None:
    plan = lines_of(4, (1, 1, 1, 3))
    folded, pieces = ends(plan, fold=True)
    np.testing.assert_array_equal(folded, ends(plan, fold=False)[0])
    assert pieces > 1


def test_phases_that_ask_out_of_order_are_simulated_as_one_graph() -> None:
    """The bottom row's message is at the corner long before that column's own: one phase after the other would give the
    corner's ramp to the column's first."""
    plan = lines_of(4, (1, 1, 1, 200))
    folded, pieces = ends(plan, fold=True)
    np.testing.assert_array_equal(folded, ends(plan, fold=False)[0])
    assert pieces == 1


def test_lines_simulated_together_do_not_meet() -> None:
    """Kinds of one phase are laid end to end: each ends as it does alone."""
    plan = lines_of(4, (1, 1, 5, 1))
    idle = State.idle(4, 3)
    free = idle.pe_free.copy()
    free[[0, 1, 2]] = [7, 40, 3]
    state = dataclasses.replace(idle, pe_free=free, ramp_out_free=idle.ramp_out_free + np.arange(12) % 5 * 9)
    folded = run_plan(plan, TOY.fabric, state, {})
    whole = run_plan(plan, TOY.fabric, state, {}, fold=False)
    for name, after in whole.after.items():
        np.testing.assert_array_equal(folded.after[name], after, err_msg=name)
    np.testing.assert_array_equal(folded.requests.ramp_last, whole.requests.ramp_last)
    np.testing.assert_array_equal(folded.requests.link_first, whole.requests.link_first)
    assert (folded.end_cycles, folded.link_events) == (whole.end_cycles, whole.link_events)
