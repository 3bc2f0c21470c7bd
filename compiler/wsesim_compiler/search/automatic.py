"""Strategy `auto`: the best blocks of a fixed, small set of candidates, without a clock and without chance.

Every machine gets the same result. The best of them are priced again, by simulated layers.
"""

from __future__ import annotations

import dataclasses
from itertools import islice

from wsesim.machine import Machine
from wsesim.program.protocols import StageOracle
from wsesim.progress import working
from wsesim_compiler.options import TYPICAL_PROMPT, Options, PlacedBlock
from wsesim_compiler.partition import Partition
from wsesim_compiler.passes.place import refusal
from wsesim_compiler.passes.route import routable
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.search.explore import first_candidates
from wsesim_compiler.search.goals import THROUGHPUT, Goal, parse_objective
from wsesim_compiler.search.judge import Candidate, Judge

CACHED = 512  # tokens before the decode step that candidates are compared with: those of `simulate` without options
CHUNKS = (1, 4)  # numbers of a prompt's tokens that candidates are compared with
AGAIN = 4  # candidates that are priced by simulated layers, beside the strategies
SLOWER = 1.5  # for throughput, a token may take as many times as long as on the candidate with the lowest latency
TIE = 0.003  # a plan that is better than a strategy by less is not taken; simulated layers are right within that
NEAR = 0.1  # a strategy that is worse than the best by more is not priced again; prices are right within 0.03


def automatic_blocks(
    partition: Partition, machine: Machine, options: Options, cost: StageOracle
) -> tuple[tuple[PlacedBlock, ...], int | None]:
    """Blocks, and the `prefill_chunk` that they were chosen for. Raises PlacementError if nothing fits.

    A decode step has 512 cached tokens, a prompt 128, or as many as fit.
    """
    context = min(CACHED, options.max_context - 1)
    goal = Goal(parse_objective(options.objective), (), context, min(TYPICAL_PROMPT, options.max_context))
    judge = Judge(partition, machine, options, cost, goal, chunks=CHUNKS)
    with working("choosing a placement", unit="candidate", steady=False) as work:
        found: list[Candidate] = []
        for candidate in first_candidates(judge):
            work.done += 1
            found += [] if candidate is None else [candidate]
        if not found:
            shared = dataclasses.replace(options, strategy="shared", layers_per_block=1)
            raise refusal(partition, machine, shared, "with any strategy, not even as shared")
        best = _priced_again(judge, _fast_enough(judge, found))
    return best.blocks, best.chunk


def _fast_enough(judge: Judge, found: list[Candidate]) -> list[Candidate]:
    """For throughput, without those on which a token takes much longer than on the fastest."""
    if THROUGHPUT not in dict(judge.goal.weights):
        return found
    fastest_s = min(c.metrics.seconds_per_token for c in found)
    return [c for c in found if c.metrics.seconds_per_token <= SLOWER * fastest_s]


def _priced_again(judge: Judge, found: list[Candidate]) -> Candidate:
    """The best by simulated layers, of the best ones and the strategies near them, that have ways around dead PEs."""
    ranked = sorted(found, key=lambda c: c.cost)
    open_ones = (c for c in ranked if _open(judge, c))
    best = list(islice(open_ones, AGAIN)) or ranked[:1]  # what closes the way of this one will be said
    strategies = [c for c in ranked if c.plan is None and c.cost < best[0].cost + NEAR and _open(judge, c)]
    exact = Judge(judge.partition, judge.machine, judge.options, judge.oracle, judge.goal, simulated=True)
    again = {c.blocks: exact.placed(c.blocks, c.origin, c.plan) for c in (*best, *strategies)}
    found_again = [c for c in again.values() if c is not None]
    return min(found_again, key=lambda c: c.cost + (0 if c.plan is None else TIE))


def _open(judge: Judge, candidate: Candidate) -> bool:
    """Whether every transfer has a way around dead PEs."""
    if not judge.machine.dead:
        return True
    stages = judge.partition.cut({name for placed in candidate.blocks for name in placed.stages})
    return routable(Placement(stages, judge.machine, judge.options, candidate.blocks))
