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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from wsesim_compiler.partition import Stage
from wsesim_compiler.search.prices import Prices, Size
from wsesim_compiler.search.ways import least_way_cycles

CELLS = 40  # along each side
LEAST = 4  # PEs of the shortest side but one; the first cell begins at 1


@dataclass(frozen=True, slots=True)
class Offer:
    """What a stage takes at least in a cell.

    `busiest_cycles` are those on one block, `columns` those of the cell's smallest shape.
    """

    pes: float
    cycles: int
    busiest_cycles: int
    columns: int


@dataclass(frozen=True, slots=True)
class Need:
    """A kind of stage: how many there are, and what each takes in each cell."""

    count: int
    offers: tuple[Offer, ...]

    def within(self, limit: int | None) -> Need:
        """Without the offers for which a block takes more cycles than `limit`."""
        return Need(self.count, tuple(o for o in self.offers if limit is None or o.busiest_cycles <= limit))


@dataclass(frozen=True, slots=True)
class Bound:
    """Cycles that no placement is below: of a pass, and from one step to the next with the sequences of the options."""

    cycles: int
    period_cycles: int


def bound(prices: Prices) -> Bound:
    """The bounds of a pass, and of the distance of steps when all sequences are on the wafer."""
    needs, tables_cycles, pes = _needs(prices)
    least = cheapest(needs, pes)
    if least is None:
        return Bound(tables_cycles, 0)
    cycles = round(least) + tables_cycles
    sequences = prices.options.sequences
    low, high = 0, cycles
    while low < high:  # the lowest period at which all steps could follow each other
        middle = (low + high) // 2
        found = cheapest([need.within(middle) for need in needs], pes)
        feasible = found is not None and found + tables_cycles <= middle * sequences
        low, high = (low, middle) if feasible else (middle + 1, high)
    return Bound(cycles, low)


def cheapest(needs: Sequence[Need], pes: float) -> float | None:
    """The lowest sum of cycles with areas of at most `pes`; None if there is no room.

    Each kind begins with its smallest area. Then the steps along the lower hulls that save most cycles for each PE are
    taken, over all kinds, as long as there is area.
    """
    steps: list[tuple[float, float, float]] = []
    cycles, area = 0.0, 0.0
    for need in needs:
        hull = lower_hull(need.offers)
        if not hull:
            return None
        cycles += need.count * hull[0].cycles
        area += need.count * hull[0].pes
        for a, b in pairwise(hull):
            pes_more, cycles_less = need.count * (b.pes - a.pes), need.count * (a.cycles - b.cycles)
            steps.append((cycles_less / pes_more, pes_more, cycles_less))
    left = pes - area
    if left < 0:
        return None
    for _, more, less in sorted(steps, reverse=True):
        part = min(1.0, left / more)
        cycles -= part * less
        left -= part * more
    return cycles


def lower_hull(offers: Sequence[Offer]) -> list[Offer]:
    """Offers with more and more area and fewer and fewer cycles, each step saving less for a PE than the one before."""
    hull: list[Offer] = []
    for offer in sorted(set(offers), key=lambda o: (o.pes, o.cycles)):
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


def _needs(prices: Prices) -> tuple[list[Need], int, int]:
    """The layers by kind, least cycles of the tables, and the PEs beside the tables."""
    usable = prices.machine.usable
    cells = list(_cells(usable.columns, usable.rows))
    layers = prices.partition.layers
    counts = Counter(prices.probe.kind((layer,)) for layer in layers)
    first = {prices.probe.kind((layer,)): layer for layer in reversed(layers)}
    needs = [Need(count, tuple(_layer_offers(prices, first[kind], cells))) for kind, count in counts.items()]
    tables = [list(_offers(prices, s, cells)) for s in prices.partition.stages if s.layer is None]
    areas = [min((offer.pes for offer in own), default=0.0) for own in tables]
    taken = max(areas) if prices.partition.tied else sum(areas)
    pes = usable.columns * usable.rows - len(prices.machine.dead) - math.floor(taken)
    return needs, sum(min((offer.cycles for offer in own), default=0) for own in tables), pes


def _layer_offers(prices: Prices, layer: Stage, cells: Sequence[tuple[Size, Size]]) -> Iterator[Offer]:
    """A whole layer on one block, or its halves on two."""
    yield from _offers(prices, layer, cells)
    attention, ffn = (lower_hull(tuple(_offers(prices, half, cells))) for half in layer.halves or (layer, layer))
    for one, other in product(attention, ffn) if layer.halves else ():
        cycles = one.cycles + other.cycles
        busiest = max(one.busiest_cycles, other.busiest_cycles)
        yield Offer(one.pes + other.pes, cycles, busiest, min(one.columns, other.columns))


def _cells(columns: int, rows: int) -> Iterator[tuple[Size, Size]]:
    """Smallest and largest shape of each cell."""
    for west, east in pairwise(_edges(columns)):
        for north, south in pairwise(_edges(rows)):
            yield (west, north), (east - 1, south - 1)


def _edges(length: int) -> list[int]:
    """1, then CELLS - 1 geometric steps, and the length after the last."""
    ratio = ((length + 1) / LEAST) ** (1 / (CELLS - 1))
    return sorted({1, *(min(length, round(LEAST * ratio**n)) for n in range(CELLS - 1)), length + 1})


def _offers(prices: Prices, stage: Stage, cells: Sequence[tuple[Size, Size]]) -> Iterator[Offer]:
    room = prices.machine.room_bytes
    for small, large in cells:
        memory = prices.probe.memory((stage,), large)
        held = memory.weight_bytes + memory.kv_bytes
        if held <= room:
            cycles = prices.least_cycles(stage, small, large)
            alone = prices.machine.room_bytes // held  # stages that a block can hold need one transfer
            way = least_way_cycles(prices.machine, small[0]) // alone if stage.layer is not None else 0
            yield Offer(small[0] * small[1] * held / room, cycles + way, cycles, small[0])
