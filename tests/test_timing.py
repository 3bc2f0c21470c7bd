"""Timing: segments one after the other and `remember` are exact; steps move as the machine and the program do."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from tests.programs import UNTIED, program
from wsesim.engine.expand.merge import merge
from wsesim.engine.simulate import simulate
from wsesim.engine.taskgraph import Int64
from wsesim.engine.timing import Step, Timing
from wsesim.engine.verify import verify
from wsesim.engine.wafer import Memory, SegmentRun, Wafer
from wsesim.machine import Rect
from wsesim.program import Program

PLACES = [
    *(("tiny", machine, strategy) for machine in ("toy4x4", "wse2", "wse3") for strategy in ("pipelined", "shared")),
    (UNTIED, "wse3", "pipelined"),
]


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param)


def hull(step: Step) -> Rect:
    window = step.runs[0].segment.window
    for run in step.runs:
        window = window.hull(run.segment.window)
    return window


def pes_of(run: SegmentRun, window: Rect) -> Int64:
    """PE of each task of a segment, by its number in `window`."""
    own, inner = run.segment.plan.graph, run.segment.window
    row, column = np.divmod(own.pe.astype(np.int64), inner.columns)
    return (row + inner.y - window.y) * window.columns + column + inner.x - window.x


def ends_of(run: SegmentRun) -> Int64:
    assert run.effect.timeline is not None
    return run.base + run.effect.timeline.task_end


def in_full_order(step: Step, window: Rect, values: list[Int64]) -> Int64:
    """One value per task of each segment -> the order of the full graph: by PE, then by segment."""
    pes = np.concatenate([pes_of(run, window) for run in step.runs])
    return np.concatenate(values)[np.argsort(pes, kind="stable")]


def all_ends(step: Step) -> Int64:
    return in_full_order(step, hull(step), [ends_of(run) for run in step.runs])


def assert_equals_full_graph(made: Program, step: Step, credits: tuple[int, ...] = ()) -> None:
    """Every task ends when it does in one graph of all segments, simulated at once.

    `credits`: when the sending PEs of each transfer may go on; the full graph takes them as external inputs.
    """
    window = hull(step)
    graph = merge([run.segment for run in step.runs], window)
    credit = np.zeros(graph.task_count, np.int64)
    if credits:
        due = iter(credits)
        values = [np.full(r.segment.plan.graph.task_count, next(due) if is_transfer(r) else 0) for r in step.runs]
        sends = np.char.endswith(np.array(graph.labels), ".send")[graph.label]
        credit = in_full_order(step, window, values) * sends
    graph = dataclasses.replace(graph, port_task=np.flatnonzero(credit).astype(np.int32))
    verify(graph)
    whole = simulate(graph, made.machine.fabric, credit[graph.port_task], credit[graph.port_task])
    assert step.late_requests == 0
    assert step.cycles == whole.task_end.max()
    np.testing.assert_array_equal(all_ends(step), whole.task_end)


def is_transfer(run: SegmentRun) -> bool:
    return "->" in run.segment.name


@pytest.mark.parametrize("context", [0, 16, 100, 254])
def test_decode_equals_the_full_graph(made: Program, context: int) -> None:
    """Every task of the step, the second layer's remembered ones included, ends when it does in one whole graph."""
    assert_equals_full_graph(made, Timing(made).decode(context, candidates=1 + context % 8))


def test_a_prefill_chunk_equals_the_full_graph(made: Program) -> None:
    assert_equals_full_graph(made, Timing(made).prefill(made.prefill_chunk))


