"""Scheduler: slots, order and cycles of thousands of jobs, without arithmetic or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsesim.program.kernels import DECODE, PREFILL
from wsesim.runtime.job import Job
from wsesim.runtime.policy import SlotState
from wsesim.runtime.scheduler import Scheduler


@dataclass(frozen=True)
class StepTimes:
    cycles: int
    logits_cycles: int
    busy_cycles: int


@dataclass
class Steps:
    """Prefill: 100 cycles a token to the logits, 28 more to the id. Decode: 1000 + context. `busy`: a token's share."""

    busy: int
    asked: list[tuple[str, int]] = field(default_factory=list)

    def prefill(self, tokens: int, candidates: int) -> StepTimes:
        self.asked.append((PREFILL, tokens))
        return StepTimes(100 * tokens + 28, 100 * tokens, self.busy * tokens)

    def decode(self, context: int, candidates: int) -> StepTimes:
        self.asked.append((DECODE, context))
        return StepTimes(1000 + context, 900 + context, self.busy)


class Record:
    """Runs jobs and notes the order of admission and the highest number in flight."""

    def __init__(self, jobs: Sequence[Job], slots: int, busy: int = 10, send_cycles: int = 0) -> None:
        self.steps = Steps(busy)
        self.finished: list[Job] = []
        self.scheduler = Scheduler(
            lambda job: job.next_step(self.steps), slots, send_cycles=send_cycles, on_finish=self.finished.append
        )
        self.most_in_flight = 0
        self.clock = [0]
        for job in jobs:
            self.scheduler.submit(job)
        while self.scheduler.busy:
            self.scheduler.advance()
            self.most_in_flight = max(self.most_in_flight, len(self.scheduler.in_flight))
            self.clock.append(self.scheduler.now_cycles)


lengths = st.tuples(st.integers(1, 40), st.integers(0, 4), st.integers(0, 2_000_000))


@settings(max_examples=8, deadline=None)
@given(st.lists(lengths, min_size=1000, max_size=1000), st.integers(1, 16), st.integers(1, 2000), st.integers(0, 50))
def test_a_thousand_jobs_share_the_slots_in_the_order_of_their_arrival(
    wanted: list[tuple[int, int, int]], slots: int, busy: int, send_cycles: int
) -> None:
    jobs = [Job(tokens, output, arrival_cycles=at) for tokens, output, at in wanted]
    record = Record(jobs, slots, busy, send_cycles)
    assert sorted(map(id, record.finished)) == sorted(map(id, jobs))
    assert record.most_in_flight <= slots
    assert record.clock == sorted(record.clock)
    arrived = sorted(jobs, key=lambda job: job.arrival_cycles)  # stable: of two at once, the one submitted first
    admitted = [job.admitted_cycles for job in arrived]
    assert admitted == sorted(admitted)
    for job in jobs:
        check_times(job, send_cycles)
    ends = {job: (job.logits_cycles, *job.token_cycles)[-1] for job in jobs}
    edges = sorted([(job.admitted_cycles, 1) for job in jobs] + [(end, -1) for end in ends.values()])
    taken = 0
    for _, change in edges:  # at one cycle, slots are given back before they are given
        taken += change
        assert taken <= slots
    assert (record.scheduler.in_flight, record.scheduler.waiting) == ((), 0)


def check_times(job: Job, send_cycles: int) -> None:
    """Queue, prompt and tokens follow one another, at least as long as they take alone, in whole cycles."""
    readings = [job.arrival_cycles, job.admitted_cycles, job.logits_cycles, *job.token_cycles]
    assert all(type(reading) is int for reading in readings)
    assert readings == sorted(readings)
    assert job.admitted_cycles >= job.arrival_cycles + send_cycles
    assert job.logits_cycles - job.admitted_cycles >= 100 * job.prompt_tokens
    assert len(job.token_cycles) == job.output_tokens
    gaps = [b - a for a, b in pairwise(readings[2:])]
    assert gaps[:1] == ([28] if gaps else [])
    for count, gap in enumerate(gaps[1:]):
        assert gap >= 1000 + job.prompt_tokens + count
    parts = (job.admitted_cycles - job.arrival_cycles, job.logits_cycles - job.admitted_cycles, sum(gaps))
    assert job.arrival_cycles + sum(parts) == readings[-1]


