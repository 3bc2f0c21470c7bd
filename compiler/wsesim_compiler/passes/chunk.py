"""chunk: Placement -> Placement with the number of a prompt's tokens that go through a block together.

Contract: the option decides. Without one, the chunk is 1 if the layers have several blocks, else the largest of CHUNKS
whose buffers fit; `place` guarantees that 1 fits. This pass comes before `choose`, because collectives depend on the
chunk, and buffers do not depend on collectives.
"""

from __future__ import annotations

import dataclasses

from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.placement import Placement

CHUNKS = (8, 4, 2, 1)


def chunk(placement: Placement) -> Placement:
    """The placement with its `prefill_chunk`."""
    options = placement.options
    layers = {stage.name for stage in placement.partition.stages if stage.layer is not None}
    alone = len([p for p in placement.blocks if layers & set(p.stages)]) == 1
    wanted = (options.prefill_chunk,) if options.prefill_chunk else CHUNKS if alone else (1,)
    kernels = [(p.block, placement.kernels_on(p)) for p in placement.blocks]
    for tokens in wanted:
        memory = [block_memory(block, own, options, tokens) for block, own in kernels]
        if all(m.total_bytes <= placement.machine.room_bytes for m in memory):
            return dataclasses.replace(placement, prefill_chunk=tokens)
    raise AssertionError(f"place left a block over its room: {max(memory, key=lambda m: m.total_bytes)}")
