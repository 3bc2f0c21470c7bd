"""What every PE of the wafer does in a step: cycles, traffic and routes, as arrays over the wafer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.graph.taskgraph import Int64
from wsesim.engine.observe.traffic import pieces_of, wafer_cycles_by_name, wafer_link_wavelets
from wsesim.engine.steps.timing import Step
from wsesim.machine import Rect
from wsesim.program.parts import Block
from wsesim.program.program import Program
from wsesim.program.routes import footprint, routed
from wsesim.report.stretches import operator_named


@dataclass(frozen=True, slots=True)
class Stream:
    """A user of one colour: the collectives of a block, or a transfer. `what` says it to a reader."""

    what: str
    colour: int


@dataclass(frozen=True, slots=True, eq=False)
class WaferLayers:
    """Arrays [rows, columns] over the whole wafer, in its coordinates.

    `busy_cycles`: for each operator, the cycles for which its tasks hold a PE. They sum to `wafer_busy_cycles`.
    `wavelets` [rows, columns, 4]: wavelets that leave a router east, west, north and south.
    `route_set`: for each router, the index of its streams in `route_sets`, which are indices into `streams`.
    """

    busy_cycles: dict[str, Int64]
    wavelets: Int64
    route_set: NDArray[np.int32]
    route_sets: tuple[tuple[int, ...], ...]
    streams: tuple[Stream, ...]


def wafer_layers(program: Program, step: Step) -> WaferLayers:
    """The layers of a step, whose runs have kept their timelines."""
    size = program.machine.columns, program.machine.rows
    pieces = list(pieces_of(step.runs))
    busy = wafer_cycles_by_name(pieces, *size, operator_named)
    return WaferLayers(busy, wafer_link_wavelets(pieces, *size), *_routes(program))


def _routes(program: Program) -> tuple[NDArray[np.int32], tuple[tuple[int, ...], ...], tuple[Stream, ...]]:
    """The streams of each router. A set is numbered when the first router has it; number 0 is the empty one."""
    plane = np.zeros((program.machine.rows, program.machine.columns), np.int32)
    sets: list[tuple[int, ...]] = [()]
    streams = []
    for number, (stream, area, used) in enumerate(_streams(program)):
        streams.append(stream)
        here = plane[area.y : area.y + area.rows, area.x : area.x + area.columns]
        for before in np.unique(here[used]).tolist():
            here[used & (here == before)] = len(sets)
            sets.append((*sets[before], number))
    return plane, tuple(sets), tuple(streams)


def _streams(program: Program) -> Iterator[tuple[Stream, Rect, NDArray[np.bool_]]]:
    """Each stream with the routers that hold its colour: a rectangle, and which of its PEs."""
    for block in program.blocks:
        crossed = _crossed(block)
        kinds: dict[int, list[str]] = {}
        for use in program.colours:
            for colour in use.colours if use.block == block.name else ():
                kinds.setdefault(colour, []).append(use.kind)
        for colour, names in kinds.items():
            what = f"collectives of {block.name}: {', '.join(names)}"
            yield Stream(what, colour), block.rect, crossed
    paths = list(routed(program))
    for name, colour in dict.fromkeys((name, path.colour) for name, path in paths):
        area, used = footprint(path for own, path in paths if (own, path.colour) == (name, colour))
        yield Stream(name if name == "feedback" else f"transfer {name}", colour), area, used


def _crossed(block: Block) -> NDArray[np.bool_]:
    """The PEs of a block's extent that some of its lines cross: [rows, columns]."""
    area = block.rect
    rows = [y in block.left_out_rows for y in range(area.y, area.y + area.rows)]
    columns = [x in block.left_out_columns for x in range(area.x, area.x + area.columns)]
    return ~np.outer(rows, columns)
