"""Calls: kernels with every array in place. Each pass calls them one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim.execute import keys, values, vectors
from wsesim.execute.buffers import Positions
from wsesim.execute.merges import Schedule
from wsesim.execute.passes import Part, Pass
from wsesim.program.kv import KVCache

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Call = Callable[[Pass], None]

_WORTH_A_THREAD = 1 << 18  # multiplications; waking the other threads takes as long as about so many


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A kernel that knows only how many tokens there are."""

    kernel: Callable[..., None]
    arguments: tuple[Any, ...]

    def __call__(self, passed: Pass) -> None:
        self.kernel(passed.tokens, *self.arguments)


@dataclass(frozen=True, slots=True, eq=False)
class CachedPositions:
    """Positions in the KV cache of each line of a block, for each token of a pass.

    spans [chunk, along, 2] flat: the first position of a line and where they end; `step` is their distance.
    """

    cache: KVCache
    along: int
    spans: NDArray[np.int64]

    @property
    def step(self) -> int:
        return self.cache.step(self.along)

    def fill(self, positions: NDArray[np.int64]) -> None:
        spans = self.cache.spans(positions + 1, self.along)
        self.spans[: spans.size] = spans.reshape(-1)

    def since(self, row: int) -> tuple[NDArray[np.int64], int]:
        """Spans from a row on, and their step."""
        return self.spans[row * self.along * 2 :], self.step


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCall:
    """Appends the keys, then scores."""

    layer: int
    append: tuple[Floats, int, Ints]
    query: Floats
    row: int
    geometry: tuple[Any, ...]
    merges: Schedule
    stored: Ints
    lines: CachedPositions
    together: int
    scale: np.float32
    stack: Floats
    workers: int
    work: int
    target: Positions

    def __call__(self, passed: Pass) -> None:
        capacity, heads = passed.capacity, self.target.heads
        target = self.target.reserve(capacity)
        for part in passed.parts:
            self._score(part, capacity, target[part.first * heads * capacity :])

    def _score(self, part: Part, capacity: int, target: Floats) -> None:
        cache, context, tokens = part.sequence.keys[self.layer], part.sequence.position, part.tokens
        key, key_row, places = self.append
        keys.append_keys(tokens, context, key[part.first * key_row :], key_row, places, cache)
        seen = self.lines.cache.seen(context + tokens, tokens)
        workers = self.workers if tokens * seen * self.work > _WORTH_A_THREAD else 1
        keys.score(
            tokens,
            context,
            self.lines.cache.window or 0,
            self.query[part.first * self.row :],
            *self.geometry,
            cache,
            self.scale,
            self.merges.order,
            self.merges.children,
            self.stored,
            *self.lines.since(part.first),
            self.lines.along if self.merges.split else 0,
            self.together,
            workers,
            self.merges.depth,
            self.stack,
            capacity,
            target,
        )


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCall:
    heads: int
    lines: CachedPositions
    merges: Schedule
    starts: Ints
    sums: Floats
    source: Positions
    target: Positions

    def __call__(self, passed: Pass) -> None:
        source, capacity = self.source.array, passed.capacity
        target = self.target.reserve(capacity)
        for part in passed.parts:
            begin = part.first * self.heads * capacity
            vectors.softmax(
                part.tokens,
                part.sequence.position,
                self.lines.cache.window or 0,
                source[begin:],
                self.heads,
                capacity,
                *self.lines.since(part.first),
                self.merges.order,
                self.merges.children,
                self.starts,
                self.sums,
                target[begin:],
            )


@dataclass(frozen=True, slots=True, eq=False)
class ValueSums:
    """What sums over the V cache have in common, in one kernel with the softmax or behind it."""

    layer: int
    append: tuple[Floats, int, Ints]
    heads: int
    repeat: int
    lines: CachedPositions
    row: int
    places: Ints
    merges: Schedule
    starts: Ints
    stack: Floats
    workers: int
    target: Floats

    def begin(self, part: Part, capacity: int) -> tuple[Any, ...]:
        """Appends the values and clears the target's padding; what the kernel takes after what it weighs them by."""
        cache, context, tokens = part.sequence.values[self.layer], part.sequence.position, part.tokens
        value, value_row, cached = self.append
        values.append_values(tokens, context, value[part.first * value_row :], value_row, cached, cache)
        target = self.target[part.first * self.row :]
        if self.row > len(self.places):
            target[: tokens * self.row] = 0
        seen = self.lines.cache.seen(context + tokens, tokens)
        worth_it = tokens * seen * len(self.places) > _WORTH_A_THREAD
        positions = (self.heads, capacity, *self.lines.since(part.first))
        workers = self.workers if worth_it else 1
        order = (self.merges.order, self.merges.children, self.starts, workers, self.merges.depth)
        return (*positions, cache, self.repeat, self.row, self.places, *order, self.stack, target)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSumCall:
    probabilities: Positions
    sums: ValueSums

    def __call__(self, passed: Pass) -> None:
        probabilities, capacity = self.probabilities.array, passed.capacity
        for part in passed.parts:
            own = probabilities[part.first * self.sums.heads * capacity :]
            values.weighted_sum(part.tokens, own, *self.sums.begin(part, capacity))


@dataclass(frozen=True, slots=True, eq=False)
class FlashSumCall:
    """The exponentials of the scores, line by line, then the sums; `exponentials` and `factors` are scratch."""

    scores: Positions
    exponentials: Positions
    factors: Floats
    sums: ValueSums

    def __call__(self, passed: Pass) -> None:
        heads, lines, capacity = self.sums.heads, self.sums.lines, passed.capacity
        exponentials = self.exponentials.reserve(capacity)
        shape = (heads, capacity, lines.spans, lines.step, lines.along)
        vectors.line_exponentials(passed.tokens, self.scores.array, *shape, self.factors, exponentials)
        for part in passed.parts:
            row = part.first * heads
            own = (exponentials[row * capacity :], self.factors[row * lines.along :])
            values.flash_sum(part.tokens, *own, *self.sums.begin(part, capacity))


@dataclass(frozen=True, slots=True, eq=False)
class RoundPositions:
    """Scores or probabilities, rounded as other values are."""

    kernel: Callable[..., None]
    values: Positions

    def __call__(self, passed: Pass) -> None:
        self.kernel(passed.tokens, self.values.array, self.values.heads * passed.capacity)


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """cos and sin of position * inv_freq, computed in float64 and rounded once; [chunk, half] flat."""

    inv_freq: NDArray[np.float64]
    cos: Floats
    sin: Floats

    def fill(self, positions: NDArray[np.int64]) -> None:
        angles = (positions[:, None] * self.inv_freq).reshape(-1)
        self.cos[: len(angles)] = np.cos(angles)
        self.sin[: len(angles)] = np.sin(angles)
