"""GraphBuilder: writes a TaskGraph a few thousand tasks at a call."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wsesim.engine.errors import TaskGraphError
from wsesim.engine.graph.taskgraph import BLOCKING, MEMORY, Int64, Operation, TaskGraph, pointers

Numbers: TypeAlias = npt.ArrayLike
Order: TypeAlias = npt.NDArray[np.intp]

WORD, BYTE = 2**31 - 1, 2**7 - 1  # largest numbers


class GraphBuilder:
    """Collects tasks, messages, drops and ports; `build` sorts them into a TaskGraph.

    Ids are provisional: they hold between the calls of one builder. The order of calls (and within a call, of
    the arrays) is the program order on each PE, and the order of a task's messages. Arguments broadcast
    against each other.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self._operations: dict[Operation, int] = {}
        self._tasks = _Table(pe=WORD, operation=WORD, start=BYTE, streams=BYTE, launch=WORD, work=WORD, delay=BYTE)
        self._messages = _Table(
            source=WORD,
            direction1=BYTE,
            hops1=WORD,
            wavelets=WORD,
            direction2=BYTE,
            hops2=WORD,
            shares_ramp=BYTE,
            colour=BYTE,
        )
        self._drops = _Table(message=WORD, drop_hop=WORD, drop_task=WORD, drop_sink=BYTE)
        self._ports = _Table(task=WORD)
        self._outputs = _Table(task=WORD)

    @property
    def task_count(self) -> int:
        """Tasks so far."""
        return self._tasks.rows

    def tasks(
        self,
        pe: Numbers,
        operation: Operation | str,
        launch: Numbers,
        work: Numbers,
        start: Numbers = BLOCKING,
        streams: Numbers = False,
        delay: Numbers = 0,
    ) -> Int64:
        """One task per entry of `pe`, after all tasks that the PE has so far; their ids.

        A text is the label of an operation of which nothing else is known.
        """
        named = Operation(operation) if isinstance(operation, str) else operation
        index = self._operations.setdefault(named, len(self._operations))
        return self._tasks.append(pe, index, start, streams, launch, work, delay)

    def messages(
        self,
        source: Numbers,
        direction: Numbers,
        hops: Numbers,
        wavelets: Numbers,
        direction2: Numbers | None = None,
        hops2: Numbers = 0,
        shares_ramp: Numbers = False,
        colour: Numbers = 0,
    ) -> Int64:
        """One message per entry, sent by the tasks `source`; their ids. Without `hops2` they go straight."""
        second = direction if direction2 is None else direction2
        return self._messages.append(source, direction, hops, wavelets, second, hops2, shares_ramp, colour)

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
        """The graph. It is not verified: `wsesim.engine.graph.verify.verify` does that."""
        tasks, messages, drops = self._tasks.columns(), self._messages.columns(), self._drops.columns()
        by_pe = np.argsort(tasks["pe"], kind="stable")
        task_rank = _inverse(by_pe)
        messages["source"] = task_rank[messages["source"]]
        by_source = np.argsort(messages["source"], kind="stable")
        message = _inverse(by_source)[drops.pop("message")]
        drops["drop_task"] = task_rank[drops["drop_task"]]
        by_message = np.lexsort((drops["drop_hop"], message))
        return TaskGraph(
            columns=self.columns,
            rows=self.rows,
            operations=tuple(self._operations),
            out_ptr=pointers(messages["source"], by_pe.size),
            drop_ptr=pointers(message, by_source.size),
            port_task=task_rank[self._ports.columns()["task"]].astype(np.int32),
            outputs=task_rank[self._outputs.columns()["task"]].astype(np.int32),
            **self._tasks.sorted(tasks, by_pe),
            **self._messages.sorted(messages, by_source),
            **self._drops.sorted(drops, by_message),
        )


class _Table:
    """Columns of integers that grow by broadcast rows; `largest` number of each column."""

    def __init__(self, **largest: int) -> None:
        self._largest = largest
        self._parts: list[tuple[slice, tuple[int, ...], tuple[Numbers, ...]]] = []
        self.rows = 0

    def append(self, *values: Numbers) -> Int64:
        """Appends one row per element of the broadcast values; the numbers of the new rows."""
        shape = np.broadcast(*values).shape
        first, self.rows = self.rows, self.rows + prod(shape)
        self._parts.append((slice(first, self.rows), shape, values))
        return np.arange(first, self.rows)

    def columns(self) -> dict[str, Int64]:
        """Raises TaskGraphError for a number that its column's bits do not hold."""
        table = np.empty((len(self._largest), self.rows), np.int64)
        for rows, shape, values in self._parts:
            for column, value in zip(table, values, strict=True):
                column[rows].reshape(shape)[...] = value
        if self.rows:
            for name, largest, high, low in zip(
                *zip(*self._largest.items(), strict=True), table.max(1), table.min(1), strict=True
            ):
                if max(high, -low) > largest:
                    raise TaskGraphError(
                        f"{name} is {max(high, -low):,} somewhere in the graph; at most {largest:,} is kept"
                    )
        return dict(zip(self._largest, table, strict=True))

    def sorted(self, columns: dict[str, Int64], order: Order) -> dict[str, Any]:
        """The columns in their own width."""
        return {
            name: column[order].astype(np.int8 if self._largest[name] == BYTE else np.int32)
            for name, column in columns.items()
        }


def _inverse(order: Order) -> Int64:
    inverse = np.empty(order.size, np.int64)
    inverse[order] = np.arange(order.size)
    return inverse
