"""The least that a stage costs on any block of some shapes, by operator.

Operations count as with the shares of the largest shape, collectives with these shares on the lines of the smallest:
larger blocks have smaller shares, shorter lines are faster. Each kernel has its fastest form. Routes change where they
do between the kernels whose forms all communicate: others in between change them no less often.
"""

from __future__ import annotations

import dataclasses

from wsesim.program.kernels import DECODE, Embed, Kernel, Sample
from wsesim.program.parts import Block
from wsesim.software import Form
from wsesim.software.form import ALL_REDUCE, parse_step, size_value
from wsesim_compiler.options import AUTO, SOFTMAXES, ByPhase
from wsesim_compiler.partition import Stage
from wsesim_compiler.placement.price import line_use
from wsesim_compiler.placement.stage_kernels import stage_kernels
from wsesim_compiler.search.prices import Prices, Size, changes_between

ROUTES, TRANSFER = "route changes", "transfer"


def least_by_operator(prices: Prices, stage: Stage, small: Size, large: Size) -> dict[str, int]:
    """Cycles of each operator of the stage on any block from `small` to `large`, with the better softmax."""
    softmaxes = SOFTMAXES if prices.options.softmax == AUTO else (prices.options.softmax,)
    found = (_with_softmax(prices, stage, small, large, softmax) for softmax in softmaxes)
    return min(found, key=lambda by_operator: sum(by_operator.values()))


def _with_softmax(prices: Prices, stage: Stage, small: Size, large: Size, softmax: str) -> dict[str, int]:
    block, lines = Block("block", 0, 0, *large, "rows"), Block("block", 0, 0, *small, "rows")
    options, software = dataclasses.replace(prices.options, softmax=softmax), prices.options.software
    asked = ByPhase(options.collective, options.collective)
    found: dict[str, int] = {}
    kinds: list[str] = []
    for kernel in stage_kernels(prices.partition, stage, block, options, lambda name: asked):
        if isinstance(kernel, Embed | Sample):
            continue
        forms = software.forms_of(type(kernel).__name__)
        found[kernel.role] = min(_form_cycles(prices, form, kernel, block, lines) for form in forms)
        if kernel.lines and all(form.communicates for form in forms):
            kinds.append(kernel.lines)
    return found | {ROUTES: changes_between(kinds) * software.change_cycles(prices.machine)}


def _form_cycles(prices: Prices, form: Form, kernel: Kernel, block: Block, lines: Block) -> int:
    """A form's operations on a block, and its collectives on the lines of another."""
    positions = kernel.cache.positions(prices.context, block.along) if kernel.cache else 0
    tokens = prices.options.batch if prices.phase == DECODE else prices.chunk
    sizes = {"norms": 0, "residual_width": 0} | kernel.sizes(tokens, positions)
    own = prices.form_cycles(form, sizes, tuple(output.layout.width for output in getattr(kernel, "outputs", ())))
    for step in map(parse_step, form.steps):
        elements = size_value(step.elements, sizes) if step.name == ALL_REDUCE else 0
        use = line_use(kernel, lines, elements, step.dtype or prices.options.timing_dtype)
        if use:
            own += prices.collective_cycles(dataclasses.replace(use, used=min(use.used, use.length)))
    return own
