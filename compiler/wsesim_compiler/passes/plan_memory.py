"""plan_memory: Placement -> Placement with the bytes of every block's fullest PE and the prefill chunk.

Contract: no PE over its room; `place` has seen to it for the smallest chunk.
"""

from __future__ import annotations

import dataclasses

from wsesim_compiler.memory import block_memory
from wsesim_compiler.placement import Placement

CHUNKS = (8, 4, 2, 1)


def plan_memory(placement: Placement) -> Placement:
    """The memory map; the prefill chunk is the option's, else 1 in a pipeline of blocks, else what fits up to 8."""
    options = placement.options
    alone = len([p for p in placement.blocks if any(s.startswith("layer") for s in p.stages)]) == 1
    wanted = (options.prefill_chunk,) if options.prefill_chunk else CHUNKS if alone else (1,)
    for chunk in wanted:
        memory = tuple(block_memory(p.block, placement.kernels_on(p), options, chunk) for p in placement.blocks)
        if all(m.total_bytes <= placement.machine.room_bytes for m in memory):
            return dataclasses.replace(placement, memory=memory, prefill_chunk=chunk)
    raise AssertionError(f"place left a block over its room: {max(memory, key=lambda m: m.total_bytes)}")
