"""Wafer: segments run one after the other, cached or simulated, give the cycles of one graph of all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.programs import UNTIED, program
from wsesim.engine.exact.wafer import EffectCache, SegmentRun, Wafer
from wsesim.engine.expand.merge import merge
from wsesim.engine.expand.segment import Segment, plan_of
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, SOUTH, Int64
from wsesim.engine.graph.verify import verify
from wsesim.engine.steps.timing import Step, Timing
from wsesim.machine import Rect, load_machine
from wsesim.program import Program
from wsesim.program.routes import entry_pe

PLACES = [
    *(("tiny", machine, strategy) for machine in ("toy4x4", "wse2", "wse3") for strategy in ("pipelined", "shared")),
    (UNTIED, "toy4x4", "pipelined"),
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


def times_of(run: SegmentRun, field: str) -> Int64:
    """One of the Timeline's task times, in the order of the segment's whole graph: by PE, then by piece."""
    pes, times = [], []
    for piece in run.effect.pieces:
        assert piece.timeline is not None
        own = getattr(piece.timeline, field)
        pes.append(piece.members[:, piece.graph.pe].reshape(-1))
        times.append((own[None, :] + piece.bases[:, None]).reshape(-1))
    return run.base + np.concatenate(times)[np.argsort(np.concatenate(pes), kind="stable")]


def ends_of(run: SegmentRun) -> Int64:
    return times_of(run, "task_end")


def in_full_order(step: Step, window: Rect, values: list[Int64]) -> Int64:
    """One value per task of each segment -> the order of the full graph: by PE, then by segment."""
    pes = np.concatenate([pes_of(run, window) for run in step.runs])
    return np.concatenate(values)[np.argsort(pes, kind="stable")]


def all_ends(step: Step) -> Int64:
    return in_full_order(step, hull(step), [ends_of(run) for run in step.runs])


def assert_equals_full_graph(made: Program, step: Step, credits: tuple[int, ...] = ()) -> None:
    """Every task ends when it does in one graph of all segments, simulated at once.

    `credits`: when the sending PEs of each transfer, and the entrance of each embedding, may go on; the full graph
    takes them as external inputs.
    """
    window = hull(step)
    graph = merge([run.segment for run in step.runs], window)
    credit = np.zeros(graph.task_count, np.int64)
    if credits:
        due = iter(credits)
        values = [held_tasks(r, made, window) * (next(due) if is_held(r) else 0) for r in step.runs]
        credit = in_full_order(step, window, values)
    graph = dataclasses.replace(graph, port_task=np.flatnonzero(credit).astype(np.int32))
    verify(graph)
    whole = simulate(graph, made.machine.fabric, credit[graph.port_task], credit[graph.port_task])
    assert step.late_requests == 0
    assert step.cycles == whole.task_end.max()
    np.testing.assert_array_equal(all_ends(step), whole.task_end)


def is_transfer(run: SegmentRun) -> bool:
    return "->" in run.segment.name


def is_held(run: SegmentRun) -> bool:
    return is_transfer(run) or run.segment.name == "embed"


def held_tasks(run: SegmentRun, made: Program, window: Rect) -> Int64:
    """1 for the tasks of a run that wait for its credit: the sends of a transfer, the entrance's of an embedding."""
    graph = run.segment.plan.graph
    if is_transfer(run):
        sends: Int64 = (graph.task_labels() == graph.labels.index("send")).astype(np.int64)
        return sends
    x, y = entry_pe(made)
    entrance: Int64 = (pes_of(run, window) == (y - window.y) * window.columns + x - window.x).astype(np.int64)
    return entrance


@pytest.mark.parametrize("context", [0, 16, 100, 254])
def test_decode_equals_the_full_graph(made: Program, context: int) -> None:
    """Every task of the step ends as in one whole graph, including the second layer's tasks, which are cached."""
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
    assert len(credits) == sum(map(is_held, step.runs))
    assert_equals_full_graph(made, step, tuple(credits))


