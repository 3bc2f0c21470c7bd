"""choose: Placement -> Placement with one collective for every kernel; "auto" ends here.

Contract: kernels whose lines go along one axis of a block take one algorithm, since a PE holds the routes of one at a
time and the engine charges a change of axis only; which of them stream is each kernel's own. Of all algorithms the one
whose cycles, asked from the engine for every kernel of a decode step, sum to the least; the first of equals. A kernel
whose collective the options name has that one. Raises UnknownNameError for a name of no such kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import groupby

from wsesim.errors import UnknownNameError
from wsesim.program.collectives import ALGORITHMS, STREAMED
from wsesim.program.kernels import FlashSum, Kernel, Linear, QKNorm, RMSNorm, Sample, Score, Softmax, WeightedSum
from wsesim.program.program import Block
from wsesim.program.protocols import CostOracle, LineUse
from wsesim_compiler.options import AUTO, PlacedBlock
from wsesim_compiler.passes.probe import TYPICAL_CONTEXT
from wsesim_compiler.placement import Placement

CANDIDATE_ELEMENTS = 3  # a value and a 32-bit id, in elements of fp16


def choose(placement: Placement, cost: CostOracle) -> Placement:
    """Writes down the collective of each kernel that has one."""
    chosen: dict[str, str] = {}
    for placed in placement.blocks:
        chosen |= _on_block(placement, placed, cost)
    for kernel, collective in placement.options.collectives:
        if kernel not in chosen:
            raise UnknownNameError("kernel with a collective", kernel, chosen)
        chosen[kernel] = collective if collective != AUTO else chosen[kernel]
    return dataclasses.replace(placement, collectives=tuple(chosen.items()))


def _on_block(placement: Placement, placed: PlacedBlock, cost: CostOracle) -> dict[str, str]:
    """Collectives by kernel, in the kernels' order."""
    reducing = [k for k in placement.kernels_on(placed) if hasattr(k, "reduce")]
    if placement.options.collective != AUTO:
        return {k.name: placement.options.collective for k in reducing}
    found: dict[str, str] = {}
    for _, kernels in groupby(sorted(reducing, key=_axis), key=_axis):
        found |= _on_axis(placement, placed.block, tuple(kernels), cost)
    return {k.name: found[k.name] for k in reducing}


def _on_axis(placement: Placement, block: Block, kernels: Iterable[Kernel], cost: CostOracle) -> dict[str, str]:
    """The algorithm with the lowest sum over these kernels."""
    uses = {k: line_use(k, block, placement) for k in kernels}

    def cycles(kernel: Kernel, collective: str) -> int:
        return cost.collective_cycles(placement.machine, uses[kernel], collective)

    def best(algorithm: str) -> Mapping[Kernel, str]:
        return {k: min(_stagings(k, algorithm), key=lambda staging: cycles(k, staging)) for k in uses}

    candidates = [best(algorithm) for algorithm in ALGORITHMS]
    taken = min(candidates, key=lambda choice: sum(cycles(k, collective) for k, collective in choice.items()))
    return {k.name: collective for k, collective in taken.items()}


def _stagings(kernel: Kernel, algorithm: str) -> tuple[str, ...]:
    """A list of candidates leaves a PE when it is merged: it cannot be streamed."""
    return (algorithm,) if isinstance(kernel, Sample) else (algorithm, STREAMED + algorithm)


def _axis(kernel: Kernel) -> str:
    """The lines that a kernel's collective goes over: those of one name share their routes."""
    match kernel:
        case Linear():
            return kernel.axis
        case Sample():
            return "across"
        case Score() | QKNorm():
            return "segment"
        case _:
            return "along"


def line_use(kernel: Kernel, block: Block, placement: Placement) -> LineUse:
    """The kernel's collective in a decode step, over a typical context."""
    dtype = placement.options.timing_dtype
    match kernel:
        case RMSNorm():
            return LineUse(block.along, kernel.layout.used, 1, dtype, everybody=True)
        case Linear():
            length = block.along if kernel.axis == "along" else block.across
            elements = sum(output.layout.width for output in kernel.outputs)
            return LineUse(length, kernel.layout.used, elements, dtype, kernel.broadcast)
        case Score():
            positions = kernel.cache.positions(min(TYPICAL_CONTEXT, placement.options.max_context), block.along)
            segment, heads = kernel.query_layout.segment, kernel.query_layout.heads
            return LineUse(segment, segment, heads * positions, dtype, everybody=True)
        case QKNorm():
            segment, heads = kernel.layouts[0].segment, sum(layout.heads for layout in kernel.layouts)
            return LineUse(segment, segment, heads, dtype, everybody=True)
        case Softmax():
            return LineUse(block.along, block.along, kernel.layout.heads, dtype, everybody=True)
        case FlashSum():
            elements = kernel.layout.width + kernel.layout.heads
            return LineUse(block.along, block.along, elements, dtype, everybody=True)
        case WeightedSum():
            return LineUse(block.along, block.along, kernel.layout.width, dtype, everybody=True)
        case Sample():
            elements = CANDIDATE_ELEMENTS * kernel.candidates
            return LineUse(block.across, kernel.layout.used, elements, dtype, everybody=False)
        case _:
            raise AssertionError(f"{kernel.name} has no collective")
