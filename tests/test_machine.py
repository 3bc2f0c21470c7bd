"""Machine: presets against the reference, mistakes in a user's file, the fingerprint."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from wsesim.machine import Machine, Rect, UnknownMachineError, load_machine, machine_names
from wsesim.machine.errors import MachineFileError
from wsesim.machine.load import parse_machine
from wsesim.machine.parts import Fabric, Host, OpCost, SlowPE

PRESETS = ("toy4x4", "wse2", "wse3", "wse3-nominal", "wse3-simulator")


def preset_text(name: str) -> str:
    return (resources.files("wsesim.machine") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


TOY = preset_text("toy4x4")


# The presets.


def test_the_presets_are_the_ones_of_the_design() -> None:
    assert machine_names() == PRESETS


FACTS: dict[str, dict[str, Any]] = {  # the reference's hardware.md
    "wse2": {
        "columns": 757,
        "rows": 996,
        "usable": Rect(0, 0, 750, 994),
        "clock_hz": 1.1e9,
        "hop_cycles": 1,
        "turn_cycles": 0,
        "ramp_send_cycles": 2,
        "ramp_receive_cycles": 2,
        "wavelet": Fraction(1),
        "queue_wavelets": 6,
        "fma": (16, Fraction("1.715"), Fraction(1, 2)),
        "copy": (15, Fraction(8), Fraction(4)),
    },
    "wse3": {
        "columns": 762,
        "rows": 1172,
        "usable": Rect(0, 0, 762, 1172),
        "clock_hz": 750e6,
        "hop_cycles": 2,
        "turn_cycles": 20,
        "ramp_send_cycles": 7,
        "ramp_receive_cycles": 3,
        "wavelet": Fraction(9, 8),
        "queue_wavelets": 8,
        "fma": (16, Fraction("2.92"), Fraction(1, 2)),
        "copy": (15, Fraction("4.82"), Fraction("2.44")),
    },
    "wse3-nominal": {
        "columns": 762,
        "rows": 1172,
        "usable": Rect(0, 0, 762, 1172),
        "clock_hz": 1.1e9,
        "hop_cycles": 1,
        "turn_cycles": 0,
        "ramp_send_cycles": 7,
        "ramp_receive_cycles": 3,
        "wavelet": Fraction(1),
        "queue_wavelets": 8,
        "fma": (16, Fraction(8), Fraction(1, 2)),
        "copy": (15, Fraction(8), Fraction(4)),
    },
}


@pytest.mark.parametrize("name", FACTS)
def test_a_preset_states_the_facts_of_the_reference(name: str) -> None:
    m = load_machine(name)
    stated = {
        field: getattr(m if hasattr(m, field) else m.fabric, field)
        for field in FACTS[name]
        if field not in ("wavelet", "fma", "copy")
    }
    stated["wavelet"] = Fraction(m.fabric.wavelet_numerator, m.fabric.wavelet_denominator)
    for op in ("fma", "copy"):
        stated[op] = (m.op(op).launch, m.op(op).rate_fp16, m.op(op).rate_fp32)
    assert stated == FACTS[name]
    assert m.op("reduce").rate_fp16 == Fraction(1, 2)
    assert (m.sram_bytes, m.code_reserved_bytes, m.room_bytes) == (48 * 1024, 24 * 1024, 24 * 1024)
    assert m.assumptions
    assert (m.colours, m.reserved_colours, m.wavelet_bytes, m.reroute_cycles) == (24, 3, 4, 200)
    assert (m.input_queues, m.reserved_queues, m.switch_positions) == ((24, 3, 4) if name == "wse2" else (8, 0, 4))


def test_one_stage_of_a_chain_takes_the_measured_16_cycles() -> None:
    m = load_machine("wse3-nominal")
    stage = m.fabric.ramp_send_cycles + m.fabric.hop_cycles + m.fabric.ramp_receive_cycles + m.activate_cycles
    assert stage == 16  # 16.1 in the vendor's simulator


def test_an_fma_costs_what_was_measured_as_one_op_and_as_many() -> None:
    at_rate_4 = dataclasses.replace(load_machine("wse3").op("fma"), rate_fp16=Fraction(4))
    whole = at_rate_4.launch + at_rate_4.work_cycles(4096, 1, "fp16")
    pieces = at_rate_4.launch + at_rate_4.work_cycles(16, 256, "fp16")
    assert whole == 1040
    assert abs(pieces - 2840) <= 1  # the relaunch is (2840 - 1040) / 255, to two decimals


def test_work_is_rounded_up_once_and_dtypes_take_their_rate() -> None:
    cost = OpCost(launch=5, relaunch=Fraction(1, 3), rate_fp16=Fraction(3), rate_fp32=Fraction(1, 2))
    assert cost.work_cycles(10, 1, "fp16") == 4  # 10/3
    assert cost.work_cycles(10, 4, "fp16") == 15  # 40/3 + 1: not 4 * 4 + 1
    assert cost.work_cycles(10, 1, "bf16") == cost.work_cycles(10, 1, "int8") == 4
    assert cost.work_cycles(10, 1, "fp32") == 20


@pytest.mark.parametrize(("elements", "dtype", "wavelets"), [(0, "fp16", 1), (2, "fp16", 1), (3, "bf16", 2)])
def test_elements_fill_wavelets_and_a_message_has_a_head(elements: int, dtype: str, wavelets: int) -> None:
    assert load_machine("wse3").wavelets(elements, dtype) == wavelets


def test_seconds_are_cycles_over_the_clock() -> None:
    assert load_machine("wse3").seconds(750e6) == 1.0


# A user's own file.


def test_a_users_file_is_a_machine_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOY + "\n".join(["", ""]), encoding="utf-8")
    assert load_machine(str(path)) == dataclasses.replace(load_machine("toy4x4"), name="mine")


def test_dead_and_slow_pes_are_read() -> None:
    m = parse_machine('dead = [[1, 2]]\nslow = [[3, 0, "5/4"]]\n' + TOY, "mine")
    assert m.dead == {(1, 2)}
    assert m.slow == (SlowPE(3, 0, Fraction(5, 4)),)


def test_a_rate_is_the_decimal_that_is_written() -> None:
    m = parse_machine(
        TOY.replace('[op.fma]\nlaunch = 2\nrelaunch = "1"\nfp16 = "1"', "[op.fma]\nlaunch = 2\nfp16 = 2.92"), "m"
    )
    assert m.op("fma").rate_fp16 == Fraction(73, 25)
    assert m.op("fma").relaunch == 0


def _without(line: str) -> str:
    assert TOY.count(line) >= 1, line
    return TOY.replace(line, "", 1)


def _with(line: str, other: str) -> str:
    assert TOY.count(line) >= 1, line
    return TOY.replace(line, other, 1)


HOSTLESS = TOY[: TOY.index("[host]")] + TOY[TOY.index("[op.copy]") :]

MISTAKES = {
    "not TOML": ("columns = = 4", "not TOML"),
    "field missing": (_without("sram_bytes = 49152\n"), "'sram_bytes' is missing"),
    "fabric's field missing": (_without("hop_cycles = 1\n"), "field 'fabric.hop_cycles' is missing"),
    "wavelet_cycles missing": (_without("wavelet_cycles = 1\n"), "field 'fabric.wavelet_cycles' is missing"),
    "host's field missing": (_without("send_call_s = 1e-6\n"), "field 'host.send_call_s' is missing"),
    "rectangle's field missing": (_with("x = 0, ", ""), "field 'usable.x' is missing"),
    "section missing": (TOY[: TOY.index("[fabric]")] + TOY[TOY.index("[host]") :], "'fabric.hop_cycles' is missing"),
    "op's field missing": (_with("[op.copy]\nlaunch = 1\n", "[op.copy]\n"), "field 'op.copy.launch' is missing"),
    "op missing": (_with("[op.relay]", "[op.relays]"), "operation 'relays' is unknown; known: copy, fma"),
    "op unknown": (TOY + '[op.gelu]\nlaunch = 1\nfp16 = "1"\nfp32 = "1"\n', "operation 'gelu' is unknown"),
    "op's field unknown": (TOY + 'fp8 = "4"\n', "unknown field 'op.compare.fp8'; nearest: op.compare.fp16, "),
    "field unknown": ("colors = 24\n" + TOY, "unknown field 'colors'; nearest: colours, "),
    "fabric's field unknown": (
        _with("hop_cycles = 1\n", "hop_cycles = 1\nhops = 1\n"),
        "unknown field 'fabric.hops'; nearest: fabric.hop_cycles, ",
    ),
    "derived field": ("name = 'x'\n" + TOY, "unknown field 'name'"),
    "text for a number": (_with("columns = 4\n", 'columns = "4"\n'), "'columns' is '4'"),
    "fraction for a count": (_with("rows = 4\n", "rows = 4.5\n"), "'rows' is 4.5"),
    "truth for a count": (_with("colours = 24\n", "colours = true\n"), "'colours' is True"),
    "number for a section": (HOSTLESS.replace("[fabric]", "host = 3\n[fabric]", 1), "'host' is 3, not a table"),
    "number for the rectangle": (re.sub(r"usable = .*", "usable = 4", TOY), "'usable' is 4, not a table"),
    "rate no number": (_with('fp16 = "1"', 'fp16 = "fast"'), "field 'op.copy.fp16' is 'fast', not a number"),
    "rate over zero": (_with('fp16 = "1"', 'fp16 = "1/0"'), "not a number"),
    "rate zero": (_with('fp16 = "1"', 'fp16 = "0"'), "op.copy.fp16 is at least 1/10000, not 0"),
    "launch negative": (_with("launch = 1", "launch = -1"), "op.copy.launch is from 0 to 10,000, not -1"),
    "stream negative": (_with("stream_cycles = 1", "stream_cycles = -1"), "stream_cycles is from 0 to 127, not -1"),
    "hop zero": (_with("hop_cycles = 1", "hop_cycles = 0"), "fabric.hop_cycles is from 1 to 10,000, not 0"),
    "ramp negative": (
        _with("ramp_send_cycles = 1", "ramp_send_cycles = -1"),
        "fabric.ramp_send_cycles is from 0 to 10,000, not -1",
    ),
    "wavelet zero": (_with("wavelet_cycles = 1", "wavelet_cycles = 0"), "wavelet_cycles is positive"),
    "wavelet infinite": (
        _with("wavelet_cycles = 1", "wavelet_cycles = inf"),
        "'fabric.wavelet_cycles' is inf, not a number",
    ),
    "wavelet of no bytes": (_with("wavelet_bytes = 4", "wavelet_bytes = 0"), "wavelet_bytes is at least 1"),
    "clock stands": (_with("clock_hz = 1e6", "clock_hz = 0"), "clock_hz is positive"),
    "clock is no number": (_with("clock_hz = 1e6", "clock_hz = nan"), "clock_hz is positive"),
    "no room": (
        _with("code_reserved_bytes = 16384", "code_reserved_bytes = 49152"),
        "sram_bytes exceeds the 49152 bytes that are reserved of it, 49152 does not",
    ),
    "reserve negative": (
        _with("host_copy_reserved_bytes = 0", "host_copy_reserved_bytes = -1"),
        "host_copy_reserved_bytes is at least 0, not -1",
    ),
    "all colours reserved": (
        _with("reserved_colours = 3", "reserved_colours = 24"),
        "colours are more than the 24 reserved_colours",
    ),
    "no queue": (_with("queue_wavelets = 4", "queue_wavelets = 0"), "fabric.queue_wavelets is from 1 to 10,000, not 0"),
    "too wide": (_with("columns = 4, rows", "columns = 5, rows"), "5 x 4 at (0, 0) lies inside 4 x 4"),
    "empty rectangle": (
        _with("columns = 4, rows", "columns = -4, rows"),
        "usable.columns is from 1 to 10,000,000, not -4",
    ),
    "dead outside": ("dead = [[4, 0]]\n" + TOY, "dead PEs lie inside"),
    "dead column of a wafer without end": (
        "dead_columns = [0]\n" + _with("columns = 4, rows = 4 }", "columns = 4, rows = 100000000000 }"),
        "the usable rectangle 4 x 100000000000 at (0, 0) has more than 10,000,000 PEs",
    ),
    "dead no pair": ("dead = [7]\n" + TOY, "'dead' is not a list of lists of 2"),
    "slow is fast": ("slow = [[0, 0, 0.5]]\n" + TOY, "slow PE is from 1 to 10,000"),
    "slow outside": ("slow = [[0, 9, 2]]\n" + TOY, "slow PEs lie on the wafer"),
    "link of no rate": (_with("link_bytes_per_s = 1e9", "link_bytes_per_s = 0"), "link_bytes_per_s is positive"),
    "assumption no text": (
        re.sub(r"assumptions = .*", "assumptions = [3]", TOY),
        "'assumptions' is [3], not a list of texts",
    ),
    "assumptions one text": (re.sub(r"assumptions = .*", 'assumptions = "none"', TOY), "not a list of texts"),
    "a number that fills memory": (_with("wavelet_cycles = 1", 'wavelet_cycles = "1e99999999"'), "from 1e-9 to 1e9"),
    "wavelets too slow": (_with("wavelet_cycles = 1", "wavelet_cycles = 1000000"), "integers up to 10,000"),
    "hops too slow": (_with("hop_cycles = 1", f"hop_cycles = {2**63 - 1}"), "fabric.hop_cycles is from 1 to 10,000"),
    "ramps too slow": (
        _with("ramp_send_cycles = 1", f"ramp_send_cycles = {2**63 - 1}"),
        "fabric.ramp_send_cycles is from 0 to 10,000",
    ),
    "reroutes too slow": (
        re.sub(r"reroute_cycles = .*", "reroute_cycles = 10001", TOY),
        "reroute_cycles is from 0 to 10,000",
    ),
    "launch too slow": (_with("launch = 1", "launch = 10001"), "op.copy.launch is from 0 to 10,000, not 10001"),
    "rate too slow": (_with('fp16 = "1"', 'fp16 = "1/10001"'), "op.copy.fp16 is at least 1/10000, not 1/10001"),
    "slow by too much": ('slow = [[0, 0, "1e400"]]\n' + TOY, "slow is '1e400', not a number"),
    "slow without a place": ('slow = [["a", 0, 2]]\n' + TOY, "does not begin with a column and a row"),
    "dead without a place": ("dead = [[[1], 0]]\n" + TOY, "does not begin with a column and a row"),
    "slow twice": ("slow = [[0, 0, 2], [0, 0, 3]]\n" + TOY, "names a PE twice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_named_in_one_line(mistake: str) -> None:
    text, words = MISTAKES[mistake]
    with pytest.raises(MachineFileError) as refused:
        parse_machine(text, "mine")
    message = str(refused.value)
    assert message.startswith("machine mine: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("field", [k for k in tomllib.loads(TOY) if k != "assumptions"])
def test_no_field_of_a_file_may_be_left_out(field: str) -> None:
    text = re.sub(rf"(?m)^{field} = .*\n", "", TOY)
    text = re.sub(rf"(?ms)^\[{field}(\.\w+)?\]\n.*?(?=^\[(?!{field}\.)|\Z)", "", text)
    with pytest.raises(MachineFileError, match=rf"field '{field}(\.[\w.]+)?' is missing"):
        parse_machine(text, "mine")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MachineFileError, match=r"mine\.toml: cannot be read"):
        load_machine(str(path))


@pytest.mark.parametrize("name", ["wse-3", "WSE3", "there/is/none.toml", str(Path(__file__))])
def test_an_unknown_machine_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownMachineError, match="unknown machine") as refused:
        load_machine(name)
    assert all(preset in str(refused.value) for preset in PRESETS)
    assert ".toml" in str(refused.value)


def test_the_nearest_known_machine_comes_first() -> None:
    with pytest.raises(UnknownMachineError, match=r"known: wse3, ") as near_wse3:
        load_machine("wse-3")
    assert "toy4x4" in str(near_wse3.value)
    with pytest.raises(UnknownMachineError, match=r"known: toy4x4, "):
        load_machine("toy4")


# The fingerprint.

NESTED = {"fabric": Fabric, "host": Host, "usable": Rect}


def _other(value: Any) -> Any:
    """Another value of the same type, still a machine's."""
    match value:
        case str():
            return value + "'"
        case frozenset():
            return value | {(1, 1)}
        case tuple():
            return (*value, SlowPE(0, 0, Fraction(2))) if not value else value[::-1]
    return value + 1


