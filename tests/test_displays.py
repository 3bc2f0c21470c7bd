"""Displays in a notebook: a repr of one line, the command line's table with print, and escaped HTML."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.programs import ORACLE, program, recognised_graph
from wsesim.engine.steps.pipeline import pipeline
from wsesim.engine.steps.timing import Timing
from wsesim.machine import load_machine
from wsesim.program.files import parse_program
from wsesim.report.completion import completion_text
from wsesim.report.published import measurements
from wsesim.report.report import Report, report
from wsesim.report.schema import SCHEMA_VERSION
from wsesim.report.tables import report_text
from wsesim.report.validation import Band, Case, Group, Validation, validate, validation_text
from wsesim.runtime.completion import Completion
from wsesim.runtime.times import RequestTimes
from wsesim.tables import Table, aligned
from wsesim.toolchain.compiling import stage_text
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options
from wsesim_models.config import CONFIGS

MOST = 160
EVIL = "<script>alert('&')</script>"


def a_validation() -> Validation:
    one = measurements()[0]
    groups = (Group("near", "inside", Band(5, 5), "", ""), Group("far", "outside", Band(5, 5), "", ""))
    cases = (Case("near", one, 100.0, lambda: 101.0), Case("far", one, 100.0, lambda: 150.0))
    return validate(groups, cases, ((one, "no kernel"),))


def a_completion(text: str = "with the sun\nsetting") -> Completion:
    times = RequestTimes(0.0, 0.001, 0.004, 0.005, (0.001, 0.002), 0.0, 0.005)
    return Completion(text, "", (1, 2), 5, "length", times, 0.1, 0.2)


@cache
def a_report() -> Report:
    made = program("tiny", "toy4x4", sequences=2)
    timing = Timing(made)
    return report(made, timing.decode(16), flow=pipeline(timing, 2, 16))


@cache
def everything() -> dict[str, Any]:
    """One value of each type, by the beginning of its repr."""
    stages: dict[str, Any] = {}
    graph = recognised_graph(CONFIGS["tiny"])
    lower(graph, load_machine("toy4x4"), Options(max_context=256), ORACLE, stages.__setitem__)
    timing = Timing(program("tiny", "toy4x4"))
    step = timing.decode(16)
    return {
        "<Report tiny on toy4x4, decode over 16 cached: ": a_report(),
        "<Program tiny on toy4x4, pipelined: 3 blocks, 16 PEs, context 256": program("tiny", "toy4x4"),
        "<Flow of 2 in flight: a period of ": a_report().flow,
        "<Timing of tiny on toy4x4, pipelined": timing,
        "<Step: decode over 16 cached, ": step,
        "<Step: prefill of 3 tokens, ": timing.prefill(3),
        "<SegmentRun embed: cycles 0 to ": step.runs[0],
        "<Validation: 2 rows in 2 groups, 1 outside their bands, 1 rows not simulated": a_validation(),
        "<Completion 'with the sun\\nsetting': 2 tokens, length, 5 ms modelled": a_completion(),
        "<Graph tiny: ": graph,
        "<Partition of tiny: 4 stages": stages["partition"],
        "<Placement of tiny on toy4x4: 3 blocks": stages["plan_memory"],
    }


WITH_HTML = ("Report", "Program", "Validation", "Completion", "Graph", "Partition", "Placement")


def test_a_repr_is_one_short_line_that_says_what_it_is() -> None:
    for begin, value in everything().items():
        assert repr(value).startswith(begin) and repr(value).endswith(">"), repr(value)
        assert len(repr(value)) <= MOST and "\n" not in repr(value)


def test_repr_of_a_report_has_its_figures() -> None:
    shown = a_report()
    assert f"{shown.cycles:,} cycles a token, {shown.tokens_per_second:,.0f} tokens/s" in repr(shown)


def test_print_shows_the_tables_of_the_command_line() -> None:
    assert str(a_report()) == report_text(a_report())
    assert str(a_validation()) == validation_text(a_validation())
    made, text = program("tiny", "toy4x4"), str(a_completion())
    assert text.startswith("with the sun\nsetting\n\n")
    rows = {line.split()[0]: line.split() for line in text.splitlines()[3:]}
    for line in completion_text(a_completion(), made, None).splitlines()[1:]:
        assert line.split()[0] == "wafer" or rows[line.split()[0]] == line.split()


def test_json_outputs_are_stamped_alike_and_the_page_says_what_is_stable() -> None:
    for value in (a_report(), a_validation()):
        said = value.to_json()
        assert list(said)[:2] == ["schema_version", "wsesim_version"]
        assert (said["schema_version"], said["wsesim_version"]) == (SCHEMA_VERSION, wsesim.__version__)
    page = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    assert f"an integer, {SCHEMA_VERSION} so far" in page


def test_a_program_prints_as_a_table_and_its_text_parses_back() -> None:
    made = program("smollm2-135m", "wse3")
    assert len(str(made).splitlines()) < 8 and f"{made.pes:,} PEs in 31 blocks" in str(made)
    assert parse_program(made.text()) == made
    assert stage_text(made) == made.text() and stage_text(everything()["<Graph tiny: "]).startswith("graph")


@pytest.mark.usefixtures("smollm2_path")
def test_a_session_and_its_answers_show_what_they_are() -> None:
    session = wsesim.open_session("tiny", text_from="smollm2-135m")
    assert repr(session) == ("<Session of tiny on wse3: text and token counts of smollm2-135m, 1 slots of 256 tokens>")
    assert str(session.program) in str(session) and "1 slots of 256 tokens" in str(session)
    answer = session.complete("Once", max_tokens=3)
    assert re.fullmatch(r"<Answer '.*' of smollm2-135m: 3 tokens, [\d.]+ .?s modelled for tiny>", repr(answer))
    table = completion_text(answer.completion, answer.program, "smollm2-135m")
    assert str(answer) == f"{answer.text}\n\n{table}"
    for value in (session, answer):
        assert len(repr(value)) <= MOST
        assert {"table", "tr"} <= Reader(value._repr_html_()).tags <= {"table", "caption", "tr", "td", "th"}


class Reader(HTMLParser):
    """Tags, attributes and texts of a piece of HTML; every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_notebooks_get_tables_without_any_other_resource() -> None:
    shown = {type(value).__name__: value for value in everything().values() if hasattr(value, "_repr_html_")}
    assert set(shown) >= set(WITH_HTML)
    for value in shown.values():
        read = Reader(value._repr_html_())
        assert {"table", "tr"} <= read.tags <= {"table", "caption", "tr", "td", "th"}
        assert read.attributes <= {"style", "colspan"}
    assert f"{a_report().cycles:,}" in Reader(a_report()._repr_html_()).texts


