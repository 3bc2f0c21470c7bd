"""emit: a whole Placement -> Program."""

from __future__ import annotations

from wsesim.program.kernels import Embed
from wsesim.program.program import Program
from wsesim_compiler.placement.placement import Placement


def emit(placement: Placement) -> Program:
    """Kernels of all stages in order, with the blocks, transfers, colours and memory map of the placement."""
    kernels = tuple(k for stage in placement.partition.stages for k in placement.kernels_of(stage))
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
        transfers=placement.transfers,
        feedback=placement.feedback,
        colours=placement.colours,
        memory=placement.memory,
        batch=placement.options.batch,
    )
