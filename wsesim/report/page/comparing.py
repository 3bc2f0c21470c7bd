"""The contents of a comparison's page: its JSON object, what the tables say beside it, and an explorer of each side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from wsesim.engine.observe.path import step_path
from wsesim.engine.steps.timing import Step, Timing
from wsesim.progress import working
from wsesim.report.compare.inputs import folded
from wsesim.report.compare.pairs import Pair, Side
from wsesim.report.compare.tables import reasons, shapes, way
from wsesim.report.kinds import KINDS
from wsesim.report.page.contents import explorer_contents, versions
from wsesim.report.palette import KIND_COLOURS

PLACED = ("stage", "block")
"""Tables whose rows lie on blocks."""


def comparison_contents(
    sides: Sequence[Side], pairs: Sequence[Pair], compared: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """What the page shows. `compared` is the JSON object of the comparison; `command` makes the page again.

    `explorers` in it are those of the sides, by letter. The step of each side that has a Program is simulated; the
    explorer of any other side is None.
    """
    explorers: dict[str, Any] = {}
    with working("simulating for the explorers", len(sides), "run") as work:
        for work.done, side in enumerate(sides, 1):
            explorers[side.letter] = _explorer(side)
    return {
        "command": command,
        "versions": versions(),
        "kinds": list(KINDS),
        "colours": {"kinds": KIND_COLOURS},
        "comparison": dict(compared),
        "sides": {side.letter: _side(side) for side in sides},
        "said": {pair.b.letter: _said(pair) for pair in pairs},
        "explorers": explorers,
    }


def _side(side: Side) -> dict[str, Any]:
    run = side.run
    cycles = [sum(o.by_kind[number] for o in run.operators) for number in range(len(KINDS))]
    return {
        "batch": run.batch,
        "timing_dtype": run.timing_dtype,
        "pes": run.pes,
        "by_kind": dict(zip(KINDS, cycles, strict=True)),
    }


def _said(pair: Pair) -> dict[str, Any]:
    """What the tables of the terminal say of a pair in words. `places`: the blocks of each row in A, and in the other.

    Indented lines of `reasons` belong to the line before them.
    """
    return {
        "way": way(pair),
        "inputs": [dataclasses.asdict(each) for each in folded(pair.inputs)],
        "reasons": list(reasons(pair)),
        "places": {
            by: [[shapes(row.a_blocks, pair.a.run), shapes(row.b_blocks, pair.b.run)] for row in pair.rows(by)]
            for by in PLACED
        },
    }


def _explorer(side: Side) -> dict[str, Any] | None:
    if side.program is None:
        return None
    step = _step(side)
    assert step.cycles == side.run.cycles, f"{side.label}: {step.cycles} cycles, and {side.run.cycles} before"
    return explorer_contents(side.program, step, step_path(step, side.program.machine))


def _step(side: Side) -> Step:
    """The step of a side once more, with its timelines."""
    assert side.program is not None
    timing, run = Timing(side.program), side.run
    return timing.decode(run.context, batch=run.batch) if run.phase == "decode" else timing.prefill(run.tokens)
