"""A stage's kernels on their block -> Segment; equal stages share one graph."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.kernels import Site, expand_kernel, line_kind
from wsesim.engine.expand.segment import Plan, Segment, local_machine, plan_of
from wsesim.machine import Machine
from wsesim.program.collectives import reduction
from wsesim.program.kernels import Embed, Kernel, Linear, Output, Sample, Score, WeightRef
from wsesim.program.program import Block, Program
from wsesim.program.routes import entry_pe

NAMELESS = WeightRef("", 0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class StageKey:
    """Everything that decides a stage's graph, and nothing else: no names, no place on the wafer, no weights."""

    kernels: tuple[Kernel, ...]
    machine: Machine  # stragglers in coordinates of the block
    block: Block  # at (0, 0)
    dtype: str
    tokens: int
    context: int  # rounded up: as many positions as the fullest line holds, on every line
    candidates: int
    entry: tuple[int, int]
    logits_root: int
    routes: str  # kind of lines whose routes are in place before


def expand_stage(program: Program, kernels: tuple[Kernel, ...], tokens: int, context: int, candidates: int) -> Segment:
    """The segment of `tokens` new tokens over `context` positions (the new ones counted in) on the kernels' block."""
    block = program.block(kernels[0].block)
    x, y = entry_pe(program)
    local = (y - block.y, x - block.x) if block.axis == "rows" else (x - block.x, y - block.y)
    key = StageKey(
        tuple(_nameless(k) for k in kernels),
        local_machine(program.machine, block.rect),
        Block("", 0, 0, block.columns, block.rows, block.axis),
        program.timing_dtype,
        tokens,
        _rounded_up(kernels, context, block.along),
        candidates if any(isinstance(k, Sample) for k in kernels) else 0,
        local if any(isinstance(k, Embed) for k in kernels) else (0, 0),
        _logits_root(program) if any(isinstance(k, Sample) for k in kernels) else 0,
        _routes_before(program, kernels),
    )
    return Segment(kernels[0].name.partition(".")[0], block.rect, _plan(key))


@lru_cache(maxsize=16)  # the graph of a 20,000-PE layer is about 60 MB
def _plan(key: StageKey) -> Plan:
    canvas = Canvas(key.block.rect, key.machine, key.dtype, key.tokens)
    site = Site(key.block, key.context, key.candidates, key.entry, key.logits_root)
    canvas.configured = key.routes
    for kernel in key.kernels:
        expand_kernel(canvas, kernel, site)
    return plan_of(canvas.builder.build())


def _rounded_up(kernels: tuple[Kernel, ...], context: int, along: int) -> int:
    """The longest context that costs what this one does; 0 for kernels that read no KV cache."""
    caches = {k.cache for k in kernels if isinstance(k, Score)}
    return max((cache.longest(cache.positions(context, along), along) for cache in caches), default=0)


def _routes_before(program: Program, kernels: tuple[Kernel, ...]) -> str:
    """What the block's last kernel before these left behind; before the first, that is its last one, a token ago."""
    on_block = program.kernels_of(kernels[0].block)
    first = on_block.index(kernels[0])
    before = (*on_block[first:], *on_block[:first])
    return next((kind for k in reversed(before) if (kind := line_kind(k))), "")


def _logits_root(program: Program) -> int:
    """Position along, on which the logits are summed."""
    logits = next(k for k in program.kernels if isinstance(k, Linear) and not k.broadcast)
    return reduction(logits.layout.used, logits.reduce).root


def _nameless(kernel: Kernel) -> Kernel:
    """The kernel without the names of its values, weights and block; its role stays, reports are by role."""
    blank: dict[str, object] = {"name": kernel.name.rpartition(".")[2], "block": ""}
    for field in dataclasses.fields(kernel):
        value = getattr(kernel, field.name)
        if field.name in _VALUES:
            blank[field.name] = tuple("" for _ in value) if isinstance(value, tuple) else ""
        elif isinstance(value, WeightRef):
            blank[field.name] = NAMELESS
        elif field.name == "weights":
            blank[field.name] = tuple(NAMELESS for _ in value)
        elif field.name == "outputs":
            blank[field.name] = tuple(Output("", NAMELESS, output.layout) for output in value)
    return dataclasses.replace(kernel, **blank)  # type: ignore[arg-type]


_VALUES = {
    *("source", "target", "sources", "targets", "query", "key", "value"),
    *("probabilities", "gate", "up", "left", "right"),
}
