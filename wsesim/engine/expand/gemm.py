"""Distributed matrix products as tasks and messages: one round of an alignment, one step of a product.

A PE has two buffers for each tile that travels. At the beginning of a step it launches the sends of its tiles and the
receives of the next ones, one after the other. Each takes the launch of a copy; microthreads do the rest. Then the PE
multiplies, and waits for the tiles: one task for each tile, one that joins them, one that begins the next step. The
next tiles go into the other buffers, so no tile is overwritten while it is read. A TaskGraph does not let a task wait
for its PE's own send, nor a tile for the launch of its receive. The tests show that on equal PEs neither happens.

Scalar code between the vector operations issues one instruction a cycle (the vendor's simulator). The software says how
many instructions there are (`GemmCode`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.collective import BROADCAST_COLOUR, first_colour, ring_colour, spread
from wsesim.engine.graph.taskgraph import LAUNCHED, NORTH, SOUTH, Int64, Operation
from wsesim.program.gemm import Ring
from wsesim.program.layout import ceil_div


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
    canvas: Canvas, rows: PELines, of: Ring, tiles: Tiles, label: str, *, exchange: bool = True, loops: int = 1
) -> None:
    """One repetition of the published benchmark: A aligned, C zeroed, all steps, and the call that finds none left.

    Without `exchange` no tile moves in the steps; `loops` times each product.
    """
    for _ in range(of.rounds):
        align_round(canvas, rows, of, of.skew > 0, tiles.left, label)
    canvas.compute(rows.pes, label, "copy", tiles.out)
    for _ in range(of.size):
        gemm_step(canvas, rows, of, tiles, label, exchange=exchange, loops=loops)
    _begin(canvas, rows, canvas.software.gemm.last_instructions, label)


def align_round(canvas: Canvas, lines: PELines, of: Ring, forward: np.ndarray, elements: int, label: str) -> None:
    """Every line sends its tiles one place on, `forward` [lines] or back."""
    copy = canvas.machine.op("copy").launch
    begin = canvas.machine.activate_cycles + canvas.software.gemm.round_instructions
    sent = canvas.send(lines.pes, label, elements, begin)
    there = canvas.receive(lines.pes, label, elements, copy, LAUNCHED)
    _exchange(canvas, lines, of, forward, elements, sent, there)


def gemm_step(
    canvas: Canvas, rows: PELines, of: Ring, tiles: Tiles, label: str, *, exchange: bool = True, loops: int = 1
) -> None:
    """A's tiles go to the next place of their row, B's of their column, while the PE multiplies its tiles.

    rows: all of the block, west to east. Without `exchange` nothing moves; `loops` times the product.
    """
    if not exchange:
        _begin(canvas, rows, canvas.software.gemm.step_instructions, label)
        multiply(canvas, rows, tiles, label, loops)
        return
    columns = _columns(rows)
    copy, activate = canvas.machine.op("copy").launch, canvas.machine.activate_cycles
    left = _send_first(canvas, rows, tiles.left, label)
    right = canvas.send(columns.pes, label, tiles.right, copy)  # receive A, send B
    canvas.receive(rows.pes, label, tiles.right, copy)
    multiply(canvas, rows, tiles, label, loops)
    left_there = canvas.receive(rows.pes, label, tiles.left, activate)
    right_there = canvas.receive(columns.pes, label, tiles.right, 2 * activate)
    ahead = np.ones(of.size, np.bool_)
    _exchange(canvas, rows, of, ahead, tiles.left, left, left_there)
    _exchange(canvas, columns, of, ahead, tiles.right, right, right_there)


def transposed_step(canvas: Canvas, rows: PELines, of: Ring, tiles: Tiles, label: str) -> None:
    """B's tiles go to the next place of their column, the sums of C of their row; then the PE's product is added.

    tiles: B's is [columns, inner].
    """
    columns = _columns(rows)
    copy, activate = canvas.machine.op("copy").launch, canvas.machine.activate_cycles
    out = _send_first(canvas, rows, tiles.out, label)
    right = canvas.send(columns.pes, label, tiles.right, copy)
    canvas.receive(rows.pes, label, tiles.right, copy)
    canvas.compute(rows.pes, label, "copy", tiles.out)  # zeros
    multiply(canvas, rows, tiles, label)
    add = Operation(label, "elementwise", tiles.out, 1, canvas.dtype)
    added = canvas.task(rows.pes, add, activate + canvas.machine.op("elementwise").launch)
    right_there = canvas.receive(columns.pes, label, tiles.right, 2 * activate)
    ahead = np.ones(of.size, np.bool_)
    _exchange(canvas, rows, of, ahead, tiles.out, out, added)
    _exchange(canvas, columns, of, ahead, tiles.right, right, right_there)


def summa_step(canvas: Canvas, rows: PELines, step: int, tiles: Tiles, label: str) -> None:
    """Column `step` broadcasts its tiles of A along the rows, row `step` its tiles of B along the columns."""
    columns = _columns(rows)
    activate = canvas.machine.activate_cycles
    _begin(canvas, rows, canvas.software.gemm.step_instructions, label)
    left = canvas.send(rows.pes, label, tiles.left)  # the owners send, others receive
    right = canvas.send(columns.pes, label, tiles.right)
    others = np.array([p for p in range(rows.length) if p != step], np.int64)
    left_there = canvas.receive(rows.pes[:, others], label, tiles.left, activate)
    right_there = canvas.receive(columns.pes[:, others], label, tiles.right, activate)
    for lines, elements, sent, there in (
        (rows, tiles.left, left, left_there),
        (columns, tiles.right, right, right_there),
    ):
        owners = sent.reshape(-1, rows.length)[:, step]
        colour = first_colour(lines.kind) + BROADCAST_COLOUR
        spread(canvas, lines, step, elements, owners, there.reshape(-1, others.size), colour)
    multiply(canvas, rows, tiles, label)


def _begin(canvas: Canvas, lines: PELines, instructions: int, label: str) -> None:
    canvas.task(lines.pes, Operation(label), canvas.machine.activate_cycles + instructions)


def _send_first(canvas: Canvas, lines: PELines, elements: int, label: str) -> Int64:
    """The step begins; the first of its four copies is launched."""
    begin = (
        canvas.machine.activate_cycles
        + canvas.software.gemm.step_instructions
        + canvas.software.gemm.exchange_instructions
    )
    return canvas.send(lines.pes, label, elements, begin)


def multiply(canvas: Canvas, lines: PELines, tiles: Tiles, label: str, loops: int = 1) -> None:
    """C[:, n] += A[:, k] B[k, n]: a loop over k, in it one vector operation for each n, as long as a column of A."""
    if loops == 0:
        return
    turn = canvas.machine.loop_cycles + canvas.software.gemm.turn_cycles
    repeats, around = loops * tiles.inner * tiles.columns, loops * tiles.inner * turn
    product = Operation(label, "fma", tiles.rows, repeats, canvas.dtype, around)
    canvas.task(lines.pes, product, canvas.machine.op("fma").launch)


def _columns(rows: PELines) -> PELines:
    """The same square of PEs, north to south."""
    return PELines(rows.pes.T, SOUTH, NORTH, "columns")


def _exchange(
    canvas: Canvas, lines: PELines, of: Ring, forward: np.ndarray, elements: int, sent: Int64, there: Int64
) -> None:
    """Each position's `sent` sends to its neighbour's `there`, both [lines, P] flat."""
    if of.size == 1:
        return
    position = np.arange(of.size)
    target = np.where(forward[:, None], of.next(), of.next(forward=False))
    hops = np.abs(target - position).ravel()
    direction = np.where(target > position, lines.forward, lines.backward).ravel()
    colour = first_colour(lines.kind) + ring_colour(of.place, target < position).ravel()
    messages = canvas.builder.messages(sent, direction, hops, canvas.wavelets(elements), colour=colour)
    receivers = np.take_along_axis(there.reshape(target.shape), target, axis=1)
    canvas.builder.drops(messages, hops, receivers.ravel())
