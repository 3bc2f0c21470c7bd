"""Paths of a transfer between two blocks, told for a source that is split over its rows.

A `straight` transfer continues each line of PEs into the next block. A `reslice` cuts the vector into the pieces that
one source line and one target line share. A piece goes along a column, its lane, to the target's row, turns, and drops
a copy on every PE of the row. Pieces that go north and south, and those that then turn east and west, have colours of
their own: neighbouring target lines share a lane, the nearest lines the lanes in the middle of the columns that both
blocks share, farther ones lanes farther out, so that no horizontal crosses a vertical of its colour. On a lane a
router needs two of the four switch positions that a colour has: first what comes from upstream, then its own piece;
and at the target, first the turn, then straight on. A `turn` goes to a block that is split over its columns: a piece
goes along its row to the target's column and down or up that. Under or above the source nothing crosses; elsewhere it
may.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from wsesim.program.layout import Layout, Uniform, ceil_div
from wsesim.program.parts import Block, Transfer
from wsesim.program.path import EAST, NORTH, SOUTH, WEST, Path, bent

STRAIGHT = "straight"
RESLICE = "reslice"
TURN = "turn"

Stream = tuple[tuple[int, ...], Path]
"""A path, and the directions that decide which paths share its colour."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements that one line of the source and one of the target share; lines as rows or columns of the wafer."""

    source: int
    target: int
    elements: int


def kind_between(source: Block, target: Block, source_layout: Layout, target_layout: Layout) -> str:
    """Straight if the lines of both blocks continue each other, a turn if they cross."""
    if source.axis != target.axis:
        return TURN
    same_lines = (source.y, source.rows) == (target.y, target.rows)
    beside = source.x + source.columns <= target.x or target.x + target.columns <= source.x
    return STRAIGHT if same_lines and beside and source_layout == target_layout else RESLICE


def streams(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    """Every path with what its colour is for."""
    match transfer.kind:
        case "straight":
            return _straight(transfer, source, target)
        case "reslice":
            return _reslice(transfer, source, target)
        case _:
            return _turn(transfer, source, target)


def lane_span(source: Block, target: Block) -> tuple[int, int]:
    """First and last column that lanes may take: those of the source, above or below the target where they meet.

    A lane beside the target would cross a third block on its way.
    """
    first, last = source.x, source.x + source.columns - 1
    over = max(first, target.x), min(last, target.x + target.columns - 1)
    return over if over[0] <= over[1] else (first, last)


def _straight(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    eastward = source.x < target.x
    x = source.x + source.columns - 1 if eastward else source.x
    far = target.x + target.columns - 1 if eastward else target.x
    near = target.x if eastward else target.x + target.columns - 1
    direction, width = EAST if eastward else WEST, transfer.source_layout.width
    for line in range(transfer.source_layout.used):
        y = source.y + line
        yield (direction,), Path(x, y, direction, abs(far - x), direction, 0, abs(near - x), width, 0)


def _reslice(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    first, last = transfer.lanes or lane_span(source, target)
    middle = (first + last) // 2
    west_edge, east_edge = target.x, target.x + target.columns - 1
    pieces = _pieces(transfer.source_layout, source.y, transfer.target_layout, target.y)
    for vertical, going in _by_direction(pieces):
        for piece, place in _lanes(going, (last - first + 1) // 2):
            east_x = max(middle - place, first)
            west_x = min(middle + place, last)
            if east_x <= east_edge:
                yield (vertical, EAST), _turned(piece, east_x, max(east_x, west_edge), east_edge)
            if west_edge < east_x:
                yield (vertical, WEST), _turned(piece, west_x, min(east_x - 1, east_edge), west_edge)


def _turned(piece: Piece, x: int, first_x: int, last_x: int) -> Path:
    """Along column `x` to the target's row, then along that to `last_x`, dropping from `first_x` on."""
    first_drop = abs(piece.target - piece.source) + abs(first_x - x)
    ends = (x, piece.source), (last_x, piece.target)
    return bent(*ends, down_first=True, first_drop=first_drop, elements=piece.elements)


def _by_direction(pieces: list[Piece]) -> Iterator[tuple[int, list[Piece]]]:
    """Pieces that go south and that go north, nearest target line first; those of one row go with either."""
    north = [p for p in pieces if p.target < p.source]
    south = [p for p in pieces if p.target >= p.source]
    if all(p.target == p.source for p in south):
        north, south = (pieces, []) if north else ([], pieces)
    yield from ((direction, going) for direction, going in ((NORTH, north[::-1]), (SOUTH, south)) if going)


def _lanes(pieces: list[Piece], lanes: int) -> Iterator[tuple[Piece, int]]:
    """Each piece with its lane, counted out from the middle."""
    lines = {line: number for number, line in enumerate(dict.fromkeys(piece.target for piece in pieces))}
    lines_per_lane = ceil_div(len(lines), max(1, lanes))
    yield from ((piece, lines[piece.target] // lines_per_lane) for piece in pieces)


def _pieces(source: Layout, first_source: int, target: Layout, first_target: int) -> list[Piece]:
    """Every piece, by target line."""
    assert isinstance(source, Uniform) and isinstance(target, Uniform) and source.size == target.size
    pieces = []
    for line in range(target.used):
        start, stop = line * target.width, min((line + 1) * target.width, target.size)
        for other in range(start // source.width, (stop - 1) // source.width + 1):
            low, high = max(start, other * source.width), min(stop, (other + 1) * source.width)
            pieces.append(Piece(first_source + other, first_target + line, high - low))
    return pieces


def _turn(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    top, bottom = target.y, target.y + target.rows - 1
    for piece in _pieces(transfer.source_layout, source.y, transfer.target_layout, target.x):
        x, y = min(max(piece.target, source.x), source.x + source.columns - 1), piece.source
        for vertical, near, far in (
            (NORTH, min(y - 1, bottom), top),
            (SOUTH, max(y, top), bottom),
        ):
            if (near >= far) if vertical == NORTH else (near <= far):
                first_drop = abs(piece.target - x) + abs(near - y)
                ends = (x, y), (piece.target, far)
                path = bent(*ends, down_first=False, first_drop=first_drop, elements=piece.elements)
                yield (vertical,), path


def transposed(block: Block) -> Block:
    """Rows and columns exchanged."""
    axis = "columns" if block.axis == "rows" else "rows"
    return dataclasses.replace(block, x=block.y, y=block.x, columns=block.rows, rows=block.columns, axis=axis)
