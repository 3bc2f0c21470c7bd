"""`wsesim machines`, `--set` on every command with `--machine`, derived machines in what the commands print."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.command_line import run
from wsesim.cli.parser import make_parser
from wsesim.machine import load_machine, machine_names, machine_text
from wsesim.machine.load import parse_machine
from wsesim.machine.presets import preset_text

EXAMPLE = str(Path(__file__).parents[1] / "examples" / "machines" / "wse3-fast-hops.toml")
SIMULATE = ("simulate", "tiny", "--machine", "toy4x4", "--context", "4")

Capsys = pytest.CaptureFixture[str]


def test_the_listing_has_every_preset(capsys: Capsys) -> None:
    first, *rows = run(capsys, "machines").out.splitlines()
    assert first.split()[0] == "machine"
    assert tuple(row.split()[0] for row in rows) == machine_names()


@pytest.mark.parametrize("name", machine_names())
def test_a_preset_is_printed_with_its_sources(name: str, capsys: Capsys) -> None:
    assert run(capsys, "machines", "--print", name).out == preset_text(name)


def test_a_derived_machine_is_printed_as_toml_that_reads_back(capsys: Capsys) -> None:
    done = run(capsys, "machines", "--print", EXAMPLE, "--set", "op.fma.fp16=4", "--set", "dead_rows=[7]")
    made = load_machine(EXAMPLE).with_({"op.fma.fp16": 4, "dead_rows": [7]})
    assert done.out == machine_text(made)
    assert parse_machine(done.out, made.name) == made


@pytest.mark.parametrize("command", ["complete", "compile", "simulate", "serve", "machines"])
def test_set_goes_with_every_machine(command: str) -> None:
    model = ("hi",) if command == "complete" else ()
    parsed = make_parser().parse([command, *model, "--set", "fabric.hop_cycles=1", "--set", "clock_hz=1e9"])
    assert parsed.settings == [("fabric.hop_cycles", 1), ("clock_hz", 1e9)]
    assert make_parser().parse([command, *model]).settings == []


def test_a_report_says_what_was_set(capsys: Capsys) -> None:
    plain, changed = run(capsys, *SIMULATE), run(capsys, *SIMULATE, "--set", "fabric.hop_cycles=3")
    assert changed.out.startswith("tiny on toy4x4+, ")
    assert "\n  machine: toy4x4 with fabric.hop_cycles 1 -> 3\n" in changed.out
    assert "machine:" not in plain.out
    cycles = [int(re.findall(r"cycles +([\d,]+)", done.out)[0].replace(",", "")) for done in (plain, changed)]
    assert cycles[0] < cycles[1]


def test_json_says_what_was_set(capsys: Capsys) -> None:
    said = json.loads(run(capsys, *SIMULATE, "--set", "fabric.wavelet_cycles=9/8", "--json").out)
    assert (said["machine"], said["machine_base"]) == ("toy4x4+", "toy4x4")
    assert said["machine_differences"] == [{"field": "fabric.wavelet_cycles", "base": "1", "value": "9/8"}]


def test_compile_says_what_was_set_and_a_saved_program_keeps_it(
    capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = "\n  machine: toy4x4 with fabric.hop_cycles 1 -> 2\n"
    words = ("--machine", "toy4x4", "--max-context", "64", "--set", "fabric.hop_cycles=2")
    assert line in run(capsys, "compile", "tiny", *words, "-o", "tiny.program").out
    assert line in run(capsys, "simulate", "tiny.program", "--context", "4").out
    assert run(capsys, "simulate", "tiny.program", "--set", "fabric.hop_cycles=1").status == 2


def test_what_is_set_to_the_presets_own_value_changes_nothing(capsys: Capsys) -> None:
    done = run(capsys, *SIMULATE, "--set", "fabric.hop_cycles=1")
    assert done.out.startswith("tiny on toy4x4, ") and "machine:" not in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SIMULATE, "--set", "fabric.hop_cycle=1"), "unknown field 'fabric.hop_cycle'; nearest: fabric.hop_cycles, "),
        ((*SIMULATE, "--set", "fabric.hop_cycles"), "argument --set: 'fabric.hop_cycles' sets nothing; write FIELD="),
        ((*SIMULATE, "--set", "fabric.hop_cycles=one"), "'fabric.hop_cycles' is 'one', not an integer"),
        (
            (*SIMULATE, "--set", "fabric.hop_cycles=0"),
            "machine toy4x4+: broken rule: fabric.hop_cycles is from 1 to 10",
        ),
        ((*SIMULATE, "--set", "columns=3"), "the usable rectangle 4 x 4 at (0, 0) lies inside 3 x 4"),
        (("machines", "--set", "columns=3"), "--set changes the machine that --print prints; give --print"),
        (("machines", "--print", "wse33"), "unknown machine 'wse33'; known: wse3, "),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words: tuple[str, ...], said: str, capsys: Capsys) -> None:
    done = run(capsys, *words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err and done.err.count("\n") == 1
