"""Compiled work on lines beside its NumPy twins, and lines run one after the other beside `simulate`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.engine_graphs import FABRICS, graphs, states
from wsesim.engine.errors import DeadlockError
from wsesim.engine.exact import line_kernels, reference_lines
from wsesim.engine.exact.line_kernels import Fields
from wsesim.engine.exact.lines import line_effects
from wsesim.engine.expand.segment import line_graph
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.state import NEVER, State
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, WEST, Int64, TaskGraph, directions

NO_PORTS = np.empty(0, np.int64)
TIMES = ("task_start", "task_begin", "task_end", "message_head", "message_tail", "drop_head", "drop_tail")


def window(rng: np.random.Generator, pes: int) -> Fields:
    """A State and Requests, some of which were never made."""
    pe, ramp_out, ramp_in, link = (rng.integers(0, 90, width * pes) for width in (1, 1, 1, 4))
    ramp_last, link_last = (
        np.where(rng.random(width * pes) < 0.5, NEVER, rng.integers(0, 90, width * pes)) for width in (1, 4)
    )
    ramp_first, link_first = (last - (last > 0) for last in (ramp_last, link_last))
    return Fields(pe, ramp_out, ramp_in, link, ramp_first, ramp_last, link_first, link_last)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(columns=st.integers(1, 6), rows=st.integers(1, 6), vertical=st.booleans(), seed=st.integers(0, 999))
def test_lines_are_taken_and_written_back_as_by_numpy(columns: int, rows: int, vertical: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.arange(columns * rows).reshape(rows, columns)
    members = numbers.T.copy() if vertical else numbers
    lines, length = members.shape
    own = np.array([2, 3] if vertical else [0, 1])
    busy, starters = rng.random(length) < 0.7, np.flatnonzero(rng.random(length) < 0.5)
    starters = starters if starters.size else np.array([0])
    kind = np.flatnonzero(rng.random(lines) < 0.6)
    after = np.where(rng.random(5 * length) < 0.5, NEVER, rng.integers(0, 90, 5 * length))
    last = np.where(rng.random(3 * length) < 0.7, NEVER, rng.integers(80, 190, 3 * length))
    found: list[list[Any]] = []
    for module in (line_kernels, reference_lines):
        fields, bases = window(np.random.default_rng(seed), columns * rows), np.empty(lines, np.int64)
        taken, hashes = np.empty((lines, 5 * length), np.int64), np.empty(lines, np.int64)
        module.gather(fields, members, busy, starters, own, bases, taken)
        module.hash_rows(taken, np.arange(1, 5 * length + 1), hashes)
        equal = module.rows_equal(taken, np.zeros(lines, np.int64))
        written = module.scatter(fields, members, kind, bases, own, after, last - (last > 0), last)
        found.append([bases, taken, hashes, np.array([equal, written]), *(fields if written else ())])
    for compiled, twin in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, twin)


def line(graph: TaskGraph) -> TaskGraph:
    """Without ports, which lines do not have."""
    assume(1 in (graph.columns, graph.rows))
    return dataclasses.replace(graph, port_task=NO_PORTS.astype(np.int32), outputs=NO_PORTS.astype(np.int32))


def later(state: State) -> State:
    """A line's state counts from its base: nothing of it is negative."""
    fields = (state.pe_free, state.ramp_out_free, state.ramp_in_free, state.link_free)
    return State(state.columns, state.rows, *(np.maximum(field, 0) for field in fields))


def values(graph: TaskGraph, *fields: Int64) -> Int64:
    """A line's row of numbers."""
    links = fields[-1].reshape(-1, 4)[:, directions(graph)]
    return np.concatenate([*fields[:-1], links.reshape(-1)])


@settings(deadline=None, max_examples=80, derandomize=True)
@given(data=st.data())
def test_a_line_does_from_each_state_what_simulate_says(data: st.DataObject) -> None:
    fabric, free_links = data.draw(st.sampled_from(FABRICS)), data.draw(st.booleans())
    graph = line(data.draw(graphs(queue_wavelets=fabric.queue_wavelets)))
    befores = [later(data.draw(states(graph.columns, graph.rows))) for _ in range(3)]
    rows = [values(graph, b.pe_free, b.ramp_out_free, b.ramp_in_free, b.link_free) for b in befores]
    found = line_effects(line_graph(graph), fabric, np.stack(rows), free_links, True)
    for effect, before, row in zip(found, befores, rows, strict=True):
        whole = simulate(graph, fabric, NO_PORTS, NO_PORTS, before, free_links=free_links)
        left, asked = whole.state_after, whole.requests
        after = values(graph, left.pe_free, left.ramp_out_free, left.ramp_in_free, left.link_free)
        np.testing.assert_array_equal(np.where(effect.after == NEVER, row, effect.after), after)
        np.testing.assert_array_equal(effect.first, values(graph, asked.ramp_first, asked.link_first))
        np.testing.assert_array_equal(effect.last, values(graph, asked.ramp_last, asked.link_last))
        busy = np.unique(graph.pe)
        assert (effect.end_cycles, effect.link_events) == (left.pe_free[busy].max(), whole.link_events)
        assert effect.timeline is not None
        for name in TIMES:
            np.testing.assert_array_equal(getattr(effect.timeline, name), getattr(whole, name), err_msg=name)


def test_a_line_that_waits_for_itself_is_reported() -> None:
    builder = GraphBuilder(2, 1)
    first, second = builder.tasks(0, "first", 1, 0), builder.tasks(1, "second", 1, 0)
    builder.drops(builder.messages(first, EAST, 1, 1), 1, second)
    builder.drops(builder.messages(second, WEST, 1, 1), 1, first)
    with pytest.raises(DeadlockError, match="first at \\(0, 0\\)"):
        line_effects(line_graph(builder.build()), FABRICS[0], np.zeros((2, 10), np.int64), False, False)
