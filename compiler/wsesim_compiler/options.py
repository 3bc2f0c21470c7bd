"""Options: every choice of a lowering that the user may make, with its default."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.machine.machine import TIMING_DTYPES
from wsesim.program.collectives import parse_collective

STRATEGIES = ("pipelined", "shared", "hybrid")
ORDERS = ("serpentine", "row_major")
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Options:
    """How to lower. `block` = (columns, rows) fixes the layers' block shape, None lets the compiler choose it.

    `layers_per_block` goes with strategy hybrid (pipelined is 1, shared is all). `candidates` are the logits that the
    head's merge keeps for the draw. `prefill_chunk` prompt tokens go through a block together, None lets the compiler
    choose.
    """

    strategy: str = "pipelined"
    max_context: int = 8192
    sequences: int = 1
    timing_dtype: str = "fp16"
    kv: str = "interleaved"
    collective: str = AUTO
    order: str = "serpentine"
    block: tuple[int, int] | None = None
    layers_per_block: int = 1
    candidates: int = 64
    prefill_chunk: int | None = None

    def check(self) -> None:
        """Raises UnknownNameError or InvalidInputError for a value that no lowering has."""
        named = (
            ("strategy", self.strategy, STRATEGIES),
            ("order", self.order, ORDERS),
            ("timing dtype", self.timing_dtype, TIMING_DTYPES),
            ("KV policy", self.kv, ("interleaved",)),
        )
        for kind, value, known in named:
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if self.collective != AUTO:
            parse_collective(self.collective)
        counts = ("max_context", "sequences", "layers_per_block", "candidates")
        for name in counts:
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it is at least 1")
        if self.layers_per_block > 1 and self.strategy != "hybrid":
            raise InvalidInputError(f"layers_per_block {self.layers_per_block} goes with strategy hybrid")
        if self.prefill_chunk is not None and self.prefill_chunk < 1:
            raise InvalidInputError(f"prefill_chunk is {self.prefill_chunk}; it is at least 1")
        if self.block is not None and min(self.block) < 1:
            raise InvalidInputError(f"block is {self.block}; both sides are at least 1")
