"""Strategy auto: the best of a few placements, the same on every machine."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import pytest

import wsesim
from tests.programs import ORACLE, program, recognised_graph
from wsesim.engine.steps.timing import Timing
from wsesim.machine import Machine, Rect, load_machine
from wsesim.toolchain.options import StepOptions
from wsesim.toolchain.simulating import DEFAULT_CACHED, objective_of
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.search.automatic import CACHED, automatic_blocks
from wsesim_models.config import CONFIGS

CONTEXT = 255


def cycles(model: str, machine: str, strategy: str, **options: int) -> int | None:
    """Of a decode step; None if the strategy does not fit."""
    try:
        made = program(model, machine, strategy, max_context=CONTEXT + 1, **options)
    except PlacementError:
        return None
    return Timing(made).decode(CONTEXT).cycles


def no_strategy_is_faster(model: str, machine: str) -> bool:
    """By more than 0.3 %: candidates are compared by simulated layers."""
    layers = CONFIGS[model].layers
    hybrid = [cycles(model, machine, "hybrid", layers_per_block=n) for n in range(2, layers) if layers % n == 0]
    others = [cycles(model, machine, strategy) for strategy in ("pipelined", "shared")] + hybrid
    own = cycles(model, machine, "auto")
    return own is not None and all(other is None or own <= 1.003 * other for other in others)


def test_no_strategy_is_faster_for_a_small_model() -> None:
    assert no_strategy_is_faster("tiny", "toy4x4")


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["wse2", "wse3"])
@pytest.mark.parametrize("model", ["tiny", "smollm2-135m", "llama3.2-1b", "qwen3-4b", "llama3.1-8b"])
def test_no_strategy_is_faster(model: str, machine: str) -> None:
    assert no_strategy_is_faster(model, machine)


def ladder(model: str, machines: list[Machine]) -> list[int]:
    """Cycles of a decode step on each machine, whichever hold the model."""
    found = []
    for machine in machines:
        with suppress(PlacementError):
            found.append(Timing(program(model, machine, "auto", max_context=CONTEXT + 1)).decode(CONTEXT).cycles)
    return found


def with_more_sram(steps: list[int]) -> list[Machine]:
    base = load_machine("wse3")
    return [dataclasses.replace(base, sram_bytes=base.sram_bytes + 1024 * step) for step in steps]


def with_more_pes(sides: list[tuple[int, int]]) -> list[Machine]:
    base = load_machine("wse3")
    usable = base.usable
    return [dataclasses.replace(base, usable=Rect(usable.x, usable.y, *side)) for side in sides]


def no_rise_above(ratio: float, found: list[int]) -> bool:
    """Whether each is at most `ratio` times the least before it."""
    return all(own <= ratio * min(found[:n]) for n, own in enumerate(found) if n)


def test_neither_more_sram_nor_more_pes_slow_a_small_model() -> None:
    sizes = [(round(16 * 1.4**n), round(12 * 1.4**n)) for n in range(8)]
    found = ladder("tiny", with_more_sram([-16, -8, -4, 0, 8, 16]))
    assert len(found) > 4 and found == sorted(found, reverse=True)
    found = ladder("tiny", with_more_pes(sizes))
    assert len(found) > 4
    assert no_rise_above(1.025, found), "sizes depend on the wafer's width"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["smollm2-135m", "llama3.2-1b"])
def test_more_sram_or_pes_hardly_ever_slow_a_model(model: str) -> None:
    """20 machines. Blocks that fill a small wafer's width are no candidates on the next wider one."""
    sizes = [(round(250 * 1.13**n), round(384 * 1.13**n)) for n in range(10)]
    more = (with_more_sram([-12, -8, -4, 0, 4, 8, 16, 24, 32, 48]), 1.003), (with_more_pes(sizes), 1.02)
    for machines, ratio in more:
        found = ladder(model, machines)
        assert len(found) > 4 and no_rise_above(ratio, found)


def test_the_same_blocks_every_time() -> None:
    split, machine = partition(recognised_graph(CONFIGS["tiny"])), load_machine("toy4x4")
    options = Options(strategy="auto", max_context=64)
    first, second = (automatic_blocks(split, machine, options, ORACLE) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_blocks_follow_the_objective() -> None:
    split, machine = partition(recognised_graph(CONFIGS["smollm2-135m"])), load_machine("wse3")
    placed = {
        objective: automatic_blocks(
            split, machine, Options(strategy="auto", objective=objective, max_context=512, sequences=8), ORACLE
        )[0]
        for objective in ("latency", "throughput")
    }
    assert len(placed["throughput"]) > len(placed["latency"])


def test_candidates_are_compared_at_the_context_of_a_plain_simulation() -> None:
    assert CACHED == DEFAULT_CACHED


def test_a_command_says_what_is_placed_for() -> None:
    steps = (StepOptions(), StepOptions(phase="prefill"), StepOptions(in_flight=4))
    assert [objective_of(step) for step in steps] == ["latency", "prompt", "throughput"]


def test_a_model_that_does_not_fit_is_refused_with_what_is_missing() -> None:
    with pytest.raises(PlacementError, match=r"not fit toy4x4 with any strategy, not even as shared: .* bytes"):
        program("smollm2-135m", "toy4x4", "auto")


def test_the_placement_is_an_ordinary_one() -> None:
    made = wsesim.compile("tiny", machine="toy4x4", strategy="auto")
    assert made.strategy == "auto"
    assert wsesim.simulate(made, context=16).cycles <= wsesim.simulate("tiny", machine="toy4x4", context=16).cycles
    assert dataclasses.replace(made, strategy="explicit") != made
