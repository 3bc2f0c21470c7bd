"""A stage's kernels on their block -> Segment; equal stages share one graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import get_args

import numpy as np

from wsesim.engine.expand.canvas import Canvas, LineCanvas, is_vertical
from wsesim.engine.expand.collective import COLOURS
from wsesim.engine.expand.kernel_costs import Part, Site, routes_of, stage_parts
from wsesim.engine.expand.segment import EqualLines, Phase, Plan, Segment, line_graph, local_machine
from wsesim.engine.graph.taskgraph import Int64, TaskGraph
from wsesim.machine import Machine, Rect
from wsesim.program.collectives import reduction
from wsesim.program.kernels import ACROSS, ALONG, SEGMENT, Embed, Kernel, Linear, Output, Sample, WeightRef
from wsesim.program.parts import Block, Stage
from wsesim.program.program import Program
from wsesim.program.routes import entry_pe
from wsesim.software import WSESIM, Software

NAMELESS = WeightRef("", 0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class StageKey:
    """Everything that affects a stage's graph: no names, no place on the wafer, no weights.

    `machine` has the slow PEs in coordinates of `block`, which is at (0, 0). `context` is rounded up to as many
    positions as the fullest line holds. `entry` (along, across) is the PE that the id reaches first. `logits_root` is
    the position along on which the logits are summed. `routes` are configured before.
    """

    kernels: tuple[Kernel, ...]
    machine: Machine = dataclasses.field(hash=False)
    block: Block
    dtype: str
    tokens: int
    context: int
    candidates: int
    entry: tuple[int, int]
    logits_root: int
    routes: str
    software: Software = dataclasses.field(hash=False)


def expand_stage(program: Program, stage: Stage, tokens: int, context: int, candidates: int) -> Segment:
    """The segment of a stage for `tokens` new tokens over `context` positions, the new ones counted in."""
    block, kernels = program.block(stage.block), program.kernels_in(stage)
    key = StageKey(
        tuple(_nameless(k) for k in kernels),
        local_machine(program.machine, block.rect),
        _own(block),
        dtype=program.timing_dtype,
        tokens=tokens,
        context=_rounded_up(kernels, context, block.along),
        candidates=candidates if any(isinstance(k, Sample) for k in kernels) else 0,
        entry=_entry(program, block) if any(isinstance(k, Embed) for k in kernels) else (0, 0),
        logits_root=_logits_root(program.kernels) if any(isinstance(k, Sample) for k in kernels) else 0,
        routes=_routes_before(program, kernels),
        software=program.software,
    )
    within, plan = _plan(key)
    window = Rect(block.x + within.x, block.y + within.y, within.columns, within.rows)
    return Segment(stage.name, window, plan, _colours(program, block))


def _own(block: Block) -> Block:
    """The block without its name and its place."""
    return dataclasses.replace(block.moved(0, 0), name="")


def _colours(program: Program, block: Block) -> tuple[int, ...]:
    """The Program's colours by the numbers that a stage's messages have; -1 for kinds that the block does not have."""
    uses = {use.kind: use.colours for use in program.colours if use.block == block.name}
    kinds = ((ALONG, COLOURS), (ACROSS, COLOURS), (SEGMENT, COLOURS), ("embed", 2))
    return tuple(colour for kind, count in kinds for colour in uses.get(kind, (-1,) * count))


def _entry(program: Program, block: Block) -> tuple[int, int]:
    """Position (along, across) that the id reaches first."""
    x, y = entry_pe(program)
    column, row = block.column_places.index(x), block.row_places.index(y)
    return (row, column) if block.axis == "rows" else (column, row)


def expand_kernels(
    machine: Machine,
    block: Block,
    kernels: tuple[Kernel, ...],
    context: int,
    *,
    routes: str = "",
    tokens: int = 1,
    candidates: int = 1,
    software: Software = WSESIM,
    dtype: str = "fp16",
) -> Segment:
    """The segment of kernels one after the other on `block`, over `context` positions, without a Program.

    `routes` are configured before; `routes_of` names them. A Sample keeps `candidates`.
    """
    own = _own(block)
    longest = _rounded_up(kernels, context, block.along)
    key = StageKey(
        kernels,
        machine,
        own,
        dtype=dtype,
        tokens=tokens,
        context=longest,
        candidates=candidates,
        entry=(0, 0),
        logits_root=_logits_root(kernels) if any(isinstance(k, Sample) for k in kernels) else 0,
        routes=routes,
        software=software,
    )
    return Segment("kernels", *_plan(key))


@lru_cache(maxsize=16)  # the whole graph of a 20,000-PE layer, if it is drawn, is about 60 MB
def _plan(key: StageKey) -> tuple[Rect, Plan]:
    """The rectangle around the lines that have tasks, and their plan in its coordinates."""
    site = Site(key.block, key.context, key.candidates, key.entry, key.logits_root, key.software)
    runs = _one_axis_at_a_time(stage_parts(key.kernels, key.software))
    phases = _phases(key, site, runs)
    window = _around(phases, key.block)
    own = tuple(tuple(EqualLines(e.line, _moved(e.members, key.block, window)) for e in phase) for phase in phases)
    return window, Plan(window.columns, window.rows, own, lambda: _whole(key, site, window))


def _whole(key: StageKey, site: Site, window: Rect) -> TaskGraph:
    canvas = Canvas(window, key.machine, key.dtype, key.tokens, key.software)
    canvas.configured = key.routes
    for part in stage_parts(key.kernels, key.software):
        part.draw(canvas, site)
    return canvas.builder.build()


def _around(phases: tuple[Phase, ...], block: Block) -> Rect:
    """The rectangle around lines of a block, whose places ascend."""
    ends = [equal.members[[0, -1], [0, -1]] for phase in phases for equal in phase]
    corners = [divmod(int(pe), block.rect.columns) for pes in ends for pe in pes]
    return reduce(Rect.hull, (Rect(column, row, 1, 1) for row, column in corners))


def _moved(members: Int64, block: Block, window: Rect) -> Int64:
    """PE numbers of the block as those of a window in it."""
    if window == block.rect:
        return members
    rows, columns = np.divmod(members, block.rect.columns)
    return (rows - window.y) * window.columns + columns - window.x


def _one_axis_at_a_time(stage: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """Parts in order, cut where the axis of their collectives changes. A part without any goes with those before."""
    runs: list[tuple[str, list[Part]]] = []
    leading: list[Part] = []
    for part in stage:
        if part.axis is None and not runs:
            leading.append(part)
        elif part.axis is None or (runs and part.axis == runs[-1][0]):
            runs[-1][1].append(part)
        else:
            runs.append((part.axis, [*leading, part]))
            leading = []
    return runs or [(ALONG, leading)]


def _phases(key: StageKey, site: Site, runs: list[tuple[str, list[Part]]]) -> tuple[Phase, ...]:
    phases, routes = [], key.routes
    for axis, run in runs:
        phase, routes = _phase(key, site, axis, run, routes)
        phases.append(phase)
    return tuple(phase for phase in phases if phase)


def _phase(key: StageKey, site: Site, axis: str, run: list[Part], routes: str) -> tuple[Phase, str]:
    """The lines along `axis`, one drawn for all equal ones, and the routes that are configured afterwards."""
    count = key.block.across if axis == ALONG else key.block.along
    phase, first, after = [], 0, routes
    while first < count:
        canvas = LineCanvas(key.block, axis, first, key.machine, key.dtype, key.tokens, key.software)
        canvas.configured = routes
        for part in run:
            part.draw(canvas, site)
        after = canvas.configured
        following = min((b for b in canvas.breaks if b > first), default=count)
        if canvas.builder.task_count:
            members = _members(key.block, is_vertical(key.block, axis), np.arange(first, min(following, count)))
            phase.append(EqualLines(line_graph(canvas.builder.build()), members))
        first = following
    return tuple(phase), after


def _members(block: Block, vertical: bool, lines: Int64) -> Int64:
    """PE numbers [lines, length] of columns or rows of a block's own window, with the PEs that they only cross."""
    extent = block.rect
    if vertical:
        columns = np.asarray(block.column_places)[lines]
        return columns[:, None] + np.arange(extent.rows)[None, :] * extent.columns
    rows = np.asarray(block.row_places)[lines]
    return rows[:, None] * extent.columns + np.arange(extent.columns)[None, :]


