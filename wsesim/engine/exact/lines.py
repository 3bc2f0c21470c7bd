"""The effect of one line of PEs from each of several states."""

from __future__ import annotations

import numpy as np

from wsesim.engine.exact.line_kernels import LINE_REQUESTS, LINE_STATE, Image, LineEffect, run_lines
from wsesim.engine.expand.segment import LineGraph
from wsesim.engine.flow.records import Records, World
from wsesim.engine.flow.simulate import constants, load, simulate
from wsesim.engine.flow.state import State
from wsesim.engine.flow.timeline import Times
from wsesim.engine.graph.taskgraph import NO_PORTS, TaskGraph, directions
from wsesim.machine import Fabric


def line_effects(
    line: LineGraph, fabric: Fabric, line_states: Records, free_links: bool, keep_timelines: bool
) -> list[LineEffect]:
    """The line's effect from each of `line_states` [copies, PEs], none of whose cycles is negative.

    All copies run in one World. Raises DeadlockError.
    """
    graph, copies = line.graph, len(line_states)
    idle = State.idle(graph.columns, graph.rows)
    world = load(graph, fabric, NO_PORTS, NO_PORTS, idle)
    all_copies = _room(graph, copies, keep_timelines)
    done = run_lines(world, constants(fabric, free_links, idle), _image(graph, world), line_states, all_copies)
    if done < copies:
        simulate(graph, fabric, state=_state(graph, line_states[done]), free_links=free_links)
        raise AssertionError("a line in a deadlock is in one by itself")
    untimed, times = all_copies[:4], all_copies[4:]
    none = tuple(field[:0] for field in times)
    return [
        LineEffect(*(field[copy] for field in untimed), *((field[copy] for field in times) if keep_timelines else none))
        for copy in range(copies)
    ]


def times_of(effect: LineEffect) -> Times:
    """The times of an effect that has them."""
    return Times(*effect[4:], NO_PORTS, NO_PORTS)


def _image(graph: TaskGraph, world: World) -> Image:
    tasks, messages = world.tasks.view(np.int64), world.messages.view(np.int64)
    images = tasks.copy(), messages.copy(), world.missing.copy()
    return Image(*images, tasks, messages, graph.pe_ptr(), graph.pe, directions(graph))


def _room(graph: TaskGraph, copies: int, keep_timelines: bool) -> LineEffect:
    """Arrays for the effects of all copies."""
    sizes = 3 * (graph.task_count,) + 2 * (graph.message_count,) + 2 * (graph.drop_count,)
    return LineEffect(
        np.empty((copies, graph.pes), LINE_STATE),
        np.empty((copies, graph.pes), LINE_REQUESTS),
        np.empty(copies, np.int64),
        np.empty(copies, np.int64),
        *(np.empty((copies if keep_timelines else 0, size), np.int64) for size in sizes),
    )


def _state(graph: TaskGraph, own: Records) -> State:
    """The State of a line, from its records; other links are free."""
    links = np.zeros((graph.pes, 4), np.int64)
    links[:, directions(graph)] = own["link_free"]
    pe_free, ramp_out_free, ramp_in_free = (own[name].copy() for name in (LINE_STATE.names or ())[:3])
    return State(graph.columns, graph.rows, pe_free, ramp_out_free, ramp_in_free, links.reshape(-1))
