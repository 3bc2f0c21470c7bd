"""Kernels as tasks: where each lies on its block, and the sizes that its form computes with.

All PEs run one program, so every PE does as much as the fullest one: padding costs cycles too. `forms.py` says what a
step of a form costs. Embed has no form: it is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.collective import (
    EMBED_COLOUR,
    Combine,
    adding,
    all_reduce,
    broadcast,
    first_colour,
    reduce,
    routes_name,
)
from wsesim.engine.expand.forms import Place, draw_steps
from wsesim.engine.graph.taskgraph import Int64
from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    SEGMENT,
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
from wsesim.program.kv import SHIFT, KVCache
from wsesim.program.layout import Heads
from wsesim.program.operands import CANDIDATE_ELEMENTS, ID_ELEMENTS
from wsesim.program.parts import Block
from wsesim.program.written import form_of, shared_sizes
from wsesim.software import Software

ID_COLOUR, ROW_COLOUR = EMBED_COLOUR, EMBED_COLOUR + 1


@dataclass(frozen=True, slots=True)
class Site:
    """Where and when a kernel runs: its block, the context after the step, the draw's candidates, the id's entry."""

    block: Block
    context: int
    candidates: int
    entry: tuple[int, int]  # (along, across) of the PE that the id reaches first
    logits_root: int  # along: where the logits are summed
    software: Software


@dataclass(frozen=True, slots=True)
class Part:
    """The tasks of a kernel whose collectives go along one `axis`; None if they have no collective."""

    axis: str | None
    draw: Callable[[Canvas, Site], None]


def stage_parts(kernels: Sequence[Kernel], software: Software) -> tuple[Part, ...]:
    """The kernels of a stage as their parts, in order; all collectives of one part go along one axis."""
    found: list[Part] = []
    for number, kernel in enumerate(kernels):
        if isinstance(kernel, Embed):
            found += [Part(axis, partial(draw, kernel=kernel, label=kernel.role)) for axis, draw in _EMBED]
            continue
        kind = kernel.lines if _communicates(kernel, software) else ""
        axis = ALONG if kind == ALONG else ACROSS if kind else None
        draw = partial(_draw, kernel=kernel, shared=shared_sizes(kernels, number, software))
        found.append(Part(axis, draw))
    return tuple(found)


def routes_of(kernel: Kernel, software: Software) -> str:
    """The routes that the kernel leaves in place, as `Canvas.configured` names them; "" if it needs none."""
    kind = kernel.lines if _communicates(kernel, software) else ""
    return routes_name(kind, str(getattr(kernel, "reduce", ""))) if kind else ""


def _communicates(kernel: Kernel, software: Software) -> bool:
    """Whether the kernel's form has a collective; Embed and Sample have."""
    return isinstance(kernel, Embed | Sample) or form_of(kernel, software).communicates


def _draw(canvas: Canvas, where: Site, kernel: Kernel, shared: dict[str, int]) -> None:
    """Appends the kernel's tasks: the steps of its form, and what no form decides."""
    if isinstance(kernel, Sample):
        _sample(canvas, kernel, where)
        return
    label, form = kernel.role, form_of(kernel, where.software)
    sizes = shared | _sizes(kernel, canvas, where)
    pes = _pes(canvas, kernel, where.block)
    summed = pes

    def collective(elements: int) -> None:
        nonlocal summed
        lines, used = _lines(canvas, kernel, where.block)
        by = str(getattr(kernel, "reduce", ""))
        if isinstance(kernel, Linear) and not kernel.broadcast:
            root = reduce(canvas, lines, used, adding(elements), by, label)
            summed = lines.pes[:, root]
        else:
            all_reduce(canvas, lines, used, elements, by, label)
            summed = lines.pes

    cache = getattr(kernel, "cache", None)
    stored = cache.stored(canvas.dtype) if isinstance(cache, KVCache) else canvas.dtype
    place = Place(label, pes, collective, stored)
    outputs = kernel.outputs if isinstance(kernel, Linear) else ()
    for output in outputs:
        draw_steps(canvas, form.each_output, sizes | {"output": output.layout.width}, place)
    draw_steps(canvas, form.steps, sizes, place)
    for output in outputs:
        if output.bias is not None:  # wherever the sums are
            canvas.compute(summed, label, "elementwise", canvas.tokens * output.layout.width)
    if isinstance(kernel, WeightedSum | FlashSum):
        lines, _ = _lines(canvas, kernel, where.block)
        _pass_up(canvas, lines, kernel.cache, kernel.value_layout, label)


