"""The figures of `wsesim report --png`: one PNG file each, 1200 pixels wide."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsesim.engine.steps.pipeline import Flow
from wsesim.engine.steps.timing import Step
from wsesim.program.program import Program
from wsesim.report import plots
from wsesim.report.kernel_figures import kernel_figures
from wsesim.report.report import Report
from wsesim.report.roofline import operator_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES, DPI = 8.0, 150


@dataclass(frozen=True, slots=True)
class Runs:
    """All that the figures show: a step with its report, the same step over other contexts, and steady states.

    `reports` are of other contexts, or of prompts of other lengths; `flows` of one sequence in flight and more. Either
    may be empty, and its figure is then left out.
    """

    program: Program
    step: Step
    report: Report
    reports: Sequence[Report] = ()
    flows: Sequence[Flow] = ()


def pictures(runs: Runs, dpi: int = DPI) -> Iterator[tuple[str, bytes]]:
    """The name of each file, and its contents: INCHES x `dpi` pixels wide."""
    for name, title, height, draw in _pictures(runs):
        yield f"{name}.png", _png(draw, title, height, dpi)


def _pictures(runs: Runs) -> Iterator[tuple[str, str, float, Callable[[Axes], None]]]:
    """Name, title, height in inches, and the function that draws into the axes."""
    program, step, report = runs.program, runs.step, runs.report
    size = f"{report.context:,} tokens cached" if report.phase == "decode" else f"a prompt of {report.tokens:,} tokens"
    of_model = f"{report.model} on {report.machine}, {report.strategy}"
    of_step, tall = f"{of_model}, {size}", _height(program)
    yield "placement", "", tall + 0.8, lambda axes: plots.draw_placement(program, axes)
    yield "operators", of_step, 5.2, lambda axes: plots.draw_operators(report, axes)
    yield "pes", of_step, tall, lambda axes: plots.draw_utilisation(program, step, axes)
    yield "links", of_step, tall, lambda axes: plots.draw_links(program, step, axes)
    kernels = kernel_figures(program, step, report.path)
    if report.phase == "decode" and operator_points(kernels):  # a prompt's kernels overlap on the critical path
        yield "roofline", of_step, 6.4, lambda axes: plots.draw_roofline(program, report, kernels, axes)
    if runs.reports:
        yield "latency", of_model, 5.0, lambda axes: _draw_latency(runs.reports, axes)
    if runs.flows:
        flows = {report.strategy: runs.flows}
        yield "throughput", of_step, 5.0, lambda axes: plots.draw_throughput(flows, report.clock_hz, axes)


def _height(program: Program) -> float:
    """Inches of a map of the blocks that is as wide as the others."""
    hull = program.blocks[0].rect
    for block in program.blocks:
        hull = hull.hull(block.rect)
    return min(10.2, max(3.0, 0.82 * INCHES * hull.rows / hull.columns + 1.0))


def _draw_latency(reports: Sequence[Report], axes: Axes) -> None:
    decode = reports[0].phase == "decode"
    plots.draw_shares(reports, axes, names=[r.context if decode else r.tokens for r in reports])
    axes.set_xlabel("tokens in the KV cache" if decode else "tokens of the prompt")


def _png(draw: Callable[[Axes], None], title: str, height: float, dpi: int) -> bytes:
    """Drawn with matplotlib's own defaults, whatever the user's are."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("default"):
        figure = Figure(figsize=(INCHES, height), dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw(axes)
        if title:
            axes.set_title(title, fontsize=11)
        written = io.BytesIO()
        figure.savefig(written, format="png", dpi=dpi, metadata={"Software": None})
    return written.getvalue()
