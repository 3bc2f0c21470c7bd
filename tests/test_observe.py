"""Observers count the tasks and the crossed links of a whole step, in wafer coordinates."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

from tests.engine_graphs import FABRICS, graphs
from tests.programs import UNTIED, program
from wsesim.engine.errors import ProfileError
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.graph.taskgraph import Int64, TaskGraph, route_position
from wsesim.engine.observe.traffic import (
    link_wavelets,
    pe_busy_cycles,
    pieces_of,
    task_spans,
    wafer_busy_cycles,
    wafer_link_wavelets,
)
from wsesim.engine.steps.timing import Step, Timing
from wsesim.machine import Rect
from wsesim.program import Program

PLACES = [("tiny", "toy4x4", "pipelined"), ("tiny", "wse2", "shared"), (UNTIED, "wse3", "pipelined")]
STEPS = ((-1, 0), (1, 0), (0, 1), (0, -1))  # what comes in over a link leaves a neighbour: east, west, north, south


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param)


@pytest.fixture(scope="module", params=["decode", "prefill"])
def step(made: Program, request: pytest.FixtureRequest) -> Step:
    timing = Timing(made)
    return timing.decode(16) if request.param == "decode" else timing.prefill(5)


def walked(graph: TaskGraph) -> Int64:
    """Wavelets by router and direction, message by message and hop by hop."""
    crossed = np.zeros((graph.pes, 4), np.int64)
    for message in range(graph.message_count):
        x, y = (
            int(graph.pe[graph.source[message]]) % graph.columns,
            int(graph.pe[graph.source[message]]) // graph.columns,
        )
        for direction, hops in (
            (int(graph.direction1[message]), int(graph.hops1[message])),
            (int(graph.direction2[message]), int(graph.hops2[message])),
        ):
            for _ in range(hops):
                crossed[y * graph.columns + x, direction] += graph.wavelets[message]
                x, y = x + (1, -1, 0, 0)[direction], y + (0, 0, -1, 1)[direction]
    return crossed


@given(graph=graphs(xy_only=False))
@settings(deadline=None, max_examples=150, derandomize=True)
def test_link_counts_equal_a_walk(graph: TaskGraph) -> None:
    np.testing.assert_array_equal(link_wavelets(graph), walked(graph))


@given(graph=graphs())
@settings(deadline=None, max_examples=100, derandomize=True)
def test_busy_cycles_sum_to_the_tasks(graph: TaskGraph) -> None:
    timeline = simulate(
        graph, FABRICS[0], np.zeros(graph.port_task.size, np.int64), np.zeros(graph.port_task.size, np.int64)
    )
    assert pe_busy_cycles(graph, timeline).sum() == (timeline.task_end - timeline.task_start).sum()


def test_counts_of_a_step_are_those_of_its_runs(made: Program, step: Step) -> None:
    columns, rows = made.machine.columns, made.machine.rows
    pieces = list(pieces_of(step.runs))
    assert len(pieces) >= len(step.runs)
    busy, links = wafer_busy_cycles(pieces, columns, rows), wafer_link_wavelets(pieces, columns, rows)
    assert busy.sum() == sum(len(p.x) * int((p.timeline.task_end - p.timeline.task_start).sum()) for p in pieces)
    hops = [p.graph.hops1.astype(np.int64) + p.graph.hops2 for p in pieces]
    assert links.sum() == sum(len(p.x) * int((h * p.graph.wavelets).sum()) for h, p in zip(hops, pieces, strict=True))
    assert busy.max() <= step.cycles


def test_wavelets_are_neither_lost_nor_made(made: Program, step: Step) -> None:
    """At every router, wavelets that enter equal wavelets that leave or end there."""
    columns, rows = made.machine.columns, made.machine.rows
    pieces = list(pieces_of(step.runs))
    links = wafer_link_wavelets(pieces, columns, rows)
    balance = -links.sum(axis=2)
    for direction, (dx, dy) in enumerate(STEPS):
        balance += np.roll(links[:, :, direction], (-dy, -dx), axis=(0, 1))
    sent, ended = np.zeros((rows, columns), np.int64), np.zeros((rows, columns), np.int64)
    for piece in pieces:
        graph, message = piece.graph, np.arange(piece.graph.message_count, dtype=np.int32)
        for counts, hop in ((sent, np.zeros_like(graph.hops1)), (ended, graph.hops1 + graph.hops2)):
            x, y = route_position(graph, message, hop)
            pe = y * graph.columns + x
            np.add.at(counts, (piece.y[:, pe], piece.x[:, pe]), graph.wavelets[None, :])
    np.testing.assert_array_equal(balance, ended - sent)
    assert sent.sum() == ended.sum() > 0


def test_remembered_runs_count_as_often_as_they_ran() -> None:
    small = program("tiny", "wse3")
    cache = EffectCache()
    Timing(small, cache).decode(16)
    step = Timing(small, cache).decode(16)
    assert all(run.recalled for run in step.runs)
    forgotten = Timing(small, EffectCache(remember=False)).decode(16)
    shape = small.machine.columns, small.machine.rows
    for count in (wafer_busy_cycles, wafer_link_wavelets):
        np.testing.assert_array_equal(count(pieces_of(step.runs), *shape), count(pieces_of(forgotten.runs), *shape))


def test_tasks_of_a_pe_follow_one_another_and_fill_its_busy_cycles(made: Program, step: Step) -> None:
    block = made.blocks[-1]
    busy = wafer_busy_cycles(pieces_of(step.runs), made.machine.columns, made.machine.rows)
    for x, y in ((block.x, block.y), (block.x + block.columns - 1, block.y + block.rows - 1)):
        spans = task_spans(pieces_of(step.runs), Rect(x, y, 1, 1))
        assert all(span.pe == (x, y) for span in spans)
        assert all(a.end <= b.start for a, b in pairwise(spans))
        assert sum(span.end - span.start for span in spans) == busy[y, x]


def test_tasks_of_a_line_are_those_of_its_pes(made: Program, step: Step) -> None:
    block = made.blocks[0]
    line = task_spans(pieces_of(step.runs), Rect(block.x, block.y, block.columns, 1))
    each = [task_spans(pieces_of(step.runs), Rect(block.x + i, block.y, 1, 1)) for i in range(block.columns)]
    assert sorted(line, key=repr) == sorted((span for spans in each for span in spans), key=repr)
    assert [span.start for span in line] == sorted(span.start for span in line)


def test_a_piece_is_shifted_by_its_base_and_its_place() -> None:
    step = Timing(program("tiny", "toy4x4")).decode(0)
    piece = next(pieces_of(step.runs))
    moved = dataclasses.replace(piece, bases=piece.bases + 7, x=piece.x + 2, y=piece.y + 1)
    there, here = (task_spans([p], Rect(0, 0, 9, 9)) for p in (moved, piece))
    assert [(s.start - 7, s.end - 7, s.pe[0] - 2, s.pe[1] - 1) for s in there] == [
        (s.start, s.end, *s.pe) for s in here
    ]
    busy = wafer_busy_cycles([moved], 9, 9)
    np.testing.assert_array_equal(busy[1:5, 2:6], wafer_busy_cycles([piece], 4, 4))


def test_without_observers_nothing_is_kept() -> None:
    step = Timing(program("tiny", "toy4x4"), EffectCache(keep_timelines=False)).decode(16)
    assert all(piece.timeline is None for run in step.runs for piece in run.effect.pieces)
    with pytest.raises(ProfileError, match="kept no timeline"):
        list(pieces_of(step.runs))
