"""choose: an algorithm for each kernel and phase, by the oracle's cycles for it and for the changes of routes."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.programs import ORACLE, program, recognised_graph
from wsesim.machine import Machine, load_machine
from wsesim.machine.parts import SlowPE
from wsesim.program import Program
from wsesim.program.collectives import ALGORITHMS, parse_collective
from wsesim.program.kernels import DECODE, Kernel, Linear, RMSNorm, Sample
from wsesim.program.protocols import LineUse
from wsesim.software import WSESIM, Software, load_software
from wsesim.toolchain.oracle import EngineOracle
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options
from wsesim_compiler.passes.choose import Stop, cheapest_round, collective_use
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.passes.place import place
from wsesim_models.config import CONFIGS

TINY = CONFIGS["tiny"]


class Told:
    """An oracle with a favourite, which should stream what is longer than one element."""

    def __init__(self, favourite: str) -> None:
        self.favourite = favourite
        self.asked: set[LineUse] = set()

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        self.asked.add(use)
        named = parse_collective(collective)
        return 10 * (named.algorithm != self.favourite) + 2 * (named.streamed != (use.elements > 1))

    def form_cycles(self, *asked: Any) -> int:
        """Each operation costs as much: the first form is taken."""
        return 1

    def stage_cycles(self, *asked: Any) -> int:
        raise AssertionError("only a search asks")


def lowered(machine: Machine, options: Options, oracle: Told | TwoMinds) -> Program:
    """tiny on the blocks that the engine's prices give; the oracle is asked for all that is chosen on them."""
    graph = recognised_graph(TINY)
    blocks = place(partition(graph), machine, options, EngineOracle()).blocks
    return lower(graph, machine, dataclasses.replace(options, block=None, blocks=blocks), oracle)


@pytest.mark.parametrize("favourite", ALGORITHMS)
def test_the_cheapest_algorithm_is_taken_and_each_kernel_streams_as_it_likes(favourite: str) -> None:
    oracle = Told(favourite)
    made = lowered(load_machine("wse3"), Options(max_context=256, block=(12, 16)), oracle)
    for kernel in made.kernels:
        if isinstance(kernel, Linear):
            assert kernel.reduce == f"streamed_{favourite}", "a vector of several elements"
        elif kernel.name.endswith("norm") or isinstance(kernel, Sample):
            assert getattr(kernel, "reduce", favourite) == favourite
    assert {use.everybody for use in oracle.asked} == {True, False}
    assert all(1 <= use.used <= use.length for use in oracle.asked)


def test_a_collective_that_is_asked_for_asks_nobody() -> None:
    oracle, software = Told("tree"), load_software("wsesim-plain")
    options = Options(max_context=256, software=software, softmax="two_pass", prefill_chunk=1, collective="two_phase:3")
    lowered(load_machine("wse3"), options, oracle)
    assert not oracle.asked


class TwoMinds:
    """An oracle whose favourite is one algorithm up to `elements`, another beyond, by `gain` cycles."""

    def __init__(self, short: str, long: str, elements: int, gain: int) -> None:
        self.short, self.long, self.elements, self.gain = short, long, elements, gain

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        favourite = self.short if use.elements <= self.elements else self.long
        return 1000 - self.gain * (collective == favourite)

    form_cycles = Told.form_cycles
    stage_cycles = Told.stage_cycles


@pytest.mark.parametrize("reroute", [0, 200])
def test_an_algorithm_of_its_own_must_be_worth_its_routes(reroute: int) -> None:
    """A norm reduces one element, and a projection along the same lines follows. A gain of 90 cycles a kernel does not
    pay for two changes of routes of 200 cycles. If these cost nothing, each kernel takes its favourite.
    """
    machine = dataclasses.replace(load_machine("wse3"), reroute_cycles=reroute)
    options = Options(max_context=256, software=load_software("wsesim-plain"), softmax="two_pass")
    made = lowered(machine, options, TwoMinds("tree", "star", 1, 90))
    norm, qkv = (next(k for k in made.kernels if k.name == f"layer0.{role}") for role in ("attn_norm", "qkv"))
    assert isinstance(norm, RMSNorm) and isinstance(qkv, Linear)
    assert norm.lines == qkv.lines
    assert (norm.reduce == qkv.reduce) is bool(reroute)
    assert reroute or (norm.reduce, qkv.reduce) == ("tree", "star")


