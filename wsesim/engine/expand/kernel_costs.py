"""The cost of each kernel: its vector operations on every PE and its collectives, as tasks on a Canvas.

All PEs run one program, so every PE does as much as the fullest one: padding costs cycles too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from wsesim.engine.expand import attention
from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.collective import EMBED_COLOUR, Combine, adding, all_reduce, broadcast, reduce, routes_name
from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    Add,
    Embed,
    FlashSum,
    Kernel,
    Linear,
    QKNorm,
    RMSNorm,
    Rope,
    Sample,
    Score,
    Softmax,
    SwiGLU,
    WeightedSum,
)
from wsesim.program.operands import CANDIDATE_ELEMENTS, ID_ELEMENTS
from wsesim.program.parts import Block

ID_COLOUR, ROW_COLOUR = EMBED_COLOUR, EMBED_COLOUR + 1


@dataclass(frozen=True, slots=True)
class Site:
    """Where and when a kernel runs: its block, the context after the step, the draw's candidates, the id's entry."""

    block: Block
    context: int
    candidates: int
    entry: tuple[int, int]  # (along, across) of the PE that the id reaches first
    logits_root: int  # along: where the logits are summed


@dataclass(frozen=True, slots=True)
class Part:
    """The tasks of a kernel whose collectives go along one `axis`; None if they have no collective."""

    axis: str | None
    draw: Callable[[Canvas, Site], None]


def parts(kernel: Kernel) -> tuple[Part, ...]:
    """A kernel as its parts, in order; all collectives of one part go along one axis."""
    if isinstance(kernel, Embed):
        label = kernel.role
        return tuple(Part(axis, partial(draw, kernel=kernel, label=label)) for axis, draw in _EMBED)
    kind = kernel.lines
    axis = ALONG if kind == ALONG else ACROSS if kind else None
    return (Part(axis, partial(_draw, kernel=kernel)),)


def expand_kernel(canvas: Canvas, kernel: Kernel, where: Site) -> None:
    """Appends the kernel's tasks."""
    for part in parts(kernel):
        part.draw(canvas, where)


def _draw(canvas: Canvas, where: Site, kernel: Kernel) -> None:
    label = kernel.role
    match kernel:
        case RMSNorm():
            _rmsnorm(canvas, kernel, where, label)
        case Linear():
            _linear(canvas, kernel, where, label)
        case QKNorm():
            attention.qk_norm(canvas, kernel, where.block, label)
        case Rope():
            attention.rope(canvas, kernel, where.block, label)
        case Score():
            attention.score(canvas, kernel, where.block, where.context, label)
        case Softmax():
            attention.softmax(canvas, kernel, where.block, where.context, label)
        case WeightedSum():
            attention.weighted_sum(canvas, kernel, where.block, where.context, label)
        case FlashSum():
            attention.flash_sum(canvas, kernel, where.block, where.context, label)
        case SwiGLU():
            _swiglu(canvas, kernel, where, label)
        case Add():
            pes = canvas.grid(where.block, kernel.layout.used, where.block.across)
            canvas.compute(pes, label, "elementwise", canvas.tokens * kernel.layout.width)
        case Sample():
            _sample(canvas, kernel, where, label)


def routes_of(kernel: Kernel) -> str:
    """The routes that the kernel leaves in place, as `Canvas.configured` names them; "" if it needs none."""
    kind = kernel.lines
    return routes_name(kind, str(getattr(kernel, "reduce", ""))) if kind else ""


def _embed_entry(canvas: Canvas, where: Site, kernel: Embed, label: str) -> None:
    """The id goes along the entry's line."""
    line = canvas.line(where.block, ACROSS, where.entry[0])
    broadcast(canvas, line, where.entry[1], canvas.tokens * ID_ELEMENTS, label, colour=ID_COLOUR)


def _embed_spread(canvas: Canvas, where: Site, kernel: Embed, label: str) -> None:
    """From there to every PE."""
    lines = canvas.lines(where.block, ALONG, where.block.across)
    broadcast(canvas, lines, where.entry[0], canvas.tokens * ID_ELEMENTS, label, colour=ID_COLOUR)


