"""Every field of a report is defined in docs/report.md; padding, headroom and utilisation by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import TOY, run
from tests.programs import UNTIED, program
from wsesim.engine.steps.timing import Timing
from wsesim.program import Program
from wsesim.program.kernels import Linear
from wsesim.report.bounds import multiply_adds
from wsesim.report.figures import KINDS
from wsesim.report.padding import multiply_adds_done
from wsesim.report.report import report
from wsesim.report.setup import PlacedBlock

PAGE = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
OPEN = {"sram_free_bytes", "pipeline.busy_cycles", "forms", "collectives", "form_digests", "transfers"}
"""Their keys are names of blocks, of kernels or of kinds."""
OPEN |= {"machine_fields", "software_fields"}


def fields(value: dict[str, Any], before: str = "") -> set[str]:
    """Dotted names; of a list those of its items."""
    found = set()
    for key, inner in value.items():
        name = before + key
        found.add(name)
        item = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(item, dict) and name not in OPEN:
            found |= fields(item, name + ".")
    return found


def test_the_page_defines_every_field_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "simulate",
        "tiny",
        *TOY,
        "--sequences",
        "2",
        "--in-flight",
        "2",
        "--congestion",
        "--sensitivity",
        "--json",
    )
    said = fields(json.loads(run(capsys, *words).out))
    firsts = re.findall(r"^\| (`[^|]+) \|", PAGE, flags=re.MULTILINE)
    defined = {name for cell in firsts for name in re.findall(r"`([\w.]+)`", cell)} | {"pipeline", "sensitivity"}
    own = {f"operators.{name}" for name in ("operator", "cycles", *KINDS)}
    own |= {f"stages.{name}" for name in ("stage", "kind", "layer", "block", "cycles", *KINDS)}
    own |= {f"blocks.{f.name}" for f in dataclasses.fields(PlacedBlock) if f.default is dataclasses.MISSING}
    assert defined | own == said


@pytest.fixture(params=[("tiny", "toy4x4", "pipelined"), ("tiny", "wse3", "shared"), (UNTIED, "wse2", "pipelined")])
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param, sequences=2, batch=2)


def test_no_multiply_add_is_done_less_often_than_needed(made: Program) -> None:
    timing = Timing(made)
    for step in (
        timing.decode(0),
        timing.decode(100),
        timing.decode(30, batch=2),
        timing.prefill(1),
        timing.prefill(11),
    ):
        counted = multiply_adds_done(made, step)
        assert counted.done >= counted.needed > 0
        assert 0 <= counted.padding_share < 1


def test_what_is_needed_are_the_weights_and_the_positions(made: Program) -> None:
    """tiny: 2 layers of 4 heads of 8; a token sees itself and those before it, for a score and for a weighted sum."""
    timing, pair = Timing(made), 2 * 2 * 4 * 8
    assert multiply_adds_done(made, timing.decode(16)).needed == multiply_adds(made) + 17 * pair
    assert multiply_adds_done(made, timing.decode(16, batch=2)).needed == 2 * (multiply_adds(made) + 17 * pair)
    head = sum(
        k.layout.size * k.outputs[0].layout.size for k in made.kernels if isinstance(k, Linear) and not k.broadcast
    )
    prompt = multiply_adds_done(made, timing.prefill(5)).needed
    assert prompt == 5 * (multiply_adds(made) - head) + head + (1 + 2 + 3 + 4 + 5) * pair


def test_padding_by_hand() -> None:
    """layer0 on 2 x 3 PEs: 32 features over 3 rows are 11 a row, so 33 x 2 x 32 products for 32 x 64 of q, k and v."""
    made = program("tiny", "toy4x4")
    block = made.block("layer0")
    assert (block.columns, block.rows) == (2, 3)
    qkv = next(k for k in made.kernels if k.name == "layer0.qkv")
    assert isinstance(qkv, Linear)
    assert (qkv.layout.used * qkv.layout.width, sum(o.layout.width for o in qkv.outputs)) == (33, 32)
    step = Timing(made).decode(2)  # three positions on three rows: attention itself has no padding
    counted = multiply_adds_done(made, step)
    linears = [k for k in made.kernels if isinstance(k, Linear)]
    done = sum(
        k.layout.used * k.layout.width * max(o.layout.used for o in k.outputs) * sum(o.layout.width for o in k.outputs)
        for k in linears
    )
    assert counted.done - counted.needed == done - multiply_adds(made)


def test_headroom_is_what_the_memory_map_leaves(made: Program) -> None:
    shown = report(made, Timing(made).decode(16))
    free = dict(shown.sram_free_bytes)
    assert {m.block: made.machine.room_bytes - m.total_bytes for m in made.memory} == free
    assert min(free.values()) >= 0


def test_utilisation_is_of_the_peak_of_the_blocks() -> None:
    """toy4x4: one multiply-add a PE and cycle, sixteen PEs in blocks."""
    made = program("tiny", "toy4x4")
    shown = report(made, Timing(made).decode(16))
    assert shown.utilisation == (multiply_adds(made) // 16) / shown.cycles
