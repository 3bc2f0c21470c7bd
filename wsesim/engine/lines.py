"""What one line of PEs does from a given state; several states are simulated together, as copies of the line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand.segment import LineGraph
from wsesim.engine.simulate import simulate
from wsesim.engine.state import NEVER, State
from wsesim.engine.taskgraph import Int64, TaskGraph, directions, repeated
from wsesim.engine.timeline import Timeline
from wsesim.machine import Fabric

NO_PORTS = np.empty(0, np.int64)
TIMES = ("task_start", "task_begin", "task_end", "message_head", "message_tail", "drop_head", "drop_tail")


@dataclass(frozen=True, slots=True, eq=False)
class LineEffect:
    """What a line did, in cycles after its base.

    `changes`: of pe_free, ramp_out_free, ramp_in_free and link_free, the places that changed and their new values.
    `requests`: of ramps in and of links, the places that were asked for, first and last.
    """

    changes: tuple[tuple[Int64, Int64], ...]
    requests: tuple[tuple[Int64, Int64, Int64], ...]
    end_cycles: int
    link_events: int
    timeline: Timeline | None


def line_effects(
    line: LineGraph, fabric: Fabric, states: Int64, free_links: bool, keep_timelines: bool
) -> list[LineEffect]:
    """The line's effect from each of `states` [copies, values]: per PE when it, its ramp out and its ramp in are free,
    then its two links of the line.

    The copies are laid end to end: nothing goes from one to the next.
    """
    copies = len(states)
    before = _states(line.graph, states)
    timeline = simulate(repeated(line.graph, copies), fabric, NO_PORTS, NO_PORTS, before, free_links=free_links)
    return [_effect(line, before, timeline, copy, copies, keep_timelines) for copy in range(copies)]


def _states(graph: TaskGraph, states: Int64) -> State:
    pes, copies = graph.pes, len(states)
    links = np.zeros((copies, pes, 4), np.int64)
    links[:, :, directions(graph)] = states[:, 3 * pes :].reshape(copies, pes, 2)
    columns, rows = (1, copies * pes) if graph.columns == 1 else (copies * pes, 1)
    free, ramp_out, ramp_in = (states[:, i * pes : (i + 1) * pes].reshape(-1) for i in range(3))
    return State(columns, rows, free, ramp_out, ramp_in, links.reshape(-1))


def _effect(
    line: LineGraph, before: State, timeline: Timeline, copy: int, copies: int, keep_timeline: bool
) -> LineEffect:
    """The part of one copy."""
    graph, after = line.graph, timeline.state_after
    pes = slice(copy * graph.pes, (copy + 1) * graph.pes)
    links = slice(4 * pes.start, 4 * pes.stop)
    changes = [(np.flatnonzero(line.busy), after.pe_free[pes][line.busy])]
    for name, own in (("ramp_out_free", pes), ("ramp_in_free", pes), ("link_free", links)):
        old, new = getattr(before, name)[own], getattr(after, name)[own]
        places = np.flatnonzero(old != new)
        changes.append((places, new[places]))
    ramps = _asked(timeline.requests.ramp_first[pes], timeline.requests.ramp_last[pes])
    ways = _asked(timeline.requests.link_first[links], timeline.requests.link_last[links])
    tasks = slice(copy * graph.task_count, (copy + 1) * graph.task_count)
    kept = _part(graph, timeline, copy) if keep_timeline else None
    end = int(timeline.task_end[tasks].max())
    return LineEffect(tuple(changes), (ramps, ways), end, timeline.link_events // copies, kept)


def _asked(first: Int64, last: Int64) -> tuple[Int64, Int64, Int64]:
    places = np.flatnonzero(last != NEVER)
    return places, first[places], last[places]


def _part(graph: TaskGraph, timeline: Timeline, copy: int) -> Timeline:
    """One copy's times; `state_after` and `requests` stay those of all copies."""
    sizes = {"task": graph.task_count, "message": graph.message_count, "drop": graph.drop_count}
    own = {}
    for name in TIMES:
        size = sizes[name.partition("_")[0]]
        own[name] = getattr(timeline, name)[copy * size : (copy + 1) * size]
    return dataclasses.replace(timeline, **own)
