"""Paths of what goes from block to block: one rule for the engine that times them and the verifier that checks colours.

A path is straight or has one turn. A `straight` transfer continues each line of PEs into the next block. A `reslice`
cuts the vector into the pieces that one source line and one target line share. A piece goes along a column, its lane,
to the target's row, turns, and drops a copy on every PE of the row. Two colours serve all pieces, one for what turns
east and one for what turns west: neighbouring target lines share a lane, the nearest lines the lanes in the middle of
the columns that both blocks share, farther ones lanes farther out, so that no horizontal crosses a vertical of its
colour. On a lane a router needs two of the four switch positions that a colour has: first what comes from upstream,
then its own piece; and at the target, first the turn, then straight on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from wsesim.machine import Rect
from wsesim.program.collectives import reduction
from wsesim.program.kernels import Embed, Linear, Sample
from wsesim.program.layout import Layout, Uniform, ceil_div
from wsesim.program.program import Block, Program, Transfer

EAST, WEST, NORTH, SOUTH = range(4)
STEPS = ((1, 0), (-1, 0), (0, -1), (0, 1))
STRAIGHT = "straight"
RESLICE = "reslice"


@dataclass(frozen=True, slots=True)
class Path:
    """One message: from PE (x, y), one or two legs, a copy dropped at each hop from `first_drop` to the end."""

    x: int
    y: int
    direction: int
    hops: int
    turn_direction: int
    turn_hops: int
    first_drop: int
    elements: int
    colour: int

    @property
    def total_hops(self) -> int:
        return self.hops + self.turn_hops

    def position(self, hop: int) -> tuple[int, int]:
        """PE after `hop` hops."""
        first, second = min(hop, self.hops), max(0, hop - self.hops)
        (dx, dy), (tx, ty) = STEPS[self.direction], STEPS[self.turn_direction]
        return self.x + dx * first + tx * second, self.y + dy * first + ty * second


def transfer_kind(source: Block, target: Block, source_layout: Layout, target_layout: Layout) -> str:
    """Straight if the lines of both blocks continue each other."""
    same_lines = source.axis == target.axis == "rows" and (source.y, source.rows) == (target.y, target.rows)
    beside = source.x + source.columns <= target.x or target.x + target.columns <= source.x
    return STRAIGHT if same_lines and beside and source_layout == target_layout else RESLICE


def colours_needed(source: Block, target: Block, source_layout: Layout, target_layout: Layout) -> int:
    """Colours that the transfer's paths take."""
    if transfer_kind(source, target, source_layout, target_layout) == STRAIGHT:
        return 1
    return 2


def transfer_paths(transfer: Transfer, source: Block, target: Block) -> tuple[Path, ...]:
    """All messages of a transfer."""
    if transfer.kind == STRAIGHT:
        return tuple(_straight(transfer, source, target))
    return tuple(_reslice(transfer, source, target))


def _straight(transfer: Transfer, source: Block, target: Block) -> Iterator[Path]:
    eastward = source.x < target.x
    x = source.x + source.columns - 1 if eastward else source.x
    far = target.x + target.columns - 1 if eastward else target.x
    near = target.x if eastward else target.x + target.columns - 1
    direction, colour = EAST if eastward else WEST, transfer.colours[0]
    for line in range(transfer.source_layout.used):
        width = transfer.source_layout.width
        yield Path(x, source.y + line, direction, abs(far - x), direction, 0, abs(near - x), width, colour)


@dataclass(frozen=True, slots=True)
class Lane:
    """Where one piece leaves: the `place`-th column out from the middle."""

    source_line: int
    target_line: int
    elements: int
    place: int


