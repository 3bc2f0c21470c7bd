"""Distributed matrix products as tasks and messages: one round of an alignment, one step of a product.

A PE has two buffers for each tile that travels: at the beginning of a step it launches, one after the other, the sends
of what it holds and the receives of what comes (a copy's launch each, the microthreads do the rest), multiplies, and
goes on when the tiles are there: a task for each tile, one that joins them, one that begins the next step. A tile that
is still read is never sent over: the other buffer receives. Its own send cannot be waited for in a TaskGraph, nor does
a tile wait before a receive is launched; the tests show that on equal PEs neither happens.

Scalar code between the vector operations issues one instruction a cycle (the vendor's simulator); how many there are
is counted in the published program (WaferLLM, MeshGEMM/WSE-3/src): an estimate, the compiler's code is not published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand.canvas import Canvas, Lines
from wsesim.engine.expand.collective import spread
from wsesim.engine.graph.taskgraph import COLLECTIVE, LAUNCHED, NORTH, SOUTH, Int64
from wsesim.program.gemm import Ring
from wsesim.program.layout import ceil_div

SWAP = 6  # three pointers: a load and a store each
DESCRIPTOR = 3  # its base address: load, store; and into its register
BRANCH = 5  # load, compare, branch (3 cycles)
COUNT = 3  # load, add, store
ROUND_INSTRUCTIONS = 2 * BRANCH + COUNT + SWAP + COUNT + 2 * DESCRIPTOR  # of an alignment
STEP_INSTRUCTIONS = 2 * SWAP + BRANCH + 2 * DESCRIPTOR + COUNT  # of a product, without what an exchange adds
EXCHANGE_INSTRUCTIONS = 4 * DESCRIPTOR + 3 * 2  # and blocking, unblocking in the tasks that join


@dataclass(frozen=True, slots=True)
class Tiles:
    """Elements of a PE's tiles: A [rows, inner], B [inner, columns], C [rows, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def left(self) -> int:
        return self.rows * self.inner

    @property
    def right(self) -> int:
        return self.inner * self.columns

    @property
    def out(self) -> int:
        return self.rows * self.columns


def tiles_of(rows: int, inner: int, columns: int, side: int) -> Tiles:
    """Tiles of C [rows, columns] = A [rows, inner] B on side x side PEs, padded to equal size."""
    return Tiles(ceil_div(rows, side), ceil_div(inner, side), ceil_div(columns, side))


def repeated_gemm(
    canvas: Canvas, rows: Lines, of: Ring, tiles: Tiles, label: str, *, exchange: bool = True, loops: int = 1
) -> None:
    """One repetition of the published benchmark: A aligned, C zeroed, all steps, and the call that finds none left.

    Without `exchange` no tile moves in the steps; `loops` times each product.
    """
    for _ in range(of.rounds):
        align_round(canvas, rows, of, of.skew > 0, tiles.left, label)
    canvas.compute(rows.pes, label, "copy", tiles.out)
    for _ in range(of.size):
        gemm_step(canvas, rows, of, tiles, label, exchange=exchange, loops=loops)
    _begin(canvas, rows, 2 * SWAP + BRANCH, label)


def align_round(canvas: Canvas, lines: Lines, of: Ring, forward: np.ndarray, elements: int, label: str) -> None:
    """Every line sends its tiles one place on, `forward` [lines] or back."""
    copy = canvas.machine.op("copy").launch
    begin = canvas.machine.activate_cycles + ROUND_INSTRUCTIONS
    sent = canvas.task(lines.pes, label, begin + copy, 0, streams=True, kind=COLLECTIVE)
    there = canvas.task(lines.pes, label, copy, 0, kind=COLLECTIVE, start=LAUNCHED)
    _exchange(canvas, lines, of, forward, elements, sent, there)


def gemm_step(
    canvas: Canvas, rows: Lines, of: Ring, tiles: Tiles, label: str, *, exchange: bool = True, loops: int = 1
) -> None:
    """A's tiles go to the next place of their row, B's of their column, while the PE multiplies what it holds.

    rows: all of the block, west to east. Without `exchange` nothing moves; `loops` times the product.
    """
    if not exchange:
        _begin(canvas, rows, STEP_INSTRUCTIONS, label)
        multiply(canvas, rows, tiles, label, loops)
        return
    columns = _columns(rows)
    copy, activate = canvas.machine.op("copy").launch, canvas.machine.activate_cycles
    left = _send_first(canvas, rows, label)
    right = canvas.task(columns.pes, label, copy + copy, 0, streams=True, kind=COLLECTIVE)  # receive A, send B
    canvas.task(rows.pes, label, copy, 0, kind=COLLECTIVE)  # receive B
    multiply(canvas, rows, tiles, label, loops)
    left_there = canvas.task(rows.pes, label, activate, 0, kind=COLLECTIVE)
    right_there = canvas.task(columns.pes, label, 2 * activate, 0, kind=COLLECTIVE)
    ahead = np.ones(of.size, np.bool_)
    _exchange(canvas, rows, of, ahead, tiles.left, left, left_there)
    _exchange(canvas, columns, of, ahead, tiles.right, right, right_there)


