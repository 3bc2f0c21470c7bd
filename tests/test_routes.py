"""Routes between blocks, for any pair of them: everything arrives once, on paths that keep to area and colours."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wsesim.program.layout import Uniform
from wsesim.program.parts import AXES, Block, Transfer
from wsesim.program.path import EAST, NORTH, SOUTH, WEST, Path
from wsesim.program.routes import (
    all_lanes,
    block_pe,
    colours_needed,
    dead_on_the_way,
    path_conflicts,
    transfer_kind,
    transfer_paths,
)
from wsesim.program.transfers import transposed

MESH = 24
OPPOSITE = {EAST: WEST, WEST: EAST, NORTH: SOUTH, SOUTH: NORTH}


@st.composite
def blocks(draw: st.DrawFn, name: str) -> Block:
    x, y = draw(st.integers(0, MESH - 1)), draw(st.integers(0, MESH - 1))
    columns, rows = draw(st.integers(1, MESH - x)), draw(st.integers(1, MESH - y))
    left_out_columns, left_out_rows = draw(left_out(x, columns)), draw(left_out(y, rows))
    used = columns - len(left_out_columns), rows - len(left_out_rows)
    return Block(name, x, y, *used, draw(st.sampled_from(AXES)), left_out_columns, left_out_rows)


@st.composite
def left_out(draw: st.DrawFn, first: int, extent: int) -> tuple[int, ...]:
    """Places inside an extent, in half of all cases none."""
    inside = range(first + 1, first + extent - 1)
    if not inside or draw(st.booleans()):
        return ()
    return tuple(sorted(draw(st.sets(st.sampled_from(inside), max_size=4))))


@st.composite
def transfers(
    draw: st.DrawFn, one_axis: bool = False, stacked: bool = False, crossing: bool = False
) -> tuple[Transfer, Block, Block]:
    """Between any two blocks that do not overlap; `stacked`: no line in common, or all, as `place` lays them.

    `crossing`: each line of the target goes on from one of the source's across.
    """
    source, target = draw(blocks("source")), draw(blocks("target"))
    if one_axis:
        target = dataclasses.replace(target, axis=source.axis)
    if crossing:
        source, target = dataclasses.replace(source, axis="rows"), dataclasses.replace(target, axis="columns")
        first, stop = sorted((draw(st.integers(0, source.columns - 1)), draw(st.integers(1, source.columns))))
        own = source.column_places[first : max(stop, first + 1)]
        gaps = tuple(place for place in source.left_out_columns if own[0] < place < own[-1])
        target = dataclasses.replace(target, x=own[0], columns=len(own), left_out_columns=gaps)
        if draw(st.booleans()):
            source, target = transposed(source), transposed(target)
    elif draw(st.booleans()):  # beside each other, where a transfer may be straight
        target = dataclasses.replace(target, y=source.y, rows=source.rows, left_out_rows=source.left_out_rows)
    assume(not source.rect.overlaps(target.rect))
    if stacked:
        (a, b), (c, d) = lines_of(source), lines_of(target)
        assume(b < c or d < a or (a, b) == (c, d))
    size = draw(st.integers(1, 60))
    layouts = Uniform(size, source.along), Uniform(size, target.along)
    bare = Transfer("t", "h", "source", "target", *layouts, transfer_kind(source, target, *layouts), ())
    if bare.kind == "reslice" and draw(st.booleans()):
        lanes = st.sampled_from(all_lanes(source, target))
        first, last = sorted((draw(lanes), draw(lanes)))
        bare = dataclasses.replace(bare, lanes=(first, last))
    colours = tuple(range(7, 7 + colours_needed(bare, source, target)))
    return dataclasses.replace(bare, colours=colours), source, target


def lines_of(block: Block) -> tuple[int, int]:
    """First and last row or column over which a block is split."""
    places = block.row_places if block.axis == "rows" else block.column_places
    return places[0], places[-1]


def line_at(block: Block, pe: tuple[int, int]) -> int:
    """The line of a block that goes through a PE."""
    return block.row_places.index(pe[1]) if block.axis == "rows" else block.column_places.index(pe[0])


def steps(path: Path) -> list[tuple[int, int]]:
    return [path.position(hop) for hop in range(path.total_hops + 1)]


def drops(path: Path) -> list[tuple[int, int]]:
    hops = range(path.first_drop, path.total_hops + 1)
    return [path.position(hop) for hop in hops if hop not in path.passed]


@given(transfers())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_every_pe_of_the_target_gets_every_element_of_its_line_once(made: tuple[Transfer, Block, Block]) -> None:
    transfer, source, target = made
    arrived: Counter[tuple[int, int]] = Counter()
    for path in transfer_paths(*made):
        assert path.x in source.column_places and path.y in source.row_places
        arrived.update({pe: path.elements for pe in drops(path)})
    layout = transfer.target_layout
    expected: Counter[tuple[int, int]] = Counter()
    for line, row in enumerate(layout.indices()):
        here = (
            layout.width if transfer.kind == "straight" else int((row >= 0).sum())
        )  # straight sends the padding along
        expected.update({block_pe(target, line, place): here for place in range(target.across)})
    assert arrived == expected


@given(transfers())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_each_piece_leaves_the_line_that_has_it(made: tuple[Transfer, Block, Block]) -> None:
    transfer, source, target = made
    held = [set(row[row >= 0].tolist()) for row in transfer.source_layout.indices()]
    wanted = [set(row[row >= 0].tolist()) for row in transfer.target_layout.indices()]
    for path in transfer_paths(*made):
        end = path.position(path.total_hops)
        shared = held[line_at(source, (path.x, path.y))] & wanted[line_at(target, end)]
        assert shared
        assert path.elements == (transfer.source_layout.width if transfer.kind == "straight" else len(shared))


@given(transfers())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_paths_turn_at_most_once_and_stay_in_the_hull(made: tuple[Transfer, Block, Block]) -> None:
    _, source, target = made
    hull = source.rect.hull(target.rect)
    for path in transfer_paths(*made):
        assert all(hull.has(*pe) for pe in steps(path))
        assert 0 <= path.first_drop <= path.total_hops
        if path.turn_hops:
            assert path.hops > 0
            assert path.turn_direction not in (path.direction, OPPOSITE[path.direction])


def conflicts(*made: tuple[Transfer, Block, Block]) -> list[tuple[int, str]]:
    return list(
        path_conflicts((transfer.name, path) for transfer, *ends in made for path in transfer_paths(transfer, *ends))
    )


@given(transfers(one_axis=True))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_four_colours_suffice_and_none_is_received_from_two_directions(made: tuple[Transfer, Block, Block]) -> None:
    assert conflicts(made) == []
    assert len(made[0].colours) <= 4


@given(transfers(one_axis=True, stacked=True))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_two_colours_suffice_between_blocks_above_each_other(made: tuple[Transfer, Block, Block]) -> None:
    assert len(made[0].colours) <= 2


@given(transfers(crossing=True))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_turn_under_or_above_its_source_needs_one_colour(made: tuple[Transfer, Block, Block]) -> None:
    assert made[0].kind == "turn"
    assert conflicts(made) == []
    assert len(made[0].colours) == 1


def test_pieces_spread_over_the_columns_that_both_blocks_share() -> None:
    """Ten columns shared, half of them for each colour, twenty target lines: four lines to a lane."""
    source, target = Block("source", 0, 0, 14, 20, "rows"), Block("target", 4, 20, 12, 20, "rows")
    layouts = Uniform(40, 20), Uniform(40, 20)
    paths = transfer_paths(Transfer("t", "h", "source", "target", *layouts, "reslice", (7, 8)), source, target)
    east, west = (Counter(path.x for path in paths if path.colour == colour) for colour in (7, 8))
    assert east == dict.fromkeys((8, 7, 6, 5, 4), 4)
    assert west == dict.fromkeys((8, 9, 10, 11), 4), "what leaves at the target's western edge needs none"


def test_a_colour_received_from_two_directions_is_found() -> None:
    """The same colour in both directions along one row."""
    west, east = Block("west", 0, 0, 3, 2, "rows"), Block("east", 4, 0, 3, 2, "rows")
    layout = Uniform(4, 2)
    there = Transfer("there", "h", "west", "east", layout, layout, "straight", (7,))
    back = Transfer("back", "g", "east", "west", layout, layout, "straight", (7,))
    ends = (west, east)
    assert conflicts((there, *ends)) == []
    (found,) = conflicts((there, *ends), (back, east, west))
    assert found == (7, "back meets there at router (3, 0)")
    assert conflicts((there, *ends), (dataclasses.replace(back, colours=(8,)), east, west)) == []


def test_a_turn_that_crosses_itself_is_found_at_its_router() -> None:
    """Rows that leave eastwards and then go south would cross each other: the second under the first."""
    source, target = Block("source", 0, 0, 2, 2, "rows"), Block("target", 4, 3, 2, 2, "columns")
    layout = Uniform(2, 2)
    turn = Transfer("t", "h", "source", "target", layout, layout, "turn", (7,))
    assert conflicts((turn, source, target)) == [(7, "t crosses itself at router (4, 1)")]


def test_pes_on_a_path_are_found_dead_at_its_ends_corner_and_between() -> None:
    path = Path(1, 1, EAST, 3, SOUTH, 2, 5, 1, 7)
    way = [(1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (4, 3)]
    assert [dead_on_the_way([path], [pe]) for pe in way] == way
    beside = {(x, y) for x in range(6) for y in range(5)} - set(way)
    assert dead_on_the_way([path], beside) is None
    assert dead_on_the_way([], way) is None
