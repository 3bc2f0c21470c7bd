"""Reports kept on disk as their JSON objects: a comparison simulates only what was not simulated before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from wsesim.cache import keep, read_kept
from wsesim.machine.text import whole_text
from wsesim.report.compare.saved import RunFigures, run_of
from wsesim.toolchain.kept import kept_file
from wsesim.toolchain.model_source import Say, silent

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.toolchain.options import StepOptions

REPORT_SOURCES = ("wsesim.report.report", "wsesim.report.compare.saved", "wsesim.engine.exact.wafer")
"""What decides a report beside the Program and the step."""


def run_figures(program: Program, step: StepOptions, batch: int, say: Say = silent) -> RunFigures:
    """The figures of one step of `program`: from the disk, or simulated and then kept there.

    The options of the step are those that `check_step` has passed. Raises InvalidInputError.
    """
    from wsesim.toolchain.simulating import simulate_program, step_size

    path = _path(program, step.phase, step_size(program.max_context, step), batch)
    kept = read_kept(path, lambda data: run_of(json.loads(data), str(path)))
    if kept is not None:
        return kept
    figures = simulate_program(program, step, batch, say=say).to_json()
    keep(path, json.dumps(figures))
    return run_of(figures, program.model)


def _path(program: Program, phase: str, size: tuple[int, int], batch: int) -> Path:
    decided = (program.fingerprint(), whole_text(program.machine), phase, size, batch)
    return kept_file("reports", program.model, decided, REPORT_SOURCES)
