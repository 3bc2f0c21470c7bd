"""The cycle of tasks and messages that wait for each other when a run cannot finish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wsesim.engine.errors import DeadlockError
from wsesim.engine.graph.taskgraph import Int32, TaskGraph

Node: TypeAlias = tuple[str, int]  # ("task" | "message", number)


@dataclass(frozen=True, slots=True)
class Stand:
    """The state of a run that stopped.

    tasks_done [PEs]  tasks of each PE's program that ran
    delivered [D]     whether each drop was delivered
    link_owner [M]    message that holds the link that each message waits for; -1 if it waits for none
    consumer [M]      task that each message waits for, to be received as a STREAM; -1 if it waits for none
    """

    tasks_done: Int32
    delivered: npt.NDArray[np.bool_]
    link_owner: Int32
    consumer: Int32


def deadlock(graph: TaskGraph, stand: Stand) -> DeadlockError:
    """The error that names one cycle of the stuck tasks and messages."""
    position = np.arange(graph.task_count) - graph.pe_ptr()[graph.pe]
    done = position < stand.tasks_done[graph.pe]
    stuck = _Stuck(graph, done, stand)
    cycle = _cycle(stuck)
    return DeadlockError(tuple(stuck.describe(node) for node in cycle), int((~done).sum()))


def _cycle(stuck: _Stuck) -> list[Node]:
    path = [stuck.first()]
    seen = {path[0]: 0}
    while True:
        node = stuck.waits_for(path[-1])
        if node in seen:
            return path[seen[node] :]
        seen[node] = len(path)
        path.append(node)


class _Stuck:
    def __init__(self, graph: TaskGraph, done: npt.NDArray[np.bool_], stand: Stand) -> None:
        self._graph = graph
        self._done = done
        self._stand = stand

    def first(self) -> Node:
        return ("task", int(np.flatnonzero(~self._done)[0]))

    def waits_for(self, node: Node) -> Node:
        kind, number = node
        if kind == "message":
            return self._holder(number)
        graph = self._graph
        if number > 0 and graph.pe[number - 1] == graph.pe[number] and not self._done[number - 1]:
            return ("task", number - 1)
        drops = np.flatnonzero((graph.drop_task == number) & ~self._stand.delivered)
        messages = np.searchsorted(graph.drop_ptr, drops, side="right") - 1
        return self._undelivered(messages.astype(np.int32))

    def _undelivered(self, messages: Int32) -> Node:
        unsent = messages[~self._done[self._graph.source[messages]]]
        if unsent.size:
            return ("task", int(self._graph.source[unsent[0]]))
        return ("message", int(messages[0]))

    def _holder(self, message: int) -> Node:
        consumer = int(self._stand.consumer[message])
        return ("task", consumer) if consumer >= 0 else ("message", int(self._stand.link_owner[message]))

    def describe(self, node: Node) -> str:
        kind, number = node
        if kind == "task":
            return self._graph.describe(number)
        return f"message of {self._graph.describe(int(self._graph.source[number]))}"
