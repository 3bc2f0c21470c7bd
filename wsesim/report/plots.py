"""Figures of Programs and Reports for papers and notebooks. Each function draws into the axes that it is given.

    figure, axes = plt.subplots(figsize=(8, 5))
    draw_shares([wsesim.simulate(program, context=n) for n in contexts], axes, names=contexts)

`wsesim report --png DIR` writes all of them (`wsesim/report/pictures.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.observe.traffic import pieces_of, task_spans, wafer_busy_cycles, wafer_link_wavelets
from wsesim.engine.steps.pipeline import Flow
from wsesim.engine.steps.timing import Step
from wsesim.machine import Rect
from wsesim.program.program import Program
from wsesim.report.figures import KINDS
from wsesim.report.kernel_figures import KernelFigures
from wsesim.report.palette import KIND_COLOURS
from wsesim.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EMPTY = "#e8ebee"
INK = "#444444"
DASHED = (0, (5, 3))
SERIES = ("#3b6ea5", "#e6863b", "#2f8f7b", "#8c6bb1", "#b8435a", "#6b6b6b")
MARKERS = "osD^vPX"


def draw_placement(program: Program, axes: Axes) -> None:
    """Draws the blocks on the wafer, shaded by their share of SRAM in use. Arrows are the transfers; the dashed one is
    the way of the sampled id.

    If the blocks take little of the wafer, only the part around them is shown. A block's name is left out if it does
    not fit, or would touch an arrow.
    """
    from wsesim.report.placement_map import draw_map

    draw_map(program, axes)


def draw_shares(
    reports: Sequence[Report],
    axes: Axes,
    positions: Sequence[Any] | None = None,
    names: Sequence[Any] | None = None,
) -> None:
    """Draws the time per token of each report in microseconds, stacked by the kinds of the critical path.

    `positions` of the bars, else 0, 1, ...; `names` stand below them, and then each total above its bar.
    """
    places = np.arange(len(reports)) if positions is None else np.asarray(positions)
    bottom = np.zeros(len(reports))
    width = 0.8 * float(np.diff(places).min()) if len(reports) > 1 else 0.8
    for kind in KINDS:
        height = np.array([r.by_kind()[kind] / r.clock_hz / r.tokens * 1e6 for r in reports])
        axes.bar(places, height, width, bottom, label=kind, color=KIND_COLOURS[kind])
        bottom += height
    if names is not None:
        axes.set_xticks(places, [f"{name:,}" if isinstance(name, int) else str(name) for name in names])
        for place, total in zip(places, bottom, strict=True):
            axes.annotate(
                _three_digits(total), (place, total), (0, 3), textcoords="offset points", ha="center", fontsize=9
            )
    axes.set_ylim(0, 1.24 * float(bottom.max()))  # room for the legend above the bars
    axes.set_ylabel("time of a token (µs)")
    _plain(axes, "y")
    axes.legend(fontsize=9, ncols=len(KINDS), loc="upper center", frameon=False, handlelength=1.2, columnspacing=1.2)


def draw_operators(report: Report, axes: Axes, count: int = 12) -> None:
    """Draws the operators with the largest share of the critical path, by kind, in kilocycles."""
    shares = report.shares[:count][::-1]
    left = np.zeros(len(shares))
    for i, kind in enumerate(KINDS):
        width = np.array([s.by_kind[i] / 1e3 for s in shares])
        axes.barh([s.operator for s in shares], width, left=left, label=kind, color=KIND_COLOURS[kind])
        left += width
    most = float(left.max())
    for place, (end, share) in enumerate(zip(left, shares, strict=True)):
        axes.annotate(
            f"{100 * share.cycles / report.cycles:.1f} %", (end, place), (4, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axes.set_xlim(0, 1.12 * most)
    axes.set_xlabel(f"cycles of a {'token' if report.phase == 'decode' else 'prompt'} on the critical path (thousands)")
    axes.set_ylabel("operator")
    _plain(axes, "x")
    axes.legend(fontsize=9, loc="lower right", frameon=False)


def draw_utilisation(program: Program, step: Step, axes: Axes) -> None:
    """Draws, for each PE, the share of the step in which tasks hold it. A grey PE belongs to no block."""
    machine = program.machine
    busy = wafer_busy_cycles(pieces_of(step.runs), machine.columns, machine.rows) / step.cycles * 100
    image = axes.imshow(_only_blocks(program, busy), cmap="viridis", vmin=0, interpolation="nearest", aspect="equal")
    _bar_beside(axes, image, "share of the step in which tasks hold a PE (%)")
    _frame(program, axes)


def draw_links(program: Program, step: Step, axes: Axes) -> None:
    """Draws, for each router, the wavelets of a step on the busiest of its four links."""
    machine = program.machine
    busiest = wafer_link_wavelets(pieces_of(step.runs), machine.columns, machine.rows).max(axis=2)
    image = axes.imshow(
        np.where(busiest > 0, busiest, np.nan),
        cmap="inferno",
        vmin=0,
        interpolation="nearest",
        aspect="equal",
    )
    _bar_beside(axes, image, "wavelets on the busiest link of a router")
    _frame(program, axes)


def draw_roofline(program: Program, report: Report, kernels: Iterable[KernelFigures], axes: Axes) -> None:
    """Draws how many multiply-adds a cycle each operator does, against what the wafer could do for work of its size.

    The upper roof is the FMA rate of all usable PEs, the dashed one that of the PEs of one block of layers. The slope
    is the spread bound: work that begins on one PE reaches the others hop by hop, so small work cannot use them all.
    """
    from wsesim.report.roofline import fma_rate, operator_points, spread_rates

    points = operator_points(kernels)
    assert points, "no operator with multiply-adds"
    sizes = [work for _, work, _ in points]
    work = np.logspace(np.log10(min(sizes) / 4), np.log10(max(sizes) * 30), 160)
    rate, usable = fma_rate(program), report.machine_bounds.pes
    largest = max(b.pes for b in program.blocks)
    axes.loglog(work, spread_rates(program, work), color=INK, lw=2, label="spread bound: hop by hop from one PE")
    axes.axhline(usable * rate, color=INK, lw=1.2, label=f"all {usable:,} usable PEs, {rate:g} a cycle each")
    axes.axhline(largest * rate, color=INK, lw=1.2, ls=DASHED, label=f"the largest block, {largest:,} PEs")
    for number, (name, size, speed) in enumerate(sorted(points, key=lambda p: -p[1])):
        colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        told = f"{name}, {100 * speed / (largest * rate):.1f} % of the dashed roof"
        axes.plot(size, speed, marker, color=colour, ms=8, label=told)
    axes.set_xlabel("multiply-adds of one kernel")
    axes.set_ylabel("multiply-adds a cycle")
    axes.grid(which="major", color="#e3e3e3", lw=0.7)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    _open(axes)


def draw_throughput(flows: Mapping[str, Sequence[Flow]], clock_hz: float, axes: Axes) -> None:
    """Draws latency against throughput: a line for each placement, a point for each number of sequences in flight.

    A dashed line is the most that a placement can reach: one token each time that its busiest block has done its work.
    """
    for number, (name, several) in enumerate(flows.items()):
        rates = [flow.batch * clock_hz / float(flow.period_cycles) for flow in several]
        times = [float(flow.latency_cycles) / clock_hz * 1e6 for flow in several]
        colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        axes.plot(rates, times, lw=1.6, ms=7, color=colour, marker=marker, label=name)
        busiest = several[-1].bottleneck
        most = several[-1].batch * clock_hz / float(busiest.busy_cycles)
        axes.axvline(most, color=colour, ls=DASHED, lw=1.2, label=f"{name}: {busiest.block} always busy")
        for flow, rate, time in zip(several, rates, times, strict=True):
            axes.annotate(
                f"{flow.in_flight}", (rate, time), (0, 9), textcoords="offset points", ha="center", fontsize=9,
                color=colour,
            )  # fmt: skip
    axes.set_xlim(0, 1.06 * axes.get_xlim()[1])
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.set_xlabel("throughput of all sequences (tokens/s)")
    axes.set_ylabel("latency of a token (µs)")
    _plain(axes, "both")
    axes.legend(fontsize=9, loc="lower center", ncols=2, title="placement; a number is that of the sequences in flight")


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


def _three_digits(value: float) -> str:
    """Three digits at least: 503, 13.2, 12,415."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _only_blocks(program: Program, values: NDArray[np.float64]) -> NDArray[np.float64]:
    shown = np.full(values.shape, np.nan)
    for area in (block.rect for block in program.blocks):
        place = np.s_[area.y : area.y + area.rows, area.x : area.x + area.columns]
        shown[place] = values[place]
    return shown


def _frame(program: Program, axes: Axes) -> None:
    """Limits the axes to the part of the wafer with blocks, and outlines these."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    hull = program.blocks[0].rect
    for block in program.blocks:
        hull = hull.hull(block.rect)
        corner = block.x - 0.5, block.y - 0.5
        extent = block.rect.columns, block.rect.rows
        axes.add_patch(Rectangle(corner, *extent, facecolor="none", edgecolor="white", lw=0.6))
    axes.set_xlim(hull.x - 0.5, hull.x + hull.columns - 0.5)
    axes.set_ylim(hull.y + hull.rows - 0.5, hull.y - 0.5)
    axes.set_facecolor(EMPTY)
    axes.set_xlabel("PE column")
    axes.set_ylabel("PE row")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def _bar_beside(axes: Axes, image: Any, label: str) -> None:
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, label=label, shrink=0.8, aspect=34, pad=0.03)


def _plain(axes: Axes, along: Any) -> None:
    """Light lines behind the data, and no frame."""
    axes.grid(axis=along, color="#e3e3e3", lw=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        if along in ("both", "xy"[axis is axes.yaxis]):
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    _open(axes)


def _open(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
