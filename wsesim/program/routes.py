"""Routes of what goes from block to block: one rule for the engine that times them and the verifier of their colours.

A path is straight or has one turn. `transfers.py` derives the paths of a transfer. The feedback brings ids back along
the sampler's column, or along its `lane`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import numpy as np

from wsesim.machine import Rect
from wsesim.program.collectives import reduction
from wsesim.program.kernels import Embed, Kernel, Linear, Sample
from wsesim.program.layout import Layout
from wsesim.program.operands import ID_ELEMENTS
from wsesim.program.parts import Block, Transfer
from wsesim.program.path import Path, bent
from wsesim.program.program import Program
from wsesim.program.transfers import Stream, kind_between, lane_span, lanes_between, nearest, streams, transposed


def transfer_kind(source: Block, target: Block, source_layout: Layout, target_layout: Layout) -> str:
    """Straight, reslice or turn."""
    ends = (source, target) if source.axis == "rows" else (transposed(source), transposed(target))
    return kind_between(*ends, source_layout, target_layout)


def colours_needed(transfer: Transfer, source: Block, target: Block) -> int:
    """Colours that the transfer's paths take."""
    return len({key for key, _ in _streams(transfer, source, target)})


def all_lanes(source: Block, target: Block) -> Sequence[int]:
    """The columns (rows, of a source that is split over its columns) that a reslice may leave on."""
    ends = (source, target) if source.axis == "rows" else (transposed(source), transposed(target))
    return lanes_between(ends[0], *lane_span(*ends))


def transfer_paths(transfer: Transfer, source: Block, target: Block) -> tuple[Path, ...]:
    """All messages of a transfer, each in the colour of its directions."""
    made = list(_streams(transfer, source, target))
    colours = dict(zip(sorted({key for key, _ in made}), transfer.colours, strict=True))
    return tuple(dataclasses.replace(path, colour=colours[key]) for key, path in made)


def _streams(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    if source.axis == "rows":
        return streams(transfer, source, target)
    return ((key, path.transposed()) for key, path in streams(transfer, transposed(source), transposed(target)))


def sampler_pe(program: Program) -> tuple[int, int]:
    """Wafer coordinates of the PE that draws the token."""
    return sampler_on(program.block(program.kernels[-1].block), program.kernels)


def sampler_on(block: Block, kernels: Sequence[Kernel]) -> tuple[int, int]:
    """The root of the sampling merge, the last of the kernels, on the logits' root line."""
    logits, sample = kernels[-2:]
    assert isinstance(sample, Sample) and isinstance(logits, Linear)
    along = reduction(logits.layout.used, logits.reduce).root
    across = reduction(sample.layout.used, sample.reduce).root
    return block_pe(block, along, across)


def block_pe(block: Block, along: int, across: int) -> tuple[int, int]:
    """Wafer coordinates of a position of a block."""
    column, row = (across, along) if block.axis == "rows" else (along, across)
    return block.column_places[column], block.row_places[row]


def entry_pe(program: Program) -> tuple[int, int]:
    """The PE of the embedding's block that the id reaches first: the nearest to the sampler, or on the lane."""
    assert isinstance(program.kernels[0], Embed)
    return _entry(sampler_pe(program), program.block(program.feedback.target), program.feedback.lane)


def _entry(sampler: tuple[int, int], home: Block, lane: int | None) -> tuple[int, int]:
    x = nearest(home.column_places, sampler[0]) if lane is None else lane
    return x, nearest(home.row_places, sampler[1])


def feedback_path(program: Program) -> Path | None:
    """The id's way back; None where sampler and entry are one PE."""
    feedback = program.feedback
    path = way_home(sampler_pe(program), program.block(feedback.target), feedback.lane)
    return dataclasses.replace(path, colour=feedback.colours[0]) if path else None


def way_home(sampler: tuple[int, int], home: Block, lane: int | None) -> Path | None:
    """From the sampler to the embedding's block, along the sampler's column first, or along its row to the lane."""
    end = _entry(sampler, home, lane)
    if sampler == end:
        return None
    hops = abs(sampler[0] - end[0]) + abs(sampler[1] - end[1])
    return bent(sampler, end, down_first=lane is None, first_drop=hops, elements=ID_ELEMENTS)


def routed(program: Program) -> Iterator[tuple[str, Path]]:
    """Every path of the Program, with the name of its transfer or "feedback"."""
    for t in program.transfers:
        yield from ((t.name, path) for path in transfer_paths(t, program.block(t.source), program.block(t.target)))
    back = feedback_path(program)
    yield from [("feedback", back)] if back else []


def colour_conflicts(program: Program) -> Iterator[str]:
    """Routers where one colour of the transfers would have to receive from two directions."""
    yield from (f"colour {colour}: {meeting}" for colour, meeting in path_conflicts(routed(program)))


def path_conflicts(named: Iterable[tuple[str, Path]]) -> Iterator[tuple[int, str]]:
    """The first router at which a colour would be received from two directions: colour, streams and router."""
    paths = list(named)
    area = _area(path for _, path in paths) if paths else Rect(0, 0, 0, 0)
    received: dict[int, np.ndarray] = {}
    for name, path in paths:
        plane = received.setdefault(path.colour, np.full((area.rows, area.columns), -1, np.int8))
        for direction, routers in path.legs(area):
            clash = (plane[routers] != -1) & (plane[routers] != direction)
            if clash.any():
                y, x = (int(first) + s.start for first, s in zip(np.argwhere(clash)[0], routers, strict=True))
                others = {n for n, p in paths if p.colour == path.colour and _enters(p, area, y, x, direction)}
                met = f"meets {' and '.join(sorted(others - {name}))}" if others - {name} else "crosses itself"
                yield path.colour, f"{name} {met} at router ({x + area.x}, {y + area.y})"
                return
            plane[routers] = direction


def _enters(path: Path, area: Rect, y: int, x: int, direction: int) -> bool:
    """Whether the path is received at a router of the area from another direction."""
    return any(
        other != direction and rows.start <= y < rows.stop and columns.start <= x < columns.stop
        for other, (rows, columns) in path.legs(area)
    )


def dead_on_the_way(paths: Iterable[Path], dead: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """The first dead PE whose router a path would enter or leave."""
    broken, paths = sorted(dead), list(paths)
    if not broken or not paths:
        return None
    area, mask = footprint(paths)
    return next((pe for pe in broken if area.has(*pe) and mask[pe[1] - area.y, pe[0] - area.x]), None)


def footprint(paths: Iterable[Path]) -> tuple[Rect, np.ndarray]:
    """A rectangle around the paths and its routers [rows, columns] that any of them uses."""
    paths = list(paths)
    area = _area(paths)
    used = np.zeros((area.rows, area.columns), np.bool_)
    for path in paths:
        used[path.y - area.y, path.x - area.x] = True
        for _, routers in path.legs(area):
            used[routers] = True
    return area, used


def _area(paths: Iterable[Path]) -> Rect:
    corners = (Rect(*path.position(hop), 1, 1) for path in paths for hop in (0, path.hops, path.total_hops))
    return reduce(Rect.hull, corners)
