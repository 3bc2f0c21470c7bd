"""Bound: no placement by rectangles has a lower price.

Take all shapes of at least w1 x h1 and at most w2 x h2 PEs, a cell. On any of them a stage costs at least its
operations with the shares of w2 x h2, and its collectives with these shares on lines of w1 or h1 PEs: larger blocks
have smaller shares, shorter lines are faster. It takes at least its bytes with the shares of w2 x h2, of the room of
w1 x h1 PEs. The cells hold all shapes. A layer lies on one block, or its halves lie on two and a transfer joins them.
So every placement is a way to give each layer a cell, or two, whose areas sum up to no more than the wafer has beside
the tables. The bound is the lowest cost of such a way, where a layer may be divided among cells: the lower hull of
(area, cycles), as for a knapsack whose items can be cut. docs/search.md has the proof.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from wsesim_compiler.partition import Stage
from wsesim_compiler.search.least import TRANSFER, least_by_operator
from wsesim_compiler.search.prices import Prices, Size
from wsesim_compiler.search.ways import least_way_cycles

CELLS = 40  # along each side
MIXTURES = (1.0, 0.67, 0.33, 0.0)  # weights of the memory
LEAST = 4  # PEs of the shortest side but one; the first cell begins at 1


@dataclass(frozen=True, slots=True)
class Mixture:
    """Steps follow each other at a distance of `period_cycles`. So the stages of a block share its time as its memory.

    Both kinds of shares sum up to at most 1, and so does any mixture of them: `memory` is the weight of the memory.
    """

    period_cycles: int
    memory: float


@dataclass(frozen=True, slots=True)
class Part:
    """A stage on a block of a cell, from `small` to `large`. It has at least `share` of the block's memory."""

    stage: Stage
    small: Size
    large: Size
    share: float
    cycles: int
    transfer_cycles: float

    def pes(self, mixture: Mixture | None = None) -> float:
        """Its part of the block's PEs at least."""
        share = self.share
        if mixture:
            share = mixture.memory * share + (1 - mixture.memory) * self.cycles / mixture.period_cycles
        return self.small[0] * self.small[1] * share


@dataclass(frozen=True, slots=True)
class Offer:
    """PEs and cycles that a stage takes at least in one way: on one block, or its halves on two."""

    pes: float
    cycles: float
    parts: tuple[Part, ...] = ()

    @staticmethod
    def of(*parts: Part, mixture: Mixture | None = None) -> Offer:
        pes = sum(part.pes(mixture) for part in parts)
        return Offer(pes, sum(part.cycles + part.transfer_cycles for part in parts), parts)

    def within(self, mixture: Mixture) -> Offer | None:
        """The same if steps follow each other; None if a block would take longer than the distance between them."""
        if any(part.cycles > mixture.period_cycles for part in self.parts):
            return None
        return Offer.of(*self.parts, mixture=mixture)


@dataclass(frozen=True, slots=True)
class Need:
    """A kind of stage: how many there are, and the ways in which each may lie."""

    count: int
    offers: tuple[Offer, ...]

    def within(self, mixture: Mixture) -> Need:
        return Need(self.count, tuple(own for offer in self.offers if (own := offer.within(mixture))))


@dataclass(frozen=True, slots=True)
class Taken:
    """So many stages (a part of one, too) of a kind take this offer."""

    count: float
    offer: Offer


@dataclass(frozen=True, slots=True)
class Bound:
    """Cycles that no placement is below: of a pass, and from one step to the next with the sequences of the options.

    `operators`: the cycles of the pass by operator; they sum up to it, but for rounding.
    """

    cycles: int
    period_cycles: int
    operators: tuple[tuple[str, float], ...] = ()


def bound(prices: Prices) -> Bound:
    """The bounds of a pass, and of the distance of steps when all sequences are on the wafer."""
    needs, tables, pes = _needs(prices)
    fixed = sum(table.cycles for table in tables)
    least = cheapest(needs, pes)
    if least is None:
        return Bound(math.ceil(fixed), 0)
    cycles = math.floor(fixed + _cycles(least))
    sequences = prices.options.sequences
    low, high = 1, cycles
    while low < high:  # the lowest period at which all steps could follow each other
        middle = (low + high) // 2
        within = (cheapest([need.within(Mixture(middle, memory)) for need in needs], pes) for memory in MIXTURES)
        feasible = all(found is not None and fixed + _cycles(found) <= middle * sequences for found in within)
        low, high = (low, middle) if feasible else (middle + 1, high)
    taken = [*least, *(Taken(1, table) for table in tables)]
    return Bound(cycles, low, tuple(_by_operator(prices, taken).items()))


def _cycles(taken: Sequence[Taken]) -> float:
    return sum(own.count * own.offer.cycles for own in taken)


def _by_operator(prices: Prices, taken: Sequence[Taken]) -> dict[str, float]:
    """Cycles of each operator, and of the transfers."""
    found: defaultdict[str, float] = defaultdict(float)
    for own in taken:
        for part in own.offer.parts:
            for operator, cycles in least_by_operator(prices, part.stage, part.small, part.large).items():
                found[operator] += own.count * cycles
            found[TRANSFER] += own.count * part.transfer_cycles
    return {operator: cycles for operator, cycles in found.items() if cycles}


