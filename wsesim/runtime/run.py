"""Run: what one request has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim.execute.sampling import GREEDY, History, likeliest, logprob, sample
from wsesim.machine import Machine
from wsesim.program.kernels import DECODE, PREFILL
from wsesim.runtime.protocols import Arithmetic, Tokenizer
from wsesim.runtime.request import Request
from wsesim.runtime.stop import StopFilter
from wsesim.runtime.times import Times, request_times
from wsesim.tables import Table, aligned, shortened, si_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

Alternatives = tuple[tuple[int, float], ...]
"""Ids and their log probabilities, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token; `text` is what it lets out, often nothing (half characters, possible stop sequences).

    `top` are the likeliest tokens in its place, as many as were asked for. `cycles` are its step's own, `at_s` is when
    it came, on the virtual clock.
    """

    id: int
    text: str
    logprob: float
    top: Alternatives
    cycles: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request. Wall times are of this computer, everything else is of the simulated wafer.

    `rest` is the end of `text` that no token let out.
    """

    text: str
    rest: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: str
    times: Times
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
        """Token counts, modelled times and rates, and what they took on this computer, in words."""
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
    """The log probability of each token of the prompt but the first, and the likeliest ones in its place."""

    tokens: tuple[tuple[float, Alternatives], ...]


Heard = PromptLogprobs | Token | Completion
Hear = Callable[[Heard], None]
"""What a client hears of its request: PromptLogprobs if it asked for them, each token, then the Completion."""


class Prompt:
    """A prompt's cache and logits, computed once for all the texts that go on from it."""

    def __init__(self, token_ids: Sequence[int], *, each_token: bool = False) -> None:
        self.token_ids = tuple(token_ids)
        self.each_token = each_token
        self.users = 0
        self.logprobs: list[tuple[float, Alternatives]] = []
        self._fed = 0
        self._sequence: Any = None
        self.logits: NDArray[np.float32] | None = None  # after the last token, once that was fed

    @property
    def done(self) -> bool:
        return self._fed == len(self.token_ids)

    def sequence(self, arithmetic: Arithmetic) -> Any:
        if self._sequence is None:
            self._sequence = arithmetic.new_sequence()
        return self._sequence

    def next_ids(self, most: int) -> tuple[int, ...]:
        """What to feed next, at most so many tokens."""
        return self.token_ids[self._fed : self._fed + (1 if self.each_token else most)]

    def take(self, fed: int, logits: NDArray[np.float32], alternatives: int) -> None:
        """`fed` more tokens led to `logits`."""
        self._fed += fed
        if self.done:
            self.logits = logits
        elif self.each_token:
            top = tuple((token.id, token.logprob) for token in likeliest(logits, alternatives))
            self.logprobs.append((logprob(logits, self.token_ids[self._fed]), top))

    def leave(self, arithmetic: Arithmetic) -> Any:
        """The cache for one of the texts to go on with; the last one takes the prompt's own."""
        sequence = self._sequence
        self.drop()
        return arithmetic.fork(sequence) if self.users else sequence

    def drop(self) -> None:
        """One text less needs it; after the last one, it is gone."""
        self.users -= 1
        if not self.users:
            self._sequence = None


class Run:
    """One request between its submission and its Completion. Its engine alone changes it."""

    def __init__(
        self, request: Request, limit: int, prompt: Prompt, tokenizer: Tokenizer, arrival_s: float, hear: Hear
    ) -> None:
        self.request = request
        self.hear = hear
        self.arrival_s = arrival_s
        self.candidates = GREEDY if request.sampling.temperature == 0 else request.sampling.candidates
        self.admitted_s = 0.0
        self.logits_s = 0.0
        self.enters_s = self.leaves_entrance_s = 0.0  # its last step, and what follows it
        self.step_cycles = 0  # of the step that is on the wafer
        self.execute_wall_s = 0.0
        self.simulate_wall_s = 0.0
        self.prompt = prompt
        self._limit = limit
        self._eos_ids = tokenizer.eos_ids
        self._filter = StopFilter(request.stop)
        self._stream = tokenizer.stream()
        self._tokens: list[Token] = []
        self._counts: Counter[int] = Counter()
        self._needs_prompt = True
        self._sequence: Any = None
        self._logits: NDArray[np.float32] | None = None

    @property
    def phase(self) -> str:
        """Of the step that is on the wafer."""
        return DECODE if self._tokens else PREFILL

    @property
    def context(self) -> int:
        """Tokens in the cache before the next decode step."""
        return len(self.prompt.token_ids) + len(self._tokens) - 1

    @property
    def due(self) -> bool:
        """Whether the step that is on the wafer still lacks its logits."""
        if self.phase == PREFILL:
            return not self.prompt.done
        return self._logits is None and self.finish_reason is None

    @property
    def finish_reason(self) -> str | None:
        """`stop` or `length` once the text is at its end."""
        if self._filter.stopped or (self._tokens and self._tokens[-1].id in self._eos_ids):
            return "stop"
        return "length" if len(self._tokens) == self._limit else None

    def fed(self, arithmetic: Arithmetic, most: int) -> tuple[Any, tuple[int, ...]]:
        """The sequence and the ids that its step on the wafer still needs to be fed."""
        if self.phase == PREFILL:
            return self.prompt.sequence(arithmetic), self.prompt.next_ids(most)
        if self._needs_prompt:
            self._sequence = self.prompt.leave(arithmetic)
            self._needs_prompt = False
        return self._sequence, (self._tokens[-1].id,)

    def take(self, ids: tuple[int, ...], logits: NDArray[np.float32]) -> None:
        """`ids` were fed and led to `logits`."""
        if self.phase == PREFILL:
            self.prompt.take(len(ids), logits, self.request.logprobs)
        else:
            self._logits = logits

    def draw(self, at_s: float) -> Token:
        """The token of the step that has come off the wafer."""
        logits = self.prompt.logits if self.phase == PREFILL else self._logits
        assert logits is not None
        early = len(self._tokens) < self.request.min_tokens
        history = History(len(self._tokens), self._counts, self._eos_ids if early else ())
        drawn = sample(logits, self.request.sampling, history)
        top = tuple((token.id, token.logprob) for token in likeliest(logits, self.request.logprobs))
        text = "" if drawn.id in self._eos_ids else self._filter.push(self._stream.push(drawn.id))
        self._counts[drawn.id] += 1
        self._tokens.append(Token(drawn.id, text, drawn.logprob, top, self.step_cycles, at_s))
        self._logits = None
        return self._tokens[-1]

    def release(self) -> None:
        """Nothing more is computed: its cache is dropped, whoever still knows the run."""
        self._sequence = self._logits = None
        if self._needs_prompt:
            self.prompt.drop()
            self._needs_prompt = False

    def completion(self, machine: Machine) -> Completion:
        """What it has come to, at its end."""
        rest = self._filter.push(self._stream.flush()) + self._filter.flush()
        at_s = [token.at_s for token in self._tokens]
        times = request_times(machine, self.arrival_s, self.admitted_s, self.logits_s, at_s)
        reason = self.finish_reason
        assert reason is not None
        return Completion(
            text="".join(token.text for token in self._tokens) + rest,
            rest=rest,
            token_ids=tuple(token.id for token in self._tokens),
            prompt_tokens=len(self.prompt.token_ids),
            finish_reason=reason,
            times=times,
            execute_wall_s=self.execute_wall_s,
            simulate_wall_s=self.simulate_wall_s,
        )
