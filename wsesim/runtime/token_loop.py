"""TokenLoop: a Scheduler with arithmetic behind it. It gives every request its text, and its times in seconds."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

from wsesim.machine import Machine
from wsesim.program.kernels import DECODE, PREFILL
from wsesim.runtime.completion import Callback, Completion, GenerationEvent, PromptLogprobs, Token
from wsesim.runtime.errors import RequestError
from wsesim.runtime.generation import Generation
from wsesim.runtime.job import Job
from wsesim.runtime.policy import Policy
from wsesim.runtime.prompt import Prompt
from wsesim.runtime.protocols import Arithmetic, Cycles, StepCycles, Tokenizer
from wsesim.runtime.request import Request
from wsesim.runtime.scheduler import Scheduler

PROMPT_TOKENS = 64
"""Tokens of prompts that are computed between two tokens of the other requests in flight. Changes no result."""


class TokenLoop:
    """One wafer that generates text: its Scheduler, its arithmetic and its tokenizer.

    Clients get their events in the order of virtual time, whatever order the logits are computed in. The text of a
    request does not depend on other requests.
    """

    def __init__(
        self,
        machine: Machine,
        max_context: int,
        arithmetic: Arithmetic,
        cycles: Cycles,
        tokenizer: Tokenizer,
        slots: int = 1,
        policy: Policy | None = None,
    ) -> None:
        self.machine = machine
        self.max_context = max_context
        self.arithmetic = arithmetic
        self.cycles = cycles
        self.tokenizer = tokenizer
        self.scheduler = Scheduler(
            self._step_cycles,
            slots,
            policy=policy,
            send_cycles=machine.cycles(machine.host.send_call_s),
            ends_after_token=self._token,
            on_finish=self._finish,
        )
        self._generations: dict[Job, Generation] = {}

    @property
    def now_s(self) -> float:
        """The virtual clock."""
        return self.machine.seconds(self.scheduler.now_cycles)

    @property
    def slots(self) -> int:
        return self.scheduler.slots

    @property
    def in_flight(self) -> int:
        """Requests in a slot."""
        return len(self.scheduler.in_flight)

    @property
    def waiting(self) -> int:
        """Requests that have not been admitted."""
        return self.scheduler.waiting

    @property
    def busy(self) -> bool:
        return self.scheduler.busy

    def submit(self, request: Request, callback: Callback) -> Generation:
        """Queues one request; `callback` gets its events. Raises RequestError, before anything has changed."""
        return self.submit_all([request], [callback])[0]

    def submit_all(self, requests: Sequence[Request], callbacks: Sequence[Callback]) -> list[Generation]:
        """As `submit`, for several. A prompt that several of them share is computed once."""
        jobs = [self._job(request) for request in requests]
        prompts: dict[tuple[object, ...], Prompt] = {}
        generations = []
        for request, job, callback in zip(requests, jobs, callbacks, strict=True):
            options = request.options
            key = (request.prompt_ids, options.prompt_logprobs, options.logprobs)
            prompt = prompts.setdefault(key, Prompt(request.prompt_ids, each_token=options.prompt_logprobs))
            prompt.users += 1
            generation = Generation(request, job, prompt, self.tokenizer, callback)
            self._generations[job] = generation
            self.scheduler.submit(job)
            generations.append(generation)
        return generations

    def cancel(self, generation: Generation) -> None:
        """Drops a request, in whatever state it is. Its slot is free from now on."""
        if self._generations.pop(generation.job, None) is not None:
            generation.release()
            self.scheduler.cancel(generation.job)

    def clear(self) -> None:
        """Drops all requests and admits none."""
        for generation in self._generations.values():
            generation.release()
        self._generations.clear()
        self.scheduler.clear()

    def run(self, request: Request) -> Iterator[Token | Completion]:
        """The request's tokens as they come, then its Completion. An iterator that is dropped before its end, or was
        never read, cancels the request.

        Raises RequestError before the first.
        """
        events: deque[GenerationEvent] = deque()
        return _Events(self, self.submit(request, events.append), events)

    def advance(self) -> None:
        """Goes on by one event of the Scheduler, or by one pass of arithmetic that this event still needs."""
        job = self.scheduler.next_step
        if job is not None and self._generations[job].due:
            self._compute()
        else:
            self.scheduler.advance()

    def _job(self, request: Request) -> Job:
        output_tokens = request.output_tokens(self.max_context)
        arrival_s, now_cycles = request.options.arrival_s, self.scheduler.now_cycles
        arrival_cycles = now_cycles if arrival_s is None else self.machine.cycles(arrival_s)
        if arrival_cycles < now_cycles:
            raise RequestError(f"arrival_s is {arrival_s}, earlier than the virtual now, {self.now_s}")
        return Job(len(request.prompt_ids), output_tokens, request.options.candidates, arrival_cycles)

    def _step_cycles(self, job: Job) -> StepCycles:
        began = time.perf_counter()
        step = job.next_step(self.cycles)
        self._generations[job].simulate_wall_s += time.perf_counter() - began
        return step

    def _token(self, job: Job) -> bool:
        """Draws the token of the step that has left the wafer. Whether the text ends with it."""
        generation = self._generations[job]
        if len(job.token_cycles) == 1:
            _report_prompt(generation)
        began = time.perf_counter()
        token = generation.draw(job.step_cycles, self.now_s)
        generation.execute_wall_s += time.perf_counter() - began
        generation.callback(token)
        return generation.stopped

    def _finish(self, job: Job) -> None:
        generation = self._generations.pop(job)
        if not job.token_cycles:
            _report_prompt(generation)
        completion = generation.completion(self.machine)
        generation.release()
        generation.callback(completion)

    def _compute(self) -> None:
        """One pass over the weights for every token that is due, and a part of the prompts that are due."""
        due = [generation for job in self.scheduler.in_flight if (generation := self._generations[job]).due]
        self._pass(DECODE, [generation for generation in due if generation.phase == DECODE], most=1)
        prompts = {generation.prompt: generation for generation in reversed(due) if generation.phase == PREFILL}
        self._pass(PREFILL, list(reversed(prompts.values())), most=PROMPT_TOKENS)

    def _pass(self, phase: str, generations: list[Generation], most: int) -> None:
        """Feeds each generation its next ids; of prompts, `most` tokens in all."""
        began = time.perf_counter()
        fed = []
        room = most
        for generation in generations:
            if room <= 0:
                break
            fed.append((generation, *generation.next_ids(self.arithmetic, room)))
            room -= len(fed[-1][2]) if phase == PREFILL else 0
        if not fed:
            return
        logits = self.arithmetic.step_each([s for _, s, _ in fed], [ids for *_, ids in fed], phase=phase)
        wall_s = (time.perf_counter() - began) / len(fed)
        for (generation, _, ids), own in zip(fed, logits, strict=True):
            generation.consume(ids, own)
            generation.execute_wall_s += wall_s


def _report_prompt(generation: Generation) -> None:
    if generation.request.options.prompt_logprobs:
        generation.callback(PromptLogprobs(tuple(generation.prompt.logprobs)))


class _Events(Iterator[Token | Completion]):
    """The events of one request. Reading them makes the loop go on."""

    def __init__(self, loop: TokenLoop, generation: Generation, events: deque[GenerationEvent]) -> None:
        self._loop = loop
        self._events = events
        self._over = False
        weakref.finalize(self, loop.cancel, generation).atexit = False

    def __next__(self) -> Token | Completion:
        if self._over:
            raise StopIteration
        while not self._events:
            self._loop.advance()
        event = self._events.popleft()
        self._over = isinstance(event, Completion)
        return next(self) if isinstance(event, PromptLogprobs) else event