def _embed_row(canvas: Canvas, where: Site, kernel: Embed, label: str) -> None:
    """The owner of the id's row sends it to its line.

    Which position owns the row depends on the id; the last one is taken, so that cycles do not depend on the text.
    Another owner is nearer to the next kernel's PEs, or farther from them, by up to the block's width in hops.
    """
    owner, elements = kernel.vocabulary.used - 1, canvas.tokens * kernel.layout.width
    lines = canvas.lines(where.block, ACROSS, kernel.layout.used)
    canvas.compute(lines.pes[:, owner], label, "copy", elements)
    broadcast(canvas, lines, owner, elements, label, colour=ROW_COLOUR)


_EMBED = ((ACROSS, _embed_entry), (ALONG, _embed_spread), (ACROSS, _embed_row))


def _rmsnorm(canvas: Canvas, kernel: RMSNorm, where: Site, label: str) -> None:
    block, width = where.block, canvas.tokens * kernel.layout.width
    pes = canvas.grid(block, kernel.layout.used, block.across)
    canvas.compute(pes, label, "elementwise", width)  # squares
    canvas.compute(pes, label, "reduce", width)
    lines = canvas.lines(block, ALONG, block.across)
    all_reduce(canvas, lines, kernel.layout.used, canvas.tokens, kernel.reduce, label)
    canvas.compute(pes, label, "rsqrt", canvas.tokens)
    canvas.compute(pes, label, "elementwise", width, 2)  # times the scale, times the weight


def _linear(canvas: Canvas, kernel: Linear, where: Site, label: str) -> None:
    """For each output: zeros, then y += W[:, k] x[k] for each k of the tile, as one vector operation each. The partial
    sums of all outputs together. Then each bias, wherever the sums are.
    """
    block, inputs = where.block, kernel.layout
    width = sum(output.layout.width for output in kernel.outputs)
    used = max(output.layout.used for output in kernel.outputs)
    along = kernel.axis == ALONG
    pes = canvas.grid(block, inputs.used, used) if along else canvas.grid(block, used, inputs.used)
    for output in kernel.outputs:
        canvas.compute(pes, label, "copy", canvas.tokens * output.layout.width)
        canvas.compute(pes, label, "fma", output.layout.width, canvas.tokens * inputs.width)
    lines = canvas.lines(block, kernel.axis, used)
    elements = canvas.tokens * width
    if kernel.broadcast:
        all_reduce(canvas, lines, inputs.used, elements, kernel.reduce, label)
        summed = lines.pes
    else:
        root = reduce(canvas, lines, inputs.used, adding(elements), kernel.reduce, label)
        summed = lines.pes[:, root]
    for output in kernel.outputs:
        if output.bias is not None:
            canvas.compute(summed, label, "elementwise", canvas.tokens * output.layout.width)


def _swiglu(canvas: Canvas, kernel: SwiGLU, where: Site, label: str) -> None:
    """An exponential, a reciprocal (a polynomial of the same length), and two products."""
    pes = canvas.grid(where.block, where.block.along, kernel.layout.used)
    elements = canvas.tokens * kernel.layout.width
    canvas.compute(pes, label, "exp", elements, 2)
    canvas.compute(pes, label, "elementwise", elements, 2)


def _sample(canvas: Canvas, kernel: Sample, where: Site, label: str) -> None:
    """On the line where the logits are summed: each PE's best candidates, merged to the root, and the draw there."""
    kept = min(where.candidates, kernel.candidates)
    line = canvas.line(where.block, ACROSS, where.logits_root)
    pes = line.pes[:, : kernel.layout.used]
    passes = max(1, (kept - 1).bit_length() + 1)
    logits, lists = canvas.tokens * kernel.layout.width, canvas.tokens * kept
    canvas.compute(pes, label, "compare", logits, passes)
    if kept > 1:
        canvas.compute(pes, label, "exp", logits)  # the denominator covers all logits
        canvas.compute(pes, label, "reduce", logits)
    merging = Combine("compare", lists, CANDIDATE_ELEMENTS * lists, False, canvas.machine.op("compare").launch)
    root = reduce(canvas, line, kernel.layout.used, merging, kernel.reduce, label)
    if kept > 1:
        canvas.compute(line.pes[:, root], label, "exp", lists)
        canvas.compute(line.pes[:, root], label, "reduce", lists, 2)
