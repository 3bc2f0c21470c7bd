"""Closed-form estimates, by which `place` ranks block shapes. The engine simulates every reported cycle.

A collective costs its deepest path without contention, a kernel its vector operations. Some operations are left out:
an RMSNorm costs neither its squares nor its reciprocal root here, so its estimate is too low by two launches. Counting
them moves the embedding's block of the smallest model by one row, and no other placement; the simpler sum stays.
`tests/test_estimate.py` compares the ranking with the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from wsesim.machine import Machine
from wsesim.program.collectives import reduction
from wsesim.program.kernels import (
    Add,
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
from wsesim.program.parts import Block

RECEIVED = {"chain": 1, "two_phase": 4, "tree": 9}
"""The collectives that the estimate weighs, and how many sums the busiest PE of each receives.

A chain's PE receives one. The middle of a two-phase line receives two of its group and two of other groups. The root of
a tree receives log2 of the line's length: 9 for 257 to 512 PEs. Shorter lines are priced alike, a little too high.
"""


def collective_cycles(machine: Machine, dtype: str, length: int, elements: int, algorithm: str) -> int:
    """AllReduce of `elements` over a line of `length` PEs, stored or streamed, whichever is shorter."""
    if length < 2:
        return 0
    stream = -(
        -machine.wavelets(elements, dtype) * machine.fabric.wavelet_numerator // machine.fabric.wavelet_denominator
    )
    fabric = machine.fabric
    ramps = fabric.ramp_send_cycles + fabric.ramp_receive_cycles
    stored, streamed = machine.activate_cycles + ramps + stream, machine.stream_cycles + ramps
    root = reduction(length, algorithm).root
    back = max(root, length - 1 - root) * fabric.hop_cycles
    return back + min(
        _depth(length, algorithm, stored, fabric.hop_cycles) + stored,
        _depth(length, algorithm, streamed, fabric.hop_cycles) + RECEIVED[algorithm] * stream + streamed + stream,
    )


@lru_cache(maxsize=65536)
def _depth(length: int, algorithm: str, stage_cycles: int, hop_cycles: int) -> int:
    """Cycles until the root has all, along the deepest path."""
    plan = reduction(length, algorithm)
    ready = [0] * length
    for merge in plan.merges:
        arrival = ready[merge.source] + stage_cycles + abs(merge.target - merge.source) * hop_cycles
        ready[merge.target] = max(ready[merge.target] + 1, arrival)
    return ready[plan.root]


def stage_cycles(machine: Machine, dtype: str, block: Block, kernels: Iterable[Kernel], context: int) -> int:
    """One token through the kernels of a stage, with `context` tokens cached."""
    return sum(_kernel_cycles(machine, dtype, block, kernel, context) for kernel in kernels)


def _kernel_cycles(machine: Machine, dtype: str, block: Block, kernel: Kernel, context: int) -> int:
    def op(name: str, elements: int, repeats: int = 1) -> int:
        cost = machine.op(name)
        return cost.launch + cost.work_cycles(elements, repeats, dtype)

    def line(length: int, elements: int) -> int:
        return machine.reroute_cycles // 2 + min(
            collective_cycles(machine, dtype, length, elements, a) for a in RECEIVED
        )

    match kernel:
        case RMSNorm():
            return (
                op("reduce", kernel.layout.width)
                + line(kernel.layout.used, 1)
                + op("elementwise", kernel.layout.width, 2)
            )
        case Linear():
            width = sum(o.layout.width for o in kernel.outputs)
            biases = sum(op("elementwise", o.layout.width) for o in kernel.outputs if o.bias is not None)
            return op("fma", width, kernel.layout.width) + line(kernel.layout.used, width) + biases
        case QKNorm():
            heads = sum(layout.heads for layout in kernel.layouts)
            layout = kernel.layouts[0]
            work = op("reduce", layout.features, heads) + op("rsqrt", heads) + op("elementwise", layout.features, heads)
            return work + op("elementwise", heads * layout.features) + line(layout.segment, heads)
        case Rope():
            return op("elementwise", sum(layout.width for layout in kernel.layouts), 3)
        case Score():
            heads, positions = kernel.query_layout.heads, kernel.cache.positions(context, block.along)
            work = op("fma", positions, kernel.query_layout.width)
            return work + line(kernel.query_layout.segment, heads * positions)
        case Softmax():
            heads, positions = kernel.layout.heads, kernel.cache.positions(context, block.along)
            return op("exp", heads * positions) + 2 * (op("reduce", heads * positions) + line(block.along, heads))
        case WeightedSum():
            heads, positions = kernel.layout.heads, kernel.cache.positions(context, block.along)
            return op("fma", kernel.layout.features, positions * heads) + line(block.along, kernel.layout.width)
        case FlashSum():
            layout, positions = kernel.layout, kernel.cache.positions(context, block.along)
            scores, features = layout.heads * positions, layout.features
            scan = op("exp", scores) + 2 * op("reduce", scores) + op("fma", features, positions * layout.heads)
            return scan + line(block.along, layout.heads) + line(block.along, layout.width + layout.heads)
        case SwiGLU():
            return op("exp", kernel.layout.width, 2) + op("elementwise", kernel.layout.width, 2)
        case Add():
            return op("elementwise", kernel.layout.width)
        case Sample():
            return op("compare", kernel.layout.width) + line(kernel.layout.used, 3)
        case _:
            return op("copy", kernel.layout.width)
