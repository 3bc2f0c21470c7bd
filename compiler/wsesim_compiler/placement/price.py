"""Prices of kernels on a block, for the choices of forms and of the prompt's chunk.

A kernel costs its form's operations on one PE, and its collectives on one line, each priced by the engine. They follow
each other, so their sum is the time of the kernels on an idle block, but for launches that overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from wsesim.program.kernels import ACROSS, ALONG, DECODE, SEGMENT, Embed, Kernel
from wsesim.program.parts import Block
from wsesim.program.protocols import CostOracle, LineUse
from wsesim.program.written import form_of, shared_sizes
from wsesim.software.form import ALL_REDUCE, parse_step, size_value
from wsesim_compiler.options import TYPICAL_CONTEXT, TYPICAL_PROMPT
from wsesim_compiler.placement.placement import Placement

REDUCE = "streamed_two_phase"
"""The collective that forms are compared with. Each kernel's own is chosen afterwards."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What some kernels do: the cycles of their operations, and their collectives, which are not priced yet."""

    own_cycles: int
    uses: Counter[LineUse]


def bill(
    kernels: Sequence[Kernel],
    block: Block,
    placement: Placement,
    cost: CostOracle,
    phase: str,
    chunk: int,
    context: int = 0,
) -> Bill:
    """Of kernels that follow each other: in a decode step of a full batch, or in a prompt's `chunk`.

    `context` counts the new tokens; 0 is a typical one of the phase.
    """
    machine, options = placement.machine, placement.options
    typical, tokens = (TYPICAL_CONTEXT, options.batch) if phase == DECODE else (TYPICAL_PROMPT, chunk)
    context = max(tokens, min(context or typical, options.max_context))
    own_cycles, uses = 0, Counter[LineUse]()
    own = [kernel.in_phase(phase) for kernel in kernels]
    for number, kernel in enumerate(own):
        if isinstance(kernel, Embed):
            continue
        positions = kernel.cache.positions(context, block.along) if kernel.cache else 0
        form = form_of(kernel, options.software)
        sizes = shared_sizes(own, number, options.software) | kernel.sizes(tokens, positions)
        outputs = tuple(output.layout.width for output in getattr(kernel, "outputs", ()))
        own_cycles += cost.form_cycles(machine, options.software, form, sizes, outputs, options.timing_dtype)
        for step in map(parse_step, form.steps):
            elements = size_value(step.elements, sizes) if step.name == ALL_REDUCE else 0
            if use := line_use(kernel, block, elements, step.dtype or options.timing_dtype):
                uses[use] += 1
    return Bill(own_cycles, uses)


def paid(bills: Sequence[Bill], placement: Placement, cost: CostOracle) -> list[int]:
    """Cycles of each bill, without the collectives that all of them have. Only what differs is simulated."""
    common = reduce(lambda one, other: one & other, (b.uses for b in bills))

    def cycles(use: LineUse) -> int:
        return cost.collective_cycles(placement.machine, placement.options.software, use, REDUCE)

    return [b.own_cycles + sum(count * cycles(use) for use, count in (b.uses - common).items()) for b in bills]


def line_use(kernel: Kernel, block: Block, elements: int, dtype: str) -> LineUse | None:
    """The kernel's collective on `elements` elements of each PE of one of its lines; None where nothing is sent."""
    summed = kernel.collective(0)
    if summed is None or not kernel.lines or not elements:
        return None
    whole = {ALONG: block.along, ACROSS: block.across, SEGMENT: summed.used}[kernel.lines] or 1
    return LineUse(whole, summed.used or whole, elements, dtype, summed.everybody)
