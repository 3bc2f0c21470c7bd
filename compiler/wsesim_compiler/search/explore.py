"""Explore: plans for a goal, better and better ones, one after the other.

First the candidates of strategy `auto`, and the same turned. Then shelves of equal blocks, by dynamic programming, for
every frame and every number of layers per block, and shelves of unlike blocks, from a catalogue around the best plans
so far, again and again while they get better. Then annealing around the best plan. Each is done for one axis and then
for the other; the one with the best plan so far is first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wsesim.program.layout import Uniform
from wsesim_compiler.options import Options
from wsesim_compiler.search.anneal import anneal
from wsesim_compiler.search.frames import COARSE, ENDS, TOP, axes_of, frames
from wsesim_compiler.search.goals import PROMPT, THROUGHPUT, Goal
from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.plans import ROWS, SERPENTINE, Frame, Plan, Shelf
from wsesim_compiler.search.prices import Prices
from wsesim_compiler.search.shelves import HEIGHTS, Shelves
from wsesim_compiler.search.strategies import strategies, strategy_name, strategy_plans

KEPT = 24  # plans around which unlike shelves are tried
ROUNDS = 4
LIMITS = (1.1, 0.99, 0.95, 0.9, 0.8)  # of the busiest block's cycles
WIDE = COARSE**2  # ratio of the heights of tables of the first candidates
BEST_COUNTS = 3  # numbers of layers per block of their shelves: those of the best strategies
FEW_HEIGHTS = 2  # of their shelves, for each number and width of blocks
NEIGHBOURS = 3  # heights above and below one that was good


def explore(judge: Judge, seed: int) -> Iterator[Candidate | None]:
    """Candidates; None stands for a plan that was priced and does not stand, or misses a limit."""
    good: dict[str, list[Candidate]] = {axis: [] for axis in axes_of(judge.machine)}
    for axis, own in good.items():
        for candidate in first_candidates(judge, axis):
            yield _allowed(judge, candidate, own)
    room: dict[str, tuple[Shelves, list[Frame]]] = {}
    for axis in sorted(good, key=lambda axis: _least(good[axis])):
        for prices in prices_to_compare(judge):
            shelves, framed = room[axis] = Shelves(prices), list(frames(prices, axes=(axis,)))
            for plan in equal_shelves(shelves, framed, judge.goal):
                yield _allowed(judge, judge.candidate(plan), good[axis])
        yield from unlike_shelves(judge, *room[axis], good[axis])
    planned = {axis: [c for c in own if c.plan is not None] for axis, own in good.items()}
    for axis in sorted(planned, key=lambda axis: _least(planned[axis])):
        if planned[axis]:
            yield from anneal(judge, *room[axis], min(planned[axis], key=lambda c: c.cost), seed)


def first_candidates(judge: Judge, axis: str = ROWS) -> Iterator[Candidate | None]:
    """A fixed, small set: the blocks of every strategy, and shelves of equal blocks between tables of a few sizes.

    Shelves have as many layers per block as the best strategies. If the options state the size or the order of blocks,
    there are only the strategies.
    """
    layers = len(judge.partition.layers)
    placed: list[tuple[float, int]] = []
    for plan, options in by_strategy(judge, axis):
        candidate = judge.candidate(plan)
        if candidate is not None and axis == ROWS:
            candidate = replace(candidate, origin=strategy_name(options), plan=None)
        if candidate is not None and judge.goal.allows(candidate.metrics):
            placed.append((candidate.cost, options.layers_of_a_block(layers)))
        yield candidate
    if judge.options.block or judge.options.order != SERPENTINE:
        return
    counts = [each for _, each in sorted(placed)[:BEST_COUNTS]] or [n for n in range(1, layers + 1) if layers % n == 0]
    for prices in prices_to_compare(judge):
        shelves, own = Shelves(prices), list(frames(prices, WIDE, (TOP, ENDS), (axis,)))
        for plan in equal_shelves(shelves, own, judge.goal, counts, FEW_HEIGHTS):
            yield judge.candidate(plan)


def unlike_shelves(
    judge: Judge, shelves: Shelves, own: Sequence[Frame], good: list[Candidate]
) -> Iterator[Candidate | None]:
    """Plans from a catalogue around the good ones, in rounds, as long as they get better. `good` grows."""
    for _ in range(ROUNDS):
        best = min((c.cost for c in good), default=None)
        catalogue = _around(shelves, good)
        for frame in _frames_of(good, own):
            for limit in _limits(judge.goal, good):
                plan = shelves.best(frame, catalogue, limit)
                if plan is not None:
                    yield _allowed(judge, judge.candidate(plan), good)
        if best is None or min(c.cost for c in good) >= best:
            break


def layer_counts(layers: int) -> list[int]:
    """Layers per block worth trying: all small numbers, and those that share the layers evenly."""
    return sorted({n for n in range(1, layers + 1) if n <= 6 or -(-layers // n) < -(-layers // (n - 1))})


def equal_shelves(
    shelves: Shelves, own: Sequence[Frame], goal: Goal, counts: Sequence[int] = (), heights: int = HEIGHTS
) -> Iterator[Plan]:
    """The best plan of equal blocks, for each frame and number of layers per block."""
    tried = counts or layer_counts(len(shelves.units.layers))
    for frame in own:
        catalogues = [shelves.catalogue(frame, [count], heights) for count in tried]
        if {THROUGHPUT, PROMPT} & dict(goal.weights).keys():
            catalogues.append(shelves.halves(frame, heights))
        for catalogue in catalogues:
            found = shelves.best(frame, catalogue)
            if found is not None:
                yield found


def prices_to_compare(judge: Judge) -> list[Prices]:
    """What shelves are compared by: prices of a prompt's chunks if only the prompt matters, else of a decode step."""
    if dict(judge.goal.weights).keys() == {PROMPT}:
        return [judge.chunk_prices(chunk) for chunk in judge.chunks]
    return [judge.prices]


