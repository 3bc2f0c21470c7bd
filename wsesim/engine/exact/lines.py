"""What one line of PEs does from a given state, for several states at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.exact.line_kernels import Effects, Image, run_lines
from wsesim.engine.expand.segment import LineGraph
from wsesim.engine.flow.records import World
from wsesim.engine.flow.simulate import constants, load, simulate
from wsesim.engine.flow.state import State
from wsesim.engine.flow.timeline import Times
from wsesim.engine.graph.taskgraph import Int64, TaskGraph, directions
from wsesim.machine import Fabric

NO_PORTS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class LineEffect:
    """What a line did, in cycles after its base: a row of `line_kernels.Effects`."""

    after: Int64
    first: Int64
    last: Int64
    end_cycles: int
    link_events: int
    timeline: Times | None


def line_effects(
    line: LineGraph, fabric: Fabric, states: Int64, free_links: bool, keep_timelines: bool
) -> list[LineEffect]:
    """The line's effect from each of `states` [copies, 5 PEs], nothing of it negative; all in one World.

    Raises DeadlockError.
    """
    graph, copies = line.graph, len(states)
    idle = State.idle(graph.columns, graph.rows)
    world = load(graph, fabric, NO_PORTS, NO_PORTS, idle)
    effects = _effects(graph, copies, copies if keep_timelines else 0)
    done = run_lines(world, constants(fabric, free_links, idle), _image(graph, world), states, effects)
    if done < copies:
        simulate(graph, fabric, NO_PORTS, NO_PORTS, _state(graph, states[done]), free_links=free_links)
        raise AssertionError("a line that cannot finish does so by itself")
    ends, events = effects.end.tolist(), effects.link_events.tolist()
    return [
        LineEffect(
            *(effects.after[i], effects.first[i], effects.last[i], ends[i], events[i]),
            _times(effects, i) if keep_timelines else None,
        )
        for i in range(copies)
    ]


def _times(effects: Effects, copy: int) -> Times:
    own = [*(times[copy] for times in effects[5:]), NO_PORTS, NO_PORTS]
    return Times(*own)


def _image(graph: TaskGraph, world: World) -> Image:
    tasks, messages = world.tasks.view(np.int64), world.messages.view(np.int64)
    images = tasks.copy(), messages.copy(), world.missing.copy()
    return Image(*images, tasks, messages, graph.pe_ptr(), graph.pe, directions(graph))


def _effects(graph: TaskGraph, copies: int, timed: int) -> Effects:
    pes = graph.pes
    sizes = 3 * (graph.task_count,) + 2 * (graph.message_count,) + 2 * (graph.drop_count,)
    rows = [np.empty((copies, size), np.int64) for size in (5 * pes, 3 * pes, 3 * pes)]
    numbers = [np.empty(copies, np.int64) for _ in range(2)]
    return Effects(*rows, *numbers, *(np.empty((timed, size), np.int64) for size in sizes))


def _state(graph: TaskGraph, values: Int64) -> State:
    free, ramp_out, ramp_in = values[: 3 * graph.pes].reshape(3, -1)
    links = np.zeros((graph.pes, 4), np.int64)
    links[:, directions(graph)] = values[3 * graph.pes :].reshape(-1, 2)
    return State(graph.columns, graph.rows, free, ramp_out, ramp_in, links.reshape(-1))
