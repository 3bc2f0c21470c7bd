"""GraphBuilder: writes a TaskGraph a few thousand tasks at a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wsesim.engine.errors import TaskGraphError
from wsesim.engine.taskgraph import BLOCKING, COMPUTE, MEMORY, Int8, Int32, Int64, TaskGraph

Numbers: TypeAlias = npt.ArrayLike
Order: TypeAlias = npt.NDArray[np.intp]

LARGEST = 2**31 - 1


class GraphBuilder:
    """Collects tasks, messages, drops and ports; `build` sorts them into a TaskGraph.

    Ids are provisional: they hold between the calls of one builder. The order of calls (and within a call, of
    the arrays) is the program order on each PE, and the order of a task's messages. Arguments broadcast
    against each other.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self._labels: dict[str, int] = {}
        self._tasks = _Table("pe", "label", "kind", "start", "streams", "launch", "work", "delay")
        self._messages = _Table("source", "direction1", "hops1", "wavelets", "direction2", "hops2", "shares_ramp")
        self._drops = _Table("message", "hop", "task", "sink")
        self._ports = _Table("task")
        self._outputs = _Table("task")

    @property
    def task_count(self) -> int:
        """Tasks so far."""
        return self._tasks.rows

    def tasks(
        self,
        pe: Numbers,
        label: str,
        launch: Numbers,
        work: Numbers,
        start: Numbers = BLOCKING,
        streams: Numbers = False,
        kind: Numbers = COMPUTE,
        delay: Numbers = 0,
    ) -> Int64:
        """One task per entry of `pe`, after all tasks that the PE has so far; their ids."""
        index = self._labels.setdefault(label, len(self._labels))
        return self._tasks.append(pe, index, kind, start, streams, launch, work, delay)

    def messages(
        self,
        source: Numbers,
        direction: Numbers,
        hops: Numbers,
        wavelets: Numbers,
        direction2: Numbers | None = None,
        hops2: Numbers = 0,
        shares_ramp: Numbers = False,
    ) -> Int64:
        """One message per entry, sent by the tasks `source`; their ids. Without `hops2` they go straight."""
        second = direction if direction2 is None else direction2
        return self._messages.append(source, direction, hops, wavelets, second, hops2, shares_ramp)

    def drops(self, messages: Numbers, hop: Numbers, tasks: Numbers, sink: Numbers = MEMORY) -> None:
        """After `hop` routers each message also goes to the PE there, as an input of its task."""
        self._drops.append(messages, hop, tasks, sink)

    def ports(self, tasks: Numbers) -> Int64:
        """External inputs that feed `tasks`, one each; their port numbers."""
        return self._ports.append(tasks)

    def outputs(self, tasks: Numbers) -> None:
        """Appends `tasks` to the output profile."""
        self._outputs.append(tasks)

    def build(self) -> TaskGraph:
        """The graph. It is not verified: `wsesim.engine.verify.verify` does that."""
        tasks, messages, drops = self._tasks, self._messages, self._drops
        by_pe = np.argsort(tasks["pe"], kind="stable")
        task_rank = _inverse(by_pe)
        source = task_rank[messages["source"]]
        by_source = np.argsort(source, kind="stable")
        message = _inverse(by_source)[drops["message"]]
        by_message = np.lexsort((drops["hop"], message))
        return TaskGraph(
            columns=self.columns,
            rows=self.rows,
            labels=tuple(self._labels),
            pe=tasks.int32("pe", by_pe),
            label=tasks.int32("label", by_pe),
            kind=tasks.int8("kind", by_pe),
            start=tasks.int8("start", by_pe),
            streams=tasks.int8("streams", by_pe),
            launch=tasks.int32("launch", by_pe),
            work=tasks.int32("work", by_pe),
            delay=tasks.int8("delay", by_pe),
            out_ptr=_pointers(source[by_source], by_pe.size),
            source=source[by_source].astype(np.int32),
            wavelets=messages.int32("wavelets", by_source),
            direction1=messages.int8("direction1", by_source),
            hops1=messages.int32("hops1", by_source),
            direction2=messages.int8("direction2", by_source),
            hops2=messages.int32("hops2", by_source),
            shares_ramp=messages.int8("shares_ramp", by_source),
            drop_ptr=_pointers(message[by_message], by_source.size),
            drop_hop=drops.int32("hop", by_message),
            drop_task=task_rank[drops["task"]][by_message].astype(np.int32),
            drop_sink=drops.int8("sink", by_message),
            port_task=task_rank[self._ports["task"]].astype(np.int32),
            outputs=task_rank[self._outputs["task"]].astype(np.int32),
        )


class _Table:
    """Columns of integers that grow by broadcast rows."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._parts: list[Sequence[Int64]] = []
        self.rows = 0

    def append(self, *values: Numbers) -> Int64:
        """Appends one row per element of the broadcast values; the numbers of the new rows."""
        part = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.int64)) for v in values))
        self._parts.append(tuple(column.ravel() for column in part))
        first, self.rows = self.rows, self.rows + part[0].size
        return np.arange(first, self.rows)

    def __getitem__(self, name: str) -> Int64:
        column = self._names.index(name)
        return np.concatenate([np.empty(0, np.int64), *(part[column] for part in self._parts)])

    def int32(self, name: str, order: Order) -> Int32:
        return self._within(name, LARGEST)[order].astype(np.int32)

    def int8(self, name: str, order: Order) -> Int8:
        return self._within(name, 127)[order].astype(np.int8)

    def _within(self, name: str, largest: int) -> Int64:
        """A column. Raises TaskGraphError for a number that its bits do not hold."""
        column = self[name]
        found = max(abs(int(column.max())), abs(int(column.min()))) if column.size else 0
        if found > largest:
            raise TaskGraphError(f"{name} is {found:,} somewhere in the graph; at most {largest:,} is kept")
        return column


def _inverse(order: Order) -> Int64:
    inverse = np.empty(order.size, np.int64)
    inverse[order] = np.arange(order.size)
    return inverse


def _pointers(owner: Int64, owners: int) -> Int32:
    return np.searchsorted(owner, np.arange(owners + 1)).astype(np.int32)