def _sizes(kernel: Kernel, canvas: Canvas, where: Site) -> dict[str, int]:
    """The integers behind the names in the kernel's form."""
    positions = 0 if kernel.cache is None else kernel.cache.positions(where.context, where.block.along)
    return kernel.sizes(canvas.tokens, positions)


def _pes(canvas: Canvas, kernel: Kernel, block: Block) -> Int64:
    """The PEs that hold part of a kernel."""
    match kernel:
        case RMSNorm() | Add():
            return canvas.grid(block, kernel.layout.used, block.across)
        case Linear():
            inputs, used = kernel.layout.used, max(output.layout.used for output in kernel.outputs)
            return canvas.grid(block, inputs, used) if kernel.axis == ALONG else canvas.grid(block, used, inputs)
        case QKNorm():
            return canvas.grid(block, block.along, max(layout.used for layout in kernel.layouts))
        case Rope():
            return canvas.grid(block, block.along, kernel.layouts[0].used)
        case Score():
            return canvas.grid(block, block.along, kernel.query_layout.used)
        case Softmax() | WeightedSum() | FlashSum() | SwiGLU():
            return canvas.grid(block, block.along, kernel.layout.used)
    raise AssertionError(kernel)


def _lines(canvas: Canvas, kernel: Kernel, block: Block) -> tuple[PELines, int]:
    """The lines of a kernel's collective, and how many PEs of each have a part of the sum."""
    match kernel:
        case RMSNorm():
            return canvas.lines(block, ALONG, block.across), kernel.layout.used
        case Linear():
            used = max(output.layout.used for output in kernel.outputs)
            return canvas.lines(block, kernel.axis, used), kernel.layout.used
        case QKNorm():
            return _segments(canvas, kernel.layouts[0], block)
        case Score():
            return _segments(canvas, kernel.query_layout, block)
        case Softmax() | WeightedSum() | FlashSum():
            return canvas.lines(block, ALONG, kernel.layout.used), block.along
    raise AssertionError(kernel)


def _segments(canvas: Canvas, layout: Heads, block: Block) -> tuple[PELines, int]:
    """Lines over the positions of each head; where a head lies on one position nothing is sent."""
    if layout.segment == 1:
        return PELines(np.empty((0, 1), np.int64), 0, 0, SEGMENT), 1
    rows = canvas.lines(block, ACROSS, block.along)
    segments = rows.pes[:, : layout.used].reshape(-1, layout.segment)
    return PELines(segments, rows.forward, rows.backward, SEGMENT), layout.segment


def _pass_up(canvas: Canvas, lines: PELines, cache: KVCache, layout: Heads, label: str) -> None:
    """Where the cache shifts, every PE sends its oldest K and V of each new token to the line before, all at once and
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
    hops = canvas.hops(lines, np.arange(1, lines.length), np.arange(lines.length - 1)).ravel()
    messages = canvas.builder.messages(
        sent, lines.backward, hops, wavelets, colour=np.broadcast_to(colour, (lines.count, lines.length - 1)).ravel()
    )
    canvas.builder.drops(messages, hops, received)


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


def _sample(canvas: Canvas, kernel: Sample, where: Site) -> None:
    """On the line where the logits are summed: each PE's best candidates, merged to the root, and the draw there."""
    label, form = kernel.role, form_of(kernel, where.software)
    kept = min(where.candidates, kernel.candidates)
    line = canvas.line(where.block, ACROSS, where.logits_root)
    sizes = kernel.drawing(kept, canvas.tokens)
    draw_steps(canvas, form.steps, sizes, Place(label, line.pes[:, : kernel.layout.used], _no_collective, canvas.dtype))
    lists = canvas.tokens * kept
    merging = Combine("compare", lists, CANDIDATE_ELEMENTS * lists, False, canvas.machine.op("compare").launch)
    root = reduce(canvas, line, kernel.layout.used, merging, kernel.reduce, label)
    draw_steps(canvas, form.at_root, sizes, Place(label, line.pes[:, root], _no_collective, canvas.dtype))


def _no_collective(elements: int) -> None:
    raise AssertionError("candidates are merged, not summed")
