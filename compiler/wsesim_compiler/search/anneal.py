"""Annealing: random changes of a plan.

A better plan is kept. A slightly worse one is sometimes kept too, so that the search can leave a local optimum.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.plans import Frame, Plan, Shelf
from wsesim_compiler.search.shelves import Shelves

HOT, COLD = 0.01, 0.0002  # costs are logarithms: a per cent, and a fiftieth of one
STEPS = 600  # from hot to cold; then again from the best
PATIENCE = 3000  # candidates without a better one, after which it ends


def anneal(
    judge: Judge, shelves: Shelves, frames: Sequence[Frame], start: Candidate, seed: int
) -> Iterator[Candidate | None]:
    """Candidates from `start` on, until none has been better for long.

    None stands for a change that does not stand or misses a limit.
    """
    dice = random.Random(seed)
    best = now = start
    step = better = 0
    while step - better < PATIENCE:
        heat = HOT * (COLD / HOT) ** (step % STEPS / STEPS)
        if step and step % STEPS == 0:
            now = best
        step += 1
        assert now.plan is not None
        found = judge.candidate(_changed(now.plan, shelves, frames, dice))
        if found is None or not judge.goal.allows(found.metrics):
            yield None
            continue
        if found.cost <= now.cost or dice.random() < math.exp((now.cost - found.cost) / heat):
            now = found
        if found.cost < best.cost:
            best, better = found, step
        yield found


def _changed(plan: Plan, shelves: Shelves, frames: Sequence[Frame], dice: random.Random) -> Plan:
    """One random change: of the frame, or of one shelf, or of all shelves that are like it."""
    if dice.random() < 0.2:
        return Plan(dice.choice(frames), plan.shelves)
    old = dice.choice(plan.shelves)
    new = _other(old, plan.frame, shelves, dice)
    if dice.random() < 0.5:
        changed = [new if shelf == old else shelf for shelf in plan.shelves]
    else:
        where = dice.choice([n for n, shelf in enumerate(plan.shelves) if shelf == old])
        changed = [*plan.shelves[:where], new, *plan.shelves[where + 1 :]]
    return Plan(plan.frame, _that_hold(changed, shelves.units.count))


def _other(shelf: Shelf, frame: Frame, shelves: Shelves, dice: random.Random) -> Shelf:
    kind = dice.randrange(4)
    if kind == 0:
        rows = max(1, shelf.rows + dice.choice((-1, 1)) * dice.randint(1, max(1, shelf.rows // 16)))
        return Shelf(shelves.used(rows), shelf.widths, shelf.units)
    if kind == 1 and shelf.units > 1:
        return Shelf(shelf.rows, shelf.widths, max(2, shelf.units + dice.choice((-2, 2))))
    if kind == 2 and shelf.units > 1:
        beside = max(1, len(shelf.widths) + dice.choice((-1, 1)))
        return Shelf(shelf.rows, (frame.columns // beside,) * beside, shelf.units)
    narrower = dice.randint(-4, 4)
    return Shelf(shelf.rows, tuple(max(1, w - narrower) for w in shelf.widths), shelf.units)


def _that_hold(shelves: Sequence[Shelf], units: int) -> tuple[Shelf, ...]:
    """As many of the shelves as hold all units, the last one again where they are too few."""
    found: list[Shelf] = []
    held = 0
    for shelf in [*shelves, *[shelves[-1]] * units]:
        if held >= units:
            break
        found.append(shelf)
        held += len(shelf.widths) * shelf.units
    return tuple(found)