def test_a_phase_chooses_for_its_own_tokens() -> None:
    """A chunk's vectors are longer than a token's; head and draw see one token either way."""
    oracle = TwoMinds("tree", "ring", 7, 500)
    made = lowered(load_machine("wse3"), Options("shared", 256, prefill_chunk=8), oracle)
    norms = [k for k in made.kernels if isinstance(k, RMSNorm)]
    assert len(norms) == 2 * TINY.layers + 1
    assert {(k.reduce, k.prefill_reduce) for k in norms} == {("tree", "ring")}
    assert all(not k.prefill_reduce for k in made.kernels if isinstance(k, Linear) and not k.broadcast)
    alone = lowered(load_machine("wse3"), Options("shared", 256, prefill_chunk=1), oracle)
    assert not any(getattr(k, "prefill_reduce", "") for k in alone.kernels)


KINDS = st.sampled_from(["along", "across", "segment"])
COSTS = st.lists(st.integers(0, 500), min_size=len(ALGORITHMS), max_size=len(ALGORITHMS))


@given(st.lists(st.tuples(KINDS, COSTS), min_size=1, max_size=4), st.integers(0, 300))
def test_no_round_is_cheaper_than_the_chosen_one(stops: list[tuple[str, list[int]]], reroute: int) -> None:
    """Compared with all rounds, one by one."""
    named = [(kind, tuple(zip(costs, ALGORITHMS, strict=True))) for kind, costs in stops]
    made = tuple(Stop(kind, cheapest) for kind, cheapest in named)

    def total(algorithms: tuple[str, ...]) -> int:
        routes = [(stop.kind, a) for stop, a in zip(made, algorithms, strict=True)]
        changes = sum(a != b for a, b in zip(routes, routes[1:] + routes[:1], strict=True))
        return (
            sum(s.cheapest[ALGORITHMS.index(a)][0] for s, a in zip(made, algorithms, strict=True)) + reroute * changes
        )

    assert total(cheapest_round(made, reroute)) == min(map(total, product(ALGORITHMS, repeat=len(made))))


@pytest.mark.parametrize(("model", "machine"), [("tiny", "toy4x4"), ("smollm2-135m", "wse3")])
def test_no_other_collective_for_all_would_be_cheaper_by_the_engine(model: str, machine: str) -> None:
    made = program(model, machine)
    options = Options(max_context=made.max_context)
    placement = place(partition(recognised_graph(CONFIGS[model])), made.machine, options, EngineOracle())
    for placed in placement.blocks[:2]:
        kernels = [k for k in made.kernels_of(placed.block.name) if k.lines]
        uses = {k.name: collective_use(k, placed.block, placement, DECODE) for k in kernels}

        def total(algorithm: str, uses: dict[str, LineUse] = uses, kernels: list[Kernel] = kernels) -> int:
            def cycles(kernel: Kernel, collective: str) -> int:
                return ORACLE.collective_cycles(made.machine, WSESIM, uses[kernel.name], collective)

            stagings = {k: ("",) if isinstance(k, Sample) else ("", "streamed_") for k in kernels}
            return sum(min(cycles(k, s + (algorithm or bare(k))) for s in stagings[k]) for k in kernels)

        assert len(kernels) >= 2
        assert total("") <= min(map(total, ALGORITHMS))


def bare(kernel: Any) -> str:
    return parse_collective(kernel.reduce).algorithm


def test_the_engine_counts_from_nought_and_without_stragglers() -> None:
    """A chain of 4 on toy4x4: 21 stored, 15 streamed (by hand in test_expand), and nobody else to send to."""
    toy = load_machine("toy4x4")
    slow = dataclasses.replace(toy, slow=(SlowPE(0, 1, Fraction(9)),))
    use = LineUse(4, 4, 4, "fp16", everybody=False)
    for machine in (toy, slow):
        assert ORACLE.collective_cycles(machine, WSESIM, use, "chain") == 21
        assert ORACLE.collective_cycles(machine, WSESIM, use, "streamed_chain") == 15
    assert ORACLE.collective_cycles(toy, WSESIM, LineUse(1, 1, 4, "fp16", everybody=True), "tree") == 0
    assert ORACLE.collective_cycles(toy, WSESIM, dataclasses.replace(use, everybody=True), "chain") > 21
