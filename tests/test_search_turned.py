"""Turned plans: mirror images of plans on a wafer whose columns and rows are exchanged, split over columns."""

from __future__ import annotations

import dataclasses
from itertools import islice

import pytest

from tests.programs import ORACLE
from tests.test_search_bound import optimum, small_problem
from tests.test_search_prices import judge_of, lowered
from wsesim.engine.steps.timing import Timing
from wsesim.machine import Machine, Rect, load_machine
from wsesim.program.parts import Block
from wsesim_compiler.search.explore import equal_shelves, explore
from wsesim_compiler.search.frames import axes_of, frames
from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.plans import COLUMNS, ROWS
from wsesim_compiler.search.shelves import Shelves


def turned_candidates(judge: Judge, count: int) -> list[Candidate]:
    own = list(frames(judge.prices, axes=(COLUMNS,)))
    plans = equal_shelves(Shelves(judge.prices), own, judge.goal)
    return list(islice((c for plan in plans if (c := judge.candidate(plan)) is not None), count))


def turned_machine(machine: Machine) -> Machine:
    u, dead = machine.usable, frozenset((y, x) for x, y in machine.dead)
    usable = Rect(u.y, u.x, u.rows, u.columns)
    return dataclasses.replace(machine, columns=machine.rows, rows=machine.columns, usable=usable, dead=dead)


@pytest.mark.parametrize(
    ("model", "machine", "context", "dead"),
    [
        ("tiny", "toy4x4", 40, ()),
        ("smollm2-135m", "wse3", 200, ()),
        ("smollm2-135m", "wse3", 200, ((90, 400), (300, 70), (610, 1000))),
    ],
)
def test_a_turned_plan_takes_as_long_as_its_mirror_image(
    model: str, machine: str, context: int, dead: tuple[tuple[int, int], ...]
) -> None:
    """Its blocks verify on the wafer, and the whole step is that of the mirror image on the mirrored wafer."""
    judge = judge_of(model, machine, context, dead=dead)
    mirrored = Judge(judge.partition, turned_machine(judge.machine), judge.options, ORACLE, judge.goal)
    compared = 0
    for candidate in turned_candidates(judge, 200)[::40]:
        assert candidate.plan is not None and {p.block.axis for p in candidate.blocks} == {COLUMNS}
        image = mirrored.candidate(
            dataclasses.replace(candidate.plan, frame=dataclasses.replace(candidate.plan.frame, axis=ROWS))
        )
        assert image is not None and image.metrics == candidate.metrics
        programs = lowered(judge, candidate), lowered(mirrored, image)
        assert (programs[0] is None) == (programs[1] is None)
        if programs[0] is None or programs[1] is None:
            continue
        assert {block.axis for block in programs[0].blocks} == {COLUMNS}
        one, other = (Timing(program).decode(context) for program in programs if program is not None)
        assert (one.cycles, one.busy_cycles) == (other.cycles, other.busy_cycles)
        compared += 1
    assert compared


def test_a_block_turned_twice_is_the_block() -> None:
    block = Block("layer0", 3, 5, 7, 11, ROWS, (4,), (6, 9))
    assert block.turned() == Block("layer0", 5, 3, 11, 7, COLUMNS, (6, 9), (4,))
    assert block.turned().turned() == block
    assert (block.turned().along, block.turned().across) == (block.along, block.across)


def test_a_size_that_stands_only_turned_is_priced_as_the_mirrored_wafer_prices_it() -> None:
    judge = judge_of("tiny", "toy4x4", 40)
    wide = dataclasses.replace(judge.machine, usable=Rect(0, 0, 2, 4))
    prices, mirrored = (
        Judge(judge.partition, machine, judge.options, ORACLE, judge.goal, simulated=True).prices
        for machine in (wide, turned_machine(wide))
    )
    for stages in (judge.partition.layers[:1], judge.prices.probe.embed):
        for size in ((4, 2), (3, 1), (2, 2), (2, 4), (1, 3)):
            assert prices.block_cycles(stages, size) == mirrored.block_cycles(stages, size)
        assert prices.block_cycles(stages, (3, 3)) is None


def test_no_plan_is_turned_on_a_square_without_dead_pes() -> None:
    wse3, toy = load_machine("wse3"), load_machine("toy4x4")
    assert axes_of(wse3) == (ROWS, COLUMNS)
    assert axes_of(toy) == (ROWS,)
    assert axes_of(dataclasses.replace(toy, dead=frozenset({(1, 2)}))) == (ROWS, COLUMNS)


@pytest.mark.parametrize("seed", [1, 4])
def test_the_search_finds_turned_plans_that_are_better_than_all_others(seed: int) -> None:
    judge = small_problem(seed)
    upright, turned = (optimum(judge, (axis,)) for axis in (ROWS, COLUMNS))
    costs = [c.cost for c in islice(explore(judge, 0), 600) if c is not None]
    assert upright is not None and turned is not None and turned < upright
    assert min(costs) <= turned + 1e-9
