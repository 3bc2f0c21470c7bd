"""Strategies take the blocks with the lowest price, and the engine confirms the choice."""

from __future__ import annotations

import dataclasses

import pytest

from tests.programs import program
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import Timing
from wsesim.machine import load_machine
from wsesim.program import Program

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
    """The blocks here are the smallest within 10 % of the lowest estimate of an earlier version."""
    assert cycles(program(model, "wse3")) < cycles(program(model, "wse3", block=block))
