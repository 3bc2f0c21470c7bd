"""Sampling: the next token from its logits, as the wafer draws it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.errors import SamplingRangeError

MAX_TEMPERATURE = 1.5
MAX_PENALTY = 2.0
MAX_BIAS = 100.0
GREEDY = 1  # candidates of a draw at temperature 0


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Temperature 0 takes the likeliest token; otherwise one is drawn from the best `candidates`, cut to mass
    `top_p`. Before either, a token's logit gets its `logit_bias` and loses `frequency_penalty` for each time that it
    was drawn before, and `presence_penalty` once. `choice` tells texts of one prompt and seed apart.

    Raises SamplingRangeError: temperature is in [0, 1.5], top_p in (0, 1], seed in [0, 2^64), candidates at
    least 1, penalties in [-2, 2], biases in [-100, 100], choice in [0, 2^31).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    candidates: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    choice: int = 0

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
        for name in ("frequency_penalty", "presence_penalty"):
            _require(abs(getattr(self, name)) <= MAX_PENALTY, name, getattr(self, name), "from -2 to 2")
        for _, bias in self.logit_bias:
            _require(abs(bias) <= MAX_BIAS, "logit_bias", bias, "from -100 to 100")
        _require(_is_int(self.choice) and 0 <= self.choice < 2**31, "choice", self.choice, "an integer from 0 on")


@dataclass(frozen=True, slots=True)
class History:
    """What was drawn before: how many tokens, how often each; and tokens that may not come now."""

    step: int = 0
    counts: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    banned: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class SampledToken:
    """`logprob` is the token's natural log probability under the whole softmax, before biases, penalties,
    temperature and cuts."""

    id: int
    logprob: float


def sample(logits: NDArray[np.float32], options: SamplingOptions, history: History) -> SampledToken:
    """The token after `history`; a draw depends on seed, choice, history and its logits alone.

    Equal logits rank by id, the lowest first. The wafer merges a bounded list of candidates, so that top_p
    cuts within these: the shortest prefix whose share of the whole softmax reaches top_p, at least one token.
    """
    wide = logits.astype(np.float64)
    moved = _moved(wide, options, history)
    if options.temperature == 0:
        return _token(int(np.argmax(moved)), wide)
    best = _best(moved, options.candidates)
    with np.errstate(over="ignore"):  # of a temperature next to 0: only the likeliest is left
        scaled = (moved - moved[best[0]]) / options.temperature
    mass = np.cumsum(np.exp(scaled[best])) / np.exp(scaled).sum()
    kept = min(int(np.searchsorted(mass, options.top_p)) + 1, len(best))
    key = np.array([options.seed, (options.choice << 32) + history.step], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    drawn = int(np.searchsorted(mass[:kept], generator.random() * mass[kept - 1], side="right"))
    return _token(int(best[min(drawn, kept - 1)]), wide)


def likeliest(logits: NDArray[np.float32], count: int) -> tuple[SampledToken, ...]:
    """The `count` likeliest tokens under the whole softmax, the likeliest first."""
    wide = logits.astype(np.float64)
    total = _log_total(wide)
    return tuple(SampledToken(int(token), float(wide[token] - total)) for token in _best(wide, count)) if count else ()


def logprob(logits: NDArray[np.float32], token: int) -> float:
    """Natural log probability of `token` under the whole softmax."""
    return _token(token, logits.astype(np.float64)).logprob


def _moved(wide: NDArray[np.float64], options: SamplingOptions, history: History) -> NDArray[np.float64]:
    """The logits after biases, penalties and bans; the same array where there are none."""
    penalties = options.frequency_penalty or options.presence_penalty
    if not (options.logit_bias or history.banned or (penalties and history.counts)):
        return wide
    moved = wide.copy()
    for token, bias in options.logit_bias:
        if token < len(moved):
            moved[token] += bias
    for token, count in history.counts.items() if penalties else ():
        moved[token] -= options.frequency_penalty * count + options.presence_penalty
    for token in history.banned:
        if token < len(moved):
            moved[token] = -np.inf
    return moved


def _best(logits: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Ids of the `count` highest logits, the highest first."""
    count = min(count, len(logits))
    threshold = np.partition(logits, len(logits) - count)[len(logits) - count]
    reaching = np.flatnonzero(logits >= threshold)
    return reaching[np.argsort(-logits[reaching], kind="stable")][:count]


def _token(token: int, logits: NDArray[np.float64]) -> SampledToken:
    return SampledToken(token, float(logits[token] - _log_total(logits)))


def _log_total(logits: NDArray[np.float64]) -> float:
    highest = logits.max()
    return float(highest + np.log(np.exp(logits - highest).sum()))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, name: str, value: object, range_: str) -> None:
    if not holds:
        raise SamplingRangeError(f"{name} is {value}, it must be {range_}")