def _lanes(source: Block, target: Block, source_layout: Layout, target_layout: Layout) -> list[Lane]:
    """A lane for every piece, nearest target line first."""
    pieces = _pieces(source_layout, target_layout)
    if target.y + target.rows <= source.y + source.rows:
        pieces.reverse()
    first, last = _lane_columns(source, target)
    lines = {line: number for number, line in enumerate(dict.fromkeys(line for _, line, _ in pieces))}
    lines_per_lane = ceil_div(len(lines), max(1, (last - first + 1) // 2))
    return [
        Lane(source_line, target_line, elements, lines[target_line] // lines_per_lane)
        for source_line, target_line, elements in pieces
    ]


def _lane_columns(source: Block, target: Block) -> tuple[int, int]:
    """First and last column that lanes may take: those of the source, above or below the target where they meet.

    A lane beside the target would cross a third block on its way.
    """
    first, last = source.x, source.x + source.columns - 1
    over = max(first, target.x), min(last, target.x + target.columns - 1)
    return over if over[0] <= over[1] else (first, last)


def _pieces(source: Layout, target: Layout) -> list[tuple[int, int, int]]:
    """(source line, target line, elements) of every piece, by target line."""
    assert isinstance(source, Uniform) and isinstance(target, Uniform) and source.size == target.size
    pieces = []
    for line in range(target.used):
        start, stop = line * target.width, min((line + 1) * target.width, target.size)
        for other in range(start // source.width, (stop - 1) // source.width + 1):
            low, high = max(start, other * source.width), min(stop, (other + 1) * source.width)
            pieces.append((other, line, high - low))
    return pieces


def _reslice(transfer: Transfer, source: Block, target: Block) -> Iterator[Path]:
    first, last = _lane_columns(source, target)
    middle = (first + last) // 2
    west_edge, east_edge = target.x, target.x + target.columns - 1
    for lane in _lanes(source, target, transfer.source_layout, transfer.target_layout):
        east_x = max(middle - lane.place, first)
        west_x = min(middle + lane.place, last)
        y, to_y = source.y + lane.source_line, target.y + lane.target_line
        east, west = transfer.colours
        if east_x <= east_edge:
            yield _turned(east_x, y, to_y, EAST, max(east_x, west_edge), east_edge, lane.elements, east)
        if west_edge < east_x:
            yield _turned(west_x, y, to_y, WEST, min(east_x - 1, east_edge), west_edge, lane.elements, west)


def _turned(x: int, y: int, to_y: int, turn: int, first_x: int, last_x: int, elements: int, colour: int) -> Path:
    """Along the column to row `to_y`, then along the row to `last_x`, dropping from `first_x` on."""
    rows, columns = abs(to_y - y), abs(last_x - x)
    first_drop = rows + abs(first_x - x)
    if rows == 0:
        return Path(x, y, turn, columns, turn, 0, first_drop, elements, colour)
    return Path(x, y, SOUTH if to_y > y else NORTH, rows, turn, columns, first_drop, elements, colour)


def sampler_pe(program: Program) -> tuple[int, int]:
    """Wafer coordinates of the PE that draws the token: the root of the sampling merge, on the logits' root line."""
    sample = program.kernels[-1]
    assert isinstance(sample, Sample)
    logits = next(k for k in program.kernels if isinstance(k, Linear) and not k.broadcast)
    block = program.block(sample.block)
    along = reduction(logits.layout.used, logits.reduce).root
    across = reduction(sample.layout.used, sample.reduce).root
    return block_pe(block, along, across)


def block_pe(block: Block, along: int, across: int) -> tuple[int, int]:
    """Wafer coordinates of a position of a block."""
    column, row = (across, along) if block.axis == "rows" else (along, across)
    return block.x + column, block.y + row


def entry_pe(program: Program) -> tuple[int, int]:
    """The PE of the embedding's block that the id reaches first: the nearest to the sampler."""
    x, y = sampler_pe(program)
    block = program.block(program.feedback.target)
    assert isinstance(program.kernels[0], Embed)
    return (
        min(max(x, block.x), block.x + block.columns - 1),
        min(max(y, block.y), block.y + block.rows - 1),
    )


def feedback_path(program: Program) -> Path | None:
    """The id's way back, along the column first; None where sampler and entry are one PE."""
    (x, y), (to_x, to_y) = sampler_pe(program), entry_pe(program)
    if (x, y) == (to_x, to_y):
        return None
    turn = EAST if to_x > x else WEST
    return _turned(x, y, to_y, turn, to_x, to_x, 2, program.feedback.colours[0])


def colour_conflicts(program: Program) -> Iterator[str]:
    """Routers where one colour of the transfers would have to receive from two directions."""
    received: dict[int, np.ndarray] = {}
    area = reduce(Rect.hull, (b.rect for b in program.blocks))
    for transfer in program.transfers:
        paths = transfer_paths(transfer, program.block(transfer.source), program.block(transfer.target))
        for path in paths:
            if path.colour not in received:
                received[path.colour] = np.full((area.rows, area.columns), -1, np.int8)
            plane = received[path.colour]
            corner = path.position(path.hops)
            legs = (
                (path.x, path.y, path.direction, path.hops),
                (*corner, path.turn_direction, path.turn_hops),
            )
            for x, y, direction, hops in legs:
                cells = plane[_leg(x - area.x, y - area.y, direction, hops)]
                if ((cells != -1) & (cells != direction)).any():
                    yield f"transfer {transfer.name}, colour {path.colour}, near router {path.position(path.hops)}"
                    return
                cells[...] = direction


def _leg(x: int, y: int, direction: int, hops: int) -> tuple[slice, slice]:
    """Routers entered along one leg."""
    dx, dy = STEPS[direction]
    xs = sorted((x + dx, x + dx * hops)) if dx else [x, x]
    ys = sorted((y + dy, y + dy * hops)) if dy else [y, y]
    if hops == 0:
        return slice(0, 0), slice(0, 0)
    return slice(ys[0], ys[1] + 1), slice(xs[0], xs[1] + 1)
