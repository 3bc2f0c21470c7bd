"""Generation: the text of one request, from its submission to its Completion."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from wsesim.execute.sampling import History, likeliest, sample
from wsesim.machine import Machine
from wsesim.program.kernels import PREFILL
from wsesim.runtime.completion import Callback, Completion, Token
from wsesim.runtime.job import Job
from wsesim.runtime.prompt import Prompt
from wsesim.runtime.protocols import Arithmetic, Tokenizer
from wsesim.runtime.request import Request
from wsesim.runtime.stop import StopFilter
from wsesim.runtime.times import request_times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Generation:
    """A request's ids and text. Its `job` has the times. The TokenLoop alone changes it."""

    def __init__(self, request: Request, job: Job, prompt: Prompt, tokenizer: Tokenizer, callback: Callback) -> None:
        self.request = request
        self.job = job
        self.prompt = prompt
        self.callback = callback
        self.execute_wall_s = 0.0
        self.simulate_wall_s = 0.0
        self._eos_ids = tokenizer.eos_ids
        self._filter = StopFilter(request.options.stop)
        self._stream = tokenizer.stream()
        self._tokens: list[Token] = []
        self._counts: Counter[int] = Counter()
        self._uses_prompt = True
        self._sequence: Any = None
        self._logits: NDArray[np.float32] | None = None

    @property
    def phase(self) -> str:
        """PREFILL or DECODE, of the step that is on the wafer."""
        return self.job.phase

    @property
    def due(self) -> bool:
        """Whether the step that is on the wafer still lacks its logits."""
        if self.phase == PREFILL:
            return not self.prompt.computed
        return self._logits is None and not self.job.over

    @property
    def stopped(self) -> bool:
        """Whether the text is at its end: by the model's end token or by a stop sequence."""
        return self._filter.stopped or (bool(self._tokens) and self._tokens[-1].id in self._eos_ids)

    def next_ids(self, arithmetic: Arithmetic, most: int) -> tuple[Any, tuple[int, ...]]:
        """The KV cache of the step on the wafer, and the ids to feed it next: at most `most` of a prompt's."""
        if self.phase == PREFILL:
            return self.prompt.sequence(arithmetic), self.prompt.next_ids(most)
        if self._uses_prompt:
            self._sequence = self.prompt.fork(arithmetic)
            self._uses_prompt = False
        return self._sequence, (self._tokens[-1].id,)

    def consume(self, ids: tuple[int, ...], logits: NDArray[np.float32]) -> None:
        """Takes the `logits` after `ids` were fed."""
        if self.phase == PREFILL:
            self.prompt.consume(len(ids), logits, self.request.options.logprobs)
        else:
            self._logits = logits

    def draw(self, cycles: int, at_s: float) -> Token:
        """The next token, which came at `at_s` by a step of `cycles`."""
        options = self.request.options
        logits = self._logits if self._tokens else self.prompt.logits
        assert logits is not None
        early = len(self._tokens) < options.min_tokens
        history = History(len(self._tokens), self._counts, self._eos_ids if early else ())
        drawn = sample(logits, options.sampling, history)
        top = tuple((token.id, token.logprob) for token in likeliest(logits, options.logprobs))
        text = "" if drawn.id in self._eos_ids else self._filter.push(self._stream.push(drawn.id))
        self._counts[drawn.id] += 1
        self._tokens.append(Token(drawn.id, text, drawn.logprob, top, cycles, at_s))
        self._logits = None
        return self._tokens[-1]

    def release(self) -> None:
        """Drops the KV cache: nothing more is computed."""
        self._sequence = self._logits = None
        if self._uses_prompt:
            self.prompt.drop()
            self._uses_prompt = False

    def completion(self, machine: Machine) -> Completion:
        """The result, once the job has finished."""
        rest = self._filter.push(self._stream.flush()) + self._filter.flush()
        return Completion(
            text="".join(token.text for token in self._tokens) + rest,
            rest=rest,
            token_ids=tuple(token.id for token in self._tokens),
            prompt_tokens=len(self.prompt.token_ids),
            finish_reason="stop" if self.stopped else "length",
            times=request_times(machine, self.job),
            execute_wall_s=self.execute_wall_s,
            simulate_wall_s=self.simulate_wall_s,
        )
