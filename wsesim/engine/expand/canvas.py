"""Canvas: a rectangle of PEs that kernels fill with tasks; the machine prices their vector operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import BLOCKING, RECEIVE, REROUTE, SEND, Int64, Operation
from wsesim.machine import Machine, Rect
from wsesim.program.kernels import ALONG
from wsesim.program.parts import Block
from wsesim.software import WSESIM, Software
from wsesim.software.software import APART

EAST, WEST, NORTH, SOUTH = range(4)


@dataclass(frozen=True, slots=True)
class PELines:
    """Parallel lines of PEs that do the same: `pes` [lines, length] are their ids.

    `forward` is the direction of ascending positions, `backward` the other one. `kind`: along, across, or segments of
    lines across.
    """

    pes: Int64
    forward: int
    backward: int
    kind: str

    @property
    def count(self) -> int:
        return int(self.pes.shape[0])

    @property
    def length(self) -> int:
        return int(self.pes.shape[1])


class Canvas:
    """The tasks of one window, for `tokens` tokens at once.

    Kernels name PEs only through `grid`, `lines` and `line`. So the same code draws all lines of a block, or one line
    that stands for many (`LineCanvas`).
    """

    def __init__(
        self, window: Rect, machine: Machine, dtype: str, tokens: int = 1, software: Software = WSESIM
    ) -> None:
        self.window = window
        self.machine = machine
        self.software = software
        self.dtype = dtype
        self.tokens = tokens
        self.builder = GraphBuilder(window.columns, window.rows)
        self.configured = ""  # the routes of the PEs; "" if any may be
        self._slow = [(self.at(s.x, s.y), s.factor) for s in machine.slow if window.has(s.x, s.y)]

    def at(self, x: int, y: int) -> int:
        """PE id of a wafer coordinate."""
        return (y - self.window.y) * self.window.columns + (x - self.window.x)

    def grid(self, block: Block, along: int, across: int) -> Int64:
        """PE ids [along, across] of the first positions of a block."""
        return self._ids(block, np.arange(along), np.arange(across))

    def lines(self, block: Block, axis: str, count: int) -> PELines:
        """The first `count` whole lines of a block that go along `axis`."""
        return self._lines(block, axis, np.arange(count))

    def line(self, block: Block, axis: str, index: int) -> PELines:
        """One whole line of a block that goes along `axis`."""
        return self._lines(block, axis, np.array([index]))

    def _ids(self, block: Block, along: Int64, across: Int64) -> Int64:
        i, j = np.meshgrid(along, across, indexing="ij")
        row, column = (i, j) if block.axis == "rows" else (j, i)
        rows, columns = np.asarray(block.row_places)[row], np.asarray(block.column_places)[column]
        ids: Int64 = (rows - self.window.y) * self.window.columns + columns - self.window.x
        return ids

    def hops(self, lines: PELines, source: Int64, target: Int64) -> Int64:
        """Hops between positions of each line: [lines, moves]. A line may cross PEs that its block leaves out."""
        hop = self.window.columns if lines.forward == SOUTH else 1
        hops: Int64 = np.abs(lines.pes[:, target] - lines.pes[:, source]) // hop
        return hops

    def _lines(self, block: Block, axis: str, chosen: Int64) -> PELines:
        """Lines by their position on the other axis."""
        whole = np.arange(block.along if axis == ALONG else block.across)
        pes = self._ids(block, whole, chosen).T if axis == ALONG else self._ids(block, chosen, whole)
        vertical = is_vertical(block, axis)
        return PELines(pes, SOUTH if vertical else EAST, NORTH if vertical else WEST, axis)

    def compute(
        self, pes: Int64, label: str, op: str, elements: int, repeats: int = 1, dtype: str | None = None
    ) -> Int64:
        """One vector operation on each PE, `repeats` times."""
        operation = Operation(label, op, elements, repeats, dtype or self.dtype)
        return self.task(pes, operation, self.machine.op(op).launch)

    def loop(self, pes: Int64, label: str, op: str, elements: int, turns: int, each: int = 1) -> Int64:
        """A loop of `turns` turns around `each` vector operations, on each PE."""
        around = turns * self.machine.loop_cycles
        operation = Operation(label, op, elements, turns * each, self.dtype, around)
        return self.task(pes, operation, self.machine.op(op).launch)

    def task(
        self,
        pes: Int64,
        operation: Operation,
        launch: Int64 | int,
        *,
        start: int = BLOCKING,
        streams: bool = False,
        delay: Int64 | int = 0,
    ) -> Int64:
        """A task on each PE. Its work follows from its operation; slow PEs work longer."""
        flat = np.asarray(pes, np.int64).ravel()
        work = self._work(flat, operation.work_cycles(self.machine))
        return self.builder.tasks(flat, operation, launch, work, start, streams, delay)

    def send(self, pes: Int64, label: str, elements: int, launch: int = 0, dtype: str | None = None) -> Int64:
        """A copy from memory into the fabric on each PE, `launch` cycles later than its own launch.

        It is launched as any vector operation. Then a microthread does it, at the pace of the fabric.
        """
        operation = Operation(label, SEND, elements, 1, dtype or self.dtype, collective=True)
        return self.task(pes, operation, launch + self.machine.op("copy").launch, streams=True)

    def receive(self, pes: Int64, label: str, elements: int, launch: int, start: int = BLOCKING) -> Int64:
        """A copy from the fabric into memory on each PE, set up in `launch` cycles."""
        operation = Operation(label, RECEIVE, elements, 1, self.dtype, collective=True)
        return self.task(pes, operation, launch, start=start)

    @contextmanager
    def computing_in(self, dtype: str) -> Iterator[None]:
        """Inside, operations and messages are of another dtype."""
        before, self.dtype = self.dtype, dtype
        yield
        self.dtype = before

    def reroute(self, lines: PELines, routes: str, label: str) -> None:
        """Configures `routes` in place of others: a PE has input queues for one set at a time.

        Where the software keeps the routes apart, both axes have their own at once.
        """
        if self.software.routes == APART:
            return
        change_cycles = self.software.change_cycles(self.machine)
        if self.configured and self.configured != routes:
            self.task(lines.pes, Operation(label, REROUTE, extra_cycles=change_cycles), 0)
        self.configured = routes

    def wavelets(self, elements: int) -> int:
        return self.machine.wavelets(elements, self.dtype)

    def _work(self, pes: Int64, work: int) -> Int64 | int:
        if not self._slow:
            return work
        cycles = np.full(pes.size, work, np.int64)
        for pe, factor in self._slow:
            cycles[pes == pe] = _rounded_up(work * factor)
        return cycles


class LineCanvas(Canvas):
    """One line of a block, at `position` among those that go along `axis`, on a window of its own.

    `breaks` collects the positions at which lines begin to differ: the lines up to the next break equal this one.
    """

    def __init__(
        self, block: Block, axis: str, position: int, machine: Machine, dtype: str, tokens: int, software: Software
    ) -> None:
        vertical = is_vertical(block, axis)
        places, lines = block.row_places, block.column_places
        if not vertical:
            places, lines = lines, places
        length = places[-1] - places[0] + 1
        window = Rect(0, 0, 1, length) if vertical else Rect(0, 0, length, 1)
        super().__init__(window, machine, dtype, tokens, software)
        self.axis = axis
        self.position = position
        self.breaks = {0}
        self._places = np.asarray(places) - places[0]
        self._slow = []
        for s in machine.slow:
            line, place = (s.x, s.y) if vertical else (s.y, s.x)
            if line in lines:
                own = lines.index(line)
                self.breaks |= {own, own + 1}
                if own == position:
                    self._slow.append((place - places[0], s.factor))

    def grid(self, block: Block, along: int, across: int) -> Int64:
        count, other = (across, along) if self.axis == ALONG else (along, across)
        self.breaks.add(count)
        return self._own(other, self.position < count)

    def lines(self, block: Block, axis: str, count: int) -> PELines:
        self.breaks.add(count)
        return self._drawn(block, axis, self.position < count)

    def line(self, block: Block, axis: str, index: int) -> PELines:
        self.breaks |= {index, index + 1}
        return self._drawn(block, axis, self.position == index)

    def _drawn(self, block: Block, axis: str, there: bool) -> PELines:
        assert axis == self.axis, "a phase has the collectives of one axis"
        pes = self._own(block.along if axis == ALONG else block.across, there)
        vertical = is_vertical(block, axis)
        ids = pes.T if axis == ALONG else pes
        return PELines(ids, SOUTH if vertical else EAST, NORTH if vertical else WEST, axis)

    def _own(self, length: int, there: bool) -> Int64:
        """The line's own PEs, shaped as `grid` shapes them; none if the line is not among those asked for."""
        ids = self._places[:length]
        return (ids[:, None] if self.axis == ALONG else ids[None, :]) if there else self._none(length)

    def _none(self, length: int) -> Int64:
        return np.empty((length, 0) if self.axis == ALONG else (0, length), np.int64)


def is_vertical(block: Block, axis: str) -> bool:
    """Whether the lines of `block` that go along `axis` are columns."""
    return (axis == ALONG) == (block.axis == "rows")


def _rounded_up(exact: Fraction) -> int:
    return -(-exact.numerator // exact.denominator)
