"""The kernel vocabulary: what a block's PEs can do, each kernel with the fields that decide its cost and its numbers.

Axes are abstract: the residual stream is split `along` its block (over its rows or its columns, as the block's `axis`
says) and replicated `across` it. Values are names; a kernel computes its outputs from values made before it on the same
block, or brought by a transfer. `reduce` is the collective of a decode step, `prefill_reduce` that of a prompt's chunk,
"" if it is the same.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from wsesim.program.kv import DEFAULT_CACHE, KVCache
from wsesim.program.layout import Heads, Layout, Uniform

ALONG = "along"
ACROSS = "across"
SEGMENT = "segment"  # of a line across, where a head lies on several positions

DECODE = "decode"
PREFILL = "prefill"


def other_axis(axis: str) -> str:
    return ACROSS if axis == ALONG else ALONG


@dataclass(frozen=True, slots=True)
class WeightRef:
    """Rows [start, stop) of the stored tensor `name`, transposed first if `transpose`; the layouts permute."""

    name: str
    start: int
    stop: int
    transpose: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """One of the vectors that a Linear yields: its weight has layout.size rows, its bias as many elements."""

    value: str
    weight: WeightRef
    layout: Layout
    bias: WeightRef | None = None


@dataclass(frozen=True, slots=True)
class Embed:
    """Row `id` of a [vocabulary, features] table.

    Tile of a PE: its vocabulary range (across) x its features (along).
    """

    name: str
    block: str
    target: str
    weight: WeightRef
    vocabulary: Uniform
    layout: Uniform


@dataclass(frozen=True, slots=True)
class RMSNorm:
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


@dataclass(frozen=True, slots=True)
class Linear:
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


@dataclass(frozen=True, slots=True)
class QKNorm:
    """targets = sources / sqrt(mean over a head of source^2 + eps) * weight [head_dim], each head by itself.

    Each source has its layout (across), weight and eps. Sums of squares are reduced over the head's segment, those of
    all sources in one AllReduce.
    """

    name: str
    block: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    layouts: tuple[Heads, ...]
    weights: tuple[WeightRef, ...]
    eps: tuple[float, ...]
    reduce: str
    prefill_reduce: str = ""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotates the pairs of `sources` into `targets` by position * inv_freq; each source has its layout (across)."""

    name: str
    block: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    layouts: tuple[Heads, ...]
    inv_freq: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Appends `key` to the K cache and yields scale * query . K of each position, on the line that holds it."""

    name: str
    block: str
    query: str
    key: str
    target: str
    query_layout: Heads
    key_layout: Heads
    scale: float
    reduce: str
    cache: KVCache = DEFAULT_CACHE
    prefill_reduce: str = ""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Over all positions of each head: max and sum are AllReduces along."""

    name: str
    block: str
    source: str
    target: str
    layout: Heads
    reduce: str
    cache: KVCache = DEFAULT_CACHE
    prefill_reduce: str = ""


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """Appends `value` to the V cache and yields sum over positions of probability * V, reduced along.

    Where the cache shifts, it does so here, K and V at once: the keys are as wide as the values.
    """

    name: str
    block: str
    probabilities: str
    value: str
    target: str
    layout: Heads
    value_layout: Heads
    reduce: str
    cache: KVCache = DEFAULT_CACHE
    prefill_reduce: str = ""


@dataclass(frozen=True, slots=True)
class FlashSum:
    """Softmax and WeightedSum in one scan over the scores `source`, exact, with one sum AllReduce instead of two.

    Each line takes the maximum of its own positions and sums exp(score - maximum) and that times V. After a maximum
    AllReduce along it scales its sums by exp(its maximum - the maximum); these and the weighted values are reduced
    together, then divided. Appends `value`, and shifts the cache, as WeightedSum does.
    """

    name: str
    block: str
    source: str
    value: str
    target: str
    layout: Heads
    value_layout: Heads
    reduce: str
    cache: KVCache = DEFAULT_CACHE
    prefill_reduce: str = ""


@dataclass(frozen=True, slots=True)
class SwiGLU:
    """target = silu(gate) * up, elementwise (across)."""

    name: str
    block: str
    gate: str
    up: str
    target: str
    layout: Uniform


