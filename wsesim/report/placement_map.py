"""The map of a Program's blocks: rectangles, names, and arrows between them. Needs matplotlib.

An arrow between neighbours crosses their common border. Any other arrow is the path of one message. A name is drawn in
the largest size that fits into its block and touches no arrow. If no size fits, it is left out. Sizes are computed when
the picture is drawn, so a map can be resized.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from math import hypot
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from wsesim.machine import Rect
from wsesim.program.parts import Block, Transfer
from wsesim.program.path import Path
from wsesim.program.program import Program
from wsesim.program.routes import feedback_path, transfer_paths
from wsesim.report.palette import ROLE_COLOURS, ROLE_NAMES, role_of

Point = tuple[float, float]

INK = "#1a1a1a"
DEAD = "#c2185b"
GAP = "#f7f7f7"
FONT_SIZES = (9.0, 8.0, 7.0, 6.0, 5.0)
_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
PLACES = tuple(sorted(product(_SHARES, _SHARES), key=lambda place: hypot(place[0] - 0.5, place[1] - 0.5)))
"""Places of a name in its block, as shares of the free width and height; the middle comes first."""
CLEARANCE = 2.6  # points between a name and an arrow's line or the block's border; an arrow's head is wider
REACH = 0.22  # of a block's extent: how far an arrow from a neighbour reaches into it
MOST_REACH = 0.045  # of what is shown
MESSAGES_TRIED = 9
WHOLE_AXIS = 0.5  # if the blocks span less of an axis, only their part is shown


def draw_map(program: Program, axes: Axes) -> None:
    """Draws the blocks, shaded by the SRAM of their fullest PE, the transfers, and dashed the way of the sampled id."""
    memory = {m.block: m.total_bytes / program.machine.room_bytes for m in program.memory}
    usable, shown = program.machine.usable, _shown(program)
    axes.add_patch(Rectangle((usable.x, usable.y), usable.columns, usable.rows, facecolor="#f2f2f2", edgecolor="none"))
    for block in program.blocks:
        axes.add_patch(_rectangle(block, _tint(ROLE_COLOURS[role_of(program, block)], memory[block.name])))
        for gap in _gaps(block):
            axes.add_patch(gap)
    if program.machine.dead:
        x, y = np.transpose(sorted(program.machine.dead)) + 0.5
        axes.scatter(x, y, s=5, color=DEAD, linewidths=0, zorder=3)
    reach = MOST_REACH * max(shown.columns, shown.rows)
    ways = [*((line, False) for line in _transfer_lines(program, reach)), *_feedback_line(program)]
    for line, dashed in ways:
        for part in _arrow(line, dashed):
            axes.add_artist(part)
    axes.add_artist(_Names(program.blocks, [line for line, _ in ways]))
    _frame(program, axes, shown)


def _frame(program: Program, axes: Axes, shown: Rect) -> None:
    margin = 0.015 * max(shown.columns, shown.rows)
    axes.set_xlim(shown.x - margin, shown.x + shown.columns + margin)
    axes.set_ylim(shown.y + shown.rows + margin, shown.y - margin)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("PE column")
    axes.set_ylabel("PE row")
    figure = axes.get_figure()
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(0, -32 / 72, figure.dpi_scale_trans)
    axes.legend(handles=list(_legend(program)), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=7,
                bbox_transform=below, frameon=False, handlelength=1.6, columnspacing=1.2)  # fmt: skip
    axes.set_title(
        f"{program.model} on {program.machine.name}, {program.strategy}\n"
        f"{program.pes:,} of {program.machine.usable.pes:,} usable PEs in {len(program.blocks)} blocks",
        fontsize=9,
    )


def label_of(block: Block) -> str:
    """A block's name without the part that its colour shows: layer12 is 12, layer0_29 is 0-29."""
    return re.sub(r"^(\d+)_(\d+)$", r"\1-\2", block.name.removeprefix("layer"))


def _shown(program: Program) -> Rect:
    """The part of the wafer to show: on an axis where the blocks take little room, only their part."""
    hull, machine = program.blocks[0].rect, program.machine
    for block in program.blocks:
        hull = hull.hull(block.rect)
    margin = max(hull.columns, hull.rows) // 12
    x, columns = _shown_part(hull.x, hull.columns, machine.columns, margin)
    y, rows = _shown_part(hull.y, hull.rows, machine.rows, margin)
    return Rect(x, y, columns, rows)


def _shown_part(start: int, length: int, whole: int, margin: int) -> tuple[int, int]:
    if length >= WHOLE_AXIS * whole:
        return 0, whole
    first, last = max(0, start - margin), min(whole, start + length + margin)
    return first, last - first


