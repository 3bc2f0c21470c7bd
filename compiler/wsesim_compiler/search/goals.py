"""Goals: what a placement is to be good at, and what it must not miss.

Example: the objective `throughput` at 256 cached tokens with 32 sequences, under the limit `seconds_per_token<=0.001`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsesim.errors import InvalidInputError, UnknownNameError, brief

LATENCY, THROUGHPUT, CONTEXT, PROMPT = OBJECTIVES = ("latency", "throughput", "context", "prompt")
METRICS = ("seconds_per_token", "tokens_per_second", "context", "prompt_seconds")
"""What limits are about, in the order of OBJECTIVES."""
LOWER_IS_BETTER = ("seconds_per_token", "prompt_seconds")
_LIMIT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([0-9][0-9_,]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*")


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a placement does.

    seconds_per_token   s, of a lone token
    tokens_per_second   of all sequences together
    context             tokens, the longest context that fits
    prompt_seconds      s, until the first token of a prompt
    """

    seconds_per_token: float
    tokens_per_second: float
    context: int
    prompt_seconds: float

    def __getitem__(self, metric: str) -> float:
        return float(getattr(self, metric))


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound of a metric, such as `tokens_per_second>=20000`."""

    metric: str
    relation: str
    value: float

    def holds(self, metrics: Metrics) -> bool:
        own = metrics[self.metric]
        return own <= self.value if self.relation == "<=" else own >= self.value

    def __str__(self) -> str:
        return f"{self.metric}{self.relation}{self.value:g}"


@dataclass(frozen=True, slots=True)
class Goal:
    """`weights` of the objectives sum up to 1. `context` tokens are cached, a prompt has `prompt` tokens."""

    weights: tuple[tuple[str, float], ...] = ((LATENCY, 1.0),)
    limits: tuple[Limit, ...] = ()
    context: int = 512
    prompt: int = 128

    def cost(self, metrics: Metrics) -> float:
        """The lower the better: the weighted mean of logarithms, so a per cent of one metric is one of another."""
        total = 0.0
        for objective, weight in self.weights:
            metric = METRICS[OBJECTIVES.index(objective)]
            total += weight * math.log(metrics[metric]) * (1 if metric in LOWER_IS_BETTER else -1)
        return total

    def allows(self, metrics: Metrics) -> bool:
        return all(limit.holds(metrics) for limit in self.limits)

    def wants(self, objective: str) -> bool:
        """Whether the objective, or a limit of its metric, decides."""
        metric = METRICS[OBJECTIVES.index(objective)]
        return objective in dict(self.weights) or any(limit.metric == metric for limit in self.limits)


def parse_objective(text: str) -> tuple[tuple[str, float], ...]:
    """Weights from `latency`, or from `latency=3,throughput=1`. Raises InvalidInputError or UnknownNameError."""
    weights: dict[str, float] = {}
    for entry in text.split(","):
        name, equals, stated = (part.strip() for part in entry.partition("="))
        if name not in OBJECTIVES:
            raise UnknownNameError("objective", name, OBJECTIVES)
        try:
            weight = float(stated) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf or name in weights:
            raise InvalidInputError(
                f"objective {brief(text)}: each weight is a number above 0, as in latency=3,prompt=1"
            )
        weights[name] = weight
    total = sum(weights.values())
    return tuple((name, weight / total) for name, weight in weights.items())


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """Limits from texts such as `context>=8192`. Raises InvalidInputError or UnknownNameError."""
    limits = []
    for text in texts:
        found = _LIMIT.fullmatch(text)
        if not found:
            raise InvalidInputError(f"limit {brief(text)}: write METRIC>=VALUE or METRIC<=VALUE, as in context>=8192")
        metric, relation, value = found.groups()
        if metric not in METRICS:
            raise UnknownNameError("metric", metric, METRICS)
        right = "<=" if metric in LOWER_IS_BETTER else ">="
        if relation != right:
            raise InvalidInputError(f"limit {brief(text)}: a limit of {metric} is {metric}{right}VALUE")
        limits.append(Limit(metric, relation, float(value.replace("_", "").replace(",", ""))))
    return tuple(limits)


def nearest(limits: Sequence[Limit], found: Sequence[Metrics]) -> Mapping[str, float]:
    """Of each limit's metric the best value among `found`."""
    best = {}
    for limit in limits:
        values = [metrics[limit.metric] for metrics in found]
        best[limit.metric] = min(values) if limit.relation == "<=" else max(values)
    return best
