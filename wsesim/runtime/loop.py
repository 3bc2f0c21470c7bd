"""The token loop: execute gives the next ids of all requests in flight, engine gives each one's cycles."""

from __future__ import annotations

import heapq
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

from wsesim.machine import Machine
from wsesim.program.kernels import DECODE, PREFILL
from wsesim.runtime.errors import RequestError
from wsesim.runtime.protocols import Arithmetic, Cycles, Tokenizer
from wsesim.runtime.request import Request
from wsesim.runtime.run import Completion, Hear, Heard, Prompt, PromptLogprobs, Run, Token

PROMPT_TOKENS = 64
"""Tokens of prompts that are computed between two tokens of the others in flight. Changes no number."""


class Engine:
    """One wafer: requests share its slots (one a sequence of its KV cache) and its blocks, on one virtual clock.

    First come, first served: a request waits for a slot, then its prompt and every token of it go through the blocks,
    each step as soon as the one before leaves it room (`StepCycles.busy_cycles`). Events come in the order of virtual
    time, whatever order the numbers are computed in; the text of a request depends on no other.
    """

    def __init__(
        self,
        machine: Machine,
        max_context: int,
        arithmetic: Arithmetic,
        cycles: Cycles,
        tokenizer: Tokenizer,
        slots: int = 1,
    ) -> None:
        self.machine = machine
        self.max_context = max_context
        self.arithmetic = arithmetic
        self.cycles = cycles
        self.tokenizer = tokenizer
        self.slots = slots
        self.now_s = 0.0
        self._entrance_free_s = 0.0
        self._in_flight: dict[Run, None] = {}  # in the order of admission
        self._waiting: deque[Run] = deque()
        self._arriving: dict[Run, None] = {}
        self._events: list[tuple[float, int, Run]] = []
        self._count = 0

    @property
    def in_flight(self) -> int:
        """Requests in a slot."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """Requests that have not been admitted."""
        return len(self._waiting) + len(self._arriving)

    @property
    def busy(self) -> bool:
        return bool(self._in_flight or self._waiting or self._arriving)

    def submit(self, request: Request, hear: Hear) -> Run:
        """Queues one request, whose tokens and end are told to `hear`. Raises RequestError and changes nothing then."""
        return self.submit_all([request], [hear])[0]

    def submit_all(self, requests: Sequence[Request], hear: Sequence[Hear]) -> list[Run]:
        """Queues several, or none if it raises; those of one prompt have it computed once."""
        limits = [self._limit(request) for request in requests]
        prompts: dict[tuple[object, ...], Prompt] = {}
        runs = []
        for request, limit, own in zip(requests, limits, hear, strict=True):
            alike = (request.prompt_ids, request.prompt_logprobs, request.logprobs)
            prompt = prompts.setdefault(alike, Prompt(request.prompt_ids, each_token=request.prompt_logprobs))
            prompt.users += 1
            arrival_s = self.now_s if request.arrival_s is None else request.arrival_s
            run = Run(request, limit, prompt, self.tokenizer, arrival_s, own)
            self._arriving[run] = None
            self._at(arrival_s + self.machine.host.send_call_s, run)
            runs.append(run)
        return runs

    def cancel(self, run: Run) -> None:
        """Its client has gone: the slot is free from now on."""
        self._arriving.pop(run, None)
        if run in self._waiting:
            self._waiting.remove(run)
        held_slot = self._in_flight.pop(run, run) is None
        run.release()
        if held_slot and self._entrance_free_s == run.leaves_entrance_s:
            self._entrance_free_s = max(self.now_s, run.enters_s)  # what has not begun does not happen
        if held_slot:
            self._admit()
        if not self.busy:
            self._events.clear()

    def clear(self) -> None:
        """Drops all requests, in whatever state they are, and admits nobody."""
        for run in (*self._in_flight, *self._waiting, *self._arriving):
            run.release()
        self._in_flight.clear()
        self._waiting.clear()
        self._arriving.clear()
        self._events.clear()

    def run(self, request: Request) -> Iterator[Token | Completion]:
        """The request's tokens as they come, then its Completion; what is dropped half-read, or unread, is cancelled.

        Raises RequestError before the first.
        """
        heard: deque[Heard] = deque()
        return _Watch(self, self.submit(request, heard.append), heard)

    def advance(self) -> None:
        """Goes on by one event of virtual time, or by one pass of arithmetic that the event still needs."""
        while self._events and not self._lives(self._events[0][2]):
            heapq.heappop(self._events)
        if not self._events:
            return
        at_s, _, run = self._events[0]
        if run in self._in_flight and run.due:
            self._compute()
            return
        heapq.heappop(self._events)
        self.now_s = at_s
        if run not in self._in_flight:
            del self._arriving[run]
            self._waiting.append(run)
            self._admit()
        elif run.finish_reason is None:
            self._step_done(run)
        else:
            self._finish(run)

    def _limit(self, request: Request) -> int:
        limit = request.limit(self.max_context)
        if request.arrival_s is not None and request.arrival_s < self.now_s:
            raise RequestError(f"arrival_s is {request.arrival_s}, earlier than the virtual now, {self.now_s}")
        return limit

    def _lives(self, run: Run) -> bool:
        return run in self._in_flight or run in self._arriving

    def _at(self, at_s: float, run: Run) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, run))

    def _admit(self) -> None:
        while self._waiting and len(self._in_flight) < self.slots:
            run = self._waiting.popleft()
            self._in_flight[run] = None
            run.admitted_s = self.now_s
            self._enter(run)

    def _enter(self, run: Run) -> None:
        """The run's next step goes onto the wafer, as soon as the step before has left it room."""
        began = time.perf_counter()
        if run.phase == PREFILL:
            step = self.cycles.prefill(len(run.prompt.token_ids), run.candidates)
        else:
            step = self.cycles.decode(run.context, run.candidates)
        run.simulate_wall_s += time.perf_counter() - began
        begins_s = max(self.now_s, self._entrance_free_s)
        self._entrance_free_s = begins_s + self.machine.seconds(step.busy_cycles)
        run.enters_s, run.leaves_entrance_s = begins_s, self._entrance_free_s
        run.step_cycles = step.cycles
        if run.phase == PREFILL:
            run.logits_s = begins_s + self.machine.seconds(step.logits_cycles)
            run.step_cycles = step.cycles - step.logits_cycles
        ends_s = run.logits_s if run.finish_reason else begins_s + self.machine.seconds(step.cycles)
        self._at(ends_s, run)

    def _step_done(self, run: Run) -> None:
        self._tell_of_prompt(run)
        began = time.perf_counter()
        token = run.draw(self.now_s)
        run.execute_wall_s += time.perf_counter() - began
        run.hear(token)
        if run.finish_reason is None:
            self._enter(run)
        else:
            self._at(self.now_s, run)

    def _tell_of_prompt(self, run: Run) -> None:
        if run.phase == PREFILL and run.request.prompt_logprobs:
            run.hear(PromptLogprobs(tuple(run.prompt.logprobs)))

    def _finish(self, run: Run) -> None:
        self._tell_of_prompt(run)
        del self._in_flight[run]
        completion = run.completion(self.machine)
        run.release()
        run.hear(completion)
        self._admit()

    def _compute(self) -> None:
        """One pass over the weights for every token that is due, and a part of the prompts that are."""
        due = [run for run in self._in_flight if run.due]
        self._pass(DECODE, [run for run in due if run.phase == DECODE], most=1)
        prompts = {run.prompt: run for run in reversed(due) if run.phase == PREFILL}
        self._pass(PREFILL, list(reversed(prompts.values())), most=PROMPT_TOKENS)

    def _pass(self, phase: str, runs: list[Run], most: int) -> None:
        """Feeds each run's next ids; of prompts, as many of the first ones as make `most` tokens."""
        began = time.perf_counter()
        fed = []
        room = most
        for run in runs:
            if room <= 0:
                break
            fed.append((run, *run.fed(self.arithmetic, room)))
            room -= len(fed[-1][2]) if phase == PREFILL else 0
        if not fed:
            return
        logits = self.arithmetic.step_each([s for _, s, _ in fed], [ids for *_, ids in fed], phase=phase)
        wall_s = (time.perf_counter() - began) / len(fed)
        for (run, _, ids), own in zip(fed, logits, strict=True):
            run.take(ids, own)
            run.execute_wall_s += wall_s


class _Watch(Iterator[Token | Completion]):
    """What one request's client hears, while the engine is made to go on."""

    def __init__(self, engine: Engine, run: Run, heard: deque[Heard]) -> None:
        self._engine = engine
        self._heard = heard
        self._over = False
        weakref.finalize(self, engine.cancel, run).atexit = False

    def __next__(self) -> Token | Completion:
        if self._over:
            raise StopIteration
        while not self._heard:
            self._engine.advance()
        item = self._heard.popleft()
        self._over = isinstance(item, Completion)
        return next(self) if isinstance(item, PromptLogprobs) else item
