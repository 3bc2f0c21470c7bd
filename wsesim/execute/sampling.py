"""Sampling: the next token from its logits, as the wafer draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.errors import SamplingRangeError

MAX_TEMPERATURE = 1.5
GREEDY = 1  # candidates of a draw at temperature 0


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Temperature 0 takes the likeliest token; otherwise one is drawn from the best `candidates`, cut to mass
    `top_p`.

    Raises SamplingRangeError: temperature is in [0, 1.5], top_p in (0, 1], seed in [0, 2^64), candidates at
    least 1.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    candidates: int = 64

    def __post_init__(self) -> None:
        _require(0 <= self.temperature <= MAX_TEMPERATURE, "temperature", self.temperature, "from 0 to 1.5")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, up to 1")
        _require(_is_int(self.seed) and 0 <= self.seed < 2**64, "seed", self.seed, "an integer from 0 to 2^64 - 1")
        _require(
            _is_int(self.candidates) and self.candidates >= 1,
            "candidates",
            self.candidates,
            "a positive integer",
        )


@dataclass(frozen=True, slots=True)
class SampledToken:
    """`logprob` is the token's natural log probability under the whole softmax, before temperature and
    cuts."""

    id: int
    logprob: float


def sample(logits: NDArray[np.float32], options: SamplingOptions, step: int) -> SampledToken:
    """The token after `step` earlier draws; a draw depends on (seed, step) and its logits alone.

    Equal logits rank by id, the lowest first. The wafer merges a bounded list of candidates, so that top_p
    cuts within these: the shortest prefix whose share of the whole softmax reaches top_p, at least one token.
    """
    wide = logits.astype(np.float64)
    if options.temperature == 0:
        return _token(int(np.argmax(wide)), wide)
    best = _best(wide, options.candidates)
    scaled = (wide - wide[best[0]]) / options.temperature
    mass = np.cumsum(np.exp(scaled[best])) / np.exp(scaled).sum()
    kept = min(int(np.searchsorted(mass, options.top_p)) + 1, len(best))
    generator = np.random.Generator(np.random.Philox(key=np.array([options.seed, step], np.uint64)))
    drawn = int(np.searchsorted(mass[:kept], generator.random() * mass[kept - 1], side="right"))
    return _token(int(best[min(drawn, kept - 1)]), wide)


def _best(logits: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Ids of the `count` highest logits, the highest first."""
    count = min(count, len(logits))
    threshold = np.partition(logits, len(logits) - count)[len(logits) - count]
    reaching = np.flatnonzero(logits >= threshold)
    return reaching[np.argsort(-logits[reaching], kind="stable")][:count]


def _token(token: int, logits: NDArray[np.float64]) -> SampledToken:
    highest = logits.max()
    return SampledToken(token, float(logits[token] - highest - np.log(np.exp(logits - highest).sum())))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, name: str, value: object, range_: str) -> None:
    if not holds:
        raise SamplingRangeError(f"{name} is {value}, it must be {range_}")
