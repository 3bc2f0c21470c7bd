"""The modelled cycles of a few cases are fixed. A change is shown, and `make refresh` accepts it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.regression import CASES, Case, load, main, measure, moves, moves_text

SMALL = CASES[:2]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cycles_are_the_held_ones(case: Case) -> None:
    held = load()
    assert str(case) in held, f"{case} is not held: run `make refresh`"
    moved = moves({str(case): held[str(case)]}, measure([case]))
    assert not moved, moves_text(moved)


def test_nothing_is_held_that_is_no_case() -> None:
    assert set(load()) == set(map(str, CASES)), "run `make refresh`"


def test_moves_are_shown_with_the_command_that_holds_them() -> None:
    moved = moves({"same": 7, "slower": 1000, "gone": 5}, {"same": 7, "slower": 1015, "new": 3})
    text = moves_text(moved)
    rows = [line.split() for line in text.splitlines()[2:]]
    assert rows == [["slower", "1,000", "1,015", "+1.500", "%"], ["new", "-", "3", "-"], ["gone", "5", "-", "-"]]
    assert "make refresh" in text
    assert "make refresh" not in moves_text(())


def test_refresh_holds_what_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = tmp_path / "held.json"
    assert main([], SMALL, held) == 1
    assert "make refresh" in capsys.readouterr().out
    assert not held.exists()
    assert main(["--refresh"], SMALL, held) == 0
    assert load(held) == measure(SMALL)
    assert main([], SMALL, held) == 0
    assert main([], [dataclasses.replace(SMALL[0], tokens=200)], held) == 1
