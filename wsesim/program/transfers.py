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
from collections.abc import Iterator, Sequence
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
    lines, others = ((block.y, block.rows, block.left_out_rows) for block in (source, target))
    from_x, to_x = source.rect, target.rect
    beside = from_x.x + from_x.columns <= to_x.x or to_x.x + to_x.columns <= from_x.x
    return STRAIGHT if lines == others and beside and source_layout == target_layout else RESLICE


def streams(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    """Every path with what its colour is for."""
    made = {STRAIGHT: _straight, RESLICE: _reslice}.get(transfer.kind, _turn)(transfer, source, target)
    if not (target.left_out_columns or target.left_out_rows):
        return made
    return ((key, _passing(path, target)) for key, path in made)


def _passing(path: Path, target: Block) -> Path:
    """The path, which leaves no copy on the PEs that the target leaves out. Its last PE is one that the target uses."""
    leg = path.turn_direction if path.turn_hops else path.direction
    along = 0 if leg in (EAST, WEST) else 1
    left_out, end = (target.left_out_columns, target.left_out_rows)[along], path.position(path.total_hops)[along]
    hops = sorted(path.total_hops - abs(end - place) for place in left_out)
    return dataclasses.replace(path, passed=tuple(hop for hop in hops if hop >= path.first_drop))


def lane_span(source: Block, target: Block) -> tuple[int, int]:
    """First and last column that lanes may take: those of the source, above or below the target where they meet.

    A lane beside the target would cross a third block on its way.
    """
    own, other = source.rect, target.rect
    first, last = own.x, own.x + own.columns - 1
    over = max(first, other.x), min(last, other.x + other.columns - 1)
    return over if any(over[0] <= place <= over[1] for place in source.column_places) else (first, last)


def lanes_between(source: Block, first: int, last: int) -> Sequence[int]:
    """The columns that a source uses, from the first to the last."""
    if not source.left_out_columns:
        return range(first, last + 1)
    return [place for place in source.column_places if first <= place <= last]


def nearest(places: Sequence[int], place: int) -> int:
    """The nearest of ascending places; of two, the first."""
    if place in places:
        return place
    return min(places, key=lambda other: abs(other - place))


def _straight(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    eastward = source.x < target.x
    sent, received = source.column_places, target.column_places
    x, near, far = (sent[-1], received[0], received[-1]) if eastward else (sent[0], received[-1], received[0])
    direction, width = EAST if eastward else WEST, transfer.source_layout.width
    for _, y in zip(range(transfer.source_layout.used), source.row_places, strict=False):
        yield (direction,), Path(x, y, direction, abs(far - x), direction, 0, abs(near - x), width, 0)


def _reslice(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    lanes = lanes_between(source, *(transfer.lanes or lane_span(source, target)))
    middle, last = (len(lanes) - 1) // 2, len(lanes) - 1
    west_edge, east_edge = target.column_places[0], target.column_places[-1]
    pieces = _pieces(transfer.source_layout, source.row_places, transfer.target_layout, target.row_places)
    for vertical, going in _by_direction(pieces):
        for piece, place in _lanes(going, len(lanes) // 2):
            east_x = lanes[max(middle - place, 0)]
            west_x = lanes[min(middle + place, last)]
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


def _pieces(source: Layout, sent: Sequence[int], target: Layout, received: Sequence[int]) -> list[Piece]:
    """Every piece, by target line, from lines at the places `sent` to lines at the places `received`."""
    assert isinstance(source, Uniform) and isinstance(target, Uniform) and source.size == target.size
    pieces = []
    for line in range(target.used):
        start, stop = line * target.width, min((line + 1) * target.width, target.size)
        for other in range(start // source.width, (stop - 1) // source.width + 1):
            low, high = max(start, other * source.width), min(stop, (other + 1) * source.width)
            pieces.append(Piece(sent[other], received[line], high - low))
    return pieces


def _turn(transfer: Transfer, source: Block, target: Block) -> Iterator[Stream]:
    top, bottom = target.row_places[0], target.row_places[-1]
    for piece in _pieces(transfer.source_layout, source.row_places, transfer.target_layout, target.column_places):
        x, y = nearest(source.column_places, piece.target), piece.source
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
    return dataclasses.replace(
        block,
        x=block.y,
        y=block.x,
        columns=block.rows,
        rows=block.columns,
        axis=axis,
        left_out_columns=block.left_out_rows,
        left_out_rows=block.left_out_columns,
    )
