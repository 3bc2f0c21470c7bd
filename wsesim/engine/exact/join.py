"""join: parallel and crossing lines of PEs as one TaskGraph of their window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from wsesim.engine.expand.segment import EqualLines
from wsesim.engine.graph.taskgraph import Int64, Operation, TaskGraph, pointers
from wsesim.engine.graph.verify import verify

PER_TASK = ("start", "streams", "launch", "work", "delay")
PER_MESSAGE = ("wavelets", "direction1", "hops1", "direction2", "hops2", "shares_ramp", "colour")
PER_DROP = ("drop_hop", "drop_sink")


def joined_graph(lines: Sequence[EqualLines], columns: int, rows: int) -> TaskGraph:
    """The tasks of all lines, verified. On each PE they are in the order of `lines`."""
    copies = _Copies(lines)
    pe = np.concatenate([equal.members[:, equal.line.graph.pe].ravel() for equal in lines])
    by_pe = np.argsort(pe, kind="stable")
    rank = _inverse(by_pe)
    source = rank[copies.numbers(lambda graph: graph.source, lambda graph: graph.task_count)]
    by_source = np.argsort(source, kind="stable")
    owner = copies.numbers(lambda graph: graph.drop_message(), lambda graph: graph.message_count)
    message = _inverse(by_source)[owner]
    by_message = np.argsort(message, kind="stable")  # a message's drops are sorted already
    fed = rank[copies.numbers(lambda graph: graph.drop_task, lambda graph: graph.task_count)]
    operations = tuple(dict.fromkeys(each for equal in lines for each in equal.line.graph.operations))
    graph = TaskGraph(
        columns=columns,
        rows=rows,
        operations=operations,
        pe=pe[by_pe].astype(np.int32),
        operation=copies.values(lambda graph: _numbered(graph, operations))[by_pe],
        out_ptr=pointers(source, by_pe.size),
        source=source[by_source].astype(np.int32),
        drop_ptr=pointers(message, by_source.size),
        drop_task=fed[by_message].astype(np.int32),
        port_task=np.empty(0, np.int32),
        outputs=np.empty(0, np.int32),
        **copies.fields(PER_TASK, by_pe),
        **copies.fields(PER_MESSAGE, by_source),
        **copies.fields(PER_DROP, by_message),
    )
    verify(graph)
    return graph


class _Copies:
    """Columns of the lines' graphs, each repeated for every line of the graph."""

    def __init__(self, lines: Sequence[EqualLines]) -> None:
        self._graphs = [(equal.line.graph, len(equal.members)) for equal in lines]

    def values(self, column: Callable[[TaskGraph], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """A column whose values are the same for every copy, for all copies."""
        return np.concatenate([np.tile(column(graph), copies) for graph, copies in self._graphs])

    def numbers(self, column: Callable[[TaskGraph], npt.NDArray[Any]], count: Callable[[TaskGraph], int]) -> Int64:
        """A column of numbers below `count` of its graph, renumbered through all copies."""
        found, first = [], 0
        for graph, copies in self._graphs:
            firsts = first + np.arange(copies, dtype=np.int64) * count(graph)
            found.append((firsts[:, None] + column(graph)).ravel())
            first += copies * count(graph)
        return np.concatenate(found)

    def fields(self, names: Sequence[str], order: npt.NDArray[np.intp]) -> dict[str, Any]:
        return {name: self.values(attrgetter(name))[order] for name in names}


def _numbered(graph: TaskGraph, operations: tuple[Operation, ...]) -> npt.NDArray[np.int32]:
    """The tasks' operations as indices into `operations`: [T]."""
    return graph.of_operations(np.array([operations.index(each) for each in graph.operations], np.int32))


def _inverse(order: npt.NDArray[np.intp]) -> Int64:
    inverse = np.empty(order.size, np.int64)
    inverse[order] = np.arange(order.size)
    return inverse
