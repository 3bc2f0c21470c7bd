"""Segment: one stage or transfer at its place on the wafer. A segment is simulated at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.expand.paths import Paths, reach
from wsesim.engine.graph.taskgraph import Int8, Int64, TaskGraph, steps
from wsesim.engine.graph.verify import verify
from wsesim.machine import Machine, Rect
from wsesim.machine.parts import SlowPE


@dataclass(frozen=True, slots=True, eq=False)
class LineGraph:
    """The verified TaskGraph of one line of PEs.

    `busy` [PEs]: whether a PE has tasks. `starters`: the PEs whose first task waits for no message. `digest`: equal for
    lines with equal cycles, whatever their operations and colours are.
    """

    graph: TaskGraph
    busy: NDArray[np.bool_]
    starters: NDArray[np.intp]
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class EqualLines:
    """Lines of a window that have the same tasks: `members` [lines, length] are their PEs' numbers.

    They are columns or rows, as `line.graph` is high or wide.
    """

    line: LineGraph
    members: Int64


Phase = tuple[EqualLines, ...]
"""Lines that share no PE and no link, so that each can be simulated on its own."""


class Plan:
    """The tasks of a window as one graph, and in `parts` with the same effect: phases of lines, or paths of messages.

    Phases follow one another: on every PE the tasks of a phase come before those of the next. No parts: only the graph.
    `busy` [PEs]: whether a PE has tasks. `starters`: the PEs whose first task waits for no message.
    """

    def __init__(
        self, columns: int, rows: int, parts: tuple[Phase, ...] | Paths, whole: Callable[[], TaskGraph] | TaskGraph
    ) -> None:
        self.columns = columns
        self.rows = rows
        self.parts = parts
        self._whole = whole
        if isinstance(parts, Paths):
            self.busy, self.starters = _of_paths(columns, rows, parts)
        elif parts:
            self.busy, self.starters = _of_phases(columns * rows, parts)
        else:
            self.busy, self.starters = _beginnings(self.graph)

    @property
    def counts(self) -> tuple[int, int]:
        """Tasks and messages of the one graph, counted without drawing it."""
        if isinstance(self.parts, Paths):
            reached = np.zeros(self.columns * self.rows, np.bool_)
            reach(self.parts, steps(self.columns), reached)
            return self.parts.source.size + int(np.count_nonzero(reached)), self.parts.source.size
        if not self.parts:
            return self.graph.task_count, self.graph.message_count
        return line_counts([equal for phase in self.parts for equal in phase])

    @cached_property
    def graph(self) -> TaskGraph:
        """All tasks as one verified graph."""
        graph = self._whole if isinstance(self._whole, TaskGraph) else self._whole()
        verify(graph)
        return graph


@dataclass(frozen=True, slots=True)
class Segment:
    """A Plan at a place. Segments that differ only in place, name and colours share one plan.

    (The segments of a line, `SEGMENT` in `wsesim.program.kernels`, are something else: the positions of one head.)

    `plan` counts PEs in coordinates of `window`. `colours` are the Program's colours, by the numbers that the plan's
    messages have; none: the numbers are colours.
    """

    name: str
    window: Rect
    plan: Plan
    colours: tuple[int, ...] = ()

    def colour(self, number: Int8) -> Int8:
        """The Program's colours of messages, from their numbers: [M]."""
        return np.array(self.colours, np.int8)[number] if self.colours else number


def line_counts(lines: Iterable[EqualLines]) -> tuple[int, int]:
    """Tasks and messages of all lines."""
    counted = [(len(e.members) * e.line.graph.task_count, len(e.members) * e.line.graph.message_count) for e in lines]
    return sum(tasks for tasks, _ in counted), sum(messages for _, messages in counted)


def plan_of(graph: TaskGraph) -> Plan:
    """The plan of a graph that is simulated whole."""
    return Plan(graph.columns, graph.rows, (), graph)


def line_graph(graph: TaskGraph) -> LineGraph:
    """A line's graph, verified."""
    verify(graph)
    return LineGraph(graph, *_beginnings(graph), _digest(graph))


def _digest(graph: TaskGraph) -> bytes:
    digest = hashlib.blake2b(f"{graph.columns} x {graph.rows}".encode(), digest_size=16)
    for field in dataclasses.fields(graph):
        values = getattr(graph, field.name)
        if isinstance(values, np.ndarray) and field.name not in ("operation", "colour"):
            digest.update(values.size.to_bytes(8, "little"))
            digest.update(values.tobytes())
    return digest.digest()


def _beginnings(graph: TaskGraph) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    pointers = graph.pe_ptr()
    busy = np.diff(pointers) > 0
    waits_for_none = graph.input_counts()[pointers[:-1][busy]] == 0
    return busy, np.flatnonzero(busy)[waits_for_none]


def _of_phases(pes: int, phases: tuple[Phase, ...]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    busy, starts = np.zeros(pes, np.bool_), np.zeros(pes, np.bool_)
    for phase in phases:
        for equal in phase:
            first = equal.members[:, equal.line.starters]
            starts[first[~busy[first]]] = True
            busy[equal.members[:, equal.line.busy]] = True
    return busy, np.flatnonzero(starts)


def _of_paths(columns: int, rows: int, paths: Paths) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    busy = np.zeros(columns * rows, np.bool_)
    reach(paths, steps(columns), busy)
    busy[paths.source] = True
    return busy, np.unique(paths.source)


def local_machine(machine: Machine, window: Rect) -> Machine:
    """The machine as `window` sees it: stragglers in its coordinates."""
    slow = tuple(SlowPE(s.x - window.x, s.y - window.y, s.factor) for s in machine.slow if window.has(s.x, s.y))
    return dataclasses.replace(machine, slow=slow, dead=frozenset())
