"""Pictures of Programs and Reports. Needs matplotlib (the `notebooks` extra)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim.program.program import Program
from wsesim.report.report import KINDS, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"compute": "#4878a8", "launch": "#9ecae1", "network": "#e6863b", "wait": "#b2b2b2", "reroute": "#8c6bb1"}
ROLES = {"embed": "#6aa56e", "table": "#6aa56e", "head": "#c9a227", "layer": "#4878a8"}


def draw_placement(program: Program, axes: Axes) -> None:
    """Blocks on the wafer, shaded by their share of SRAM in use; arrows are the transfers, dashed the id's way."""
    from matplotlib.patches import Rectangle

    memory = {m.block: m.total_bytes / program.machine.room_bytes for m in program.memory}
    for block in program.blocks:
        role = next((r for r in ROLES if block.name.startswith(r)), "layer")
        shade = 0.25 + 0.65 * memory[block.name]
        corner = (block.x, block.y)
        axes.add_patch(
            Rectangle(corner, block.columns, block.rows, facecolor=ROLES[role], alpha=shade, edgecolor="white")
        )
        axes.text(*_centre(program, block.name), block.name.removeprefix("layer"), ha="center", va="center", fontsize=7)
    for transfer in program.transfers:
        _arrow(axes, _centre(program, transfer.source), _centre(program, transfer.target), "-")
    _arrow(axes, _centre(program, program.feedback.source), _centre(program, program.feedback.target), "--")
    axes.set_xlim(0, program.machine.columns)
    axes.set_ylim(program.machine.rows, 0)
    axes.set_aspect("equal")
    axes.set_xlabel("PE column")
    axes.set_ylabel("PE row")
    axes.set_title(f"{program.model} on {program.machine.name}, {program.strategy}: {program.pes:,} PEs", fontsize=9)


def draw_shares(reports: Sequence[Report], axes: Axes, positions: Sequence[Any] | None = None) -> None:
    """Time per token of each report, stacked by what the critical path is made of (microseconds)."""
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
    """The operators with the largest share of the critical path, by kind (kilocycles)."""
    shares = report.shares[:count][::-1]
    left = np.zeros(len(shares))
    for i, kind in enumerate(KINDS):
        width = np.array([s.by_kind[i] / 1e3 for s in shares])
        axes.barh([s.operator for s in shares], width, left=left, label=kind, color=COLOURS[kind])
        left += width
    axes.set_xlabel("thousand cycles per token on the critical path")
    axes.legend(fontsize=8, loc="lower right")


def _centre(program: Program, name: str) -> tuple[float, float]:
    block = program.block(name)
    return block.x + block.columns / 2, block.y + block.rows / 2


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
    arrow = {"arrowstyle": "->", "linestyle": style, "color": "#333333", "lw": 0.8, "shrinkA": 6, "shrinkB": 6}
    axes.annotate("", end, start, arrowprops=arrow)
