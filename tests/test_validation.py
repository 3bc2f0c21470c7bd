"""`wsesim validate`: every published row is simulated or left out with a reason; the docs' page is what it says."""

from __future__ import annotations

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
    taken = [row.measurement for row in validation.rows] + [m for m, _ in validation.left_out]
    assert len(taken) == len(measurements()) == len({id(m) for m in taken})
    assert all(reason for _, reason in validation.left_out)


@pytest.mark.parametrize("name", ["parts", "waferllm", "meshgemm", "waferllm-prefill", "waferllm-e2e"])
def test_a_group_stays_inside_its_band(validation: Validation, name: str) -> None:
    (group,) = (g for g in GROUPS if g.name == name)
    assert validation.rows_of(group) and validation.holds(group)


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
