"""The search's prices rank placements as the engine does."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

import numpy as np
import pytest

from tests.programs import ORACLE, recognised_graph
from wsesim.engine.exact.wafer import EffectCache, Wafer
from wsesim.engine.steps.timing import Timing
from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.lower import lower_partition
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.search.explore import layer_counts
from wsesim_compiler.search.frames import frames
from wsesim_compiler.search.goals import Goal
from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.plans import Plan
from wsesim_compiler.search.shelves import Shelves
from wsesim_compiler.search.ways import way_cycles
from wsesim_models.config import CONFIGS

CONTEXT = 200


def judge_of(
    model: str,
    machine: str = "wse3",
    context: int = CONTEXT,
    sequences: int = 1,
    dead: Iterable[tuple[int, int]] = (),
) -> Judge:
    config = CONFIGS[model]
    options = Options(max_context=min(2048, config.max_context), sequences=sequences)
    wafer = dataclasses.replace(load_machine(machine), dead=frozenset(dead))
    return Judge(partition(recognised_graph(config)), wafer, options, ORACLE, Goal(context=context))


def random_candidates(judge: Judge, seed: int, draws: int = 60) -> list[Candidate]:
    """Stacks of equal shelves: frame, number of layers per block, and size are drawn."""
    dice, shelves = random.Random(seed), Shelves(judge.prices)
    found = []
    own = list(frames(judge.prices))
    for _ in range(draws):
        frame, each = dice.choice(own), dice.choice(layer_counts(len(judge.partition.layers)))
        catalogue = shelves.catalogue(frame, [each], heights=6)
        if not catalogue:
            continue
        shelf = dice.choice(catalogue)
        count = -(-len(judge.partition.layers) // (each * len(shelf.widths)))
        candidate = judge.candidate(Plan(frame, (shelf,) * count))
        if candidate is not None:
            found.append(candidate)
    return list({c.blocks: c for c in found}.values())


def lowered(judge: Judge, candidate: Candidate) -> Program | None:
    options = dataclasses.replace(judge.options, strategy="explicit", blocks=candidate.blocks)
    try:
        return lower_partition(judge.partition, judge.machine, options, ORACLE)
    except PlacementError:
        return None  # colours run out


def priced_and_run(model: str, count: int, seed: int) -> list[tuple[int, int, int]]:
    """Of random placements: the price, the price by simulated layers, the cycles of a decode step."""
    judge = judge_of(model)
    exact = Judge(judge.partition, judge.machine, judge.options, ORACLE, judge.goal, simulated=True).prices
    rows: list[tuple[int, int, int]] = []
    for candidate in random_candidates(judge, seed, 4 * count):
        if len(rows) == count:
            break
        program = lowered(judge, candidate)
        prices = [own.pass_price(candidate.blocks) for own in (judge.prices, exact)]
        if program is not None:
            a, b = (price.cycles for price in prices if price is not None)
            rows.append((a, b, Timing(program).decode(CONTEXT).cycles))
    return rows


def agreement(rows: list[tuple[int, int, int]], column: int) -> float:
    """Rank correlation of a column with the cycles."""
    priced, simulated = (np.argsort(np.argsort([row[n] for row in rows])) for n in (column, 2))
    return float(np.corrcoef(priced, simulated)[0, 1])


def test_prices_rank_placements_as_the_engine_does() -> None:
    rows = priced_and_run("smollm2-135m", 12, seed=0)
    assert len(rows) == 12
    assert min(agreement(rows, 0), agreement(rows, 1)) > 0.95  # a swapped pair of twelve costs 0.007
    assert all(0.95 < exact / cycles < 1.08 for _, exact, cycles in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "count"), [("smollm2-135m", 70), ("llama3.2-1b", 70), ("llama3.1-8b", 60)])
def test_prices_rank_200_placements_as_the_engine_does(model: str, count: int) -> None:
    rows = sorted(priced_and_run(model, count, seed=1), key=lambda row: row[2])
    assert len(rows) == count
    assert agreement(rows, 0) > 0.97
    assert agreement(rows, 1) > 0.98
    assert agreement(rows[: count // 4], 1) > 0.9


def test_a_way_is_nearly_the_time_of_a_transfer_on_idle_links() -> None:
    """But for the lanes that the last sum reaches before the edges."""
    judge = judge_of("smollm2-135m")
    compared = 0
    for candidate in random_candidates(judge, seed=2)[:3]:
        program = lowered(judge, candidate)
        if program is None:
            continue
        moves = [leg.move for leg in Timing(program).legs(16) if leg.move]
        for move, transfer in zip(moves, program.transfers, strict=True):
            ends = program.block(transfer.source), program.block(transfer.target)
            simulated = Wafer(program.machine, EffectCache(keep_timelines=False)).run(move).end
            way = way_cycles(program.machine, "fp16", *ends, program.dimension)
            early = ends[0].columns // 2 * program.machine.fabric.hop_cycles
            assert 0.93 * simulated - early - 60 <= way <= 1.1 * simulated
            compared += 1
    assert compared > 4
