"""Every example runs as it stands, and prints what it promises."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
RUN_HERE = {
    "quickstart",
    "compare_placements",
    "draw_wafer",
    "draw_traffic",
    "completion",
}  # the last one in test_serve_http


def run_example(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == RUN_HERE


@pytest.mark.usefixtures("smollm2_path")
def test_quickstart(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("quickstart", monkeypatch=monkeypatch)
    placed, decoded, text, times = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"smollm2-135m on wse3: [\d,]+ PEs in 31 blocks", placed)
    assert re.match(r"decode: [\d,]+ cycles a token, [\d,]+ tokens/s, \{'compute': \d+", decoded)
    assert text.startswith("It was a dark and stormy night, with the sun")
    assert re.fullmatch(r"prompt \d+\.\d\d ms, completion \d+\.\d\d ms, all of it modelled", times)


def test_compare_placements(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of every choice, with figures that differ where the choice matters."""
    run_example("compare_placements", "tiny", "wse3", monkeypatch=monkeypatch)
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "tiny on wse3, decode"
    assert head.split()[:3] == ["strategy", "collective", "order"]
    cycles = {tuple(row.split()[:3]): int(row.split()[3].replace(",", "")) for row in rows}
    assert len(cycles) == 10
    assert len({count for (*_, order), count in cycles.items() if order == "serpentine"}) >= 4


def test_compare_placements_says_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_example("compare_placements", "smollm2-135m", "toy4x4", monkeypatch=monkeypatch)
    assert all("does not fit" in row for row in capsys.readouterr().out.splitlines()[2:])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own
def test_draw_wafer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "wafer.png"
    run_example("draw_wafer", "smollm2-135m", str(picture), monkeypatch=monkeypatch)
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own
def test_draw_traffic(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "traffic.png"
    run_example("draw_traffic", "tiny", str(picture), "toy4x4", monkeypatch=monkeypatch)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert re.search(r"[\d,]+ links granted, [\d,]+ cycles", capsys.readouterr().out)
