"""The effect of congestion and of each machine constant on the cycles, by running without it or with a larger one."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

import wsesim
from tests.command_line import TOY, run
from tests.programs import program
from wsesim.engine.observe.measure import one_way_cycles, op_cycles, relay_cycles
from wsesim.engine.steps.pipeline import pipeline
from wsesim.engine.steps.timing import Timing
from wsesim.machine import Machine, load_machine
from wsesim.report.report import Report
from wsesim.report.sensitivity import Elasticity, sensitivity
from wsesim.report.tables import report_text

TOY_MACHINE = load_machine("toy4x4")
WSE3 = load_machine("wse3")


def by_name(found: tuple[Elasticity, ...]) -> dict[str, Elasticity]:
    return {e.constant: e for e in found}


@pytest.fixture(scope="module")
def shown() -> Report:
    return wsesim.simulate(program("tiny", "toy4x4"), context=16, congestion=True, sensitivity=True)


def test_every_number_of_timing_is_asked_about_once() -> None:
    names = [e.constant for e in sensitivity(WSE3, lambda machine: 1)]
    ratio = {"wavelet_numerator", "wavelet_denominator"}
    fields = {f"fabric.{f.name}" for f in dataclasses.fields(WSE3.fabric) if f.name not in ratio}
    ops = {f"op.{op}.{cost}" for op, _ in WSE3.ops for cost in ("launch", "relaunch", "fp16", "fp32")}
    steps = {"reroute_cycles", "activate_cycles", "stream_cycles", "loop_cycles"}
    assert sorted(names) == sorted(fields | ops | steps | {"fabric.wavelet_cycles"})


def test_one_constant_is_raised_at_a_time_and_exactly() -> None:
    seen: list[Machine] = []

    def one_cycle(machine: Machine) -> int:
        seen.append(machine)
        return 1

    found = by_name(sensitivity(WSE3, one_cycle))
    assert seen[0] == WSE3 and len(set(seen)) == len(seen) == len(found) + 1
    assert found["fabric.hop_cycles"].raised == 3  # 2: an integer moves by at least one
    assert found["reroute_cycles"].raised == 220
    assert found["fabric.wavelet_cycles"].raised == Fraction(9, 8) * Fraction(11, 10)
    assert found["op.fma.fp16"].raised == WSE3.op("fma").rate_fp16 * Fraction(11, 10)


@pytest.mark.parametrize("machine", [TOY_MACHINE, WSE3], ids=lambda m: m.name)
@pytest.mark.parametrize("stages", [1, 5, 30])
def test_of_a_chain_it_is_the_closed_form(machine: Machine, stages: int) -> None:
    """A wavelet from PE to PE: each stage has one hop, both ramps and an activation, and waits for nothing else."""
    cycles = relay_cycles(machine, stages, 1)
    found = by_name(sensitivity(machine, lambda changed: relay_cycles(changed, stages, 1)))
    for name, value in (
        ("fabric.hop_cycles", machine.fabric.hop_cycles),
        ("fabric.ramp_send_cycles", machine.fabric.ramp_send_cycles),
        ("fabric.ramp_receive_cycles", machine.fabric.ramp_receive_cycles),
        ("activate_cycles", machine.activate_cycles),
    ):
        assert found[name].elasticity == Fraction(stages * value, cycles), name
    assert found["op.copy.launch"].elasticity == Fraction(machine.op("copy").launch, cycles)
    for unused in ("fabric.turn_cycles", "reroute_cycles", "op.fma.fp16", "op.exp.fp32"):
        assert found[unused].elasticity == 0, unused


def test_elasticities_of_what_is_a_sum_of_integer_constants_sum_to_one() -> None:
    """One wavelet on its way: launches, ramps and hops, and the cycle that a wavelet takes on the toy's links."""
    found = sensitivity(TOY_MACHINE, lambda machine: one_way_cycles(machine, 3))
    parts = [e.elasticity for e in found if e.constant != "fabric.wavelet_cycles" and e.elasticity]
    assert sum(parts) == 1 - Fraction(1, one_way_cycles(TOY_MACHINE, 3))


def test_a_rate_makes_faster() -> None:
    """A thousand operations at one a cycle, and at eleven in ten cycles, after a launch of 2."""
    found = by_name(sensitivity(TOY_MACHINE, lambda machine: op_cycles(machine, "fma", 1000)))
    assert found["op.fma.fp16"].cycles == 1002
    assert found["op.fma.fp16"].raised_cycles == 2 + 910
    assert found["op.fma.fp16"].elasticity == Fraction(-90, 1002) / Fraction(1, 10)
    assert found["op.fma.fp32"].elasticity == 0


