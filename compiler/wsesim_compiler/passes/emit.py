"""emit: a whole Placement -> Program."""

from __future__ import annotations

from wsesim.program.kernels import Embed, Kernel
from wsesim.program.parts import HEAD, SAMPLE, Stage
from wsesim.program.program import Program
from wsesim_compiler.placement.placement import Placement


def emit(placement: Placement) -> Program:
    """Kernels of all stages in order, with the blocks, transfers, colours and memory map of the placement."""
    kernels, stages = _staged(placement)
    embed = kernels[0]
    assert isinstance(embed, Embed) and placement.feedback is not None
    return Program(
        model=placement.partition.graph.name,
        strategy=placement.options.strategy,
        machine=placement.machine,
        max_context=placement.options.max_context,
        sequences=placement.options.sequences,
        timing_dtype=placement.options.timing_dtype,
        prefill_chunk=placement.prefill_chunk,
        vocabulary=embed.vocabulary.size,
        dimension=embed.layout.size,
        blocks=tuple(p.block for p in placement.blocks),
        kernels=kernels,
        stages=stages,
        transfers=placement.transfers,
        feedback=placement.feedback,
        colours=placement.colours,
        memory=placement.memory,
        batch=placement.options.batch,
        software=placement.options.software,
    )


def _staged(placement: Placement) -> tuple[tuple[Kernel, ...], tuple[Stage, ...]]:
    """All kernels in order, and the stages that hold them. The draw becomes a stage of its own."""
    kernels: list[Kernel] = []
    stages: list[Stage] = []
    for stage in placement.partition.stages:
        block, own = placement.block_of(stage.name).name, placement.kernels_of(stage)
        cut = [(stage.name, stage.kind, own)]
        if stage.kind == HEAD:
            cut = [(stage.name, HEAD, own[:-1]), (SAMPLE, SAMPLE, own[-1:])]
        for name, kind, part in cut:
            stages.append(Stage(name, kind, stage.layer, block, len(kernels), len(kernels) + len(part)))
            kernels += part
    return tuple(kernels), tuple(stages)