def test_every_step_is_asked_for_once() -> None:
    record = Record([Job(3, 3)], slots=1)
    assert record.steps.asked == [(PREFILL, 3), (DECODE, 3), (DECODE, 4)]


def test_of_two_events_at_one_cycle_the_one_that_was_scheduled_first_comes_first() -> None:
    """Both prompts arrive at cycle 7; the second one enters when the first has left it room, 5 cycles a token later."""
    first, second = Job(2, 1, arrival_cycles=7), Job(2, 1, arrival_cycles=7)
    Record([second, first], slots=2, busy=5)
    assert (second.logits_cycles, first.logits_cycles) == (7 + 200, 7 + 10 + 200)


def test_a_slot_that_becomes_free_is_given_away_in_the_same_cycle() -> None:
    first, second = Job(1, 1), Job(1, 1)
    Record([first, second], slots=1)
    assert second.admitted_cycles == first.token_cycles[-1] == 128


class ShortestFirst:
    """The job with the shortest prompt."""

    def next(self, waiting: Sequence[Job], state: SlotState) -> Job | None:
        assert len(state.in_flight) < state.slots
        return min(waiting, key=lambda job: job.prompt_tokens)


class OneAtATime:
    """No job beside another, whatever the number of slots."""

    def next(self, waiting: Sequence[Job], state: SlotState) -> Job | None:
        return None if state.in_flight else waiting[0]


def run_with(policy: ShortestFirst | OneAtATime, jobs: Sequence[Job], slots: int) -> None:
    steps = Steps(10)
    scheduler = Scheduler(lambda job: job.next_step(steps), slots, policy=policy)
    for job in jobs:
        scheduler.submit(job)
    while scheduler.busy:
        scheduler.advance()


def test_a_policy_chooses_among_the_jobs_that_wait() -> None:
    jobs = [Job(tokens, 1) for tokens in (5, 9, 2, 4)]
    run_with(ShortestFirst(), jobs, slots=1)
    by_admission = sorted(jobs, key=lambda job: job.admitted_cycles)
    assert [job.prompt_tokens for job in by_admission] == [5, 2, 4, 9]  # the first found the wafer empty


def test_a_policy_may_leave_a_slot_free() -> None:
    jobs = [Job(2, 2) for _ in range(3)]
    run_with(OneAtATime(), jobs, slots=3)
    assert all(b.admitted_cycles == a.token_cycles[-1] for a, b in pairwise(jobs))


@pytest.mark.parametrize("ends_with", [1, 2, 5])
def test_a_job_may_end_before_it_has_all_its_tokens(ends_with: int) -> None:
    steps = Steps(10)
    job, follower = Job(3, 9), Job(1, 1)
    scheduler = Scheduler(
        lambda job: job.next_step(steps), ends_after_token=lambda job: len(job.token_cycles) == ends_with
    )
    scheduler.submit(job)
    scheduler.submit(follower)
    while scheduler.busy:
        scheduler.advance()
    assert len(job.token_cycles) == ends_with
    assert follower.admitted_cycles == job.token_cycles[-1]
    assert len(steps.asked) == ends_with + 1


def test_a_job_that_is_cancelled_leaves_its_slot_and_its_place_in_the_queue() -> None:
    steps = Steps(10)
    scheduler = Scheduler(lambda job: job.next_step(steps))
    running, waiting, arriving, last = Job(3, 9), Job(3, 9), Job(3, 9, arrival_cycles=5000), Job(3, 1)
    for job in (running, waiting, arriving, last):
        scheduler.submit(job)
    while len(running.token_cycles) < 2:
        scheduler.advance()
    for job in (arriving, waiting, running):
        scheduler.cancel(job)
    while scheduler.busy:
        scheduler.advance()
    assert last.admitted_cycles == running.token_cycles[-1]
    assert len(running.token_cycles) == 2
    assert not waiting.token_cycles and not arriving.token_cycles
    assert scheduler.next_step is None
