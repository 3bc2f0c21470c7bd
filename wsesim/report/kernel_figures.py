"""Time and SRAM of every kernel and of every move between blocks: one row each, which tables group as they like.

The cycles of all rows sum to those of the step. The bytes of all rows and the buffers sum to those of the placement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from wsesim.engine.observe.path import PathStep
from wsesim.engine.steps.timing import Step
from wsesim.machine.parts import dtype_bytes
from wsesim.program.kernels import Embed, Kernel
from wsesim.program.operands import WeightRef
from wsesim.program.program import Program
from wsesim.program.written import form_of
from wsesim.report.figures import KINDS
from wsesim.report.padding import needed_by_kernel
from wsesim.report.stretches import operator_named


@dataclass(frozen=True, slots=True)
class KernelFigures:
    """One kernel, or one move between blocks, in one step.

    `cycles`: on the critical path, in the order of KINDS. `weight_bytes` and `kv_bytes`: on the fullest PE of `block`;
    a weight that two kernels of a block share counts for the first. `multiply_adds`: those that the model needs, on all
    PEs together. `form` and `collective` are "" if the software has no choice. A move has no `block` of its own.
    """

    name: str
    operator: str
    stage: str
    block: str
    cycles: tuple[int, ...]
    weight_bytes: int = 0
    kv_bytes: int = 0
    multiply_adds: int = 0
    form: str = ""
    collective: str = ""


def kernel_figures(program: Program, step: Step, path: Iterable[PathStep]) -> tuple[KernelFigures, ...]:
    """The kernels in their order, then the moves in the order in which the path takes them."""
    cycles: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
    for one in path:
        cycles[one.segment, operator_named(one.segment, one.label)][one.kind] += one.cycles
    phase = program.in_phase(step.phase)
    seen: dict[str, set[WeightRef]] = defaultdict(set)
    needed = iter(needed_by_kernel(program, step))
    rows = []
    for stage in phase.stages:
        for kernel in phase.kernels_in(stage):
            own = cycles.pop((stage.name, kernel.role), {})
            weights, kv = _bytes(program, kernel, seen[stage.block])
            form, collective = _written(phase, kernel)
            rows.append(
                KernelFigures(
                    kernel.name, kernel.role, stage.name, stage.block, tuple(own.get(kind, 0) for kind in KINDS),
                    weights, kv, next(needed), form, collective,
                )
            )  # fmt: skip
    moves = (KernelFigures(s, name, s, "", tuple(own.values())) for (s, name), own in cycles.items())
    return (*rows, *moves)


def _bytes(program: Program, kernel: Kernel, seen: set[WeightRef]) -> tuple[int, int]:
    """Bytes of weights and of KV cache on the fullest PE. `seen`: weights of the block that were counted before."""
    tiles = [tile for tile in kernel.tiles if tile.weight not in seen]
    seen.update(tile.weight for tile in tiles)
    weights = sum(tile.elements for tile in tiles) * dtype_bytes(program.timing_dtype)
    if kernel.cache is None:
        return weights, 0
    along = program.block(kernel.block).along
    positions = kernel.cache.stored_positions(program.max_context, along, program.prefill_chunk) * program.sequences
    return weights, positions * kernel.kv_width * dtype_bytes(kernel.cache.stored(program.timing_dtype))


def _written(program: Program, kernel: Kernel) -> tuple[str, str]:
    """The names of a kernel's form and of its collective."""
    several = not isinstance(kernel, Embed) and len(program.software.forms_of(type(kernel).__name__)) > 1
    return form_of(kernel, program.software).name if several else "", str(getattr(kernel, "reduce", ""))
