"""Times of one request, in virtual seconds: cycles / clock and named host overheads, never the wall clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from wsesim.machine import Machine


@dataclass(frozen=True, slots=True)
class Times:
    """`queue_s`: arrival to admission. `prompt_s`: admission to the logits after the last prompt token.
    `completion_s`: the output tokens, N / (N - 1) times first to last; N = 1: logits to token; N = 0: 0.
    `total_s`: their sum and the host's request overhead. `token_s`: from each token to the one before, the first from
    the logits; `admitted_s`, `finished_s`: on the virtual clock.
    """

    queue_s: float
    prompt_s: float
    completion_s: float
    total_s: float
    token_s: tuple[float, ...]
    admitted_s: float
    finished_s: float


def request_times(
    machine: Machine, arrival_s: float, admitted_s: float, logits_s: float, tokens_at_s: Sequence[float]
) -> Times:
    """Times of a request whose tokens came at `tokens_at_s` of the virtual clock, the prompt's logits at `logits_s`.

    The host sends the prompt in one call before it can be admitted, and receives the answer in one call at the end.
    """
    tokens = tuple(after - before for before, after in pairwise((logits_s, *tokens_at_s)))
    queue, prompt, completion = admitted_s - arrival_s, logits_s - admitted_s, _completion(tokens)
    total = queue + prompt + completion + machine.host.receive_call_s
    return Times(queue, prompt, completion, total, tokens, admitted_s, (logits_s, *tokens_at_s)[-1])


def _completion(token_s: tuple[float, ...]) -> float:
    """As the service reports it: N intervals, estimated from the N - 1 between tokens."""
    if len(token_s) < 2:
        return sum(token_s)
    return len(token_s) / (len(token_s) - 1) * sum(token_s[1:])
