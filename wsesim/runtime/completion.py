"""The events of a request: its tokens, and at its end the Completion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wsesim.runtime.times import RequestTimes
from wsesim.tables import Table, aligned, shortened, si_seconds

Alternatives = tuple[tuple[int, float], ...]
"""Ids and their log probabilities, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    `text` is the text that it completes. It is often empty: half a character and the possible beginning of a stop
    sequence are held back. `top` are the likeliest tokens in its place, as many as the request asks for. `cycles` is
    the length of its step. `at_s` is when it came, on the virtual clock.
    """

    id: int
    text: str
    logprob: float
    top: Alternatives
    cycles: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request. Wall times are this computer's; all other times are the simulated wafer's.

    `rest` is the end of `text` that was held back until now.
    """

    text: str
    rest: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: str
    times: RequestTimes
    execute_wall_s: float
    simulate_wall_s: float

    def __repr__(self) -> str:
        tokens, total = len(self.token_ids), si_seconds(self.times.total_s)
        return f"<Completion {shortened(self.text, 40)}: {tokens} tokens, {self.finish_reason}, {total} modelled>"

    def __str__(self) -> str:
        """The text, then the modelled times."""
        return f"{self.text}\n\n{aligned(self.rows())}"

    def _repr_html_(self) -> str:
        return Table(self.text, self.rows()).html()

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Token counts, modelled times and rates, and the wall times, as the rows of a table."""
        tokens, times = len(self.token_ids), self.times
        rate = tokens / times.completion_s if times.completion_s else 0.0
        named = (("queue", times.queue_s), ("prompt", times.prompt_s), ("completion", times.completion_s))
        return (
            ("tokens", f"{self.prompt_tokens} prompt", f"{tokens} completion", f"finish: {self.finish_reason}"),
            ("time", *(f"{name} {si_seconds(seconds)}" for name, seconds in (*named, ("total", times.total_s)))),
            ("rate", f"{rate:,.1f} tokens/s", *_per_token(times.token_s[1:] or times.token_s)),
            ("this computer", f"execution {self.execute_wall_s:.2f} s", f"simulation {self.simulate_wall_s:.2f} s"),
        )


def _per_token(seconds: tuple[float, ...]) -> tuple[str, ...]:
    if not seconds:
        return ()
    return (
        f"mean {si_seconds(float(np.mean(seconds)))} a token",
        f"p99 {si_seconds(float(np.percentile(seconds, 99)))}",
    )


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """For each token of the prompt but the first: its log probability, and the likeliest tokens in its place."""

    tokens: tuple[tuple[float, Alternatives], ...]


GenerationEvent = PromptLogprobs | Token | Completion
Callback = Callable[[GenerationEvent], None]
"""Called with the events of a request: PromptLogprobs if asked for, each Token, then the Completion."""
