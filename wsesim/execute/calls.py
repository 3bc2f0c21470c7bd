"""Calls: kernels with every array in place. A step calls them one after the other with (tokens, sequence)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim.execute import kernels, tiles, values
from wsesim.execute.buffers import Positions
from wsesim.execute.merges import Schedule
from wsesim.execute.sequence import Sequence
from wsesim.program.kv import KVCache

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Call = Callable[[int, Sequence], None]

_WORTH_A_THREAD = 1 << 18  # multiplications; waking the other threads takes as long as about so many


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A kernel that knows only how many tokens there are."""

    kernel: Callable[..., None]
    arguments: tuple[Any, ...]

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        self.kernel(tokens, *self.arguments)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The positions of each line of a block, for each token of a step: spans [chunk, along, 2] flat, `step` apart."""

    cache: KVCache
    along: int
    spans: NDArray[np.int64]

    @property
    def step(self) -> int:
        return self.cache.step(self.along)

    def fill(self, tokens: int, context: int) -> None:
        spans = self.cache.spans(np.arange(context + 1, context + tokens + 1), self.along)
        self.spans[: spans.size] = spans.reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreCall:
    """Appends the keys, then scores."""

    layer: int
    append: tuple[Floats, int, Ints]
    query: tuple[Any, ...]
    merges: Schedule
    stored: Ints
    lines: Lines
    together: int
    scale: np.float32
    stack: Floats
    workers: int
    work: int
    target: Positions

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        keys, context = sequence.keys[self.layer], sequence.position
        tiles.append_keys(tokens, context, *self.append, keys)
        seen = self.lines.cache.seen(context + tokens, tokens)
        workers = self.workers if tokens * seen * self.work > _WORTH_A_THREAD else 1
        tiles.score(
            tokens,
            context,
            self.lines.cache.window or 0,
            *self.query,
            keys,
            self.scale,
            self.merges.order,
            self.merges.children,
            self.stored,
            self.lines.spans,
            self.lines.step,
            self.lines.along if self.merges.split else 0,
            self.together,
            workers,
            self.merges.depth,
            self.stack,
            sequence.capacity,
            self.target.reserve(sequence.capacity),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCall:
    heads: int
    lines: Lines
    merges: Schedule
    starts: Ints
    sums: Floats
    source: Positions
    target: Positions

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        kernels.softmax(
            tokens,
            sequence.position,
            self.lines.cache.window or 0,
            self.source.array,
            self.heads,
            sequence.capacity,
            self.lines.spans,
            self.lines.step,
            self.merges.order,
            self.merges.children,
            self.starts,
            self.sums,
            self.target.reserve(sequence.capacity),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ValueSums:
    """What sums over the V cache have in common, in one kernel with the softmax or behind it."""

    layer: int
    append: tuple[Floats, int, Ints]
    heads: int
    repeat: int
    lines: Lines
    row: int
    places: Ints
    merges: Schedule
    starts: Ints
    stack: Floats
    workers: int
    target: Floats

    def begin(self, tokens: int, sequence: Sequence) -> tuple[Any, ...]:
        """Appends the values and clears the target's padding; what the kernel takes after what it weighs them by."""
        cache, context = sequence.values[self.layer], sequence.position
        values.append_values(tokens, context, *self.append, cache)
        if self.row > len(self.places):
            self.target[: tokens * self.row] = 0
        seen = self.lines.cache.seen(context + tokens, tokens)
        worth_it = tokens * seen * len(self.places) > _WORTH_A_THREAD
        positions = (self.heads, sequence.capacity, self.lines.spans, self.lines.step)
        workers = self.workers if worth_it else 1
        order = (self.merges.order, self.merges.children, self.starts, workers, self.merges.depth)
        return (*positions, cache, self.repeat, self.row, self.places, *order, self.stack, self.target)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSumCall:
    probabilities: Positions
    sums: ValueSums

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        values.weighted_sum(tokens, self.probabilities.array, *self.sums.begin(tokens, sequence))


@dataclass(frozen=True, slots=True, eq=False)
class FlashSumCall:
    """The exponentials of the scores, line by line, then the sums; `exponentials` and `factors` are scratch."""

    scores: Positions
    exponentials: Positions
    factors: Floats
    sums: ValueSums

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        heads, lines, capacity = self.sums.heads, self.sums.lines, sequence.capacity
        exponentials = self.exponentials.reserve(capacity)
        shape = (heads, capacity, lines.spans, lines.step, lines.along)
        kernels.line_exponentials(tokens, self.scores.array, *shape, self.factors, exponentials)
        values.flash_sum(tokens, exponentials, self.factors, *self.sums.begin(tokens, sequence))


@dataclass(frozen=True, slots=True, eq=False)
class RoundPositions:
    """Scores or probabilities, rounded as other values are."""

    kernel: Callable[..., None]
    values: Positions

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        self.kernel(tokens, self.values.array, self.values.heads * sequence.capacity)


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """cos and sin of position * inv_freq, computed in float64 and rounded once; [chunk, half] flat."""

    inv_freq: NDArray[np.float64]
    cos: Floats
    sin: Floats

    def fill(self, tokens: int, context: int) -> None:
        angles = (np.arange(context, context + tokens)[:, None] * self.inv_freq).reshape(-1)
        self.cos[: len(angles)] = np.cos(angles)
        self.sin[: len(angles)] = np.sin(angles)
