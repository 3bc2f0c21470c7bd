"""Options: every choice of a lowering that the user may make, with its default."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.errors import InvalidInputError, UnknownNameError, keyword
from wsesim.machine.parts import TIMING_DTYPES
from wsesim.program.collectives import COLLECTIVES, is_collective
from wsesim.program.kv import KV_DTYPES, POLICIES, KVCache
from wsesim.program.parts import Block
from wsesim.software import WSESIM, Software

AUTOMATIC = "auto"
STRATEGIES = (AUTOMATIC, "pipelined", "shared", "hybrid")
EXPLICIT = "explicit"
ORDERS = ("serpentine", "row_major")
AUTO = "auto"
TWO_PASS, FUSED = SOFTMAXES = ("two_pass", "fused")
TYPICAL_CONTEXT = 2048
"""Cached tokens for which sizes of blocks, collectives and forms are chosen, unless the longest context is shorter."""
TYPICAL_PROMPT = 128
"""Tokens of the prompt for which `prefill_chunk` and the forms of a prompt's chunk are chosen."""


@dataclass(frozen=True, slots=True)
class ByPhase:
    """What is chosen for a kernel, a collective or a form: in a decode step, and in a prompt's chunk."""

    decode: str
    prefill: str

    @property
    def differing(self) -> str:
        """The prompt's, as a kernel states it: "" if it is the decode step's."""
        return "" if self.prefill == self.decode else self.prefill


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block and the names of the stages that take turns on it."""

    block: Block
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How to lower. `block` = (columns, rows) fixes the layers' block shape, None lets the compiler choose it.

    `kv` is the policy of the KV cache, `kv_dtype` what it is stored in (None: the timing dtype).
    `softmax` is a kernel of its own with two AllReduces, or fused into the scan over the values (flash style); AUTO
    takes the faster.
    Strategy AUTOMATIC takes the best of a few placements for the `objective`: latency, throughput, context or prompt.
    `layers_per_block` goes with strategy hybrid (pipelined is 1, shared is all). `candidates` are the logits that the
    head's merge keeps for the draw. `prefill_chunk` prompt tokens go through a block together, None lets the compiler
    choose. `batch` tokens of as many sequences may go through together in a decode step.
    `blocks` is a placement by hand, () lets the strategy place; then `strategy` is only what the Program calls itself.
    `collectives` are those of the kernels that they name, `collective` that of the others.
    `software` says how the kernels are written, `forms` in which of its forms single kernels are: by name or by role.
    """

    strategy: str = "pipelined"
    max_context: int = 8192
    sequences: int = 1
    timing_dtype: str = "fp16"
    kv: str = "interleaved"
    kv_dtype: str | None = None
    softmax: str = AUTO
    collective: str = AUTO
    order: str = "serpentine"
    block: tuple[int, int] | None = None
    layers_per_block: int = 1
    candidates: int = 64
    prefill_chunk: int | None = None
    batch: int = 1
    blocks: tuple[PlacedBlock, ...] = ()
    collectives: tuple[tuple[str, ByPhase], ...] = ()
    software: Software = WSESIM
    forms: tuple[tuple[str, ByPhase], ...] = ()
    objective: str = "latency"

    @property
    def cache(self) -> KVCache:
        return KVCache(self.kv, self.kv_dtype)

    def layers_of_a_block(self, layers: int) -> int:
        """How many of `layers` layers share a block: pipelined one, hybrid some, all other strategies all."""
        return min(layers, {"pipelined": 1, "hybrid": self.layers_per_block}.get(self.strategy, layers))

    def check(self) -> None:
        """Raises UnknownNameError or InvalidInputError for a value that no lowering has."""
        named = (
            ("strategy", self.strategy, (*STRATEGIES, EXPLICIT) if self.blocks else STRATEGIES),
            ("order", self.order, ORDERS),
            ("timing dtype", self.timing_dtype, TIMING_DTYPES),
            ("KV policy", self.kv, POLICIES),
            ("KV dtype", self.kv_dtype or KV_DTYPES[0], KV_DTYPES),
            ("softmax", self.softmax, (AUTO, *SOFTMAXES)),
        )
        for kind, value, known in named:
            if value not in known:
                raise UnknownNameError(kind, value, known)
        stated = [text for _, phases in self.collectives for text in (phases.decode, phases.prefill)]
        for collective in (self.collective, *stated):
            if collective != AUTO and not is_collective(collective):
                raise UnknownNameError("collective", collective, (AUTO, *COLLECTIVES), "or two_phase:GROUPS")
        for name in ("max_context", "sequences", "layers_per_block", "candidates", "batch"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"`{name}` is {getattr(self, name)}; it is at least 1")
        if self.batch > self.sequences:
            raise InvalidInputError(
                f"{keyword('batch', self.batch)} takes a token of as many sequences, but `sequences` is "
                f"{self.sequences}; give {keyword('sequences', self.batch)}"
            )
        if self.layers_per_block > 1 and self.strategy != "hybrid":
            raise InvalidInputError(
                f"{keyword('layers_per_block', self.layers_per_block)} goes with {keyword('strategy', 'hybrid')}"
            )
        if self.prefill_chunk is not None and self.prefill_chunk < 1:
            raise InvalidInputError(f"prefill_chunk is {self.prefill_chunk}; it is at least 1")
        if self.block is not None and min(self.block) < 1:
            raise InvalidInputError(f"`block` is {self.block}; both sides are at least 1")