def transposed_step(canvas: Canvas, rows: Lines, of: Ring, tiles: Tiles, label: str) -> None:
    """B's tiles go to the next place of their column, the sums of C of their row; then the PE's product is added.

    tiles: B's is [columns, inner].
    """
    columns = _columns(rows)
    copy, activate, add = canvas.machine.op("copy"), canvas.machine.activate_cycles, canvas.machine.op("elementwise")
    out = _send_first(canvas, rows, label)
    right = canvas.task(columns.pes, label, 2 * copy.launch, 0, streams=True, kind=COLLECTIVE)
    canvas.task(rows.pes, label, copy.launch, 0, kind=COLLECTIVE)
    canvas.compute(rows.pes, label, "copy", tiles.out)  # zeros
    multiply(canvas, rows, tiles, label)
    work = add.work_cycles(tiles.out, 1, canvas.dtype)
    added = canvas.task(rows.pes, label, activate + add.launch, work)
    right_there = canvas.task(columns.pes, label, 2 * activate, 0, kind=COLLECTIVE)
    ahead = np.ones(of.size, np.bool_)
    _exchange(canvas, rows, of, ahead, tiles.out, out, added)
    _exchange(canvas, columns, of, ahead, tiles.right, right, right_there)


def summa_step(canvas: Canvas, rows: Lines, step: int, tiles: Tiles, label: str) -> None:
    """Column `step` broadcasts its tiles of A along the rows, row `step` its tiles of B along the columns."""
    columns = _columns(rows)
    copy, activate = canvas.machine.op("copy").launch, canvas.machine.activate_cycles
    _begin(canvas, rows, STEP_INSTRUCTIONS, label)
    left = canvas.task(rows.pes, label, copy, 0, streams=True, kind=COLLECTIVE)  # the owners send, others receive
    right = canvas.task(columns.pes, label, copy, 0, streams=True, kind=COLLECTIVE)
    others = np.array([p for p in range(rows.length) if p != step], np.int64)
    left_there = canvas.task(rows.pes[:, others], label, activate, 0, kind=COLLECTIVE)
    right_there = canvas.task(columns.pes[:, others], label, activate, 0, kind=COLLECTIVE)
    for lines, elements, sent, there in (
        (rows, tiles.left, left, left_there),
        (columns, tiles.right, right, right_there),
    ):
        owners = sent.reshape(-1, rows.length)[:, step]
        spread(canvas, lines, step, elements, owners, there.reshape(-1, others.size))
    multiply(canvas, rows, tiles, label)


def _begin(canvas: Canvas, lines: Lines, instructions: int, label: str) -> None:
    canvas.task(lines.pes, label, canvas.machine.activate_cycles + instructions, 0)


def _send_first(canvas: Canvas, lines: Lines, label: str) -> Int64:
    """The step begins; the first of its four copies is launched."""
    begin = canvas.machine.activate_cycles + STEP_INSTRUCTIONS + EXCHANGE_INSTRUCTIONS
    copy = canvas.machine.op("copy").launch
    return canvas.task(lines.pes, label, begin + copy, 0, streams=True, kind=COLLECTIVE)


def multiply(canvas: Canvas, lines: Lines, tiles: Tiles, label: str, loops: int = 1) -> None:
    """C[:, n] += A[:, k] B[k, n]: a loop over k, in it one vector operation for each n, as long as a column of A."""
    if loops == 0:
        return
    fma, repeats = canvas.machine.op("fma"), tiles.inner * tiles.columns
    work = fma.work_cycles(tiles.rows, loops * repeats, canvas.dtype) + loops * tiles.inner * canvas.machine.loop_cycles
    canvas.task(lines.pes, label, fma.launch, work)


def _columns(rows: Lines) -> Lines:
    """The same square of PEs, north to south."""
    return Lines(rows.pes.T, SOUTH, NORTH, "columns")


def _exchange(
    canvas: Canvas, lines: Lines, of: Ring, forward: np.ndarray, elements: int, sent: Int64, there: Int64
) -> None:
    """Each position's `sent` sends to its neighbour's `there`, both [lines, P] flat."""
    if of.size == 1:
        return
    position = np.arange(of.size)
    target = np.where(forward[:, None], of.next(), of.next(forward=False))
    hops = np.abs(target - position).ravel()
    direction = np.where(target > position, lines.forward, lines.backward).ravel()
    messages = canvas.builder.messages(sent, direction, hops, canvas.wavelets(elements))
    receivers = np.take_along_axis(there.reshape(target.shape), target, axis=1)
    canvas.builder.drops(messages, hops, receivers.ravel())
