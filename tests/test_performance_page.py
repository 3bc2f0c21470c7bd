"""docs/performance.md has the tables of the benchmarks and no other; README repeats five of its figures."""

from __future__ import annotations

import re

import pytest

from benchmarks.__main__ import ALL, main
from benchmarks.page import PAGE, README, README_SECTION, parts, table_rows, with_figures, with_part
from benchmarks.row import HEADING, Row

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [Row("a task", 0.25, "s", 1), Row("a ratio", 2, "x", 3, at_most=False, note="of two tasks")]


def test_every_benchmark_has_one_part_with_a_table() -> None:
    assert sorted(parts(TEXT)) == sorted(ALL) and TEXT.count("<!-- measured: ") == len(ALL)
    for name, text in parts(TEXT).items():
        said, table = text.split("\n\n")
        assert re.match(r"Measured (on|before) 20\d\d-\d\d-\d\d\b", said), name
        assert table.splitlines()[0] == f"| {' | '.join(HEADING)} |" and table_rows(table), name
        assert f"python -m benchmarks {name}`" in TEXT


def test_every_table_is_one_of_a_benchmark() -> None:
    assert sorted(table_rows(TEXT)) == sorted(row for text in parts(TEXT).values() for row in table_rows(text))


def test_a_name_stands_for_one_figure() -> None:
    names = [row[0] for row in table_rows(TEXT)]
    assert len(set(names)) == len(names)


def test_the_readme_repeats_five_rows() -> None:
    section = README.read_text(encoding="utf-8").partition(README_SECTION)[2].partition("\n## ")[0]
    rows = table_rows(section)
    assert len(rows) == 5 and {row[:2] for row in rows} <= {row[:2] for row in table_rows(TEXT)}


def test_a_benchmark_rewrites_its_own_part_only() -> None:
    page = with_part(TEXT, "steps", ROWS, "Measured on a day.")
    assert parts(page)["steps"] == (
        "Measured on a day.\n\n| what | figure | limit | note |\n| --- | --- | --- | --- |\n"
        "| a task | 0.25 s | at most 1 |  |\n| a ratio | 2 x | at least 3, NOT MET | of two tasks |\n"
    )
    assert {name: text for name, text in parts(page).items() if text != parts(TEXT)[name]}.keys() == {"steps"}
    assert re.sub(r"-->.*?<!--", "", page, flags=re.DOTALL) == re.sub(r"-->.*?<!--", "", TEXT, flags=re.DOTALL)
    with pytest.raises(AssertionError, match="exactly one line '<!-- measured: dreams -->'"):
        with_part(TEXT, "dreams", ROWS, "")


def test_the_readme_takes_the_figures_of_the_page() -> None:
    readme = (
        f"| a task | 9 s |\n\n{README_SECTION}\n\n| a task | 9 s |\n| other | 1 s |\n\n## Next\n\n| a task | 9 s |\n"
    )
    page = with_part(TEXT, "steps", ROWS, "")
    assert with_figures(readme, page) == readme.replace(
        "## How fast it is\n\n| a task | 9 s", "## How fast it is\n\n| a task | 0.25 s"
    )


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(SystemExit, match="unknown benchmark 'dreams'; known: commands, engine, "):
        main(["steps", "dreams"])
