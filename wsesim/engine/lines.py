"""What one line of PEs does from a given state; several states are simulated together, as copies of the line.

The state of a line is a row of numbers: when each PE, its ramp out and its ramp in are free, then each PE's two links.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.expand.segment import LineGraph
from wsesim.engine.simulate import simulate
from wsesim.engine.state import State
from wsesim.engine.taskgraph import Int64, TaskGraph, directions, repeated
from wsesim.engine.timeline import Timeline
from wsesim.machine import Fabric

NO_PORTS = np.empty(0, np.int64)
TIMES = ("task_start", "task_begin", "task_end", "message_head", "message_tail", "drop_head", "drop_tail")


@dataclass(frozen=True, slots=True, eq=False)
class LineEffect:
    """What a line did, in cycles after its base.

    `after` and `changed`: its state and the places of it that changed. `first` and `last`: when its ramps in, then its
    links, were asked for, NEVER where they were not.
    """

    after: Int64
    changed: NDArray[np.bool_]
    first: Int64
    last: Int64
    end_cycles: int
    link_events: int
    timeline: Timeline | None


def line_effects(
    line: LineGraph, fabric: Fabric, states: Int64, free_links: bool, keep_timelines: bool
) -> list[LineEffect]:
    """The line's effect from each of `states` [copies, values]. Copies are laid end to end: nothing goes from one to
    the next.
    """
    copies = len(states)
    before = _states(line.graph, states)
    graph = repeated(line.graph, copies)
    timeline = simulate(graph, fabric, NO_PORTS, NO_PORTS, before, free_links=free_links)
    state, asked = timeline.state_after, timeline.requests
    frees = (state.pe_free, state.ramp_out_free, state.ramp_in_free)
    after = np.concatenate([*(f.reshape(copies, -1) for f in frees), _own(line.graph, state.link_free, copies)], axis=1)
    changed = after != states
    changed[:, : line.graph.pes] = line.busy
    first, last = (
        np.concatenate([ramps.reshape(copies, -1), _own(line.graph, links, copies)], axis=1)
        for ramps, links in ((asked.ramp_first, asked.link_first), (asked.ramp_last, asked.link_last))
    )
    ends = timeline.task_end.reshape(copies, -1).max(axis=1)
    events = timeline.link_events // copies
    kept = [_part(line.graph, timeline, copy) if keep_timelines else None for copy in range(copies)]
    return [LineEffect(after[i], changed[i], first[i], last[i], int(ends[i]), events, kept[i]) for i in range(copies)]


def _states(graph: TaskGraph, states: Int64) -> State:
    pes, copies = graph.pes, len(states)
    links = np.zeros((copies, pes, 4), np.int64)
    links[:, :, directions(graph)] = states[:, 3 * pes :].reshape(copies, pes, 2)
    columns, rows = (1, copies * pes) if graph.columns == 1 else (copies * pes, 1)
    free, ramp_out, ramp_in = (states[:, i * pes : (i + 1) * pes].reshape(-1) for i in range(3))
    return State(columns, rows, free, ramp_out, ramp_in, links.reshape(-1))


def _own(graph: TaskGraph, links: Int64, copies: int) -> Int64:
    """The line's own two of each PE's links: [copies, 2 PEs]."""
    return links.reshape(copies, graph.pes, 4)[:, :, directions(graph)].reshape(copies, -1)


def _part(graph: TaskGraph, timeline: Timeline, copy: int) -> Timeline:
    """One copy's times; `state_after` and `requests` stay those of all copies."""
    sizes = {"task": graph.task_count, "message": graph.message_count, "drop": graph.drop_count}
    own = {}
    for name in TIMES:
        size = sizes[name.partition("_")[0]]
        own[name] = getattr(timeline, name)[copy * size : (copy + 1) * size]
    return dataclasses.replace(timeline, **own)
