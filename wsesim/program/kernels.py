"""The kernel vocabulary: what a block's PEs can do.

Each kernel is a frozen dataclass. Its fields decide its cost (`wsesim.engine.expand`) and its numbers
(`wsesim.execute`). Its properties tell everything else: `reads`, `makes`, `tiles`, `kv_width`, `lines`, `collective`.

Axes are abstract. The residual stream is split `along` its block (over its rows or its columns, as the block's `axis`
says) and replicated `across` it. Values are names. A kernel reads values that were made before it on the same block, or
brought by a transfer. `reduce` is the collective of a decode step, and `prefill_reduce` that of a prompt's chunk; ""
stands for the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from wsesim.program.attention import FlashSum as FlashSum
from wsesim.program.attention import QKNorm as QKNorm
from wsesim.program.attention import Rope as Rope
from wsesim.program.attention import Score as Score
from wsesim.program.attention import Softmax as Softmax
from wsesim.program.attention import WeightedSum as WeightedSum
from wsesim.program.base_kernel import DECODE as DECODE
from wsesim.program.base_kernel import PREFILL as PREFILL
from wsesim.program.base_kernel import BaseKernel
from wsesim.program.layout import Layout, Uniform
from wsesim.program.operands import ACROSS as ACROSS
from wsesim.program.operands import ALONG as ALONG
from wsesim.program.operands import CANDIDATE_ELEMENTS, ID_ELEMENTS, LineSum, Operand, Tile, across
from wsesim.program.operands import SEGMENT as SEGMENT
from wsesim.program.operands import Output as Output
from wsesim.program.operands import WeightRef as WeightRef
from wsesim.program.operands import other_axis as other_axis


@dataclass(frozen=True, slots=True)
class Embed(BaseKernel):
    """Row `id` of a [vocabulary, features] table.

    Tile of a PE: its vocabulary range (across) x its features (along).
    """

    name: str
    block: str
    target: str
    weight: WeightRef
    vocabulary: Uniform
    layout: Uniform

    @property
    def reads(self) -> tuple[Operand, ...]:
        return ()

    @property
    def makes(self) -> tuple[Operand, ...]:
        return (Operand(self.target, self.layout, ALONG),)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        return (Tile(self.weight, self.vocabulary.width * self.layout.width, self.vocabulary.size),)


@dataclass(frozen=True, slots=True)
class RMSNorm(BaseKernel):
    """target = source / sqrt(mean(source^2) + eps) * weight; the sum of squares is an AllReduce along."""

    name: str
    block: str
    source: str
    target: str
    weight: WeightRef
    layout: Uniform
    eps: float
    reduce: str
    prefill_reduce: str = ""
    form: str = ""
    prefill_form: str = ""

    @property
    def tiles(self) -> tuple[Tile, ...]:
        return (Tile(self.weight, self.layout.width, self.layout.size),)

    @property
    def lines(self) -> str:
        return ALONG

    def collective(self, positions: int) -> LineSum:
        return LineSum(self.layout.used, 1)

    def scratch_elements(self, positions: int) -> int:
        return 2

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return {"tokens": tokens, "width": self.layout.width}


@dataclass(frozen=True, slots=True)
class Linear(BaseKernel):
    """Every output = weight . source + bias. The source is split over `axis`, the outputs over the other one.

    Each PE multiplies its tile, the partial sums are reduced over `axis` by `reduce` and, if `broadcast`, sent back so
    that the outputs are replicated over `axis`; else they stay on the reduction's root. Last, every PE that has the
    sums adds its part of the bias.
    """

    name: str
    block: str
    source: str
    layout: Layout
    axis: str
    outputs: tuple[Output, ...]
    reduce: str
    broadcast: bool
    prefill_reduce: str = ""
    form: str = ""
    prefill_form: str = ""

    @property
    def width(self) -> int:
        """Elements of all outputs on one position."""
        return sum(output.layout.width for output in self.outputs)

    @property
    def reads(self) -> tuple[Operand, ...]:
        return (Operand(self.source, self.layout, self.axis),)

    @property
    def makes(self) -> tuple[Operand, ...]:
        return tuple(Operand(output.value, output.layout, other_axis(self.axis)) for output in self.outputs)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        weights = [Tile(o.weight, self.layout.width * o.layout.width, o.layout.size) for o in self.outputs]
        biases = [Tile(o.bias, o.layout.width, o.layout.size) for o in self.outputs if o.bias is not None]
        return (*weights, *biases)

    @property
    def lines(self) -> str:
        return self.axis

    @property
    def last_token_only(self) -> bool:
        return not self.broadcast

    def collective(self, positions: int) -> LineSum:
        return LineSum(self.layout.used, self.width, self.broadcast)

    def scratch_elements(self, positions: int) -> int:
        return self.width

    def multiply_adds(self, context: int) -> int:
        return self.layout.size * sum(output.layout.size for output in self.outputs)

    def padded_multiply_adds(self, context: int, along: int) -> int:
        used = max(output.layout.used for output in self.outputs)
        return self.layout.used * self.layout.width * used * self.width

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return {"tokens": tokens, "inputs": self.layout.width, "outputs": self.width}


@dataclass(frozen=True, slots=True)
class SwiGLU(BaseKernel):
    """target = silu(gate) * up, elementwise (across)."""

    name: str
    block: str
    gate: str
    up: str
    target: str
    layout: Uniform
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return across(self.gate, self.layout), across(self.up, self.layout)

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return {"tokens": tokens, "width": self.layout.width}


@dataclass(frozen=True, slots=True)
class Add(BaseKernel):
    """target = left + right, elementwise (along)."""

    name: str
    block: str
    left: str
    right: str
    target: str
    layout: Uniform
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return Operand(self.left, self.layout, ALONG), Operand(self.right, self.layout, ALONG)

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return {"tokens": tokens, "width": self.layout.width}


@dataclass(frozen=True, slots=True)
class Sample(BaseKernel):
    """Draws a token id from logits (across): each PE's best `candidates`, merged over the line, then a seeded draw."""

    name: str
    block: str
    source: str
    target: str
    layout: Uniform
    candidates: int
    reduce: str
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return (across(self.source, self.layout),)

    @property
    def lines(self) -> str:
        return ACROSS

    @property
    def last_token_only(self) -> bool:
        return True

    def collective(self, positions: int) -> LineSum:
        """Lists of candidates. A list is merged before it is sent on, so it cannot be streamed."""
        return LineSum(self.layout.used, CANDIDATE_ELEMENTS * self.candidates, everybody=False, streamable=False)

    def value_elements(self, positions: int) -> dict[str, int]:
        return {self.target: ID_ELEMENTS}

    def scratch_elements(self, positions: int) -> int:
        """Two lists that are merged."""
        return 2 * CANDIDATE_ELEMENTS * self.candidates

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return self.drawing(self.candidates, tokens)

    def drawing(self, kept: int, tokens: int) -> dict[str, int]:
        """The sizes of a draw that keeps `kept` candidates."""
        halvings = max(1, (kept - 1).bit_length() + 1)
        return {
            "tokens": tokens,
            "logits": self.layout.width,
            "kept": kept,
            "halvings": halvings,
            "drawn": int(kept > 1),
        }


Kernel = Embed | RMSNorm | Linear | QKNorm | Rope | Score | Softmax | WeightedSum | FlashSum | SwiGLU | Add | Sample
KERNEL_TYPES: tuple[type, ...] = get_args(Kernel)