def by_strategy(judge: Judge, axis: str = ROWS) -> Iterator[tuple[Plan, Options]]:
    """The plan of each strategy that fits, and the options with it. They do not depend on the goal."""
    prices = judge.strategy_prices()
    for options in strategies(judge.options, len(judge.partition.layers)):
        plan = next(iter(strategy_plans(prices, options, axis)), None)
        if plan is not None:
            yield plan, options


def _least(found: Sequence[Candidate]) -> float:
    return min((c.cost for c in found), default=math.inf)


def _allowed(judge: Judge, found: Candidate | None, good: list[Candidate]) -> Candidate | None:
    if found is None or not judge.goal.allows(found.metrics):
        return None
    good.append(found)
    good.sort(key=lambda c: c.cost)
    del good[KEPT:]
    return found


def _frames_of(good: Sequence[Candidate], own: Sequence[Frame]) -> list[Frame]:
    """The frames of good plans first, then others of as many columns."""
    first = list(dict.fromkeys(c.plan.frame for c in good if c.plan))
    columns = {frame.columns for frame in first[:3]}
    return list(dict.fromkeys([*first, *(frame for frame in own if frame.columns in columns)]))


def _around(shelves: Shelves, good: Sequence[Candidate]) -> list[Shelf]:
    """Shelves near those of good plans: a little higher or lower, narrower by what only pads, a layer more or less."""
    found: set[Shelf] = set()
    for shelf in dict.fromkeys(s for c in good if c.plan for s in c.plan.shelves):
        for rows in near(shelves, shelf.rows):
            for widths in trimmed(shelves, shelf.widths):
                more = (0,) if shelf.units == 1 else (-2, 0, 2)
                found |= {Shelf(rows, widths, shelf.units + m) for m in more if shelf.units + m > 0}
    return sorted(found)


def near(shelves: Shelves, rows: int) -> list[int]:
    """Heights next to this one at which the padding changes."""
    below = sorted({shelves.used(h) for h in range(max(1, rows * 2 // 3), rows + 1)})
    above = sorted({shelves.used(h) for h in range(rows + 1, rows * 3 // 2 + 2)})
    return [*below[-NEIGHBOURS - 1 :], *above[:NEIGHBOURS]]


def trimmed(shelves: Shelves, widths: Sequence[int]) -> list[tuple[int, ...]]:
    """The widths, and narrower ones at which some vector's share of a PE stays the same."""
    sizes = sorted(set(shelves.prices.partition.widths.values()))
    widest = max(widths)
    used = {Uniform(size, widest).used for size in sizes if size > widest}
    return [tuple(w - (widest - u) if w == widest else w for w in widths) for u in sorted({*used, widest})]


def _limits(goal: Goal, good: Sequence[Candidate]) -> list[int | None]:
    """Cycles that a block may take: some that are less than in the best plan, where steps follow each other."""
    if not good or not {THROUGHPUT, PROMPT} & dict(goal.weights).keys():
        return [None]
    busiest = good[0].busiest_cycles
    return [None, *(round(busiest * part) for part in LIMITS)]
