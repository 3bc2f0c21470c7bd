"""The cost of the kernels between the projections of attention, as tasks on a Canvas."""

from __future__ import annotations

import numpy as np

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.collective import all_reduce, first_colour
from wsesim.engine.graph.taskgraph import Int64, Operation
from wsesim.program.kernels import ACROSS, ALONG, SEGMENT, FlashSum, QKNorm, Rope, Score, Softmax, WeightedSum
from wsesim.program.kv import SHIFT, KVCache
from wsesim.program.layout import Heads
from wsesim.program.parts import Block


def qk_norm(canvas: Canvas, kernel: QKNorm, block: Block, label: str) -> None:
    """Squares, their sum per head, the sums of all heads over the segment, rsqrt, times the scale and the weight."""
    layout = kernel.layouts[0]
    pes = canvas.grid(block, block.along, max(each.used for each in kernel.layouts))
    heads = canvas.tokens * sum(each.heads for each in kernel.layouts)
    canvas.compute(pes, label, "elementwise", heads * layout.features)
    _per_head(canvas, pes, label, "reduce", layout.features, heads)
    _segment_all_reduce(canvas, layout, block, heads, kernel.reduce, label)
    canvas.compute(pes, label, "rsqrt", heads)
    _per_head(canvas, pes, label, "elementwise", layout.features, heads, 2)