def _rounded_up(kernels: tuple[Kernel, ...], context: int, along: int) -> int:
    """The longest context that costs as much as this one; 0 for kernels that read no KV cache."""
    caches = {k.cache for k in kernels if k.cache is not None}
    return max((cache.longest(cache.positions(context, along), along) for cache in caches), default=0)


def _routes_before(program: Program, kernels: tuple[Kernel, ...]) -> str:
    """The routes that the block's last kernel before these leaves: before the first, the last one of the last token."""
    on_block = program.kernels_of(kernels[0].block)
    first = on_block.index(kernels[0])
    before = (*on_block[first:], *on_block[:first])
    return next((routes for k in reversed(before) if (routes := routes_of(k, program.software))), "")


def _logits_root(kernels: Sequence[Kernel]) -> int:
    """Position along, on which the logits are summed; 0 for kernels without logits."""
    logits = next((k for k in kernels if isinstance(k, Linear) and not k.broadcast), None)
    return reduction(logits.layout.used, logits.reduce).root if logits else 0


def _nameless(kernel: Kernel) -> Kernel:
    """The kernel without the names of its values, weights and block; its role stays, reports are by role."""
    blank: dict[str, object] = {"name": kernel.role, "block": ""}
    for name in _FIELDS[type(kernel)]:
        value = getattr(kernel, name)
        if name in _VALUES:
            blank[name] = tuple("" for _ in value) if isinstance(value, tuple) else ""
        elif isinstance(value, WeightRef):
            blank[name] = NAMELESS
        elif name == "weights":
            blank[name] = tuple(NAMELESS for _ in value)
        elif name == "outputs":
            blank[name] = tuple(Output("", NAMELESS, o.layout, o.bias and NAMELESS) for o in value)
    return dataclasses.replace(kernel, **blank)  # type: ignore[arg-type]


_VALUES = {
    *("source", "target", "sources", "targets", "query", "key", "value"),
    *("probabilities", "gate", "up", "left", "right"),
}
_FIELDS = {kind: tuple(field.name for field in dataclasses.fields(kind)) for kind in get_args(Kernel)}
