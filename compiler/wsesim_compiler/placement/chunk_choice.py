"""The number of a prompt's tokens that go through a block together.

Contract: the option decides. Without one, it is the number of CHUNKS with the fewest cycles of a typical prompt, among
those whose buffers fit beside the forms of a decode step. So no token is slower for them. The engine prices a chunk on
each block. Chunks follow each other through the blocks as through a pipeline: the prompt takes the first chunk's way,
and then the slowest block's time for each chunk more. Ties: the smallest chunk.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import takewhile

from wsesim.program.kernels import PREFILL
from wsesim.program.layout import ceil_div
from wsesim.program.protocols import CostOracle
from wsesim_compiler.options import TYPICAL_PROMPT
from wsesim_compiler.placement.form_choice import likeness, shape_of, that_fit
from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.price import Bill, bill, paid

CHUNKS = (1, 2, 3, 4, 6, 8)


def choose_chunk(placement: Placement, cost: CostOracle) -> Placement:
    """The placement with its `prefill_chunk`, and with forms that fit beside its buffers."""
    asked = placement.options.prefill_chunk
    if asked:
        return _chunked(placement, asked)
    fitting = list(takewhile(_fits, (_chunked(placement, tokens) for tokens in CHUNKS)))
    fitting = [chunked for chunked in fitting if _decode_forms(chunked) == _decode_forms(fitting[0])]
    if len(fitting) == 1:
        return fitting[0]
    cycles = [_prompt_cycles(chunked, cost) for chunked in fitting]
    return fitting[cycles.index(min(cycles))]


def _decode_forms(placement: Placement) -> list[tuple[str, str]]:
    return [(name, form.decode) for name, form in placement.forms]


def _chunked(placement: Placement, tokens: int) -> Placement:
    chunked = dataclasses.replace(placement, prefill_chunk=tokens)
    return dataclasses.replace(chunked, forms=tuple(that_fit(chunked, dict(placement.forms)).items()))


def _fits(placement: Placement) -> bool:
    memory = (
        block_memory(p.block, placement.kernels_on(p), placement.options, placement.prefill_chunk)
        for p in placement.blocks
    )
    return all(m.total_bytes <= placement.machine.room_bytes for m in memory)


def _prompt_cycles(placement: Placement, cost: CostOracle) -> int:
    """Estimated cycles of a typical prompt through the blocks of layers."""
    tokens = min(TYPICAL_PROMPT, placement.options.max_context)
    chunk = min(placement.prefill_chunk, tokens)
    layers = {stage.name for stage in placement.partition.stages if stage.layer is not None}
    known: dict[object, int] = {}
    blocks = []
    for placed in placement.blocks:
        if layers & set(placed.stages):
            kernels = placement.kernels_on(placed)
            key = (shape_of(placed.block), tuple(likeness(k, placement, placed.block) for k in kernels))
            if key not in known:
                bills = [bill(kernels, placed.block, placement, cost, PREFILL, chunk), Bill(0, Counter())]
                known[key] = paid(bills, placement, cost)[0]
            blocks.append(known[key])
    return sum(blocks) + (ceil_div(tokens, chunk) - 1) * max(blocks)