def test_no_chunk_is_sent_before_its_receivers_are_free(made: Program) -> None:
    """Credits: a block holds one chunk, so the next one leaves when the last task on the receiving PEs has ended."""
    step = Timing(made).prefill(3 * made.prefill_chunk)
    window = hull(step)
    free = np.zeros(window.pes, np.int64)
    for run in step.runs:
        if is_transfer(run):
            graph, pes = run.segment.plan.graph, pes_of(run, window)
            sends = graph.task_labels() == graph.labels.index("send")
            sent = times_of(run, "task_start")[sends].min()
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
    remembering, forgetting = Timing(made), Timing(made, EffectCache(remember=False))
    for context in (0, 100, 7, 100):
        assert_same(remembering.decode(context), forgetting.decode(context))
    for tokens in (1, 9, 17):
        assert_same(remembering.prefill(tokens), forgetting.prefill(tokens))
    assert forgetting.cache.recalls == 0
    assert remembering.cache.simulations < forgetting.cache.simulations


def assert_same(first: Step, second: Step) -> None:
    assert (first.cycles, first.logits_cycles) == (second.cycles, second.logits_cycles)
    assert (first.late_requests, first.link_events) == (second.late_requests, second.link_events)
    assert [(r.base, r.end) for r in first.runs] == [(r.base, r.end) for r in second.runs]
    np.testing.assert_array_equal(all_ends(first), all_ends(second))


def test_thirty_equal_layers_are_simulated_a_few_times() -> None:
    """smollm2-135m on wse3: a layer's effect depends on how it is entered (from the embedding, along a row of blocks
    east- or westwards, around a turn), not on which one it is."""
    small = program("smollm2-135m", "wse3")
    remembering, forgetting = (Timing(small, EffectCache(keep_timelines=False, remember=r)) for r in (True, False))
    first, second = remembering.decode(512), forgetting.decode(512)
    assert [(r.base, r.end) for r in first.runs] == [(r.base, r.end) for r in second.runs]
    layers = [run for run in first.runs if run.segment.name.startswith("layer") and "->" not in run.segment.name]
    assert len(layers) == 30
    assert sum(not run.recalled for run in layers) <= 5
    assert remembering.cache.simulations * 3 < forgetting.cache.simulations == len(first.runs)


def message(name: str, window: Rect, launch: int, wavelets: int) -> Segment:
    """From one end of a line of PEs to the other, eastwards or southwards; the sender is free after its launch."""
    direction, hops = (EAST, window.columns - 1) if window.rows == 1 else (SOUTH, window.rows - 1)
    builder = GraphBuilder(window.columns, window.rows)
    sent = builder.tasks(0, "send", launch, 0, streams=True)
    received = builder.tasks(hops, "receive", 1, 0)
    builder.drops(builder.messages(sent, direction, hops, wavelets), hops, received)
    return Segment(name, window, plan_of(builder.build()))


@pytest.mark.parametrize(
    "way", [pytest.param(Rect(2, 0, 2, 1), id="ramp"), pytest.param(Rect(2, 1, 1, 3), id="last link")]
)
def test_a_busy_link_or_ramp_is_neither_forgotten_nor_mistaken_for_a_free_one(way: Rect) -> None:
    """50 wavelets go south, from (2, 0) to (2, 2). A short message wants their sender's ramp on its way east, or their
    last link on its way past their receiver: its PEs are as free as without them, only the ramp or the link is not."""
    machine, cache, column = load_machine("toy4x4"), EffectCache(), Rect(2, 0, 1, 3)
    long, short = message("long", column, 1, 50), message("short", way, 10, 1)
    alone = Wafer(machine, cache).run(short)
    after = Wafer(machine, cache)
    runs = [after.run(long), after.run(short)]
    assert not runs[1].recalled
    assert runs[1].end - runs[1].base > alone.end - alone.base
    whole = simulate(merge([long, short], column.hull(way)), machine.fabric)
    assert sorted(np.concatenate([ends_of(run) for run in runs])) == sorted(whole.task_end)


def test_a_cache_of_one_place_forgets_what_is_oldest() -> None:
    """And what it forgot it simulates again, to the same end."""
    machine, cache = load_machine("toy4x4"), EffectCache(capacity=1)
    first, second = (message(name, Rect(0, 0, 1, 4), 1, wavelets) for name, wavelets in (("a", 3), ("b", 9)))
    ends = [Wafer(machine, cache).run(segment).end for segment in (first, first, second, first)]
    assert (cache.simulations, cache.recalls) == (3, 1)
    assert ends[0] == ends[1] == ends[3] != ends[2]
