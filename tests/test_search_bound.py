"""The bound: never above a price."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from itertools import islice, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import ORACLE, recognised_graph
from tests.test_search_prices import judge_of, random_candidates
from wsesim.machine import load_machine
from wsesim.program.parts import AXES
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.search.bound import Need, Offer, bound, cheapest, lower_hull
from wsesim_compiler.search.exhaustive import all_plans, all_shelves
from wsesim_compiler.search.explore import explore
from wsesim_compiler.search.frames import frames
from wsesim_compiler.search.goals import Goal
from wsesim_compiler.search.judge import Judge
from wsesim_compiler.search.shelves import Shelves
from wsesim_models.config import CONFIGS

OFFERS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 400)), min_size=1, max_size=5)


@settings(max_examples=1000, deadline=None)
@given(OFFERS, OFFERS, st.integers(1, 3), st.integers(1, 2), st.integers(2, 150))
def test_no_choice_of_offers_is_cheaper(
    one: list[tuple[int, int]], other: list[tuple[int, int]], ones: int, others: int, pes: int
) -> None:
    needs = [Need(n, tuple(Offer(a, c) for a, c in own)) for n, own in ((ones, one), (others, other))]
    choices = product(*([one] * ones + [other] * others))
    best = min((sum(c for _, c in own) for own in choices if sum(a for a, _ in own) <= pes), default=None)
    least = cheapest(needs, pes)
    if best is not None:
        assert least is not None and sum(own.count * own.offer.cycles for own in least) <= best + 1e-6
        assert sum(own.count * own.offer.pes for own in least) <= pes + 1e-6


@settings(max_examples=300, deadline=None)
@given(OFFERS)
def test_a_hull_falls_ever_more_slowly_and_lies_below_all_offers(offers: list[tuple[int, int]]) -> None:
    hull = lower_hull([Offer(a, c) for a, c in offers])
    savings = [(a.cycles - b.cycles) / (b.pes - a.pes) for a, b in pairwise(hull)]
    assert all(saving > 0 for saving in savings) and savings == sorted(savings, reverse=True)
    assert hull[-1].cycles == min(c for _, c in offers)
    assert hull[0].pes == min(a for a, _ in offers)


def test_no_placement_has_a_price_below_the_bound() -> None:
    judge = judge_of("tiny")
    least = bound(judge.prices).cycles
    prices = [judge.prices.pass_price(c.blocks) for c in random_candidates(judge, seed=3, draws=25)]
    assert len(prices) > 5
    assert all(price is not None and price.cycles >= least for price in prices)
    assert least > 0.4 * min(price.cycles for price in prices if price)


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
