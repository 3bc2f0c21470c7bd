"""Times of one request, in virtual seconds: cycles / clock and named host overheads, never the wall clock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from wsesim.machine import Machine
from wsesim.runtime.job import Job


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """The modelled times of a request, in seconds.

    queue_s: from arrival to admission. The host's send call lies in it.
    prompt_s: from admission to the logits after the last prompt token.
    completion_s: of N output tokens, N / (N - 1) times the time from the first to the last, as the service reports
        it. N = 1: from the logits to the token. N = 0: 0.
    total_s: the sum of these three and the host's receive call.
    token_s: for each token, the time since the token before it; for the first, since the logits.
    admitted_s, finished_s: readings of the virtual clock.
    """

    queue_s: float
    prompt_s: float
    completion_s: float
    total_s: float
    token_s: tuple[float, ...]
    admitted_s: float
    finished_s: float


def request_times(machine: Machine, job: Job) -> RequestTimes:
    """The times of a finished job."""
    seconds = machine.seconds
    gaps = [after - before for before, after in pairwise((job.logits_cycles, *job.token_cycles))]
    queue_s = seconds(job.admitted_cycles - job.arrival_cycles)
    prompt_s = seconds(job.logits_cycles - job.admitted_cycles)
    completion_s = _completion_s(machine, gaps)
    return RequestTimes(
        queue_s,
        prompt_s,
        completion_s,
        total_s=queue_s + prompt_s + completion_s + machine.host.receive_call_s,
        token_s=tuple(map(seconds, gaps)),
        admitted_s=seconds(job.admitted_cycles),
        finished_s=seconds((job.logits_cycles, *job.token_cycles)[-1]),
    )


def _completion_s(machine: Machine, gaps: list[int]) -> float:
    """N intervals, estimated from the N - 1 between tokens."""
    if len(gaps) < 2:
        return machine.seconds(sum(gaps))
    return machine.seconds(len(gaps) * sum(gaps[1:])) / (len(gaps) - 1)