def test_of_a_constant_of_zero_there_is_no_per_cent() -> None:
    found = by_name(sensitivity(TOY_MACHINE, lambda machine: op_cycles(machine, "exp", 8, repeats=3)))
    assert found["op.exp.relaunch"].elasticity is None
    assert found["op.exp.relaunch"].raised_cycles - found["op.exp.relaunch"].cycles == 2
    assert found["op.relay.launch"].elasticity is None


def test_of_a_step_the_signs_are_right_and_the_largest_come_first(shown: Report) -> None:
    for e in shown.sensitivity:
        if e.constant.endswith((".fp16", ".fp32")) or e.constant == "fabric.queue_wavelets":
            assert e.raised_cycles <= e.cycles, e.constant
        else:
            assert e.raised_cycles >= e.cycles, e.constant
    sizes = [float(abs(e.elasticity or 0)) for e in shown.sensitivity]
    assert sizes == sorted(sizes, reverse=True)
    moved = {e.constant for e in shown.sensitivity if e.elasticity}
    assert {"fabric.hop_cycles", "reroute_cycles", "activate_cycles", "op.fma.fp16", "op.exp.fp16"} <= moved
    assert all(e.cycles == shown.cycles for e in shown.sensitivity)


def test_of_a_step_the_reroutes_count_as_the_critical_path_has_them(shown: Report) -> None:
    """Reroutes overlap with nothing, so one cycle more costs one cycle for each of them."""
    reroutes = by_name(shown.sensitivity)["reroute_cycles"]
    assert reroutes.elasticity == Fraction(shown.by_kind()["reroute"], shown.cycles)


def test_the_placement_stays(shown: Report) -> None:
    """The hop's row is the same Program on a machine with another hop."""
    made = program("tiny", "toy4x4")
    fabric = dataclasses.replace(made.machine.fabric, hop_cycles=made.machine.fabric.hop_cycles + 1)
    moved = dataclasses.replace(made, machine=dataclasses.replace(made.machine, fabric=fabric))
    assert by_name(shown.sensitivity)["fabric.hop_cycles"].raised_cycles == Timing(moved).decode(16).cycles


def test_congestion_is_the_run_minus_one_with_free_links(shown: Report) -> None:
    free = Timing(program("tiny", "toy4x4"), free_links=True).decode(16).cycles
    assert shown.congestion_cycles == shown.cycles - free >= 0
    assert shown.to_json()["congestion_cycles"] == shown.congestion_cycles
    plain = wsesim.simulate(program("tiny", "toy4x4"), context=16)
    assert plain.congestion_cycles is None and plain.to_json()["congestion_cycles"] is None
    assert plain.sensitivity == () and plain.cycles == shown.cycles


def test_congestion_of_prefill_is_where_chunks_meet() -> None:
    made = program("tiny", "toy4x4", "shared")
    shown = wsesim.simulate(made, phase="prefill", tokens=9, congestion=True)
    assert shown.congestion_cycles == shown.cycles - Timing(made, free_links=True).prefill(9).cycles
    assert shown.congestion_cycles > 0


def test_congestion_of_a_pipeline_is_that_of_its_period() -> None:
    made = program("tiny", "wse2", sequences=3)
    shown = wsesim.simulate(made, context=16, in_flight=3, congestion=True)
    contended, free = (pipeline(Timing(made, free_links=free), 3, 16).period_cycles for free in (False, True))
    assert shown.flow_congestion_cycles == contended - free > 0
    assert shown.to_json()["pipeline"]["congestion_cycles"] == float(contended - free)
    assert "with free links" in report_text(shown)
    assert wsesim.simulate(made, context=16, in_flight=3).flow_congestion_cycles is None


def test_the_command_prints_both(capsys: pytest.CaptureFixture[str], shown: Report) -> None:
    words = ("simulate", "tiny", *TOY, "--context", "16", "--congestion", "--sensitivity")
    said = json.loads(run(capsys, *words, "--json").out)
    rows = {row["constant"]: row for row in said["sensitivity"]}
    assert set(rows) == {e.constant for e in shown.sensitivity}
    assert all(row["elasticity"] is None or np.isfinite(row["elasticity"]) for row in rows.values())
    text = run(capsys, *words).out
    assert "congestion: " in text and "no cycle more or less: " in text
    table = text.partition("per cent of a constant\n")[2].splitlines()
    assert table[0].split() == ["constant", "from", "to", "cycles", "elasticity"]
    assert table[1].split()[0] == said["sensitivity"][0]["constant"]
