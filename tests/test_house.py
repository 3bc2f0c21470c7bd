"""The rules of the house: sizes of files and functions, the CHANGELOG's form, the width of Markdown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("wsesim", "compiler", "models", "benchmarks", "examples")
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
PAGES = [path for folder in (ROOT, ROOT / "docs") for path in sorted(folder.glob("*.md"))]
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 10
COLUMNS = 100
ENTRY_LINES = 2
"""Lines of a CHANGELOG's entry, at most."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(text: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, Function))


def parameters(function: Function) -> int:
    found = function.args
    several = (found.vararg, found.kwarg)
    return len((*found.posonlyargs, *found.args, *found.kwonlyargs)) + sum(each is not None for each in several)


def decorators(function: Function) -> set[str]:
    """Their names, without modules and arguments."""
    return {ast.unparse(each).partition("(")[0].rpartition(".")[2] for each in function.decorator_list}


def may_have_many_parameters(path: str, function: Function) -> bool:
    """Jitted kernels and their NumPy twins, and the public API."""
    return bool(decorators(function) & {"njit", "public"}) or Path(path).name.startswith("reference")


def test_no_file_is_too_long() -> None:
    lines = {path: len(text.splitlines()) for path, text in SOURCES.items()}
    assert len(lines) > 200
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_function_is_too_long() -> None:
    found = [(path, each) for path, text in SOURCES.items() for each in functions(text)]
    sizes = {f"{path}:{each.lineno} {each.name}": (each.end_lineno or 0) - each.lineno + 1 for path, each in found}
    assert len(sizes) > 1000
    assert {name: size for name, size in sizes.items() if size > MOST_FUNCTION_LINES} == {}


def test_no_function_has_too_many_parameters() -> None:
    found = [(path, each) for path, text in SOURCES.items() for each in functions(text)]
    many = [(path, each) for path, each in found if parameters(each) > MOST_PARAMETERS]
    assert {each.name for path, each in many if may_have_many_parameters(path, each)} >= {"simulate", "softmax"}
    assert [
        f"{path}:{each.lineno} {each.name}" for path, each in many if not may_have_many_parameters(path, each)
    ] == []


def test_the_changelog_has_three_sections_of_short_entries() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    title, *versions = re.split(r"^## .*\n", text, flags=re.MULTILINE)
    assert title.strip() == "# Changelog" and versions
    for version in versions:
        before, *sections = re.split(r"^### (.*)\n", version, flags=re.MULTILINE)
        assert not before.strip() and set(sections[::2]) <= {"Added", "Changed", "Fixed"}
        assert len(set(sections[::2])) == len(sections[::2])
        for section in sections[1::2]:
            entries = re.split(r"^- ", section.strip(), flags=re.MULTILINE)[1:]
            assert entries and not [entry for entry in entries if entry.strip().count("\n") >= ENTRY_LINES]
            assert all(line[:2] in ("- ", "  ") for line in section.strip().splitlines()), "an entry of its own"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_markdown_wraps(page: Path) -> None:
    """Rows of tables, code, and lines that cannot be broken, such as a long link, are left out."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in prose.splitlines() if len(line) > COLUMNS and not line.startswith("|")]
    assert [line for line in lines if " " in line.lstrip(" -*0123456789.")] == []
