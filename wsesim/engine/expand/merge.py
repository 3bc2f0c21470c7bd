"""Segments in the order in which they run -> one TaskGraph: the full graph that shortcuts are held to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from wsesim.engine.expand.segment import Segment
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import Int32, Int64, TaskGraph
from wsesim.machine import Rect


def merge(segments: Sequence[Segment], window: Rect) -> TaskGraph:
    """All tasks of all segments: on each PE, one segment's program after the other's."""
    builder = GraphBuilder(window.columns, window.rows)
    for segment in segments:
        _append(builder, segment, window)
    return builder.build()


def _append(builder: GraphBuilder, segment: Segment, window: Rect) -> None:
    graph = segment.plan.graph
    tasks = _append_tasks(builder, segment, _moved(graph.pe, segment.window, window))
    messages = builder.messages(
        tasks[graph.source],
        graph.direction1,
        graph.hops1,
        graph.wavelets,
        graph.direction2,
        graph.hops2,
        graph.shares_ramp,
        segment.colour(graph.colour),
    )
    builder.drops(messages[graph.drop_message()], graph.drop_hop, tasks[graph.drop_task], graph.drop_sink)


def _append_tasks(builder: GraphBuilder, segment: Segment, pes: Int64) -> Int64:
    """One call for each position in a PE's program keeps the program's order: calls by operation would not."""
    graph = segment.plan.graph
    pointers = graph.pe_ptr()
    position = np.arange(graph.task_count) - pointers[graph.pe]
    ids = np.empty(graph.task_count, np.int64)
    for rank in range(int(position.max()) + 1):
        there = position == rank
        for number in np.unique(graph.operation[there]):
            chosen = np.flatnonzero(there & (graph.operation == number))
            operation = graph.operations[number]
            ids[chosen] = builder.tasks(
                pes[chosen],
                dataclasses.replace(operation, label=f"{segment.name}.{operation.label}"),
                graph.launch[chosen],
                graph.work[chosen],
                graph.start[chosen],
                graph.streams[chosen],
                graph.delay[chosen],
            )
    return ids


def _moved(pe: Int32, inner: Rect, outer: Rect) -> Int64:
    """PE numbers of a window as numbers of the window around it."""
    row, column = np.divmod(pe.astype(np.int64), inner.columns)
    return (row + inner.y - outer.y) * outer.columns + column + inner.x - outer.x
