"""The token loop: per token, execute gives the next id and engine gives its cycles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from wsesim.execute.sampling import GREEDY, sample
from wsesim.machine import Machine
from wsesim.program.kernels import PREFILL
from wsesim.runtime.protocols import Arithmetic, Cycles, Tokenizer
from wsesim.runtime.request import Request
from wsesim.runtime.stop import StopFilter
from wsesim.runtime.times import Times, request_times


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token; `text` is what it lets out, often nothing (half characters, possible stop sequences)."""

    id: int
    text: str
    logprob: float
    cycles: int  # from the token before; the first: from the logits of the prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request. Wall times are of this computer, everything else is of the simulated wafer."""

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: str
    times: Times
    execute_wall_s: float
    simulate_wall_s: float


class Engine:
    """One wafer serving requests one after the other: a program's arithmetic, its cycles, and its virtual clock."""

    def __init__(
        self, machine: Machine, max_context: int, arithmetic: Arithmetic, cycles: Cycles, tokenizer: Tokenizer
    ) -> None:
        self.machine = machine
        self.max_context = max_context
        self.arithmetic = arithmetic
        self.cycles = cycles
        self.tokenizer = tokenizer
        self.free_s = 0.0

    def run(self, request: Request) -> Iterator[Token | Completion]:
        """The request's tokens as they come, then its Completion. Raises RequestError before the first."""
        limit = request.limit(self.max_context)
        return self._run(request, limit)

    def _run(self, request: Request, limit: int) -> Iterator[Token | Completion]:
        run = _Run(self, request)
        run.prefill()
        reason = "length"
        for _ in range(limit):
            token = run.next_token()
            if token.id in self.tokenizer.eos_ids:
                reason = "stop"
            yield token
            if reason == "stop" or run.filter.stopped:
                reason = "stop"
                break
        yield self._finish(request, run, reason)

    def _finish(self, request: Request, run: _Run, reason: str) -> Completion:
        cycles = tuple(t.cycles for t in run.tokens)
        times = request_times(self.machine, request.arrival_s, self.free_s, run.prompt_cycles, cycles)
        self.free_s = times.finished_s
        text = "".join(t.text for t in run.tokens) + run.rest()
        ids = tuple(t.id for t in run.tokens)
        return Completion(text, ids, len(request.prompt_ids), reason, times, run.execute_wall_s, run.simulate_wall_s)


class _Run:
    """What one request has come to."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.engine = engine
        self.request = request
        self.filter = StopFilter(request.stop)
        self.stream = engine.tokenizer.stream()
        self.tokens: list[Token] = []
        self.prompt_cycles = 0
        self.first_cycles = 0
        self.execute_wall_s = 0.0
        self.simulate_wall_s = 0.0
        self._sequence = engine.arithmetic.new_sequence()
        greedy = request.sampling.temperature == 0
        self._candidates = GREEDY if greedy else request.sampling.candidates

    def prefill(self) -> None:
        """The prompt: its logits, and the cycles to them."""
        began = time.perf_counter()
        self._logits = self.engine.arithmetic.step(self._sequence, self.request.prompt_ids, phase=PREFILL)
        self.execute_wall_s += time.perf_counter() - began
        began = time.perf_counter()
        step = self.engine.cycles.prefill(len(self.request.prompt_ids), self._candidates)
        self.prompt_cycles = step.logits_cycles
        self.first_cycles = step.cycles - step.logits_cycles
        self.simulate_wall_s += time.perf_counter() - began

    def next_token(self) -> Token:
        """Draws one token; for all but the first, the step that leads to it comes before."""
        cycles = self._step() if self.tokens else self.first_cycles
        began = time.perf_counter()
        assert self._logits is not None
        drawn = sample(self._logits, self.request.sampling, len(self.tokens))
        self.execute_wall_s += time.perf_counter() - began
        ends = drawn.id in self.engine.tokenizer.eos_ids
        text = "" if ends else self.filter.push(self.stream.push(drawn.id))
        self.tokens.append(Token(drawn.id, text, drawn.logprob, cycles))
        return self.tokens[-1]

    def rest(self) -> str:
        """Text that was held back to the end."""
        tail = self.filter.push(self.stream.flush())
        return tail + self.filter.flush()

    def _step(self) -> int:
        began = time.perf_counter()
        self._logits = self.engine.arithmetic.step(self._sequence, [self.tokens[-1].id])
        self.execute_wall_s += time.perf_counter() - began
        began = time.perf_counter()
        context = len(self.request.prompt_ids) + len(self.tokens) - 1
        cycles = self.engine.cycles.decode(context, self._candidates).cycles
        self.simulate_wall_s += time.perf_counter() - began
        return cycles
