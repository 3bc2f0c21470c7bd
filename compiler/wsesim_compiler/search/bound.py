"""Bound: no placement by rectangles has a lower price.

A placement is a set of stays: blocks with their contents. Together they hold every stage, on no more PEs than the wafer
has. Three things are forgotten: where the blocks lie, that a stay is there a whole number of times, and the exact shape
of a block. Of its cell, the largest shape decides the shares, the smallest one the lines and the PEs. What remains is a
linear program. Its optimum is below every price. The cells of its stays are divided until they are small.
docs/search.md has the proof.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, linprog

from wsesim_compiler.search.cells import Cell, cells_of
from wsesim_compiler.search.contents import UNLIMITED, Contents, Float
from wsesim_compiler.search.least import TRANSFER
from wsesim_compiler.search.prices import Prices

ALONG = 10  # cells along each side to begin with
GROWTH, PATIENCE = 0.0005, 20  # cells are divided no more if the optimum has grown by less in so many rounds
SMALL = 1.02  # ratio of lengths up to which a cell is not divided
STEP = 0.001  # of a period: how exactly its bound is found
PROMISING = 0.1  # of a stay's cycles: reduced cycles up to which it is among the first that are tried
OPTIMAL, INFEASIBLE = 0, 2  # what linprog says
MOST_JOIN = 300  # stays that join the program at once


@dataclass(frozen=True, slots=True)
class Bound:
    """Cycles that no placement is below: of a pass, and from one step to the next with the sequences of the options.

    `operators`: the cycles of the pass by operator; they sum up to it, but for rounding.
    """

    cycles: int
    period_cycles: int
    operators: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Stay:
    """A block of a cell, with stages by kind as in `contents.py`. `count`: how often it is there."""

    count: float
    cell: Cell
    content: tuple[int, ...]
    cycles: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """The cheapest stays and the cycles of a pass."""

    cycles: float
    stays: tuple[Stay, ...]

    @property
    def divisible(self) -> list[Cell]:
        """Cells of the stays that are not small."""
        return list(dict.fromkeys(stay.cell for stay in self.stays if stay.cell.spread > SMALL))


def bound(prices: Prices) -> Bound:
    """The bounds of a pass, and of the distance of steps when all sequences are on the wafer.

    Both are 0 if even the whole wafer has no room for the model.
    """
    contents = Contents(prices)
    least = Relaxation(contents).refined()
    if least is None:
        return Bound(0, 0)
    cycles, sequences = math.floor(least.cycles), prices.options.sequences
    period_cycles = cycles if sequences == 1 else least_period(Relaxation(contents), sequences)
    return Bound(cycles, period_cycles, tuple(_by_operator(contents, least).items()))


def _by_operator(contents: Contents, least: Mixture) -> dict[str, float]:
    """Cycles of each operator, and of the transfers."""
    found: defaultdict[str, float] = defaultdict(float)
    for stay in least.stays:
        own = contents.by_operator(stay.cell, stay.content)
        for operator, cycles in own.items():
            found[operator] += stay.count * cycles
        found[TRANSFER] += stay.count * (stay.cycles - sum(own.values()))
    return {operator: cycles for operator, cycles in found.items() if cycles}


def least_period(relaxation: Relaxation, sequences: int) -> int:
    """No steps follow each other at a shorter distance.

    At a distance of P cycles a step holds every block for at most P, and takes at most P times the sequences. If no
    mixture does, P is below the bound.
    """

    def stands(period: int) -> bool:
        found = relaxation.cheapest(period)
        return found is not None and found.cycles <= sequences * period

    low, high = 0, 1  # no steps follow at `low`; as far as is known, some do at `high`
    while True:
        while not stands(high):
            low, high = high, high + 2 * (high - low)
        while high - low > max(1, STEP * low):
            middle = (low + high) // 2
            low, high = (low, middle) if stands(middle) else (middle, high)
        found = relaxation.refined(high, sequences * high)
        if found is not None and found.cycles <= sequences * high:
            return low + 1
        low, high = high, round(high * (1 + STEP)) + 1


class Relaxation:
    """The linear program over the stays of some cells: every stage once, on the PEs of the wafer."""

    def __init__(self, contents: Contents) -> None:
        machine, layers = contents.prices.machine, contents.layers
        self._contents = contents
        self._pes = machine.usable.pes - len(machine.dead)
        self._cells = dict.fromkeys(cells_of(machine.usable.columns, machine.usable.rows, ALONG))
        self._needs = np.array([1, 1, layers, layers], np.float64)  # embeddings, heads, attentions, FFNs
        self._worth = np.full(5, np.nan)  # cycles of each need and of a PE in the last optimum; none yet

    def refined(self, period_cycles: int = UNLIMITED, enough: float = np.inf) -> Mixture | None:
        """The cheapest mixture, with cells divided until it grows no more, or costs more than `enough`."""
        reached, idle = 0.0, 0
        while True:
            found = self.cheapest(period_cycles)
            if found is None or found.cycles > enough or not found.divisible or idle == PATIENCE:
                return found
            idle = 0 if found.cycles > (1 + GROWTH) * reached else idle + 1
            reached = reached if idle else found.cycles
            for cell in found.divisible:
                del self._cells[cell]
                self._cells |= dict.fromkeys(cell.halves())

    def cheapest(self, period_cycles: int = UNLIMITED) -> Mixture | None:
        """The cheapest mixture on the cells as they are; None if the stages have no room.

        The program is solved with some of the stays. Those that the optimum would gain from join them, until there are
        none. The cycles are those of the dual solution, made smaller until no stay costs less than what it is worth: so
        they are a bound however exact the solver is.
        """
        cells = list(self._cells)
        stays = self._contents.stays(cells, period_cycles)
        pes = np.array([cell.pes for cell in cells], np.float64)[stays.cell]
        embeds, heads, layers, attentions, ffns = stays.contents.T
        holds = np.stack([embeds, heads, layers + attentions, layers + ffns, -pes])
        used = np.flatnonzero(~(stays.cycles - self._worth @ holds > PROMISING * stays.cycles))
        while True:
            solved = self._solved(stays.cycles[used], holds[:, used])
            if solved is None and used.size < stays.cycles.size:
                used = np.arange(stays.cycles.size)
                continue
            if solved is None:
                return None
            self._worth = np.append(solved.eqlin.marginals, -solved.ineqlin.marginals)
            reduced_cycles = stays.cycles - self._worth @ holds  # below 0: the optimum would gain from the stay
            gain = np.setdiff1d(np.flatnonzero(reduced_cycles < -1e-7 * solved.fun), used)
            if not gain.size:
                break
            used = np.union1d(used, gain[np.argsort(reduced_cycles[gain])[:MOST_JOIN]])
        held = [(count, int(n)) for count, n in zip(solved.x, used, strict=True) if count > 0]
        taken = (Stay(n, cells[stays.cell[k]], tuple(stays.contents[k]), float(stays.cycles[k])) for n, k in held)
        worth = self._worth @ holds
        safe = min(1.0, float((stays.cycles[worth > 0] / worth[worth > 0]).min(initial=1.0)))
        return Mixture(safe * float(self._worth @ [*self._needs, -self._pes]), tuple(taken))

    def _solved(self, cycles: Float, holds: Float) -> OptimizeResult | None:
        """The program's optimum; None if it has no solution."""
        if not cycles.size:
            return None
        solved = linprog(cycles, -holds[4:], [self._pes], holds[:4], self._needs, method="highs")
        assert solved.status in (OPTIMAL, INFEASIBLE), solved.message
        return solved if solved.status == OPTIMAL else None
