"""`wsesim validate`: every published row is simulated or has a reason, and the docs' page is its output."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from wsesim.cli import main
from wsesim.report.published import measurements
from wsesim.report.validation import Validation, validation_markdown
from wsesim.toolchain.cases import GROUPS, run_validation

PAGE = Path(__file__).parent.parent / "docs" / "validation.md"


@pytest.fixture(scope="module")
def validation() -> Validation:
    return run_validation()


def test_the_page_in_the_docs_is_what_the_command_writes(validation: Validation) -> None:
    assert PAGE.read_text(encoding="utf-8") == validation_markdown(validation), (
        "modelled figures moved: `wsesim validate --markdown docs/validation.md` writes the page anew"
    )


def test_every_published_row_is_there_once(validation: Validation) -> None:
    """A formula is there at every point of its grid."""
    simulated = Counter(id(row.measurement) for row in validation.rows)
    at: dict[int, set[tuple[tuple[str, object], ...]]] = {}
    for row in validation.rows:
        at.setdefault(id(row.measurement), set()).add(row.at)
    assert all(len(at[key]) == count for key, count in simulated.items())
    left_out = [id(m) for m, _ in validation.left_out]
    assert sorted((*simulated, *left_out)) == sorted(id(m) for m in measurements())
    assert all(reason for _, reason in validation.left_out)


@pytest.mark.parametrize(
    "name", ["parts", "collectives-rounds", "waferllm", "meshgemm", "waferllm-prefill", "waferllm-e2e"]
)
def test_a_group_stays_inside_its_band(validation: Validation, name: str) -> None:
    (group,) = (g for g in GROUPS if g.name == name)
    assert validation.rows_of(group) and validation.holds(group)


def test_chains_and_broadcasts_are_the_formulas_and_a_star_is_one_hop_longer(validation: Validation) -> None:
    (group,) = (g for g in GROUPS if g.name == "collectives")
    rows = validation.rows_of(group)
    assert {row.modelled - row.measured for row in rows if row.measurement.metric == "reduce_star_1D"} == {1}
    assert {row.error for row in rows if row.measurement.metric != "reduce_star_1D"} == {0}
    assert validation.errors(group)[0] <= 1


def test_a_long_group_prints_a_summary_and_its_worst_rows(validation: Validation) -> None:
    (group,) = (g for g in GROUPS if g.name == "collectives-rounds")
    errors = sorted((abs(row.error) for row in validation.rows_of(group)), reverse=True)
    printed = validation_markdown(validation).partition(f"## {group.name}")[2].partition("\n## ")[0]
    assert printed.count("| hpdc24_model |") == group.shown < len(errors)
    assert [f"{e:.1f} %" in printed for e in errors[: group.shown]] == [True] * group.shown
    assert len(re.findall(r"\| 63 \| [\d.]+ % \|", printed)) == 3, "a line of the summary for each formula"


def test_more_cores_are_slower_as_measured(validation: Validation) -> None:
    (group,) = (g for g in GROUPS if g.name == "waferllm")
    modelled = [row.modelled for row in validation.rows_of(group)]
    assert modelled == sorted(modelled) and len(set(modelled)) == 3


def test_one_group_alone_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--only", "parts"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("parts: single PE and fabric") and "waferllm:" not in said
    assert main(["validate", "--only", "wafer"]) == 2
    assert "unknown group 'wafer'; known: waferllm, " in capsys.readouterr().err
