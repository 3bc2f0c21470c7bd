"""`wsesim validate`: every published row is simulated or has a reason, and the docs' page is its output."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

from wsesim.cli import main
from wsesim.engine.observe.measure import kernel_cycles, phase_cycles
from wsesim.machine import load_machine, machine_names
from wsesim.program.kernels import Sample
from wsesim.program.layout import Uniform
from wsesim.program.parts import Block
from wsesim.report.published import measurements
from wsesim.report.validation import Validation, validation_markdown
from wsesim.software import load_software, software_names
from wsesim.toolchain.cases import GROUPS, run_validation
from wsesim.toolchain.cases.edinburgh import QWEN3_4B, SIDE, layer_of

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
    "name",
    [
        *("parts", "collectives-rounds", "qwen35-9b", "waferllm", "meshgemm", "waferllm-prefill", "waferllm-e2e"),
        "waferllm-inferred",
    ],
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
    assert printed.count("| hpdc24_model:") == group.shown < len(errors)
    assert [f"{e:.1f} %" in printed for e in errors[: group.shown]] == [True] * group.shown
    assert len(re.findall(r"\| 63 \| [\d.]+ % \|", printed)) == 3, "a line of the summary for each formula"


def test_more_cores_are_slower_as_measured(validation: Validation) -> None:
    (group,) = (g for g in GROUPS if g.name == "waferllm")
    modelled = [row.modelled for row in validation.rows_of(group)]
    small, large = modelled[:3], modelled[3:]
    assert small == sorted(small) and len(set(small)) == 3
    assert large[2] == max(large), "from 420 to 540 PEs a side the large one is 2 % slower as measured, 2 % faster here"


def test_fusing_sum_and_cast_into_the_exponentials_makes_the_4b_slower() -> None:
    """As measured. Two long operations go. Two set-ups come for each slot and tile; a slot of 23K spans two tiles."""
    software = load_software("edinburgh")
    passes = software.form("Softmax")
    assert passes.steps[-2].startswith("reduce") and passes.steps[-1].startswith("copy"), "sum and cast"
    fused = dataclasses.replace(passes, steps=(*passes.steps[:-2], "setup(2*(positions//64 + 1), slots=heads)"))
    forms = tuple(fused if form is passes else form for form in software.forms)
    block = Block("layer", 0, 0, SIDE, SIDE, "rows")
    layer, machine = layer_of(QWEN3_4B, block), load_machine("wse3")
    for context in (2048, 23040):
        apart, together = (
            phase_cycles(machine, block, layer, context, software=each)["softmax"]
            for each in (software, dataclasses.replace(software, forms=forms))
        )
        assert together > apart


def test_four_candidates_save_more_than_15_000_cycles_against_twenty() -> None:
    """Of Qwen3-4B's 151,936 logits on a line of 256 PEs; 38,011 cycles were measured."""
    block = Block("head", 0, 0, SIDE, SIDE, "rows")
    draw = Sample("draw", "head", "logits", "id", Uniform(151_936, SIDE), 64, "streamed_two_phase")
    machine, software = load_machine("wse3"), load_software("edinburgh")
    few, many = (kernel_cycles(machine, block, [draw], 1, candidates=kept, software=software) for kept in (4, 20))
    assert many - few > 15_000


def test_a_constant_comes_from_rows_that_judge_nothing(validation: Validation) -> None:
    calibrating = [row for row in validation.rows if row.calibrates]
    assert {row.calibrates for row in calibrating} == {
        "slot_cycles",
        "SiLU",
        "stage_cycles",
        "op.fma, op.elementwise, gemm.turn_cycles",
        "head, tail and strips of a step",
    }
    for group in GROUPS:
        assert list(validation.predicted(group)) == [r for r in validation.rows_of(group) if r not in calibrating]


def test_every_row_names_its_machine_and_software(validation: Validation) -> None:
    layers = [row for row in validation.rows if row.group.startswith(("qwen", "waferllm", "meshgemm"))]
    assert layers and all(row.machine in machine_names() and row.software in software_names() for row in layers)


def test_one_row_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["validate", "--row", "waferllm_t3_prefill:7", "--csv", str(tmp_path / "rows.csv")]) == 0
    said = capsys.readouterr().out
    assert said.count("waferllm_t3_prefill:7") == 1 and "not simulated" not in said
    (row,) = csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())
    assert (row["row"], row["machine"], row["software"]) == ("waferllm_t3_prefill:7", "wse2", "waferllm")
    assert main(["validate", "--row", "waferllm_t3_prefill:70"]) == 2
    assert "unknown row 'waferllm_t3_prefill:70'; known: waferllm_t3_prefill:" in capsys.readouterr().err


def test_one_group_alone_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--only", "parts"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("parts: single PE and fabric") and "waferllm:" not in said
    assert main(["validate", "--only", "wafer"]) == 2
    assert "unknown group 'wafer'; known: waferllm, " in capsys.readouterr().err