@pytest.mark.parametrize("chunks", [2, 3])
def test_chunks_that_overlap_equal_the_full_graph(made: Program, chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    credits = []
    hold = Wafer.hold

    def recording(wafer: Wafer, sources: Int64, targets: Int64) -> None:
        credits.append(max(wafer.pe_free(x, y) for x, y in targets))
        hold(wafer, sources, targets)

    monkeypatch.setattr(Wafer, "hold", recording)
    step = Timing(made).prefill(chunks * made.prefill_chunk)
    assert len(credits) == sum(map(is_transfer, step.runs))
    assert_equals_full_graph(made, step, tuple(credits))


def test_no_chunk_is_sent_before_its_receivers_are_free(made: Program) -> None:
    """Credits: a block holds one chunk, so the next one leaves when the last task on the receiving PEs has ended."""
    step = Timing(made).prefill(3 * made.prefill_chunk)
    window = hull(step)
    free = np.zeros(window.pes, np.int64)
    for run in step.runs:
        if is_transfer(run):
            graph, pes = run.segment.plan.graph, pes_of(run, window)
            sends = graph.label == graph.labels.index("send")
            assert run.effect.timeline is not None
            sent = run.base + run.effect.timeline.task_start[sends].min()
            ends = graph.drop_task[graph.drop_ptr[1:] - 1]
            assert sent >= free[pes[ends]].max()
        np.maximum.at(free, pes_of(run, window), ends_of(run))


@pytest.mark.parametrize("tokens", [2, 11])
def test_credits_only_hold_back(made: Program, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Timing(made).prefill(tokens).cycles
    monkeypatch.setattr(Wafer, "hold", lambda wafer, sources, targets: None)
    assert Timing(made).prefill(tokens).cycles <= held


def test_remembered_steps_equal_simulated_ones(made: Program) -> None:
    """A Timing that has seen other steps, and one that remembers nothing, agree on every step."""
    remembering, forgetting = Timing(made), Timing(made, Memory(remember=False))
    for context in (0, 100, 7, 100):
        assert_same(remembering.decode(context), forgetting.decode(context))
    for tokens in (1, 9, 17):
        assert_same(remembering.prefill(tokens), forgetting.prefill(tokens))
    assert forgetting.memory.recalls == 0
    assert remembering.memory.simulations < forgetting.memory.simulations


def assert_same(first: Step, second: Step) -> None:
    assert (first.cycles, first.logits_cycles) == (second.cycles, second.logits_cycles)
    assert (first.late_requests, first.link_events) == (second.late_requests, second.link_events)
    assert [(r.base, r.end) for r in first.runs] == [(r.base, r.end) for r in second.runs]
    np.testing.assert_array_equal(all_ends(first), all_ends(second))


def test_thirty_equal_layers_are_simulated_a_few_times() -> None:
    """smollm2-135m on wse3: a layer's effect depends on how it is entered (from the embedding, along a row of blocks
    east- or westwards, around a turn), not on which one it is."""
    small = program("smollm2-135m", "wse3")
    remembering, forgetting = (Timing(small, Memory(keep_timelines=False, remember=r)) for r in (True, False))
    first, second = remembering.decode(512), forgetting.decode(512)
    assert [(r.base, r.end) for r in first.runs] == [(r.base, r.end) for r in second.runs]
    layers = [run for run in first.runs if run.segment.name.startswith("layer") and "->" not in run.segment.name]
    assert len(layers) == 30
    assert sum(not run.remembered for run in layers) <= 5
    assert remembering.memory.simulations * 3 < forgetting.memory.simulations == len(first.runs)


def test_a_step_seen_before_is_the_same_step_under_its_own_context() -> None:
    """Contexts that fill the same lines share a simulation, but not the number that reports print."""
    timing = Timing(program("tiny", "toy4x4"))
    first, simulations = timing.decode(0), timing.memory.simulations
    second = timing.decode(1)
    assert timing.memory.simulations == simulations
    assert (first.context, second.context, timing.decode(0).context) == (0, 1, 0)
    assert first.runs is second.runs


def test_free_links_are_never_slower(made: Program) -> None:
    for context in (0, 100):
        assert 0 < Timing(made, free_links=True).decode(context).cycles <= Timing(made).decode(context).cycles
    for tokens in (2, 17):
        assert Timing(made, free_links=True).prefill(tokens).cycles <= Timing(made).prefill(tokens).cycles


def test_free_links_and_contended_ones_do_not_share_a_memory_by_mistake() -> None:
    small, memory = program("tiny", "toy4x4", "shared"), Memory()
    contended, free = Timing(small, memory).prefill(8), Timing(small, memory, free_links=True).prefill(8)
    assert free.cycles == Timing(small, Memory(), free_links=True).prefill(8).cycles
    assert contended.cycles == Timing(small, Memory()).prefill(8).cycles


def test_decode_never_gets_cheaper_with_context(made: Program) -> None:
    cycles = [Timing(made).decode(context).cycles for context in range(0, 255, 17)]
    assert cycles == sorted(cycles)
    assert cycles[0] < cycles[-1]


def test_more_candidates_cost_more_after_the_logits() -> None:
    timing = Timing(program("tiny", "toy4x4"))
    greedy, drawn = timing.decode(16), timing.decode(16, candidates=16)
    assert greedy.logits_cycles == drawn.logits_cycles
    assert greedy.cycles < drawn.cycles


def test_prefill_never_gets_cheaper_with_tokens(made: Program) -> None:
    timing = Timing(made)
    cycles = [timing.prefill(tokens).cycles for tokens in range(1, 20)]
    assert all(a < b for a, b in pairwise(cycles))


def test_one_token_of_prefill_is_a_decode_step_over_nothing(made: Program) -> None:
    prefill, decode = Timing(made).prefill(1), Timing(made).decode(0)
    assert (prefill.cycles, prefill.logits_cycles) == (decode.cycles, decode.logits_cycles)


@pytest.mark.parametrize("tokens", [2, 16])
def test_a_prompt_costs_less_than_its_tokens_one_by_one(made: Program, tokens: int) -> None:
    """They follow one another through the blocks, or go through them together, and only one visits the head."""
    timing = Timing(made)
    assert timing.prefill(tokens).cycles < sum(timing.decode(context).cycles for context in range(tokens))


def test_logits_come_before_the_id(made: Program) -> None:
    for step in (Timing(made).decode(16), Timing(made).prefill(9)):
        assert 0 < step.logits_cycles < step.cycles
        assert step.cycles == max(run.end for run in step.runs[-2:])
