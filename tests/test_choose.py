"""choose: one algorithm for an axis, streamed or stored kernel by kernel, by what the oracle says it costs."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from tests.programs import ORACLE, program, recognised_graph
from wsesim.machine import Machine, load_machine
from wsesim.machine.machine import SlowPE
from wsesim.program.collectives import ALGORITHMS, COLLECTIVES, parse_collective
from wsesim.program.kernels import Kernel, Linear, Sample, Score
from wsesim.program.protocols import LineUse
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options
from wsesim_compiler.passes.choose import line_use
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.passes.place import place
from wsesim_compiler.placement import Placement
from wsesim_models.config import CONFIGS

TINY = CONFIGS["tiny"]


class Told:
    """An oracle with a favourite, which should stream what is longer than one element."""

    def __init__(self, favourite: str) -> None:
        self.favourite = favourite
        self.asked: set[LineUse] = set()

    def collective_cycles(self, machine: Machine, use: LineUse, collective: str) -> int:
        self.asked.add(use)
        named = parse_collective(collective)
        return 10 * (named.algorithm != self.favourite) + 2 * (named.streamed != (use.elements > 1))


@pytest.mark.parametrize("favourite", ALGORITHMS)
def test_the_cheapest_algorithm_is_taken_and_each_kernel_streams_as_it_likes(favourite: str) -> None:
    oracle = Told(favourite)
    made = lower(recognised_graph(TINY), load_machine("wse3"), Options(max_context=256), oracle)
    for kernel in made.kernels:
        if isinstance(kernel, Linear):
            assert kernel.reduce == f"streamed_{favourite}", "a vector of several elements"
        elif kernel.name.endswith("norm") or isinstance(kernel, Sample):
            assert getattr(kernel, "reduce", favourite) == favourite
    assert {use.everybody for use in oracle.asked} == {True, False}
    assert all(1 <= use.used <= use.length for use in oracle.asked)


def test_a_collective_that_is_asked_for_asks_nobody() -> None:
    oracle = Told("tree")
    lower(recognised_graph(TINY), load_machine("wse3"), Options(max_context=256, collective="two_phase:3"), oracle)
    assert not oracle.asked


def axis_of(kernel: Kernel) -> str:
    if isinstance(kernel, Score):
        return "segment"
    return kernel.axis if isinstance(kernel, Linear) else "across" if isinstance(kernel, Sample) else "along"


@pytest.mark.parametrize(("model", "machine"), [("tiny", "toy4x4"), ("smollm2-135m", "wse3")])
def test_no_algorithm_would_be_cheaper_for_a_whole_axis_by_the_engine(model: str, machine: str) -> None:
    made = program(model, machine)
    options = Options(max_context=made.max_context)
    placement: Placement = place(partition(recognised_graph(CONFIGS[model])), made.machine, options)
    on_axis: dict[tuple[str, str], list[Any]] = {}
    for kernel in made.kernels:
        if hasattr(kernel, "reduce") and kernel.block in ("layer0", "head"):
            on_axis.setdefault((kernel.block, axis_of(kernel)), []).append(kernel)
    assert len(on_axis) >= 3
    for (block, _), kernels in on_axis.items():
        uses = [line_use(k, made.block(block), placement) for k in kernels]

        def total(collectives: list[str], uses: list[LineUse] = uses) -> int:
            pairs = zip(uses, collectives, strict=True)
            return sum(ORACLE.collective_cycles(made.machine, use, collective) for use, collective in pairs)

        assert len({parse_collective(k.reduce).algorithm for k in kernels}) == 1
        chosen = total([k.reduce for k in kernels])
        stored = [a for a in COLLECTIVES if not parse_collective(a).streamed or not isinstance(kernels[-1], Sample)]
        assert all(chosen <= total([collective] * len(kernels)) for collective in stored)


def test_the_engine_counts_from_nought_and_without_stragglers() -> None:
    """A chain of 4 on toy4x4: 21 stored, 15 streamed (by hand in test_expand), and nobody else to send to."""
    toy = load_machine("toy4x4")
    slow = dataclasses.replace(toy, slow=(SlowPE(0, 1, Fraction(9)),))
    use = LineUse(4, 4, 4, "fp16", everybody=False)
    for machine in (toy, slow):
        assert ORACLE.collective_cycles(machine, use, "chain") == 21
        assert ORACLE.collective_cycles(machine, use, "streamed_chain") == 15
    assert ORACLE.collective_cycles(toy, LineUse(1, 1, 4, "fp16", everybody=True), "tree") == 0
    assert ORACLE.collective_cycles(toy, dataclasses.replace(use, everybody=True), "chain") > 21
