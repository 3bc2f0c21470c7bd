"""Strategy `auto`: the best blocks of a fixed, small set of candidates, without a clock and without chance.

Every machine gets the same result. The set has the blocks of every strategy, and shelves of equal blocks in the frames
`top` and `ends`, with tables of few sizes. The best of each kind are priced again, by simulated layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import chain

from wsesim.machine import Machine
from wsesim.program.protocols import StageOracle
from wsesim.progress import working
from wsesim_compiler.options import TYPICAL_CONTEXT, TYPICAL_PROMPT, Options, PlacedBlock
from wsesim_compiler.partition import Partition
from wsesim_compiler.passes.place import place
from wsesim_compiler.search.explore import by_strategy, equal_shelves, prices_to_compare
from wsesim_compiler.search.frames import frames
from wsesim_compiler.search.goals import Goal, parse_objective
from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.shelves import Shelves

FRAMES = ("top", "ends")
STRETCHES = (1.0, 1.6)
HEIGHTS = 2  # of shelves, for each number and width of blocks
AGAIN = 4  # candidates that are priced by simulated layers


def automatic_blocks(
    partition: Partition, machine: Machine, options: Options, cost: StageOracle
) -> tuple[tuple[PlacedBlock, ...], int | None]:
    """Blocks, and the `prefill_chunk` that they were chosen for. Raises PlacementError if nothing fits.

    Decode steps are those of a typical context, prompts typical ones.
    """
    context = min(TYPICAL_CONTEXT, options.max_context) - 1
    goal = Goal(parse_objective(options.objective), (), context, min(TYPICAL_PROMPT, options.max_context))
    judge = Judge(partition, machine, options, cost, goal)
    with working("choosing a placement", unit="candidate", steady=False) as work:
        found: list[Candidate] = []
        for candidate in chain(_of_strategies(judge), _of_shelves(judge)):
            work.done += 1
            found += [] if candidate is None else [candidate]
        if not found:
            place(partition, machine, dataclasses.replace(options, strategy="shared"))
        best = _priced_again(judge, found)
    return best.blocks, best.chunk


def _of_strategies(judge: Judge) -> Iterator[Candidate | None]:
    return (judge.placed(blocks, origin) for blocks, origin in by_strategy(judge))


def _of_shelves(judge: Judge) -> Iterator[Candidate | None]:
    layers = len(judge.partition.layers)
    even = [n for n in range(1, layers + 1) if layers % n == 0]
    for prices in prices_to_compare(judge):
        shelves = Shelves(prices)
        own = (frame for frame in frames(prices, STRETCHES) if frame.name in FRAMES)
        for plan in equal_shelves(shelves, list(own), judge.goal, even, HEIGHTS):
            yield judge.candidate(plan)


def _priced_again(judge: Judge, found: list[Candidate]) -> Candidate:
    """The best by simulated layers, of the best ones and the best strategy."""
    ranked = sorted(found, key=lambda c: c.cost)
    strategy = next((c for c in ranked if c.plan is None), ranked[0])
    exact = Judge(judge.partition, judge.machine, judge.options, judge.oracle, judge.goal, simulated=True)
    again = {c.blocks: exact.placed(c.blocks, c.origin, c.plan) for c in (*ranked[:AGAIN], strategy)}
    return min((c for c in again.values() if c is not None), key=lambda c: c.cost)
