"""The bound: never above a price."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from itertools import islice, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.programs import ORACLE, recognised_graph
from tests.test_search_prices import judge_of, random_candidates
from wsesim.machine import load_machine
from wsesim.program.layout import ceil_div
from wsesim.program.parts import AXES
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.search.bound import bound
from wsesim_compiler.search.cells import Cell, cells_of
from wsesim_compiler.search.contents import Contents
from wsesim_compiler.search.exhaustive import all_plans, all_shelves
from wsesim_compiler.search.explore import explore
from wsesim_compiler.search.frames import frames
from wsesim_compiler.search.goals import Goal
from wsesim_compiler.search.judge import Judge
from wsesim_compiler.search.shelves import Shelves
from wsesim_compiler.search.ways import least_way_cycles
from wsesim_models.config import CONFIGS


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.randoms(use_true_random=False))
def test_cells_hold_each_shape_once_however_often_they_are_divided(
    columns: int, rows: int, along: int, dice: random.Random
) -> None:
    cells = cells_of(columns, rows, along)
    for _ in range(20):
        divisible = [cell for cell in cells if cell.spread > 1]
        if divisible:
            cell = dice.choice(divisible)
            cells.remove(cell)
            cells += cell.halves()
    shapes = [
        shape
        for cell in cells
        for shape in product(*(range(low, high + 1) for low, high in zip(cell.small, cell.large, strict=True)))
    ]
    sides = range(1, max(columns, rows) + 1)
    least = min(columns, rows)
    assert sorted(shapes) == [shape for shape in product(sides, repeat=2) if min(shape) <= least]


def test_a_block_costs_no_less_than_a_mixture_of_the_stays_of_its_cell() -> None:
    """Random blocks with random stages; the mixture holds the same stages and is there at most once."""
    judge, dice = judge_of("smollm2-135m"), random.Random(5)
    contents, usable, layers = Contents(judge.prices), judge.machine.usable, judge.partition.layers
    looked = 0
    for _ in range(90):
        size = dice.randint(8, 200), dice.randint(8, 200)
        whole, attentions, ffns = (dice.choice((0, 0, 1, 3)) for _ in range(3))
        held = [*layers[:whole], *(layer.halves[0] for layer in layers[10 : 10 + attentions])]
        held += [layer.halves[1] for layer in layers[20 : 20 + ffns]]
        cycles = judge.prices.block_cycles(tuple(held), size) if held else None
        if cycles is None:
            continue
        looked += 1
        small = dice.randint(1, size[0]), dice.randint(1, size[1])
        large = dice.randint(size[0], usable.columns), dice.randint(size[1], usable.rows)
        stays = contents.stays([Cell(small, large)])
        visits = max(1, abs(attentions - ffns))
        needs = [0, 0, whole + attentions, whole + ffns]
        holds = np.stack([*stays.contents.T[:2], *(stays.contents.T[2] + stays.contents.T[3:])])
        mixed = linprog(stays.cycles, np.ones((1, stays.cell.size)), [1], holds, needs)
        assert mixed.success
        assert mixed.fun <= cycles + visits * least_way_cycles(judge.machine, size[0]) + 1e-6
    assert looked > 30


def test_no_placement_has_a_price_below_the_bound() -> None:
    judge = judge_of("tiny")
    least = bound(judge.prices).cycles
    prices = [judge.prices.pass_price(c.blocks) for c in random_candidates(judge, seed=3, draws=25)]
    assert len(prices) > 5
    assert all(price is not None and price.cycles >= least for price in prices)
    assert least > 0.4 * min(price.cycles for price in prices if price)


def test_no_placement_has_a_period_below_the_bound() -> None:
    judge = judge_of("tiny", sequences=4)
    least = bound(judge.prices)
    prices = [judge.prices.pass_price(c.blocks) for c in random_candidates(judge, seed=4, draws=25)]
    periods = [max(p.busiest_cycles, ceil_div(p.cycles, 4)) for p in prices if p is not None]
    assert len(periods) > 5 and min(periods) >= least.period_cycles >= ceil_div(least.cycles, 4)


def test_a_lone_sequence_follows_itself_after_a_whole_pass() -> None:
    least = bound(judge_of("tiny").prices)
    assert least.period_cycles == least.cycles
    assert sum(cycles for _, cycles in least.operators) == pytest.approx(least.cycles, abs=1)


def small_problem(seed: int) -> Judge:
    """A toy machine of another size, memory and speed for each seed."""
    dice = random.Random(seed)
    toy = load_machine("toy4x4")
    usable = dataclasses.replace(toy.usable, columns=dice.randint(3, 5), rows=dice.randint(4, 6))
    fabric = dataclasses.replace(toy.fabric, hop_cycles=dice.randint(1, 4))
    machine = dataclasses.replace(
        toy,
        columns=usable.columns,
        rows=usable.rows,
        usable=usable,
        fabric=fabric,
        sram_bytes=dice.choice((24, 48, 96)) * 1024,
        activate_cycles=dice.randint(1, 20),
    )
    config = dataclasses.replace(CONFIGS["tiny"], name=f"small{seed % 2}", layers=2 + seed % 2)
    options = Options(max_context=dice.choice((64, 128, 256)))
    return Judge(partition(recognised_graph(config)), machine, options, ORACLE, Goal(context=32))


def optimum(judge: Judge, axes: Sequence[str] = AXES) -> float | None:
    """The lowest cost of any stack of shelves of equal blocks, in any frame, split over one of these axes."""
    shelves, own = Shelves(judge.prices), frames(judge.prices, axes=axes)
    plans = (plan for frame in own for plan in all_plans(shelves, frame, all_shelves(shelves, frame)))
    candidates = (judge.candidate(plan) for plan in plans)
    return min((c.cost for c in candidates if c is not None), default=None)


def searched(judge: Judge, count: int = 400) -> float | None:
    """The lowest cost of so many candidates of the search."""
    found = (c.cost for c in islice(explore(judge, 0), count) if c is not None)
    return min(found, default=None)


def meets_the_optimum(seed: int) -> bool:
    """Whether the search finds the optimum of a small problem; the bound is not above it."""
    best, judge = optimum(small_problem(seed)), small_problem(seed)
    found = searched(judge)
    if best is None:
        return found is None
    assert bound(judge.prices).cycles <= round(math.exp(best) * judge.machine.clock_hz)
    return found is not None and found <= best + 1e-9


def test_the_search_finds_the_optimum_of_small_problems() -> None:
    assert all(meets_the_optimum(seed) for seed in (0, 2, 3, 8))


@pytest.mark.slow
def test_the_search_finds_the_optimum_of_most_small_problems() -> None:
    assert sum(map(meets_the_optimum, range(100))) >= 95


@pytest.mark.slow
def test_the_bound_of_1000_problems_is_below_all_that_is_found() -> None:
    for seed in range(1000):
        judge = small_problem(seed)
        found = searched(judge, 60)
        if found is not None:
            assert bound(judge.prices).cycles <= round(math.exp(found) * judge.machine.clock_hz), seed
