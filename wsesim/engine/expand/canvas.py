"""Canvas: a rectangle of PEs being filled with tasks; vector operations priced by the machine."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from wsesim.engine.builder import GraphBuilder
from wsesim.engine.taskgraph import BLOCKING, COLLECTIVE, REROUTE, Int64
from wsesim.machine import Machine, Rect
from wsesim.program.kernels import ALONG
from wsesim.program.program import Block

EAST, WEST, NORTH, SOUTH = range(4)


@dataclass(frozen=True, slots=True)
class Lines:
    """Parallel lines of PEs that do the same: `pes` [lines, length], and the directions of ascending and descending.

    `kind` names the routes: PEs hold those of one kind at a time (their input queues are few) and reroute in between.
    """

    pes: Int64
    forward: int
    backward: int
    kind: str

    @property
    def length(self) -> int:
        return int(self.pes.shape[1])


class Canvas:
    """Tasks of one window. `tokens` go through together, `positions` of the KV cache are on every line."""

    def __init__(self, window: Rect, machine: Machine, dtype: str, tokens: int = 1) -> None:
        self.window = window
        self.machine = machine
        self.dtype = dtype
        self.tokens = tokens
        self.builder = GraphBuilder(window.columns, window.rows)
        self.configured = ""  # kind of the lines whose routes are in place; "" asks for no reroute
        self._slow = [(self.at(s.x, s.y), s.factor) for s in machine.slow if window.has(s.x, s.y)]

    def at(self, x: int, y: int) -> int:
        """PE id of a wafer coordinate."""
        return (y - self.window.y) * self.window.columns + (x - self.window.x)

    def grid(self, block: Block, along: int, across: int) -> Int64:
        """PE ids [along, across] of the first positions of a block."""
        i, j = np.meshgrid(np.arange(along), np.arange(across), indexing="ij")
        rows, columns = (i, j) if block.axis == "rows" else (j, i)
        return (block.y - self.window.y + rows) * self.window.columns + block.x - self.window.x + columns

    def lines(self, block: Block, axis: str, count: int) -> Lines:
        """The first `count` whole lines of a block that go along `axis`."""
        pes = self.grid(block, block.along, count).T if axis == ALONG else self.grid(block, count, block.across)
        vertical = (axis == ALONG) == (block.axis == "rows")
        return Lines(pes, SOUTH if vertical else EAST, NORTH if vertical else WEST, axis)

    def compute(
        self, pes: Int64, label: str, op: str, elements: int, repeats: int = 1, dtype: str | None = None
    ) -> Int64:
        """One vector operation on each PE."""
        cost = self.machine.op(op)
        return self.task(pes, label, cost.launch, cost.work_cycles(elements, repeats, dtype or self.dtype))

    def task(
        self,
        pes: Int64,
        label: str,
        launch: Int64 | int,
        work: int,
        *,
        start: int = BLOCKING,
        streams: bool = False,
        kind: int = 0,
        delay: Int64 | int = 0,
    ) -> Int64:
        """A task on each PE; stragglers work longer."""
        flat = np.asarray(pes, np.int64).ravel()
        return self.builder.tasks(flat, label, launch, self._work(flat, work), start, streams, kind, delay)

    def send(self, pes: Int64, label: str) -> Int64:
        """A copy from memory into the fabric: launched like any vector operation, then the microthread's own."""
        return self.task(pes, label, self.machine.op("copy").launch, 0, streams=True, kind=COLLECTIVE)

    def reroute(self, lines: Lines, label: str) -> None:
        """Puts the routes of `lines` in place where those of another kind are."""
        if self.configured and self.configured != lines.kind:
            self.task(lines.pes, label, 0, self.machine.reroute_cycles, kind=REROUTE)
        self.configured = lines.kind

    def wavelets(self, elements: int) -> int:
        return self.machine.wavelets(elements, self.dtype)

    def _work(self, pes: Int64, work: int) -> Int64 | int:
        if not self._slow:
            return work
        cycles = np.full(pes.size, work, np.int64)
        for pe, factor in self._slow:
            cycles[pes == pe] = _rounded_up(work * factor)
        return cycles


def _rounded_up(exact: Fraction) -> int:
    return -(-exact.numerator // exact.denominator)