def _changes() -> list[tuple[str, Machine]]:
    m = load_machine("wse3")
    changes: list[tuple[str, Machine]] = []
    for f in dataclasses.fields(Machine):
        if f.name in NESTED:
            part = getattr(m, f.name)
            for g in dataclasses.fields(NESTED[f.name]):
                changed = dataclasses.replace(part, **{g.name: _other(getattr(part, g.name))})
                changes.append((f"{f.name}.{g.name}", dataclasses.replace(m, **{f.name: changed})))
        elif f.init and f.name not in ("assumptions", "base", "ops"):
            changes.append((f.name, dataclasses.replace(m, **{f.name: _other(getattr(m, f.name))})))
    for number, (op, cost) in enumerate(m.ops):
        for g in dataclasses.fields(OpCost):
            changed_cost = dataclasses.replace(cost, **{g.name: _other(getattr(cost, g.name))})
            ops = (*m.ops[:number], (op, changed_cost), *m.ops[number + 1 :])
            changes.append((f"op.{op}.{g.name}", dataclasses.replace(m, ops=ops)))
    return changes


@pytest.mark.parametrize(("field", "changed"), _changes(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_fingerprint_changes_with_every_field(field: str, changed: Machine) -> None:
    assert changed.fingerprint() != load_machine("wse3").fingerprint(), field


def test_the_fingerprint_is_over_numbers_in_any_order_of_dead_pes() -> None:
    m = load_machine("wse3")
    a, b = (
        dataclasses.replace(m, dead=frozenset(pes)) for pes in ([(1, 2), (9, 4), (700, 3)], [(700, 3), (9, 4), (1, 2)])
    )
    assert a.fingerprint() == b.fingerprint()
    assert dataclasses.replace(m, assumptions=()).fingerprint() == m.fingerprint()
