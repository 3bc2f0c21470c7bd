"""Pictures of Programs and Reports. Needs matplotlib (the `notebooks` extra)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.observe.traffic import pieces_of, task_spans, wafer_busy_cycles, wafer_link_wavelets
from wsesim.engine.steps.timing import Step
from wsesim.machine import Rect
from wsesim.program.program import Program
from wsesim.report.figures import KINDS
from wsesim.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"compute": "#4878a8", "launch": "#9ecae1", "network": "#e6863b", "wait": "#b2b2b2", "reroute": "#8c6bb1"}


def draw_placement(program: Program, axes: Axes) -> None:
    """Draws the blocks on the wafer, shaded by their share of SRAM in use. Arrows are the transfers; the dashed one is
    the way of the sampled id.

    If the blocks take little of the wafer, only the part around them is shown. A block's name is left out if it does
    not fit, or would touch an arrow.
    """
    from wsesim.report.placement_map import draw_map

    draw_map(program, axes)


def draw_shares(reports: Sequence[Report], axes: Axes, positions: Sequence[Any] | None = None) -> None:
    """Draws the time per token of each report in microseconds, stacked by the kinds of the critical path."""
    places = np.arange(len(reports)) if positions is None else np.asarray(positions)
    bottom = np.zeros(len(reports))
    width = 0.8 * float(np.diff(places).min()) if len(reports) > 1 else 0.8
    for kind in KINDS:
        height = np.array([r.by_kind()[kind] / r.clock_hz / r.tokens * 1e6 for r in reports])
        axes.bar(places, height, width, bottom, label=kind, color=COLOURS[kind])
        bottom += height
    axes.set_ylabel("microseconds per token")
    axes.legend(fontsize=8)


def draw_operators(report: Report, axes: Axes, count: int = 12) -> None:
    """Draws the operators with the largest share of the critical path, by kind, in kilocycles."""
    shares = report.shares[:count][::-1]
    left = np.zeros(len(shares))
    for i, kind in enumerate(KINDS):
        width = np.array([s.by_kind[i] / 1e3 for s in shares])
        axes.barh([s.operator for s in shares], width, left=left, label=kind, color=COLOURS[kind])
        left += width
    axes.set_xlim(0, 1.03 * float(left.max()))
    axes.set_xlabel("thousand cycles per token on the critical path")
    axes.legend(fontsize=8, loc="lower right")


def draw_utilisation(program: Program, step: Step, axes: Axes) -> None:
    """Draws, for each PE, the share of the step in which tasks hold it. A black PE belongs to no block."""
    machine = program.machine
    busy = wafer_busy_cycles(pieces_of(step.runs), machine.columns, machine.rows) / step.cycles * 100
    image = axes.imshow(_only_blocks(program, busy), cmap="viridis", vmin=0, interpolation="nearest", aspect="equal")
    axes.figure.colorbar(image, ax=axes, label="% of the cycles", location="bottom")
    _frame(program, axes, "PEs: share of the step in which tasks hold them")


def draw_links(program: Program, step: Step, axes: Axes) -> None:
    """Draws, for each router, the wavelets of a step on the busiest of its four links. The scale is logarithmic."""
    from matplotlib.colors import LogNorm

    machine = program.machine
    busiest = wafer_link_wavelets(pieces_of(step.runs), machine.columns, machine.rows).max(axis=2)
    image = axes.imshow(
        np.where(busiest > 0, busiest, np.nan),
        cmap="magma",
        norm=LogNorm(1, max(2, int(busiest.max()))),
        interpolation="nearest",
        aspect="equal",
    )
    axes.figure.colorbar(image, ax=axes, label="wavelets", location="bottom")
    _frame(program, axes, "links: wavelets on each router's busiest one")


def draw_tasks(step: Step, where: Rect, axes: Axes) -> None:
    """Draws the tasks of a step on the PEs in `where`: one row for each PE, coloured by operator."""
    spans = task_spans(pieces_of(step.runs), where)
    for number, label in enumerate(dict.fromkeys(span.label for span in spans)):
        own = [s for s in spans if s.label == label]
        rows = [(s.pe[1] - where.y) * where.columns + s.pe[0] - where.x for s in own]
        lengths, starts = [s.end - s.start for s in own], [s.start for s in own]
        axes.barh(
            rows, lengths, left=starts, height=1.0, color=f"C{number % 10}", hatch="//" * (number // 10), label=label
        )
    axes.invert_yaxis()
    axes.set_xlabel("cycle")
    axes.set_ylabel(f"PE of {where}")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _only_blocks(program: Program, values: NDArray[np.float64]) -> NDArray[np.float64]:
    shown = np.full(values.shape, np.nan)
    for b in program.blocks:
        place = np.s_[b.y : b.y + b.rows, b.x : b.x + b.columns]
        shown[place] = values[place]
    return shown


def _frame(program: Program, axes: Axes, title: str) -> None:
    """Limits the axes to the part of the wafer with blocks."""
    hull = program.blocks[0].rect
    for block in program.blocks:
        hull = hull.hull(block.rect)
    axes.set_xlim(hull.x - 0.5, hull.x + hull.columns - 0.5)
    axes.set_ylim(hull.y + hull.rows - 0.5, hull.y - 0.5)
    axes.set_facecolor("black")
    axes.set_xlabel("PE column")
    axes.set_ylabel("PE row")
    axes.set_title(title, fontsize=9)