def rope(canvas: Canvas, kernel: Rope, block: Block, label: str) -> None:
    """The angles of the position by angle addition, in fp32: four products a pair. Then for each head and pair four
    products, a difference and a sum.
    """
    layout = kernel.layouts[0]
    pes = canvas.grid(block, block.along, layout.used)
    canvas.compute(pes, label, "fma", layout.features // 2, 4, dtype="fp32")
    heads = canvas.tokens * sum(each.heads for each in kernel.layouts)
    _per_head(canvas, pes, label, "elementwise", layout.features // 2, heads, 6)


def score(canvas: Canvas, kernel: Score, block: Block, context: int, label: str) -> None:
    """Append K (masked on all lines but one), the partial dot products of all positions, their sum over the head's
    segment, the scale.
    """
    layout, positions = kernel.query_layout, kernel.cache.positions(context, block.along)
    pes = canvas.grid(block, block.along, layout.used)
    elements = canvas.tokens * layout.heads * positions
    _append(canvas, pes, kernel.cache, kernel.key_layout, label)
    _multiply(canvas, pes, label, canvas.tokens * layout.heads, positions, layout.features)
    _segment_all_reduce(canvas, layout, block, elements, kernel.reduce, label)
    canvas.compute(pes, label, "elementwise", elements)


def softmax(canvas: Canvas, kernel: Softmax, block: Block, context: int, label: str) -> None:
    """Passes over the scores: maximum, exponential, sum, quotient; maximum and sum also over the lines."""
    layout = kernel.layout
    heads = canvas.tokens * layout.heads
    pes = canvas.grid(block, block.along, layout.used)
    lines = canvas.lines(block, ALONG, layout.used)
    positions = kernel.cache.positions(context, block.along)
    _per_head(canvas, pes, label, "reduce", positions, heads)
    all_reduce(canvas, lines, block.along, heads, kernel.reduce, label)
    _exponentials(canvas, pes, positions, heads, label)
    all_reduce(canvas, lines, block.along, heads, kernel.reduce, label)
    canvas.compute(pes, label, "divide", heads)
    _per_head(canvas, pes, label, "elementwise", positions, heads)


def weighted_sum(canvas: Canvas, kernel: WeightedSum, block: Block, context: int, label: str) -> None:
    """Append V, the partial sums over the line's own positions, their sum over the lines."""
    layout, positions = kernel.layout, kernel.cache.positions(context, block.along)
    pes = canvas.grid(block, block.along, layout.used)
    lines = canvas.lines(block, ALONG, layout.used)
    _append(canvas, pes, kernel.cache, kernel.value_layout, label)
    _multiply(canvas, pes, label, canvas.tokens * layout.heads, layout.features, positions)
    all_reduce(canvas, lines, block.along, canvas.tokens * layout.width, kernel.reduce, label)
    _pass_up(canvas, lines, kernel.cache, kernel.value_layout, label)


def flash_sum(canvas: Canvas, kernel: FlashSum, block: Block, context: int, label: str) -> None:
    """One scan: append V, then the maximum, exponentials, sum and weighted sum of each line's positions. Then the
    maximum over the lines, the scale of each head, one AllReduce of sums and weighted sums, and their quotient.
    """
    layout, positions = kernel.layout, kernel.cache.positions(context, block.along)
    pes = canvas.grid(block, block.along, layout.used)
    lines = canvas.lines(block, ALONG, layout.used)
    heads = canvas.tokens * layout.heads
    _append(canvas, pes, kernel.cache, kernel.value_layout, label)
    _per_head(canvas, pes, label, "reduce", positions, heads)
    _exponentials(canvas, pes, positions, heads, label)
    _multiply(canvas, pes, label, heads, layout.features, positions)
    all_reduce(canvas, lines, block.along, heads, kernel.reduce, label)
    canvas.compute(pes, label, "elementwise", heads)
    canvas.compute(pes, label, "exp", heads)
    _per_head(canvas, pes, label, "elementwise", layout.features + 1, heads)
    all_reduce(canvas, lines, block.along, heads * (layout.features + 1), kernel.reduce, label)
    canvas.compute(pes, label, "divide", heads)
    _per_head(canvas, pes, label, "elementwise", layout.features, heads)
    _pass_up(canvas, lines, kernel.cache, kernel.value_layout, label)


def _append(canvas: Canvas, pes: Int64, cache: KVCache, layout: Heads, label: str) -> None:
    """A copy on every line, masked on all lines but the one of the position."""
    dtype = cache.stored(canvas.dtype)
    canvas.compute(pes, label, "copy", canvas.tokens * layout.width, dtype=dtype)


def _pass_up(canvas: Canvas, lines: PELines, cache: KVCache, layout: Heads, label: str) -> None:
    """If the cache shifts, every PE sends its oldest K and V of each new token to the line before. All do so at once,
    on the routes of the sum.
    """
    if cache.policy != SHIFT or lines.length == 1 or not lines.pes.size:
        return
    elements = canvas.tokens * 2 * layout.width
    dtype = cache.stored(canvas.dtype)
    wavelets = canvas.machine.wavelets(elements, dtype)
    sent = canvas.send(lines.pes[:, 1:], label, elements, dtype=dtype)
    received = canvas.receive(lines.pes[:, :-1], label, elements, canvas.machine.activate_cycles)
    colour = first_colour(lines.kind) + np.arange(1, lines.length) % 2
    messages = canvas.builder.messages(
        sent, lines.backward, 1, wavelets, colour=np.broadcast_to(colour, (lines.count, lines.length - 1)).ravel()
    )
    canvas.builder.drops(messages, 1, received)


def _segment_all_reduce(canvas: Canvas, layout: Heads, block: Block, elements: int, algorithm: str, label: str) -> None:
    """Sum over the positions of each head; nothing if a head lies on one position."""
    if layout.segment == 1:
        return
    rows = canvas.lines(block, ACROSS, block.along)
    segments = rows.pes[:, : layout.used].reshape(-1, layout.segment)
    lines = PELines(segments, rows.forward, rows.backward, SEGMENT)
    all_reduce(canvas, lines, layout.segment, elements, algorithm, label)


def _multiply(canvas: Canvas, pes: Int64, label: str, heads: int, rows: int, columns: int) -> None:
    """[rows x columns] times a vector for each head, from zeros on: one vector operation per column or per row, the
    cheaper of both.
    """
    canvas.compute(pes, label, "copy", heads * rows)
    around = heads * canvas.machine.loop_cycles if heads > 1 else 0
    by_column = Operation(label, "fma", rows, heads * columns, canvas.dtype, around)
    by_row = Operation(label, "fma", columns, heads * rows, canvas.dtype, around)
    cheaper = min(by_column, by_row, key=lambda operation: operation.work_cycles(canvas.machine))
    canvas.task(pes, cheaper, canvas.machine.op("fma").launch)


def _exponentials(canvas: Canvas, pes: Int64, positions: int, heads: int, label: str) -> None:
    """For each head's scores: subtract the maximum, take exponentials, sum them."""
    _per_head(canvas, pes, label, "elementwise", positions, heads)
    canvas.compute(pes, label, "exp", heads * positions)
    _per_head(canvas, pes, label, "reduce", positions, heads)


def _per_head(canvas: Canvas, pes: Int64, label: str, op: str, elements: int, heads: int, each: int = 1) -> None:
    """A vector operation with a scalar of its own for each head: a loop over the heads if there are several."""
    if heads > 1:
        canvas.loop(pes, label, op, elements, heads, each)
    else:
        canvas.compute(pes, label, op, elements, each)
