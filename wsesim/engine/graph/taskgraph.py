"""TaskGraph: everything that happens on a rectangle of PEs, as arrays of tasks, messages and drops.

PE (x, y) of the rectangle has the number `y * columns + x`; x grows eastwards, y southwards. All times are
cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from wsesim.machine import Machine

Int8: TypeAlias = npt.NDArray[np.int8]
Int32: TypeAlias = npt.NDArray[np.int32]
Int64: TypeAlias = npt.NDArray[np.int64]

REROUTE: Final = "reroute"
SEND: Final = "send"
RECEIVE: Final = "receive"

BLOCKING: Final = 0
LAUNCHED: Final = 1
ACTIVATED: Final = 2

MEMORY: Final = 0
STREAM: Final = 1

EAST: Final = 0
WEST: Final = 1
NORTH: Final = 2
SOUTH: Final = 3

NO_PORTS: Final = np.empty(0, np.int64)
"""Times of the external inputs of a graph without any."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation of a task, for the kernel `label`: `repeats` vector operations on `elements` elements of `dtype`.

    op           a vector operation of the Machine; or SEND, RECEIVE (the fabric sets the pace of these), REROUTE (other
                 routes are configured), "" (scalar code only). The last four have no cycles of their own
    extra_cycles of loops and scalar code around the vector operations, or of the REROUTE
    collective   whether the task is a stage of a collective
    """

    label: str
    op: str = ""
    elements: int = 0
    repeats: int = 1
    dtype: str = "fp16"
    extra_cycles: int = 0
    collective: bool = False

    @property
    def computes(self) -> bool:
        """Whether it is a kernel's own work, neither a stage of a collective nor a REROUTE."""
        return not self.collective and self.op != REROUTE

    def work_cycles(self, machine: Machine) -> int:
        """Cycles after the launch, on a PE that is not slow."""
        if self.op in ("", SEND, RECEIVE, REROUTE):
            return self.extra_cycles
        return machine.op(self.op).work_cycles(self.elements, self.repeats, self.dtype) + self.extra_cycles


@dataclass(frozen=True, slots=True, eq=False)
class TaskGraph:
    """Tasks sorted by (PE, position in its program), messages by source task, drops by (message, hop).

    Tasks [T]

    - `pe`: number of the PE
    - `operation`: index into `operations`
    - `start`: BLOCKING (waits for the tails of its inputs), LAUNCHED (is set up early and waits for the heads) or
      ACTIVATED (is set up when the heads are there)
    - `streams`: 1 if its messages leave from the beginning of its work on, 0 if they leave at its end
    - `launch`: cycles of setting up
    - `work`: cycles after the launch, `Operation.work_cycles` times the factor of a slow PE
    - `delay`: cycles from an incoming wavelet to the result of it; all results of the task are later by them
    - `out_ptr` [T + 1]: its messages are `out_ptr[t]:out_ptr[t + 1]`

    Messages [M]

    - `source`: the task that sends it
    - `wavelets`: its length
    - `direction1`, `hops1`, `direction2`, `hops2`: a straight leg and, if `hops2` > 0, a perpendicular second one
    - `shares_ramp`: 1 if it leaves in the ramp pass of the task's previous message (multicast in several directions)
    - `colour`: its number among the colours of its Segment. The flow fidelity does not read it
    - `drop_ptr` [M + 1]: its drops are `drop_ptr[m]:drop_ptr[m + 1]`

    Drops [D]

    - `drop_hop`: routers passed before the drop, on both legs; ascending; the last one is `hops1 + hops2`
    - `drop_task`: the task that consumes it, on the PE of that router
    - `drop_sink`: MEMORY (a microthread receives it at once) or STREAM (the task itself receives it when it runs)

    `port_task` [I] is the task fed by external input i. `outputs` [O] are the tasks whose times are the output profile.
    """

    columns: int
    rows: int
    operations: tuple[Operation, ...]
    pe: Int32
    operation: Int32
    start: Int8
    streams: Int8
    launch: Int32
    work: Int32
    delay: Int8
    out_ptr: Int32
    source: Int32
    wavelets: Int32
    direction1: Int8
    hops1: Int32
    direction2: Int8
    hops2: Int32
    shares_ramp: Int8
    colour: Int8
    drop_ptr: Int32
    drop_hop: Int32
    drop_task: Int32
    drop_sink: Int8
    port_task: Int32
    outputs: Int32

    @property
    def pes(self) -> int:
        return self.columns * self.rows

    @property
    def labels(self) -> tuple[str, ...]:
        """The kernels of the operations, each once."""
        return tuple(dict.fromkeys(operation.label for operation in self.operations))

    def task_labels(self) -> Int32:
        """Index of each task's kernel in `labels`: [T]."""
        return self.of_operations(np.array([self.labels.index(o.label) for o in self.operations], np.int32))

    def of_operations(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The value of each task's operation, from one value for each of `operations`: [T]."""
        return values[self.operation]

    @property
    def task_count(self) -> int:
        return int(self.pe.size)

    @property
    def message_count(self) -> int:
        return int(self.source.size)

    @property
    def drop_count(self) -> int:
        return int(self.drop_task.size)

    def input_counts(self) -> Int32:
        """Drops and ports that each task waits for: [T]."""
        fed = np.concatenate((self.drop_task, self.port_task))
        return np.bincount(fed, minlength=self.task_count).astype(np.int32)

    def pe_ptr(self) -> Int32:
        """The program of PE p is the tasks `pe_ptr[p]:pe_ptr[p + 1]`: [PEs + 1]."""
        return pointers(self.pe, self.pes)

    def drop_message(self) -> Int32:
        """Message of each drop: [D]."""
        return np.repeat(np.arange(self.message_count, dtype=np.int32), np.diff(self.drop_ptr))

    def describe(self, task: int) -> str:
        """A task as users read it: its kernel and its PE."""
        y, x = divmod(int(self.pe[task]), self.columns)
        return f"{self.operation_of(task).label} at ({x}, {y})"

    def operation_of(self, task: int) -> Operation:
        return self.operations[int(self.operation[task])]


def pointers(owner: npt.NDArray[np.integer], owners: int) -> Int32:
    """Where the entries of each owner begin in an array sorted by `owner`, then its length: [owners + 1]."""
    ends = np.zeros(owners + 1, np.int32)
    np.cumsum(np.bincount(owner, minlength=owners), out=ends[1:])
    return ends


def directions(line: TaskGraph) -> Int64:
    """The two directions of the links of a line that is one PE high or, else, one PE wide."""
    return np.array([EAST, WEST] if line.rows == 1 else [NORTH, SOUTH])


def steps(columns: int) -> Int32:
    """Distance in PE numbers of one hop in each direction: [4]."""
    return np.array([1, -1, -columns, columns], np.int32)


def route_position(graph: TaskGraph, message: Int32, hop: Int32) -> tuple[Int64, Int64]:
    """Router (x, y) that each message has reached after `hop` hops."""
    first = np.minimum(hop, graph.hops1[message])
    second = hop - first
    start = graph.pe[graph.source[message]].astype(np.int64)
    step_x, step_y = np.array([1, -1, 0, 0]), np.array([0, 0, -1, 1])
    direction1, direction2 = graph.direction1[message], graph.direction2[message]
    x = start % graph.columns + step_x[direction1] * first + step_x[direction2] * second
    y = start // graph.columns + step_y[direction1] * first + step_y[direction2] * second
    return x, y
