"""Compiled work on lines against its NumPy twins, and lines run one after the other against `simulate`."""

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
from wsesim.engine.exact.line_kernels import LINE_REQUESTS, LINE_STATE, LineEffect
from wsesim.engine.exact.lines import line_effects
from wsesim.engine.expand.segment import line_graph
from wsesim.engine.flow.records import Records
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, NO_PORTS, WEST, TaskGraph, directions

TIMES = ("task_start", "task_begin", "task_end", "message_head", "message_tail", "drop_head", "drop_tail")


def window(rng: np.random.Generator, columns: int, rows: int) -> tuple[State, Requests]:
    """Random fields of a State and its Requests. Some requests were never made."""
    pes = columns * rows
    pe, ramp_out, ramp_in, link = (rng.integers(0, 90, width * pes) for width in (1, 1, 1, 4))
    ramp_last, link_last = (
        np.where(rng.random(width * pes) < 0.5, NEVER, rng.integers(0, 90, width * pes)) for width in (1, 4)
    )
    ramp_first, link_first = (last - (last > 0) for last in (ramp_last, link_last))
    return State(columns, rows, pe, ramp_out, ramp_in, link), Requests(ramp_first, ramp_last, link_first, link_last)


def random_effect(rng: np.random.Generator, length: int) -> LineEffect:
    """Changes and requests of some PEs and links; no times."""
    after, requests = np.empty(length, LINE_STATE), np.empty(length, LINE_REQUESTS)
    for name in LINE_STATE.names or ():
        shape = after[name].shape
        after[name] = np.where(rng.random(shape) < 0.5, NEVER, rng.integers(0, 90, shape))
    for name in ("ramp", "link"):
        shape = requests[f"{name}_last"].shape
        last = np.where(rng.random(shape) < 0.7, NEVER, rng.integers(80, 190, shape))
        requests[f"{name}_last"], requests[f"{name}_first"] = last, last - (last > 0)
    return LineEffect(after, requests, 0, 0, *(np.empty(0, np.int64) for _ in TIMES))


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
    effect = random_effect(rng, length)
    found: list[list[Any]] = []
    for module in (line_kernels, reference_lines):
        state, requests = window(np.random.default_rng(seed), columns, rows)
        bases, hashes = np.empty((2, lines), np.int64)
        taken = np.empty((lines, length), LINE_STATE)
        module.gather(state, members, busy, starters, own, bases, taken)
        words = taken.view(np.int64)
        module.hash_rows(words, np.arange(1, 5 * length + 1), hashes)
        equal = module.rows_equal(words, np.zeros(lines, np.int64))
        written = module.scatter(state, requests, members, kind, bases, own, effect)
        found.append([bases, words, hashes, np.array([equal, written]), *((*state[2:], *requests) if written else ())])
    for compiled, twin in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, twin)


def line(graph: TaskGraph) -> TaskGraph:
    """Without ports, which lines do not have."""
    assume(1 in (graph.columns, graph.rows))
    return dataclasses.replace(graph, port_task=NO_PORTS.astype(np.int32), outputs=NO_PORTS.astype(np.int32))


def later(state: State) -> State:
    """A line's state counts from its base, so none of its cycles is negative."""
    fields = (state.pe_free, state.ramp_out_free, state.ramp_in_free, state.link_free)
    return State(state.columns, state.rows, *(np.maximum(field, 0) for field in fields))


def line_state(graph: TaskGraph, state: State) -> Records:
    """The records of a line."""
    own = np.empty(graph.pes, LINE_STATE)
    for name in ("pe_free", "ramp_out_free", "ramp_in_free"):
        own[name] = getattr(state, name)
    own["link_free"] = state.link_free.reshape(-1, 4)[:, directions(graph)]
    return own


@settings(deadline=None, max_examples=80, derandomize=True)
@given(data=st.data())
def test_a_line_does_from_each_state_what_simulate_says(data: st.DataObject) -> None:
    fabric, free_links = data.draw(st.sampled_from(FABRICS)), data.draw(st.booleans())
    graph = line(data.draw(graphs(queue_wavelets=fabric.queue_wavelets)))
    befores = [later(data.draw(states(graph.columns, graph.rows))) for _ in range(3)]
    states_before = np.stack([line_state(graph, before) for before in befores])
    found = line_effects(line_graph(graph), fabric, states_before, free_links, True)
    for effect, before, own in zip(found, befores, states_before, strict=True):
        whole = simulate(graph, fabric, state=before, free_links=free_links)
        after = line_state(graph, whole.state_after)
        for name in LINE_STATE.names or ():
            left = np.where(effect.after[name] == NEVER, own[name], effect.after[name])
            np.testing.assert_array_equal(left, after[name], err_msg=name)
        for edge in ("first", "last"):
            np.testing.assert_array_equal(effect.requests[f"ramp_{edge}"], getattr(whole.requests, f"ramp_{edge}"))
            links = getattr(whole.requests, f"link_{edge}").reshape(-1, 4)[:, directions(graph)]
            np.testing.assert_array_equal(effect.requests[f"link_{edge}"], links)
        busy = np.unique(graph.pe)
        assert (effect.end, effect.link_events) == (whole.state_after.pe_free[busy].max(), whole.link_events)
        for name in TIMES:
            np.testing.assert_array_equal(getattr(effect, name), getattr(whole, name), err_msg=name)


def test_a_line_that_waits_for_itself_is_reported() -> None:
    builder = GraphBuilder(2, 1)
    first, second = builder.tasks(0, "first", 1, 0), builder.tasks(1, "second", 1, 0)
    builder.drops(builder.messages(first, EAST, 1, 1), 1, second)
    builder.drops(builder.messages(second, WEST, 1, 1), 1, first)
    with pytest.raises(DeadlockError, match="first at \\(0, 0\\)"):
        line_effects(line_graph(builder.build()), FABRICS[0], np.zeros((2, 2), LINE_STATE), False, False)