def _tint(colour: str, share: float) -> tuple[float, float, float]:
    """The colour mixed with white: the more SRAM in use, the deeper."""
    depth = 0.25 + 0.65 * min(1.0, share)
    red, green, blue = (1 - depth * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def _rectangle(block: Block, colour: Any) -> Rectangle:
    extent = block.rect.columns, block.rect.rows
    return Rectangle((block.x, block.y), *extent, facecolor=colour, edgecolor="white", lw=0.8)


def _gaps(block: Block) -> Iterator[Rectangle]:
    """The columns and rows that a block leaves out, at least as wide as a thin line."""
    area = block.rect
    columns = ((x, area.y, 1, area.rows) for x in block.left_out_columns)
    rows = ((area.x, y, area.columns, 1) for y in block.left_out_rows)
    for x, y, width, height in (*columns, *rows):
        yield Rectangle((x, y), width, height, facecolor=GAP, edgecolor=GAP, lw=0.3, alpha=0.7, snap=False)


def _legend(program: Program) -> Iterator[Artist]:
    roles = dict.fromkeys(role_of(program, block) for block in program.blocks)
    yield from (Patch(facecolor=_tint(ROLE_COLOURS[role], 1.0), label=ROLE_NAMES[role]) for role in roles)
    yield Line2D([], [], color=INK, lw=1, marker=">", markersize=4, markevery=(1, 2), label="activations")
    if program.machine.dead:
        yield Line2D([], [], color=DEAD, lw=0, marker=".", markersize=5, label="dead PE")
    if any(block.left_out_columns or block.left_out_rows for block in program.blocks):
        yield Patch(facecolor=GAP, edgecolor="#bbbbbb", lw=0.5, label="left out, routers pass on")
    if feedback_path(program) is not None:
        yield Line2D([], [], color=INK, lw=1, ls=(0, (3, 2)), label="the sampled id's way back")


def _transfer_lines(program: Program, most_reach: float) -> Iterator[list[Point]]:
    """One line for each pair of blocks and direction. The two directions of neighbours lie side by side."""
    ways = {(t.source, t.target): t for t in program.transfers}
    several = Counter(frozenset(way) for way in ways)
    drawn: Counter[frozenset[str]] = Counter()
    short, far = [], []
    for (name, other), transfer in ways.items():
        pair, source, target = frozenset((name, other)), program.block(name), program.block(other)
        drawn[pair] += 1
        line = _across_border(source.rect, target.rect, drawn[pair] / (several[pair] + 1), most_reach)
        if line:
            short.append(line)
        else:
            far.append((transfer, source, target))
    centres = [[_centre(block), _centre(block)] for block in program.blocks]
    yield from short
    yield from (_message_line(*way, [*short, *centres]) for way in far)


def _feedback_line(program: Program) -> Iterator[tuple[list[Point], bool]]:
    path = feedback_path(program)
    if path is not None:
        yield _corners(path, path.total_hops), True


def _message_line(transfer: Transfer, source: Block, target: Block, others: list[list[Point]]) -> list[Point]:
    """The path of one message to its first receiver: of a few messages, the one farthest from `others`."""
    paths = transfer_paths(transfer, source, target)
    some = [paths[n * (len(paths) - 1) // (MESSAGES_TRIED - 1)] for n in range(MESSAGES_TRIED)]
    lines = [_corners(path, path.first_drop) for path in some]
    return max(lines, key=lambda line: min((_distance(line, other) for other in others), default=0.0))


def _distance(line: list[Point], other: list[Point]) -> float:
    """The distance of two lines along rows and columns."""
    return min(
        max(max(min(a[i], b[i]) - max(c[i], d[i]), min(c[i], d[i]) - max(a[i], b[i]), 0.0) for i in (0, 1))
        for a, b in pairwise(line)
        for c, d in pairwise(other)
    )


def _centre(block: Block) -> Point:
    return block.rect.x + block.rect.columns / 2, block.rect.y + block.rect.rows / 2


def _corners(path: Path, last_hop: int) -> list[Point]:
    """The points where a message begins, turns and ends, in the middle of PEs."""
    corners = dict.fromkeys(path.position(hop) for hop in (0, min(path.hops, last_hop), last_hop))
    return [(x + 0.5, y + 0.5) for x, y in corners]


def _across_border(source: Rect, target: Rect, share: float, most_reach: float) -> list[Point]:
    """A line at `share` of the length of the common border; empty if there is none."""
    across = (source.x + source.columns == target.x) - (target.x + target.columns == source.x)
    down = (source.y + source.rows == target.y) - (target.y + target.rows == source.y)
    extents = (source.columns, target.columns) if across else (source.rows, target.rows)
    back, on = (min(most_reach, REACH * extent) for extent in extents)
    if across and (at := _common(source.y, source.rows, target.y, target.rows, share)) is not None:
        border = target.x if across > 0 else source.x
        return [(border - across * back, at), (border + across * on, at)]
    if down and (at := _common(source.x, source.columns, target.x, target.columns, share)) is not None:
        border = target.y if down > 0 else source.y
        return [(at, border - down * back), (at, border + down * on)]
    return []


def _common(a: int, length: int, b: int, other: int, share: float) -> float | None:
    """The point at `share` of the intersection of two intervals; None if it is empty."""
    low, high = max(a, b), min(a + length, b + other)
    return low + share * (high - low) if high > low else None


def _arrow(line: list[Point], dashed: bool) -> Iterator[Artist]:
    """The segments of the line; the last one has the head. A white halo separates it from the blocks below."""
    halo = [withStroke(linewidth=2.4, foreground="white", alpha=0.8)]
    style = (0, (3, 2)) if dashed else "-"
    if len(line) > 2:
        yield Line2D(*np.transpose(line[:-1]), color=INK, lw=1.0, ls=style, path_effects=halo)
    yield FancyArrowPatch(
        line[-2], line[-1], arrowstyle="-|>,head_length=0.35,head_width=0.18", mutation_scale=10, lw=1.0, color=INK,
        linestyle=style, shrinkA=0, shrinkB=0, path_effects=halo, zorder=3,
    )  # fmt: skip


class _Names(Artist):
    """The blocks' names. Their sizes and places are computed when the picture is drawn."""

    def __init__(self, blocks: Iterable[Block], lines: list[list[Point]]) -> None:
        super().__init__()
        self.set_zorder(4)
        self._blocks, self._lines = tuple(blocks), lines
        self.drawn: dict[str, Bbox] = {}  # in pixels, for the tests

    def draw(self, renderer: Any) -> None:
        if not self.get_visible():
            return
        axes, figure = self.axes, self.get_figure()
        assert axes is not None and figure is not None
        to_pixels, clearance = axes.transData, CLEARANCE * figure.dpi / 72
        segments = [
            np.asarray(to_pixels.transform(line[n : n + 2])) for line in self._lines for n in range(len(line) - 1)
        ]
        self.drawn.clear()
        for block in self._blocks:
            area = block.rect
            corners = to_pixels.transform([(area.x, area.y), (area.x + area.columns, area.y + area.rows)])
            room = Bbox([corners.min(axis=0) + clearance, corners.max(axis=0) - clearance])
            near = [s for s in segments if _touches(s, room)]
            found = next(self._candidates(block, room, near, clearance, renderer), None)
            if found is not None:
                text, box = found
                text.draw(renderer)
                self.drawn[block.name] = box

    def _candidates(
        self, block: Block, room: Bbox, lines: list[Any], clearance: float, renderer: Any
    ) -> Iterator[tuple[Text, Bbox]]:
        """The name in each size and place in which it fits, the best first."""
        figure = self.get_figure()
        assert figure is not None
        for size in FONT_SIZES:
            text = Text(0, 0, label_of(block), fontsize=size, ha="center", va="center", color=INK)
            text.set_figure(figure)
            text.set_path_effects([withStroke(linewidth=1.5, foreground="white", alpha=0.6)])
            extent = text.get_window_extent(renderer)
            free = np.array([room.width - extent.width, room.height - extent.height])
            if min(free) < 0:
                continue
            for share in PLACES:
                low = np.array([room.x0, room.y0]) + free * (share[0], 1 - share[1])
                box = Bbox([low, low + np.array([extent.width, extent.height])])
                if not any(_touches(line, box.padded(clearance)) for line in lines):
                    text.set_position(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
                    yield text, box


def _touches(segment: Any, box: Bbox) -> bool:
    """Whether a segment of two points crosses the box (Liang-Barsky)."""
    (x, y), (dx, dy) = segment[0], segment[1] - segment[0]
    enter, leave = 0.0, 1.0
    for along, distance in ((-dx, x - box.x0), (dx, box.x1 - x), (-dy, y - box.y0), (dy, box.y1 - y)):
        if along == 0 and distance < 0:
            return False
        if along < 0:
            enter = max(enter, distance / along)
        elif along > 0:
            leave = min(leave, distance / along)
    return bool(enter <= leave)