@dataclass(frozen=True, slots=True)
class Add:
    """target = left + right, elementwise (along)."""

    name: str
    block: str
    left: str
    right: str
    target: str
    layout: Uniform


@dataclass(frozen=True, slots=True)
class Sample:
    """Draws a token id from logits (across): each PE's best `candidates`, merged over the line, then a seeded draw."""

    name: str
    block: str
    source: str
    target: str
    layout: Uniform
    candidates: int
    reduce: str


Kernel = Embed | RMSNorm | Linear | QKNorm | Rope | Score | Softmax | WeightedSum | FlashSum | SwiGLU | Add | Sample
KERNEL_TYPES: tuple[type, ...] = (
    Embed,
    RMSNorm,
    Linear,
    QKNorm,
    Rope,
    Score,
    Softmax,
    WeightedSum,
    FlashSum,
    SwiGLU,
    Add,
    Sample,
)


def read_layouts(kernel: Kernel) -> tuple[tuple[str, Layout], ...]:
    """Values that a kernel reads, each with the layout that it expects. Embed reads token ids, which are no value."""
    match kernel:
        case Embed():
            return ()
        case RMSNorm() | Linear() | Softmax() | Sample():
            return ((kernel.source, kernel.layout),)
        case QKNorm() | Rope():
            return tuple(zip(kernel.sources, kernel.layouts, strict=True))
        case Score():
            return ((kernel.query, kernel.query_layout), (kernel.key, kernel.key_layout))
        case WeightedSum():
            return ((kernel.probabilities, kernel.layout), (kernel.value, kernel.value_layout))
        case FlashSum():
            return ((kernel.source, kernel.layout), (kernel.value, kernel.value_layout))
        case SwiGLU():
            return ((kernel.gate, kernel.layout), (kernel.up, kernel.layout))
        case Add():
            return ((kernel.left, kernel.layout), (kernel.right, kernel.layout))


def made_layouts(kernel: Kernel) -> tuple[tuple[str, Layout], ...]:
    """Values that a kernel makes, and their layouts; scores and probabilities have their query's."""
    match kernel:
        case Linear():
            return tuple((output.value, output.layout) for output in kernel.outputs)
        case QKNorm() | Rope():
            return tuple(zip(kernel.targets, kernel.layouts, strict=True))
        case Score():
            return ((kernel.target, kernel.query_layout),)
        case _:
            return ((kernel.target, kernel.layout),)


def kernel_inputs(kernel: Kernel) -> tuple[str, ...]:
    """Values that a kernel reads."""
    return tuple(value for value, _ in read_layouts(kernel))


def kernel_outputs(kernel: Kernel) -> tuple[str, ...]:
    """Values that a kernel makes."""
    return tuple(value for value, _ in made_layouts(kernel))


def kernel_weights(kernel: Kernel) -> tuple[WeightRef, ...]:
    """Weights that live with a kernel."""
    match kernel:
        case Embed() | RMSNorm():
            return (kernel.weight,)
        case Linear():
            biases = tuple(output.bias for output in kernel.outputs if output.bias is not None)
            return (*(output.weight for output in kernel.outputs), *biases)
        case QKNorm():
            return kernel.weights
        case _:
            return ()


def in_phase(kernel: Kernel, phase: str) -> Kernel:
    """The kernel with the collective of DECODE or PREFILL as its only one."""
    chosen = getattr(kernel, "prefill_reduce", "")
    if not chosen:
        return kernel
    fields = {"prefill_reduce": ""} | ({"reduce": chosen} if phase == PREFILL else {})
    return dataclasses.replace(kernel, **fields)  # type: ignore[arg-type]


def line_kind(kernel: Kernel) -> str:
    """The lines that a kernel's collective goes over: ALONG, ACROSS or SEGMENT; "" if it has none."""
    match kernel:
        case RMSNorm() | Softmax() | WeightedSum() | FlashSum():
            return ALONG
        case Linear():
            return kernel.axis
        case Score():
            return SEGMENT if kernel.query_layout.segment > 1 else ""
        case QKNorm():
            return SEGMENT if kernel.layouts[0].segment > 1 else ""
        case Sample():
            return ACROSS
        case _:
            return ""
