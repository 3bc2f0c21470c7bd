"""docs/machines.md defines every field of a machine, with each preset's value; its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import run
from wsesim.machine import differences_text, load_machine, machine_names
from wsesim.machine.load import MOST_BASES
from wsesim.machine.values import COST_FIELDS, FIELDS, KINDS, OPS, value_text, values_of

PAGE = (Path(__file__).parents[1] / "docs" / "machines.md").read_text(encoding="utf-8")
DEFINED, VALUES = PAGE.split("## Values and sources")
ROWS = [[c.strip() for c in line.strip("|").split("|")] for line in DEFINED.splitlines() if line.startswith("| `")]
HEAD, _, *TABLE = [[c.strip() for c in line.strip("|").split("|")] for line in VALUES.splitlines() if line[:1] == "|"]


def block(language: str) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found[0]


def test_every_field_is_defined_once_and_no_other() -> None:
    cells = [name for row in ROWS if len(row) == 3 for name in re.findall(r"`([\w.]+)`", row[0])]
    defined = [f"op.{op}.{name[6:]}" for name in cells if name.startswith("op.OP.") for op in OPS]
    defined += [name for name in cells if not name.startswith("op.OP.")]
    assert sorted(defined) == sorted((*FIELDS, "base"))
    assert all(row[2] for row in ROWS if len(row) == 3)
    assert [name for row in ROWS for name in re.findall(r"^`(\w+)`$", row[0]) if name in OPS] == list(OPS)
    assert len(COST_FIELDS) == len([name for name in cells if name.startswith("op.OP.")])


def test_every_unit_is_that_of_the_name() -> None:
    units = {"_cycles": "cycles", "_bytes": "bytes", "_hz": "Hz", "_s": "s", "_per_s": "bytes/s"}
    for names, unit, _ in (row for row in ROWS if len(row) == 3):
        for name in re.findall(r"`([\w.]+)`", names):
            ending = max((e for e in units if name.endswith(e)), key=len, default="")
            if ending and KINDS.get(name) is not list:
                assert unit == units[ending], name


def test_every_preset_is_described() -> None:
    assert set(HEAD[1:-1]) == set(machine_names())
    described = re.findall(r"^\| `([\w-]+)` \| [^|]+ \|$", DEFINED, re.MULTILINE)
    assert described[: len(machine_names())] == HEAD[1:-1]


@pytest.mark.parametrize("name", machine_names())
def test_the_values_are_the_presets(name: str) -> None:
    column = HEAD.index(name)
    shown = {row[0].strip("`"): row[column] for row in TABLE}
    values = values_of(load_machine(name))
    stated = {path: str(len(v)) if path == "assumptions" else value_text(v) for path, v in values.items()}
    assert list(shown.items()) == list(stated.items())
    assert all(len(row) == len(HEAD) and row[-1] for row in TABLE)


def test_the_derived_file_of_the_page_works(tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text(block("toml"), encoding="utf-8")
    made = load_machine(str(tmp_path / "fast.toml"))
    assert (made.name, differences_text(made)) == ("fast", "wse3 with clock_hz 7.5e8 -> 9e8, fabric.hop_cycles 2 -> 1")
    assert f"up to {MOST_BASES - 1} files" in " ".join(PAGE.split())


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python"), "docs/machines.md", "exec"), {})
    assert f"\n  {block('text')}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [line for line in block("sh").splitlines() if " machines " in line])
def test_the_commands_of_the_page_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(capsys, *command.split()[1:])
    assert done.status == 0 and done.out.startswith("# wse3+\n")


def test_the_line_of_the_page_is_that_of_its_settings() -> None:
    changes = dict(re.findall(r'"(fabric\.hop_cycles|op\.fma\.fp16)": (\d)', block("python")))
    made = load_machine("wse3").with_({path: int(value) for path, value in changes.items()})
    assert block("text") == f"machine: {differences_text(made)}\n"