def test_html_is_escaped() -> None:
    evil = [
        dataclasses.replace(a_report(), model=EVIL, machine=EVIL),
        dataclasses.replace(program("tiny", "toy4x4"), model=EVIL),
        a_completion(EVIL),
        dataclasses.replace(everything()["<Graph tiny: "], name=EVIL),
    ]
    for value in evil:
        read = Reader(value._repr_html_())
        assert "script" not in read.tags and any(EVIL in text for text in read.texts)


def test_a_table_is_the_same_as_text_and_as_html() -> None:
    table = Table("title", (("a", "b"), ("1", "2 < 3"), ("end",)), heading=True, notes=("a note",))
    assert table.text() == "title\n" + aligned(table.rows) + "\n  a note"
    read = Reader(table.html())
    assert read.texts == ["title", "a", "b", "1", "2 < 3", "end", "a note"]
    assert read.tags == {"table", "caption", "tr", "th", "td"}


def test_columns_are_aligned() -> None:
    assert aligned([("a", "1", "22"), ("bbb", "333")], indent="") == "a      1  22\nbbb  333"


@pytest.mark.parametrize("text", ["short", "x" * 200, "with\nlines"])
def test_the_text_of_a_completion_is_cut_on_one_line(text: str) -> None:
    shown = repr(a_completion(text))
    assert len(shown) <= MOST and "\n" not in shown and text[:5].replace("\n", "\\n") in shown


def test_a_kept_program_is_its_text_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path))
    made = wsesim.compile("tiny", machine="toy4x4", max_context=64)
    (kept,) = (tmp_path / "programs").iterdir()
    assert parse_program(kept.read_text(encoding="utf-8")) == made
    assert wsesim.compile("tiny", machine="toy4x4", max_context=64) == made
    assert capsys.readouterr().err == ""
