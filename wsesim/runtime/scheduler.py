"""Scheduler: jobs share the slots and the blocks of one wafer, on a clock of integer cycles.

    scheduler = Scheduler(lambda job: job.next_step(cycles), slots=4)
    scheduler.submit(job)
    while scheduler.busy:
        scheduler.advance()
    job.token_cycles    # when each token came

It knows lengths and cycles. Text, ids and arithmetic are the TokenLoop's, and so is the conversion to seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wsesim.program.kernels import PREFILL
from wsesim.runtime.job import Job
from wsesim.runtime.policy import FirstComeFirstServed, Policy, SlotState
from wsesim.runtime.protocols import StepCycles


def _goes_on(job: Job) -> bool:
    del job
    return False


def _nothing(job: Job) -> None:
    del job


class Observer(Protocol):
    """Is told what happens to jobs, at `now_cycles` of the clock. It changes nothing.

    `admitted`: the job got a slot. `stepped`: its step has left the wafer; the token is not counted yet. `ended`: it
    has left, `finished` or `cancelled`, from a slot or from the queue.
    """

    def admitted(self, job: Job, now_cycles: int) -> None: ...

    def stepped(self, job: Job, now_cycles: int) -> None: ...

    def ended(self, job: Job, now_cycles: int, outcome: str) -> None: ...


class Scheduler:
    """One wafer: a slot for each sequence of its KV cache, and blocks that all slots share.

    A job arrives, and its prompt reaches the wafer `send_cycles` later. It waits for a slot, which `policy` gives it.
    Then its prompt and each of its tokens go through the blocks. A step enters when the step before, of any job, has
    left it room (`StepCycles.busy_cycles`). docs/decisions.md states what this model of a shared wafer leaves out.

    Events come in the order (cycle, sequence number): of two at the same cycle, the one that was scheduled first. An
    `observer` may be attached.

    Args:
        step_cycles: the cycles of a job's next step.
        slots: jobs in flight at once.
        policy: which waiting job is admitted to a free slot.
        send_cycles: from a job's arrival at the host to its arrival at the queue.
        ends_after_token: called after each token; whether the job ends with it, before it has all its tokens.
        on_finish: called when a job has left its slot, before the slot is given to another job.
    """

    def __init__(
        self,
        step_cycles: Callable[[Job], StepCycles],
        slots: int = 1,
        *,
        policy: Policy | None = None,
        send_cycles: int = 0,
        ends_after_token: Callable[[Job], bool] = _goes_on,
        on_finish: Callable[[Job], None] = _nothing,
    ) -> None:
        self.slots = slots
        self.now_cycles = 0
        self.observer: Observer | None = None
        self._step_cycles = step_cycles
        self._policy = policy or FirstComeFirstServed()
        self._send_cycles = send_cycles
        self._ends_after_token = ends_after_token
        self._on_finish = on_finish
        self._entrance_free_cycles = 0
        self._in_flight: dict[Job, None] = {}  # in the order of admission
        self._waiting: deque[Job] = deque()
        self._arriving: dict[Job, None] = {}
        self._events: list[tuple[int, int, Job]] = []
        self._count = 0

    @property
    def in_flight(self) -> tuple[Job, ...]:
        """Jobs in a slot, by admission."""
        return tuple(self._in_flight)

    @property
    def waiting(self) -> int:
        """Jobs that have not been admitted."""
        return len(self._waiting) + len(self._arriving)

    @property
    def busy(self) -> bool:
        return bool(self._in_flight or self._waiting or self._arriving)

    @property
    def next_step(self) -> Job | None:
        """The job in flight that the next event is about; None if that is an arrival, or if there is none."""
        job = self._next()
        return job if job in self._in_flight else None

    def submit(self, job: Job) -> None:
        """Queues a job, which may not arrive before now."""
        assert job.arrival_cycles >= self.now_cycles
        self._arriving[job] = None
        self._at(job.arrival_cycles + self._send_cycles, job)

    def cancel(self, job: Job) -> None:
        """Drops a job, in whatever state it is. Its slot is free from now on."""
        self._observe_end(job, "cancelled")
        self._arriving.pop(job, None)
        if job in self._waiting:
            self._waiting.remove(job)
        if job in self._in_flight:
            del self._in_flight[job]
            if self._entrance_free_cycles == job.leaves_room_cycles:  # a step that has not entered leaves its room
                self._entrance_free_cycles = max(self.now_cycles, job.enters_cycles)
            self._admit()
        if not self.busy:
            self._events.clear()

    def clear(self) -> None:
        """Drops all jobs and admits none."""
        for job in (*self._in_flight, *self._waiting, *self._arriving):
            self._observe_end(job, "cancelled")
        self._in_flight.clear()
        self._waiting.clear()
        self._arriving.clear()
        self._events.clear()

    def advance(self) -> None:
        """Moves the clock to the next event, if there is one, and does what follows from it."""
        job = self._next()
        if job is None:
            return
        self.now_cycles, *_ = heapq.heappop(self._events)
        if job not in self._in_flight:
            del self._arriving[job]
            self._waiting.append(job)
            self._admit()
        elif job.over:
            del self._in_flight[job]
            if self.observer is not None and not job.token_cycles:
                self.observer.stepped(job, self.now_cycles)  # a prompt without a token
            self._observe_end(job, "finished")
            self._on_finish(job)
            self._admit()
        else:
            self._token(job)

    def _next(self) -> Job | None:
        """The job of the next event, after those of cancelled jobs were dropped."""
        while self._events:
            job = self._events[0][2]
            if job in self._in_flight or job in self._arriving:
                return job
            heapq.heappop(self._events)
        return None

    def _at(self, cycles: int, job: Job) -> None:
        self._count += 1
        heapq.heappush(self._events, (cycles, self._count, job))

    def _admit(self) -> None:
        while self._waiting and len(self._in_flight) < self.slots:
            job = self._policy.next(self._waiting, SlotState(self.now_cycles, self.slots, self.in_flight))
            if job is None:
                assert self._in_flight, "a policy left an idle wafer idle"
                return
            self._waiting.remove(job)
            self._in_flight[job] = None
            job.admitted_cycles = self.now_cycles
            if self.observer is not None:
                self.observer.admitted(job, self.now_cycles)
            self._enter(job)

    def _enter(self, job: Job) -> None:
        """The job's next step enters the wafer, as soon as the step before has left it room."""
        step = self._step_cycles(job)
        enters = max(self.now_cycles, self._entrance_free_cycles)
        self._entrance_free_cycles = enters + step.busy_cycles
        job.enters_cycles, job.leaves_room_cycles = enters, self._entrance_free_cycles
        job.step_cycles = step.cycles
        if job.phase == PREFILL:
            job.logits_cycles = enters + step.logits_cycles
            job.step_cycles = step.cycles - step.logits_cycles
        self._at(job.logits_cycles if job.over else enters + step.cycles, job)

    def _observe_end(self, job: Job, outcome: str) -> None:
        if self.observer is not None:
            self.observer.ended(job, self.now_cycles, outcome)

    def _token(self, job: Job) -> None:
        if self.observer is not None:
            self.observer.stepped(job, self.now_cycles)
        job.token_cycles.append(self.now_cycles)
        job.ended = self._ends_after_token(job)
        if job.over:
            self._at(self.now_cycles, job)
        else:
            self._enter(job)
