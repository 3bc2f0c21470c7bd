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
class ScoreCall:
    """Appends the keys, then scores."""

    layer: int
    append: tuple[Floats, int, Ints]
    query: tuple[Any, ...]
    merges: Schedule
    split: tuple[int, int]
    scale: np.float32
    stack: Floats
    workers: int
    work: int
    target: Positions

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        keys, context = sequence.keys[self.layer], sequence.position
        tiles.append_keys(tokens, context, *self.append, keys)
        workers = self.workers if tokens * (context + tokens) * self.work > _WORTH_A_THREAD else 1
        tiles.score(
            tokens,
            context,
            *self.query,
            keys,
            self.scale,
            self.merges.order,
            self.merges.children,
            *self.split,
            workers,
            self.merges.depth,
            self.stack,
            sequence.capacity,
            self.target.reserve(sequence.capacity),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCall:
    heads: int
    along: int
    merges: Schedule
    starts: Ints
    sums: Floats
    source: Positions
    target: Positions

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        kernels.softmax(
            tokens,
            sequence.position,
            self.source.array,
            self.heads,
            sequence.capacity,
            self.along,
            self.merges.order,
            self.merges.children,
            self.starts,
            self.sums,
            self.target.reserve(sequence.capacity),
        )


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSumCall:
    """Appends the values, then sums."""

    layer: int
    append: tuple[Floats, int, Ints]
    heads: int
    repeat: int
    along: int
    row: int
    places: Ints
    merges: Schedule
    starts: Ints
    stack: Floats
    workers: int
    probabilities: Positions
    target: Floats

    def __call__(self, tokens: int, sequence: Sequence) -> None:
        cache, context = sequence.values[self.layer], sequence.position
        values.append_values(tokens, context, *self.append, cache)
        work = tokens * (context + tokens) * len(self.places)
        if self.row > len(self.places):
            self.target[: tokens * self.row] = 0
        values.weighted_sum(
            tokens,
            context,
            self.probabilities.array,
            self.heads,
            sequence.capacity,
            self.along,
            cache,
            self.repeat,
            self.row,
            self.places,
            self.merges.order,
            self.merges.children,
            self.starts,
            self.workers if work > _WORTH_A_THREAD else 1,
            self.merges.depth,
            self.stack,
            self.target,
        )


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
