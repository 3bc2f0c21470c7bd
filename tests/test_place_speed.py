"""Strategies take the blocks with the lowest estimate, and the engine confirms the choice."""

from __future__ import annotations

import dataclasses

import pytest

from tests.programs import program
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import Timing
from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim_compiler.passes.place import Floor
from wsesim_compiler.placement.ground import Ground

MORE_SRAM = dataclasses.replace(load_machine("wse3"), sram_bytes=65536)


def cycles(made: Program) -> int:
    return Timing(made, EffectCache(keep_timelines=False)).decode(512).cycles


@pytest.mark.parametrize("model", ["smollm2-135m", "llama3.2-1b", "llama3.1-8b"])
def test_more_sram_does_not_slow_the_default_placement(model: str) -> None:
    assert cycles(program(model, MORE_SRAM)) <= cycles(program(model, "wse3"))


@pytest.mark.parametrize(
    ("model", "block"), [("smollm2-135m", (50, 96)), ("llama3.2-1b", (190, 98)), ("llama3.1-8b", (190, 111))]
)
def test_larger_blocks_are_taken_where_they_are_faster(model: str, block: tuple[int, int]) -> None:
    """The blocks here are the smallest within 10 % of the lowest estimate."""
    assert cycles(program(model, "wse3")) < cycles(program(model, "wse3", block=block))


def test_of_equally_fast_floor_plans_the_one_with_the_fewest_pes_is_taken() -> None:
    ground = Ground(0, 100, ((0, 100),))
    wide, small = (Floor(1000, ground, (10, 2), (10, rows), None, 4) for rows in (8, 7))
    faster = dataclasses.replace(wide, cycles=999)
    assert min(wide, small, faster, key=lambda floor: floor.rank) is faster
    assert min(wide, small, key=lambda floor: floor.rank) is small
