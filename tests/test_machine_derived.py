"""Derived machines: a file with a base, `with_`, settings from text, differences, and TOML that reads back."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wsesim
from tests.programs import program
from wsesim.errors import InvalidInputError
from wsesim.machine import (
    Machine,
    differences,
    differences_text,
    load_machine,
    machine_names,
    machine_text,
    parse_setting,
    with_defects,
)
from wsesim.machine.errors import MachineFileError
from wsesim.machine.load import MOST_BASES, parse_machine
from wsesim.machine.parts import SlowPE
from wsesim.machine.presets import preset_text
from wsesim.machine.rules import LIMITS
from wsesim.machine.text import whole_text
from wsesim.machine.values import FIELDS, KINDS, fields_from, read_values, toml_value, values_of
from wsesim.program.files import parse_program

EXAMPLE = Path(__file__).parents[1] / "examples" / "machines" / "wse3-fast-hops.toml"
WSE3 = load_machine("wse3")


def file(folder: Path, name: str, *lines: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


# One spelling.


@pytest.mark.parametrize("name", machine_names())
def test_values_are_the_machine(name: str) -> None:
    machine = load_machine(name)
    assert Machine(name=name, **fields_from(values_of(machine))) == machine
    stated = {path: toml_value(value) for path, value in values_of(machine).items()}
    assert read_values(stated) == values_of(machine)


def test_every_limit_is_of_a_field() -> None:
    assert set(LIMITS) <= set(KINDS)
    assert {"dead_rows", "dead_columns", *KINDS} == set(FIELDS)


# A file that states differences.


def test_the_example_is_three_lines_and_says_what_differs() -> None:
    machine = load_machine(str(EXAMPLE))
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) == 3
    assert machine == WSE3.with_({"clock_hz": 900e6, "fabric.hop_cycles": 1}, name="wse3-fast-hops")
    assert machine.base == WSE3
    assert [(d.field, d.base, d.value) for d in differences(machine)] == [
        ("clock_hz", 750e6, 900e6),
        ("fabric.hop_cycles", 2, 1),
    ]
    assert differences_text(machine) == "wse3 with clock_hz 7.5e8 -> 9e8, fabric.hop_cycles 2 -> 1"


def test_bases_are_files_too_and_the_first_one_counts(tmp_path: Path) -> None:
    file(tmp_path, "hops", 'base = "wse3"', "fabric.hop_cycles = 1")
    (tmp_path / "inner").mkdir()
    top = file(tmp_path / "inner", "top", 'base = "../hops.toml"', "op.fma = { fp16 = 4 }", "reroute_cycles = 100")
    machine = load_machine(top)
    assert machine.base == WSE3
    assert differences_text(machine) == (
        "wse3 with reroute_cycles 200 -> 100, fabric.hop_cycles 2 -> 1, op.fma.fp16 2.92 -> 4"
    )
    assert machine.op("fma").launch == WSE3.op("fma").launch


def test_a_whole_file_is_a_base_as_a_preset_is(tmp_path: Path) -> None:
    file(tmp_path, "own", preset_text("toy4x4"))
    assert differences_text(load_machine(str(tmp_path / "own.toml"))) == ""
    machine = load_machine(file(tmp_path, "derived", 'base = "own.toml"', "loop_cycles = 3"))
    assert differences_text(machine) == "own with loop_cycles 2 -> 3"


def test_dead_rows_add_to_those_of_the_base_and_dead_replaces_them(tmp_path: Path) -> None:
    file(tmp_path, "one", 'base = "toy4x4"', "dead = [[0, 0]]")
    added = load_machine(file(tmp_path, "added", 'base = "one.toml"', "dead_rows = [3]"))
    assert added.dead == {(0, 0), *((x, 3) for x in range(4))}
    assert load_machine(file(tmp_path, "other", 'base = "one.toml"', "dead = []", "dead_columns = [1]")).dead == {
        (1, y) for y in range(4)
    }
    assert differences_text(added) == "toy4x4 with dead none -> 5 PEs"


BASES = {
    "a number": (("base = 3",), "field 'base' is 3, not the name of a preset or of a .toml file"),
    "misspelt": (('base = "wse33"',), "base 'wse33' is neither a preset (toy4x4, "),
    "absent": (('base = "absent.toml"',), "base 'absent.toml' is neither a preset"),
    "itself": (('base = "mine.toml"',), "a machine cannot be its own base: mine.toml -> mine.toml"),
    "a circle": (('base = "other.toml"',), "cannot be its own base: mine.toml -> other.toml -> mine.toml"),
    "a folder": (('base = "folder.toml"',), "folder.toml: cannot be read as a machine: it is a folder"),
    "misspelt field": (
        ('base = "wse3"', "fabric.hop_cycle = 1"),
        "unknown field 'fabric.hop_cycle'; nearest: fabric.hop_cycles,",
    ),
    "out of range": (('base = "wse3"', "fabric.hop_cycles = 0"), "fabric.hop_cycles is from 1 to 10,000, not 0"),
    "another type": (('base = "wse3"', 'rows = "9"'), "field 'rows' is '9', not an integer"),
    "twice": (('base = "wse3"', '"fabric.hop_cycles" = 1', "fabric.hop_cycles = 2"), "is given twice"),
}


@pytest.mark.parametrize("mistake", BASES)
def test_a_mistake_in_a_derived_file_names_the_file_and_what_is_wrong(mistake: str, tmp_path: Path) -> None:
    lines, words = BASES[mistake]
    (tmp_path / "folder.toml").mkdir()
    file(tmp_path, "other", 'base = "mine.toml"')
    with pytest.raises(MachineFileError, match=re.escape(words)) as refused:
        load_machine(file(tmp_path, "mine", *lines))
    assert str(refused.value).startswith(str(tmp_path)) and "\n" not in str(refused.value)


def test_a_row_of_bases_ends(tmp_path: Path) -> None:
    file(tmp_path, "0", 'base = "toy4x4"')
    for number in range(1, MOST_BASES + 1):
        last = file(tmp_path, str(number), f'base = "{number - 1}.toml"')
    assert load_machine(str(tmp_path / f"{MOST_BASES - 1}.toml")).base == load_machine("toy4x4")
    with pytest.raises(MachineFileError, match=f"is base number {MOST_BASES} in a row"):
        load_machine(last)


# Settings.


def test_with_changes_fields_and_names_the_machine() -> None:
    made = WSE3.with_({"fabric.hop_cycles": 1, "fabric.wavelet_cycles": "5/4", "op.fma.fp16": 2.5, "slow": [[0, 0, 2]]})
    assert made.name == "wse3+" and made.with_({"colours": 30}).name == "wse3+"
    assert made.fabric == dataclasses.replace(WSE3.fabric, hop_cycles=1, wavelet_numerator=5, wavelet_denominator=4)
    assert made.op("fma").rate_fp16 == Fraction(5, 2)
    assert made.slow == (SlowPE(0, 0, Fraction(2)),)
    assert made.base == WSE3
    assert WSE3.with_({"clock_hz": 1e9}, name="fast").name == "fast"


def test_what_is_set_back_is_the_preset_again() -> None:
    assert WSE3.with_({"fabric.hop_cycles": 2}) == WSE3
    assert WSE3.with_({"fabric.hop_cycles": 1}).with_({"fabric.hop_cycles": 2}) == WSE3
    assert differences(WSE3) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fabric.hop_cycle": 1}, "machine wse3: unknown field 'fabric.hop_cycle'; nearest: fabric.hop_cycles, "),
        ({"hop_cycles": 1}, "nearest: fabric.hop_cycles, "),
        ({"fabric": {"hop_cycles": 1}}, "unknown field 'fabric'"),
        ({"fabric.hop_cycles": 1.5}, "field 'fabric.hop_cycles' is 1.5, not an integer"),
        ({"fabric.hop_cycles": True}, "field 'fabric.hop_cycles' is True, not an integer"),
        ({"op.fma.fp16": True}, "field 'op.fma.fp16' is True, not a number"),
        ({"clock_hz": 10**400}, "field 'clock_hz' is 1000"),
        ({"clock_hz": float("inf")}, "machine wse3+: broken rule: clock_hz is finite, not inf"),
        ({"columns": 700}, "the usable rectangle 762 x 1172 at (0, 0) lies inside 700 x 1172"),
        ({"dead": [[762, 0]]}, "dead PEs lie inside the usable rectangle"),
        ({"name": "mine"}, "unknown field 'name'"),
    ],
)
def test_a_change_that_no_machine_has_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MachineFileError, match=re.escape(words)):
        WSE3.with_(changes)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("fabric.hop_cycles=1", "fabric.hop_cycles", 1),
        (" fabric.wavelet_cycles = 9/8 ", "fabric.wavelet_cycles", Fraction(9, 8)),
        ("op.fma.fp16=2.92", "op.fma.fp16", Fraction("2.92")),
        ("clock_hz=900e6", "clock_hz", 900e6),
        ("dead_rows=[3, 4]", "dead_rows", [3, 4]),
        ('slow=[[1, 2, "5/4"]]', "slow", [[1, 2, "5/4"]]),
    ],
)
def test_a_setting_is_read_by_its_fields_type(text: str, path: str, value: Any) -> None:
    assert parse_setting(text) == (path, value)
    assert differences(load_machine("toy4x4").with_({"columns": 9, "rows": 9, "usable.rows": 9, path: value}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fabric.hop_cycles", "'fabric.hop_cycles' sets nothing; write FIELD=VALUE, as in fabric.hop_cycles=1"),
        ("fabric.hop_cycle=1", "nearest: fabric.hop_cycles, "),
        ("fabric.hop_cycles=one", "'fabric.hop_cycles=one': field 'fabric.hop_cycles' is 'one', not an integer"),
        ("fabric.hop_cycles=1.0", "not an integer"),
        ("clock_hz=fast", "field 'clock_hz' is 'fast', not a number"),
        ("op.fma.fp16=1/0", "field 'op.fma.fp16' is '1/0', not a number"),
        ("dead=3,4", "field 'dead' is '3,4', not a list as in TOML"),
        ("dead=1\nx = 2", "not a list as in TOML"),
        ("=1", "unknown field ''"),
    ],
)
def test_a_setting_that_cannot_be_read_says_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(words)):
        parse_setting(text)


def test_defects_are_a_difference(tmp_path: Path) -> None:
    made = with_defects(WSE3, file(tmp_path, "dead", "dead = [[1, 1], [2, 2]]"))
    assert differences_text(made) == "wse3 with dead none -> 2 PEs"


# Text.


@pytest.mark.parametrize("name", machine_names())
def test_a_preset_prints_its_own_file(name: str) -> None:
    assert machine_text(load_machine(name)) == str(load_machine(name)) == preset_text(name)
    bare = machine_text(dataclasses.replace(load_machine(name), name="bare"))
    assert dataclasses.replace(parse_machine(bare, "bare"), name=name) == load_machine(name)


def test_a_machine_is_one_line_in_a_shell() -> None:
    assert repr(WSE3) == "Machine(wse3, 762 x 1172 PEs, 750 MHz)"
    assert repr(load_machine(str(EXAMPLE))) == "Machine(wse3-fast-hops, 762 x 1172 PEs, 900 MHz)"


def test_a_derived_machine_prints_what_the_base_has() -> None:
    text = machine_text(load_machine(str(EXAMPLE)))
    first, second, third, *_ = text.splitlines()
    assert first == "# wse3-fast-hops"
    assert second == "# wse3 with clock_hz 7.5e8 -> 9e8, fabric.hop_cycles 2 -> 1"
    assert third == 'base = "wse3"'
    assert "\nhop_cycles = 1  # 2 on wse3\n" in text


_SMALL = st.integers(1, 100)
_RATES = st.fractions(min_value=Fraction(1, 50), max_value=100, max_denominator=100)
_SEEN: dict[type, st.SearchStrategy[Any]] = {
    int: _SMALL,
    float: st.floats(1e-6, 1e12, allow_nan=False),
    Fraction: _RATES,
}
_ANY = {path: _SEEN[kind] for path, kind in KINDS.items() if kind in _SEEN and not path.startswith("usable.")}
_ANY |= {name: st.integers(1172, 3000) for name in ("columns", "rows")}
_ANY |= {name: st.integers(24577, 10**6) for name in ("sram_bytes",)} | {"colours": st.integers(4, 99)}
_ANY |= {"code_reserved_bytes": st.integers(0, 24000), "reserved_colours": st.integers(0, 3)}
_ANY |= {"input_queues": st.integers(8, 99), "reserved_queues": st.integers(0, 7)}
_ANY["host_copy_reserved_bytes"] = st.integers(0, 500)
_PES = st.tuples(st.integers(0, 700), st.integers(0, 900)).map(list)
_ANY["dead"] = st.lists(_PES, max_size=8, unique_by=tuple)
_ANY["slow"] = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 9), st.just("5/4")).map(list), max_size=1)
_ANY["assumptions"] = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=3)


@given(st.fixed_dictionaries({}, optional=_ANY), st.sampled_from(["wse3", "wse2"]))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_what_a_derived_machine_prints_reads_back_to_it(changes: dict[str, Any], name: str) -> None:
    made = load_machine(name).with_(changes, name="mine")
    again = parse_machine(machine_text(made), "mine")
    assert again == made and again.base == made.base
    assert again.fingerprint() == made.fingerprint()
    assert differences(again) == differences(made)
    assert load_machine(name).with_({d.field: toml_value(d.value) for d in differences(made)}, name="mine") == (
        dataclasses.replace(made, assumptions=load_machine(name).assumptions)
    )


# What a machine is part of.


def test_a_saved_program_keeps_its_machine_and_the_base() -> None:
    made = program("tiny", "toy4x4")
    derived = dataclasses.replace(made, machine=load_machine("toy4x4").with_({"fabric.hop_cycles": 2}))
    again = parse_program(derived.text())
    assert again == derived
    assert differences_text(again.machine) == "toy4x4 with fabric.hop_cycles 1 -> 2"


def test_the_base_decides_neither_equality_nor_fingerprints_but_what_is_kept() -> None:
    made = program("tiny", "toy4x4")
    same = dataclasses.replace(made, machine=dataclasses.replace(made.machine, base=WSE3))
    assert same == made and hash(same.machine) == hash(made.machine)
    assert same.fingerprint() == made.fingerprint()
    assert whole_text(same.machine) != whole_text(made.machine)


def test_the_fingerprint_is_of_numbers_not_of_how_they_were_written() -> None:
    whole = preset_text("toy4x4").replace("clock_hz = 1e6", "clock_hz = 1000000")
    assert whole != preset_text("toy4x4")
    assert parse_machine(whole, "toy4x4").fingerprint() == load_machine("toy4x4").fingerprint()


def test_a_base_must_keep_the_rules(tmp_path: Path) -> None:
    bad = dataclasses.replace(WSE3, wavelet_bytes=0)
    with pytest.raises(MachineFileError, match="base wse3: broken rule: wavelet_bytes is at least 1, not 0"):
        Machine.with_(dataclasses.replace(WSE3, name="mine", base=bad), {"colours": 30})


# Reports.


def test_reports_of_a_derived_machine_say_what_differs() -> None:
    made = program("tiny", "toy4x4")
    derived = dataclasses.replace(made, machine=made.machine.with_({"fabric.hop_cycles": 3, "op.fma.fp16": "3/2"}))
    report = wsesim.simulate(derived, context=4)
    line = "  machine: toy4x4 with fabric.hop_cycles 1 -> 3, op.fma.fp16 1 -> 1.5"
    assert line in str(report).splitlines()
    assert "tiny on toy4x4+" in str(report).splitlines()[0]
    assert line in str(derived).splitlines()
    said = report.to_json()
    assert (said["machine"], said["machine_base"]) == ("toy4x4+", "toy4x4")
    assert said["machine_differences"] == [
        {"field": "fabric.hop_cycles", "base": 1, "value": 3},
        {"field": "op.fma.fp16", "base": "1", "value": "1.5"},
    ]
    assert report.cycles != wsesim.simulate(made, context=4).cycles


def test_reports_of_a_preset_say_nothing_more() -> None:
    made = program("tiny", "toy4x4")
    report = wsesim.simulate(made, context=4)
    assert "machine:" not in str(report) + str(made)
    assert (report.to_json()["machine_base"], report.to_json()["machine_differences"]) == (None, [])
