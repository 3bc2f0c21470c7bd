"""TaskGraph: everything that happens on a rectangle of PEs, as arrays of tasks, messages and drops.

PE (x, y) of the rectangle has the number `y * columns + x`; x grows eastwards, y southwards. All times are
cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Int8: TypeAlias = npt.NDArray[np.int8]
Int32: TypeAlias = npt.NDArray[np.int32]
Int64: TypeAlias = npt.NDArray[np.int64]

COMPUTE: Final = 0
REROUTE: Final = 1
COLLECTIVE: Final = 2

BLOCKING: Final = 0
LAUNCHED: Final = 1
ACTIVATED: Final = 2

MEMORY: Final = 0
STREAM: Final = 1

EAST: Final = 0
WEST: Final = 1
NORTH: Final = 2
SOUTH: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class TaskGraph:
    """Tasks sorted by (PE, position in its program), messages by source task, drops by (message, hop).

    Tasks [T]:
        pe        number of the PE
        label     index into `labels`, the kernel's name
        kind      COMPUTE, REROUTE or COLLECTIVE (a stage of one); only reports read it
        start     BLOCKING (waits for the tails of its inputs), LAUNCHED (set up early, waits for the heads)
                  or ACTIVATED (set up when the heads are there)
        streams   1: its messages leave from the beginning of its work on, 0: at its end
        launch    cycles of setting up;  work: cycles after that
        delay     cycles from a wavelet that comes in to what the task makes of it: all its results are so much later
        out_ptr   [T + 1] its messages are `out_ptr[t]:out_ptr[t + 1]`
    Messages [M]:
        source    task that sends it
        wavelets  its length
        direction1, hops1, direction2, hops2    a straight leg and, if hops2 > 0, a perpendicular second one
        shares_ramp    1: leaves in the ramp pass of the task's previous message (multicast in several
        directions) drop_ptr  [M + 1] its drops are `drop_ptr[m]:drop_ptr[m + 1]`
    Drops [D]:
        drop_hop  routers passed before the drop, both legs counted; ascending; the last is hops1 + hops2
        drop_task task that consumes it, on the PE of that router
        drop_sink MEMORY (a microthread takes it in at once) or STREAM (the task itself does, when its turn has come)
    port_task [I]: task fed by external input i.   outputs [O]: tasks whose times are the output profile.
    """

    columns: int
    rows: int
    labels: tuple[str, ...]
    pe: Int32
    label: Int32
    kind: Int8
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
        return f"{self.labels[self.label[task]]} at ({x}, {y})"


def pointers(owner: npt.NDArray[np.integer], owners: int) -> Int32:
    """Where the things of each of `owners` begin, sorted by `owner`, the last one's end too: [owners + 1]."""
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
