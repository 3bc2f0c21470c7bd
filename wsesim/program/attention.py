"""The kernels of attention: norms and rotations of heads, scores, softmax, and sums over the values."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.program.base_kernel import BaseKernel
from wsesim.program.kv import DEFAULT_CACHE, KVCache
from wsesim.program.layout import Heads
from wsesim.program.operands import ALONG, SEGMENT, LineSum, Operand, Tile, WeightRef, across


@dataclass(frozen=True, slots=True)
class QKNorm(BaseKernel):
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
    form: str = ""
    prefill_form: str = ""

    @property
    def heads(self) -> int:
        """Heads of all sources that one position works for."""
        return sum(layout.heads for layout in self.layouts)

    @property
    def reads(self) -> tuple[Operand, ...]:
        return tuple(map(across, self.sources, self.layouts))

    @property
    def makes(self) -> tuple[Operand, ...]:
        return tuple(map(across, self.targets, self.layouts))

    @property
    def tiles(self) -> tuple[Tile, ...]:
        return tuple(Tile(w, own.features, own.head_dim) for w, own in zip(self.weights, self.layouts, strict=True))

    @property
    def lines(self) -> str:
        return SEGMENT if self.layouts[0].segment > 1 else ""

    def collective(self, positions: int) -> LineSum:
        return LineSum(self.layouts[0].segment, self.heads)

    def scratch_elements(self, positions: int) -> int:
        return 2 * self.heads

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return _slot_sizes(self.layouts, tokens)


@dataclass(frozen=True, slots=True)
class Rope(BaseKernel):
    """Rotates the pairs of `sources` into `targets` by position * inv_freq; each source has its layout (across)."""

    name: str
    block: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    layouts: tuple[Heads, ...]
    inv_freq: tuple[float, ...]
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return tuple(map(across, self.sources, self.layouts))

    @property
    def makes(self) -> tuple[Operand, ...]:
        return tuple(map(across, self.targets, self.layouts))

    def scratch_elements(self, positions: int) -> int:
        return 2 * len(self.inv_freq) // max(1, self.layouts[0].segment)

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return _slot_sizes(self.layouts, tokens)


@dataclass(frozen=True, slots=True)
class Score(BaseKernel):
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
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return across(self.query, self.query_layout), across(self.key, self.key_layout)

    @property
    def makes(self) -> tuple[Operand, ...]:
        """The scores, which are laid out as their queries' heads."""
        return (across(self.target, self.query_layout),)

    @property
    def kv_width(self) -> int:
        return self.key_layout.width

    @property
    def lines(self) -> str:
        return SEGMENT if self.query_layout.segment > 1 else ""

    def collective(self, positions: int) -> LineSum:
        return LineSum(self.query_layout.segment, self.query_layout.heads * positions)

    def value_elements(self, positions: int) -> dict[str, int]:
        return {self.target: self.query_layout.heads * positions}

    def scratch_elements(self, positions: int) -> int:
        return self.query_layout.heads * positions

    def multiply_adds(self, context: int) -> int:
        return _attention_products(self.query_layout, self.cache, context)

    def padded_multiply_adds(self, context: int, along: int) -> int:
        return _padded_products(self.query_layout, self.cache, context, along)

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return _score_sizes(self.query_layout, tokens, positions) | {"key_width": self.key_layout.width}


@dataclass(frozen=True, slots=True)
class Softmax(BaseKernel):
    """Over all positions of each head: max and sum are AllReduces along."""

    name: str
    block: str
    source: str
    target: str
    layout: Heads
    reduce: str
    cache: KVCache = DEFAULT_CACHE
    prefill_reduce: str = ""
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return (across(self.source, self.layout),)

    @property
    def lines(self) -> str:
        return ALONG

    def collective(self, positions: int) -> LineSum:
        return LineSum(None, self.layout.heads)

    def value_elements(self, positions: int) -> dict[str, int]:
        """None: the probabilities take the place of the scores."""
        return {self.target: 0}

    def scratch_elements(self, positions: int) -> int:
        return self.layout.heads * positions + 2 * self.layout.heads

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return _score_sizes(self.layout, tokens, positions)


@dataclass(frozen=True, slots=True)
class WeightedSum(BaseKernel):
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
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return across(self.probabilities, self.layout), across(self.value, self.value_layout)

    @property
    def kv_width(self) -> int:
        return self.value_layout.width

    @property
    def lines(self) -> str:
        return ALONG

    def collective(self, positions: int) -> LineSum:
        return LineSum(None, self.layout.width)

    def scratch_elements(self, positions: int) -> int:
        return self.layout.width

    def multiply_adds(self, context: int) -> int:
        return _attention_products(self.layout, self.cache, context)

    def padded_multiply_adds(self, context: int, along: int) -> int:
        return _padded_products(self.layout, self.cache, context, along)

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return _score_sizes(self.layout, tokens, positions) | {"value_width": self.value_layout.width}


@dataclass(frozen=True, slots=True)
class FlashSum(BaseKernel):
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
    form: str = ""
    prefill_form: str = ""

    @property
    def reads(self) -> tuple[Operand, ...]:
        return across(self.source, self.layout), across(self.value, self.value_layout)

    @property
    def kv_width(self) -> int:
        return self.value_layout.width

    @property
    def lines(self) -> str:
        return ALONG

    def collective(self, positions: int) -> LineSum:
        return LineSum(None, self.layout.width + self.layout.heads)

    def scratch_elements(self, positions: int) -> int:
        """A sum that arrives, and each head's own maximum, sum and factor."""
        return self.layout.width + 3 * self.layout.heads

    def multiply_adds(self, context: int) -> int:
        return _attention_products(self.layout, self.cache, context)

    def padded_multiply_adds(self, context: int, along: int) -> int:
        return _padded_products(self.layout, self.cache, context, along)

    def sizes(self, tokens: int, positions: int) -> dict[str, int]:
        return _score_sizes(self.layout, tokens, positions) | {"value_width": self.value_layout.width}


def _attention_products(layout: Heads, cache: KVCache, context: int) -> int:
    return cache.seen(context) * layout.size


def _padded_products(layout: Heads, cache: KVCache, context: int, along: int) -> int:
    return along * cache.positions(context, along) * layout.used * layout.width


def _slot_sizes(layouts: tuple[Heads, ...], tokens: int) -> dict[str, int]:
    query, *keys = (tokens * layout.heads for layout in layouts)
    slots = {"heads": query + sum(keys), "query_heads": query, "key_heads": sum(keys)}
    return {"tokens": tokens, "features": layouts[0].features, **slots}


def _score_sizes(layout: Heads, tokens: int, positions: int) -> dict[str, int]:
    slots = {"heads": tokens * layout.heads, "features": layout.features, "positions": positions}
    return {"tokens": tokens, **slots}
