"""write_report(): one step of a model, simulated, as an HTML page and as figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.files import check_page, check_writable, write_whole
from wsesim.machine import Machine
from wsesim.progress import working
from wsesim.software.software import Software
from wsesim.tables import si_bytes
from wsesim.toolchain.model_source import Say, silent
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_SOFTWARE,
    Lowering,
    StepOptions,
    chosen,
    public,
)
from wsesim.toolchain.simulating import answered, check_step, objective_of, program_for, question_of

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.report.report import Report


@public(StepOptions, Lowering)
def write_report(
    model: str | Program,
    output: str | Path,
    *,
    png: str | Path | None = None,
    phase: str = "decode",
    context: int | None = None,
    tokens: int | None = None,
    in_flight: int = 1,
    congestion: bool = False,
    sensitivity: bool = False,
    machine: str | Machine = DEFAULT_MACHINE,
    software: str | Software = DEFAULT_SOFTWARE,
    strategy: str = "auto",
    layers_per_block: int | None = None,
    block: tuple[int, int] | None = None,
    order: str = "serpentine",
    placement: str | None = None,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    batch: int = 1,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    say: Say = silent,
) -> Report:
    """Writes the report of one step of `model` to `output`, an HTML file that needs no other. Returns the Report.

    Raises InvalidInputError before anything is simulated if a file or a folder cannot be written.

    Args:
        model: as in `wsesim.compile`.
        output: the file to write. docs/reports.md says how to read it.
        png: a folder for the figures, as PNG files. None: no figures.
        phase, context, tokens, in_flight, congestion, sensitivity: as in `wsesim.simulate`.
        machine, ..., collective: as in `wsesim.compile`.
        say: called with a line before long work.
    """
    values = locals()
    step, lowering = chosen(StepOptions, values), chosen(Lowering, values)
    files = ReportFiles(Path(output), None if png is None else Path(png))
    return write_report_of(model, step, lowering, files, python_call(values), say=say)


@dataclasses.dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report goes: the page, and the folder of the figures."""

    page: Path
    figures: Path | None = None

    def check(self) -> None:
        """Raises InvalidInputError for what cannot be written."""
        check_page(self.page, "the report")
        if self.figures is None:
            return
        if self.figures.exists() and not self.figures.is_dir():
            raise InvalidInputError(f"{self.figures}: the figures need a folder, and this is a file")
        if not self.figures.parent.is_dir():
            raise InvalidInputError(f"{self.figures}: the folder for the figures needs a folder that exists")
        check_writable(self.figures / "x" if self.figures.is_dir() else self.figures)

    def written(self) -> list[str]:
        """What was written, in lines for a terminal."""
        lines = [written_text(self.page)]
        if self.figures is not None:
            lines.append(f"{self.figures}: {', '.join(sorted(p.name for p in self.figures.glob('*.png')))}")
        return lines


def written_text(page: Path) -> str:
    """What a written page is, in a line for a terminal."""
    return f"{page}: {si_bytes(page.stat().st_size)}, opens in any browser"


def write_report_of(
    model: str | Program,
    step: StepOptions,
    lowering: Lowering,
    files: ReportFiles,
    command: str,
    *,
    say: Say = silent,
) -> Report:
    """As `write_report`, with the options as values. `command` is shown as what makes the report again."""
    from wsesim.report.page.contents import page_contents
    from wsesim.report.page.page import report_page
    from wsesim.report.pictures import pictures
    from wsesim.toolchain.picturing import runs_for_pictures

    files.check()
    check_step(step, lowering.batch)
    program = program_for(model, lowering, say, objective_of(step))
    question = question_of(program, step, lowering.batch)
    ran, report = answered(question, step, say)
    written: dict[Path, str | bytes] = {}
    with working("drawing the page"):
        written[files.page] = report_page(page_contents(program, ran, report, command))
    if files.figures is not None:
        runs = runs_for_pictures(question, ran, report)
        with working("drawing the figures"):
            written |= {files.figures / name: data for name, data in pictures(runs)}
    for path, data in written.items():
        try:
            write_whole(path, data)
        except OSError as error:
            raise InvalidInputError(f"{path}: {error.strerror}") from None
    return report


def python_call(values: dict[str, Any]) -> str:
    """The call of `write_report` with these arguments; those that are the defaults are left out."""
    from wsesim.toolchain.options import options_in

    table = options_in(StepOptions, Lowering)
    given = [repr(values["model"]), repr(str(values["output"]))]
    given += [] if values["png"] is None else [f"png={str(values['png'])!r}"]
    for name, option in table.items():
        value = values[name]
        if value != option.default:
            given.append(f"{name}={value.name if isinstance(value, Machine | Software) else value!r}")
    return f"wsesim.write_report({', '.join(given)})"
