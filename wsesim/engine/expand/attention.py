"""What the kernels between the projections of attention cost, as tasks on a Canvas."""

from __future__ import annotations

from wsesim.engine.expand.canvas import Canvas, Lines
from wsesim.engine.expand.collective import all_reduce
from wsesim.program.kernels import ACROSS, QKNorm
from wsesim.program.layout import Heads
from wsesim.program.program import Block


def qk_norm(canvas: Canvas, kernel: QKNorm, block: Block, label: str) -> None:
    """Squares and their sum per head, the sums of all heads over the segment, rsqrt, times the scale and the weight."""
    layout = kernel.layouts[0]
    pes = canvas.grid(block, block.along, max(each.used for each in kernel.layouts))
    heads = canvas.tokens * sum(each.heads for each in kernel.layouts)
    canvas.compute(pes, label, "reduce", layout.features, heads)
    segment_all_reduce(canvas, layout, block, heads, kernel.reduce, label)
    canvas.compute(pes, label, "rsqrt", heads)
    canvas.compute(pes, label, "elementwise", layout.features, 2 * heads)


def segment_all_reduce(canvas: Canvas, layout: Heads, block: Block, elements: int, algorithm: str, label: str) -> None:
    """Sum over the positions of each head; nothing where a head lies on one."""
    if layout.segment == 1:
        return
    rows = canvas.lines(block, ACROSS, block.along)
    segments = rows.pes[:, : layout.used].reshape(-1, layout.segment)
    lines = Lines(segments, rows.forward, rows.backward, "segment")
    all_reduce(canvas, lines, layout.segment, elements, algorithm, label)
