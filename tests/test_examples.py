"""Every example runs as it stands, and prints what it promises."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.command_line import run

EXAMPLES = Path(__file__).parent.parent / "examples"
RUN_HERE = {
    "quickstart",
    "compare_placements",
    "draw_wafer",
    "draw_traffic",
    "poisson_arrivals",
    "completion",
}  # the last one in test_serve_http


def run_example(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == RUN_HERE


@pytest.mark.usefixtures("smollm2_path")
def test_quickstart(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("quickstart", monkeypatch=monkeypatch)
    placed, decoded, text, times = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"smollm2-135m on wse3: [\d,]+ PEs in 3 blocks", placed)
    assert re.match(r"decode: [\d,]+ cycles a token, [\d,]+ tokens/s, \{'compute': \d+", decoded)
    assert text.startswith("It was a dark and stormy night, with the sun")
    assert re.fullmatch(r"prompt \d+\.\d\d ms, completion \d+\.\d\d ms, all of it modelled", times)


def test_compare_placements(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of every choice, with figures that differ where the choice matters."""
    assert run_example("compare_placements", "tiny", "--machine", "wse3", monkeypatch=monkeypatch) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert len({len(row) for row in (head, *rows)}) == 1
    assert title == "tiny on wse3, decode"
    assert head.split()[:3] == ["strategy", "collective", "order"]
    cycles = {tuple(row.split()[:3]): int(row.split()[3].replace(",", "")) for row in rows}
    assert len(cycles) == 12
    assert len({count for (*_, order), count in cycles.items() if order == "serpentine"}) >= 4


def test_compare_placements_says_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_example("compare_placements", "smollm2-135m", "--machine", "toy4x4", monkeypatch=monkeypatch)
    assert all("does not fit" in row for row in capsys.readouterr().out.splitlines()[2:])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own
def test_draw_wafer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "wafer.png"
    run_example("draw_wafer", "smollm2-135m", str(picture), monkeypatch=monkeypatch)
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own
def test_draw_wafer_takes_the_options_of_compilation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A placement, a machine's field and a mistake: what `wsesim simulate` would make of them."""
    words = ("tiny", "--machine", "toy4x4", "--max-context", "64")
    placement = tmp_path / "mine.toml"
    placement.write_text(run(capsys, "compile", *words, "--strategy", "shared", "--print", "place").out)
    picture = str(tmp_path / "wafer.png")
    for more in ((), ("--placement", str(placement)), ("--set", "fabric.hop_cycles=7")):
        assert run_example("draw_wafer", words[0], picture, *words[1:], *more, monkeypatch=monkeypatch) == 0
        said = capsys.readouterr().out
        rate = json.loads(run(capsys, "simulate", *words, *more, "--json").out)["tokens_per_second"]
        assert said == f"{picture}: {rate:,.0f} tokens/s\n"
    assert run_example("draw_wafer", "tiny", picture, "--strategy", "sharde", monkeypatch=monkeypatch) == 2
    assert "unknown strategy 'sharde'; known: shared" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own
def test_draw_traffic(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "traffic.png"
    run_example("draw_traffic", "tiny", str(picture), "--machine", "toy4x4", monkeypatch=monkeypatch)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert re.search(r"[\d,]+ links granted, [\d,]+ cycles", capsys.readouterr().out)


def test_poisson_arrivals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same table. More requests a second wait longer; a lone one waits for the host only."""
    tables: dict[str, dict[str, list[str]]] = {}
    for rate in ("10", "20000", "20000"):
        arguments = ("tiny", "--rate", rate, "--requests", "40", "--strategy", "pipelined")
        assert run_example("poisson_arrivals", *arguments, monkeypatch=monkeypatch) == 0
        title, head, *rows = capsys.readouterr().out.splitlines()
        assert title == f"tiny on wse3: 40 requests, {int(rate):,} a second, 4 in flight at most"
        assert head.split() == ["p50", "p90", "p99"]
        table = {name: re.findall(r"([\d.]+ \S*s)", row) for row in rows for name in re.findall(r"^\w+(?: \w+)*", row)}
        assert tables.setdefault(rate, table) == table
    idle, busy = tables["10"], tables["20000"]
    assert list(idle) == list(busy) == ["queue", "time to first token", "time per token", "total"]
    assert idle["queue"] == ["14 us"] * 3
    assert seconds(busy["queue"][2]) > seconds(busy["queue"][0]) >= 14e-6
    assert all(seconds(busy[name][1]) > seconds(idle[name][1]) for name in idle)


def test_poisson_arrivals_refuses_a_process_without_requests(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (("--rate", "0"), ("--rate", "inf"), ("--requests", "0"), ("--seed", "-1")):
        assert run_example("poisson_arrivals", "tiny", *wrong, monkeypatch=monkeypatch) == 2
        assert capsys.readouterr().err.endswith("give a rate above 0, at least one request, and a seed of at least 0\n")


def seconds(shown: str) -> float:
    value, unit = shown.split()
    return float(value) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
