"""The measured tables of docs/performance.md, and the figures that README repeats from them.

The page has one part for each benchmark, between two comments. The text around the parts is written by hand:

    <!-- measured: steps -->
    Measured on 2026-11-30 at c7fc330: ...

    | what | figure | limit | note |
    <!-- end -->
"""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.row import HEADING, Row

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
README_SECTION = "## How fast it is"
COLUMNS = 100

_PART = re.compile(r"(?<=<!-- measured: )(\w+) -->\n(.*?)(?=<!-- end -->)", re.DOTALL)


def write_part(name: str, rows: Sequence[Row], machine: str) -> None:
    """Writes the part of benchmark `name` into the page, and its figures into README."""
    page = with_part(PAGE.read_text(encoding="utf-8"), name, rows, stamp(machine))
    PAGE.write_text(page, encoding="utf-8")
    README.write_text(with_figures(README.read_text(encoding="utf-8"), page), encoding="utf-8")


def stamp(machine: str) -> str:
    """The day, the commit, with a note if files differ from it, and the machine."""
    commit = _git("rev-parse", "--short", "HEAD") or "an unknown commit"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!README.md")
    return f"Measured on {date.today()} at {commit}{' with changes' if changed else ''}: {machine}."


def with_part(page: str, name: str, rows: Sequence[Row], said: str) -> str:
    """The page with a new part for benchmark `name`: the line `said` and a table of `rows`."""
    names = [found[1] for found in _PART.finditer(page)]
    assert names.count(name) == 1, f"{PAGE.name} needs exactly one line '<!-- measured: {name} -->'"
    lines = [HEADING, ("---",) * len(HEADING), *(row.cells() for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    part = f"{name} -->\n{textwrap.fill(said, COLUMNS, break_on_hyphens=False)}\n\n{table}\n"
    return _PART.sub(lambda found: part if found[1] == name else found[0], page)


def parts(page: str) -> dict[str, str]:
    """The text of each part by the name of its benchmark."""
    return {found[1]: found[2] for found in _PART.finditer(page)}


def table_rows(text: str) -> list[tuple[str, ...]]:
    """The cells of each row of a Markdown text's tables, without headings."""
    lines = text.splitlines()
    rules = {number for number, line in enumerate(lines) if line.startswith(("| ---", "|---"))}
    body = [line for n, line in enumerate(lines) if line.startswith("|") and not {n, n + 1} & rules]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in body]


def with_figures(readme: str, page: str) -> str:
    """README with the page's figures in its table: a row's first cell chooses the row of the page."""
    figures = {cells[0]: cells[1] for text in parts(page).values() for cells in table_rows(text)}
    head, section, rest = readme.partition(README_SECTION)
    table, end, tail = rest.partition("\n## ")
    for name, old in table_rows(table):
        table = table.replace(f"| {name} | {old} |", f"| {name} | {figures.get(name, old)} |")
    return head + section + table + end + tail


def _git(*words: str) -> str:
    """What git says, or nothing outside a checkout."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
