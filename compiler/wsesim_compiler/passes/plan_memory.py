"""plan_memory: Placement -> Placement with the bytes of every block's fullest PE.

Contract: no PE over its room.
"""

from __future__ import annotations

import dataclasses

from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.placement import Placement


def plan_memory(placement: Placement) -> Placement:
    """The memory map."""
    memory = tuple(
        block_memory(p.block, placement.kernels_on(p), placement.options, placement.prefill_chunk)
        for p in placement.blocks
    )
    assert all(m.total_bytes <= placement.machine.room_bytes for m in memory)
    return dataclasses.replace(placement, memory=memory)
