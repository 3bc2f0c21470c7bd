"""Request: a prompt and what to generate from it, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.execute.sampling import GREEDY, SamplingOptions
from wsesim.runtime.errors import RequestError

MAX_STOPS = 4
LATEST_ARRIVAL_S = 1e6
"""Up to here a float of seconds still tells single cycles apart, at any clock below 1 GHz."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to continue a prompt. Raises RequestError for a value outside its range.

    max_tokens: most tokens to generate. None: to the end of the text or of the context.
    stop: up to four texts that end the generated one; they are no part of it.
    arrival_s: when the request arrives, on the virtual clock. None: now.
    min_tokens: the text does not end before so many tokens.
    logprobs: so many of the likeliest tokens come with every token.
    prompt_logprobs: the prompt's tokens get log probabilities too. They are then computed one by one.
    """

    sampling: SamplingOptions
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    arrival_s: float | None = None
    min_tokens: int = 0
    logprobs: int = 0
    prompt_logprobs: bool = False

    def __post_init__(self) -> None:
        if self.arrival_s is not None and not 0 <= self.arrival_s <= LATEST_ARRIVAL_S:
            raise RequestError(f"arrival_s is {self.arrival_s}; it is a time from 0 to {LATEST_ARRIVAL_S:g} s")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise RequestError(f"`max_tokens` is {self.max_tokens}; it is at least 0")
        if self.min_tokens < 0 or self.logprobs < 0:
            raise RequestError(f"min_tokens is {self.min_tokens}, logprobs {self.logprobs}; both are at least 0")
        if len(self.stop) > MAX_STOPS or not all(self.stop):
            raise RequestError(f"`stop` takes up to {MAX_STOPS} sequences, none of them empty")

    @property
    def candidates(self) -> int:
        """Candidates of each draw: the tokens among which the wafer chooses."""
        return GREEDY if self.sampling.temperature == 0 else self.sampling.candidates


@dataclass(frozen=True, slots=True)
class Request:
    """One text to generate: the ids of its prompt, and how to continue it."""

    prompt_ids: tuple[int, ...]
    options: GenerationOptions

    def output_tokens(self, max_context: int) -> int:
        """The most tokens that it can generate. Raises RequestError for a prompt that is empty or too long."""
        room = max_context - len(self.prompt_ids)
        wanted = self.options.max_tokens
        if not self.prompt_ids:
            raise RequestError("the prompt is empty; give at least one token of text")
        if room < (0 if wanted == 0 else 1):
            raise RequestError(
                f"the prompt has {len(self.prompt_ids)} tokens, the compiled context {max_context} "
                "(one is needed for the answer); shorten the prompt or raise `max_context`"
            )
        return room if wanted is None else min(wanted, room)