def cheapest(needs: Sequence[Need], pes: float) -> list[Taken] | None:
    """The offers with the lowest sum of cycles and at most `pes`; None if there is no room.

    Each kind begins with the offer of the fewest PEs. Then the steps along the lower hulls that save most cycles for
    each PE are taken, over all kinds, as long as there are PEs. The last step may be taken in part.
    """
    hulls = [lower_hull(need.offers) for need in needs]
    if not all(hulls):
        return None
    left = pes - sum(need.count * hull[0].pes for need, hull in zip(needs, hulls, strict=True))
    if left < 0:
        return None
    taken = {(n, 0): float(need.count) for n, need in enumerate(needs)}
    steps = sorted(
        ((_saving(*pair), n, k) for n, hull in enumerate(hulls) for k, pair in enumerate(pairwise(hull))), reverse=True
    )
    for _, n, k in steps:
        more = hulls[n][k + 1].pes - hulls[n][k].pes
        count = min(float(needs[n].count), left / more)
        taken[n, k] = taken.get((n, k), 0.0) - count
        taken[n, k + 1] = taken.get((n, k + 1), 0.0) + count
        left -= count * more
        if left <= 0:
            break
    return [Taken(count, hulls[n][k]) for (n, k), count in taken.items() if count > 0]


def lower_hull(offers: Sequence[Offer]) -> list[Offer]:
    """Offers with more and more PEs and fewer and fewer cycles, each step saving less for a PE than the one before."""
    hull: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (o.pes, o.cycles)):
        if hull and offer.cycles >= hull[-1].cycles:
            continue
        while len(hull) > 1 and _saving(hull[-2], hull[-1]) <= _saving(hull[-1], offer):
            hull.pop()
        if hull and offer.pes == hull[-1].pes:
            continue
        hull.append(offer)
    return hull


def _saving(a: Offer, b: Offer) -> float:
    return (a.cycles - b.cycles) / (b.pes - a.pes)


def _needs(prices: Prices) -> tuple[list[Need], list[Offer], float]:
    """The layers by kind, the fastest offer of each table, and the PEs beside the tables."""
    usable = prices.machine.usable
    cells = list(_cells(usable.columns, usable.rows))
    layers = prices.partition.layers
    counts = Counter(prices.probe.kind((layer,)) for layer in layers)
    first = {prices.probe.kind((layer,)): layer for layer in reversed(layers)}
    needs = [Need(count, tuple(_layer_offers(prices, first[kind], cells))) for kind, count in counts.items()]
    tables = [list(_parts(prices, stage, cells)) for stage in prices.partition.stages if stage.layer is None]
    areas = [min((part.pes() for part in own), default=0.0) for own in tables]
    taken = max(areas) if prices.partition.tied else sum(areas)
    pes = usable.columns * usable.rows - len(prices.machine.dead) - taken
    return needs, [min(map(Offer.of, own), key=lambda offer: offer.cycles) for own in tables if own], pes


def _layer_offers(prices: Prices, layer: Stage, cells: Sequence[tuple[Size, Size]]) -> Iterator[Offer]:
    """A whole layer on one block, or its halves on two.

    Of two parts of the same kind, the one with fewer PEs for memory and for time, and fewer cycles, is enough.
    """
    yield from map(Offer.of, _parts(prices, layer, cells))
    halves = [_undominated(list(_parts(prices, half, cells))) for half in layer.halves]
    for pair in product(*halves) if halves else ():
        yield Offer.of(*pair)


def _undominated(parts: Sequence[Part]) -> list[Part]:
    kept: list[Part] = []
    for part in sorted(parts, key=lambda part: (part.pes(), part.cycles + part.transfer_cycles)):
        worse = (
            own.cycles + own.transfer_cycles <= part.cycles + part.transfer_cycles
            and own.cycles <= part.cycles
            and own.small[0] * own.small[1] * own.cycles <= part.small[0] * part.small[1] * part.cycles
            for own in kept
        )
        if not any(worse):
            kept.append(part)
    return kept


def _cells(columns: int, rows: int) -> Iterator[tuple[Size, Size]]:
    """Smallest and largest shape of each cell."""
    for west, east in pairwise(_edges(columns)):
        for north, south in pairwise(_edges(rows)):
            yield (west, north), (east - 1, south - 1)


def _edges(length: int) -> list[int]:
    """1, then CELLS - 1 geometric steps, and the length after the last."""
    ratio = ((length + 1) / LEAST) ** (1 / (CELLS - 1))
    return sorted({1, *(min(length, round(LEAST * ratio**n)) for n in range(CELLS - 1)), length + 1})


def _parts(prices: Prices, stage: Stage, cells: Sequence[tuple[Size, Size]]) -> Iterator[Part]:
    room = prices.machine.room_bytes
    for small, large in cells:
        memory = prices.probe.memory((stage,), large)
        held = memory.weight_bytes + memory.kv_bytes
        if held <= room:
            cycles = sum(least_by_operator(prices, stage, small, large).values())
            alone = room // max(held, 1)  # stages that a block can hold need one transfer
            way = least_way_cycles(prices.machine, small[0]) / alone if stage.layer is not None else 0.0
            yield Part(stage, small, large, held / room, cycles, way)
