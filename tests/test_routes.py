"""Routes between blocks, for any pair of them: everything arrives once, on paths that keep to area and colours."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wsesim.program import Program
from wsesim.program.layout import Uniform
from wsesim.program.program import Block, Transfer
from wsesim.program.routes import (
    EAST,
    NORTH,
    SOUTH,
    WEST,
    Path,
    colour_conflicts,
    colours_needed,
    transfer_kind,
    transfer_paths,
)

MESH = 24
OPPOSITE = {EAST: WEST, WEST: EAST, NORTH: SOUTH, SOUTH: NORTH}


@st.composite
def blocks(draw: st.DrawFn, name: str) -> Block:
    x, y = draw(st.integers(0, MESH - 1)), draw(st.integers(0, MESH - 1))
    columns, rows = draw(st.integers(1, MESH - x)), draw(st.integers(1, MESH - y))
    return Block(name, x, y, columns, rows, "rows")


@st.composite
def transfers(draw: st.DrawFn, stacked: bool = False) -> tuple[Transfer, Block, Block]:
    """Between any two blocks that do not overlap; `stacked`: no row in common, or all of them, as `place` lays them."""
    source, target = draw(blocks("source")), draw(blocks("target"))
    if draw(st.booleans()):  # beside each other, where a transfer may be straight
        target = dataclasses.replace(target, y=source.y, rows=source.rows)
    assume(not source.rect.overlaps(target.rect))
    if stacked:
        apart = source.y + source.rows <= target.y or target.y + target.rows <= source.y
        assume(apart or (source.y, source.rows) == (target.y, target.rows))
    size = draw(st.integers(1, 60))
    layouts = Uniform(size, source.rows), Uniform(size, target.rows)
    kind = transfer_kind(source, target, *layouts)
    colours = tuple(range(7, 7 + colours_needed(source, target, *layouts)))
    return Transfer("t", "h", "source", "target", *layouts, kind, colours), source, target


def steps(path: Path) -> list[tuple[int, int]]:
    return [path.position(hop) for hop in range(path.total_hops + 1)]


def drops(path: Path) -> list[tuple[int, int]]:
    return [path.position(hop) for hop in range(path.first_drop, path.total_hops + 1)]


@given(transfers())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_every_pe_of_the_target_gets_every_element_of_its_line_once(made: tuple[Transfer, Block, Block]) -> None:
    transfer, source, target = made
    arrived: Counter[tuple[int, int]] = Counter()
    for path in transfer_paths(*made):
        assert source.rect.has(path.x, path.y)
        arrived.update({pe: path.elements for pe in drops(path)})
    layout = transfer.target_layout
    expected: Counter[tuple[int, int]] = Counter()
    for line, row in enumerate(layout.indices()):
        here = (
            layout.width if transfer.kind == "straight" else int((row >= 0).sum())
        )  # straight sends the padding along
        expected.update({(target.x + column, target.y + line): here for column in range(target.columns)})
    assert arrived == expected


@given(transfers())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_each_piece_leaves_the_line_that_has_it(made: tuple[Transfer, Block, Block]) -> None:
    transfer, source, target = made
    held = {source.y + n: set(row[row >= 0].tolist()) for n, row in enumerate(transfer.source_layout.indices())}
    wanted = {target.y + n: set(row[row >= 0].tolist()) for n, row in enumerate(transfer.target_layout.indices())}
    for path in transfer_paths(*made):
        _, to_row = path.position(path.total_hops)
        shared = held[path.y] & wanted[to_row]
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


@given(transfers(stacked=True))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_two_colours_suffice_and_none_is_received_from_two_directions(made: tuple[Transfer, Block, Block]) -> None:
    assert list(colour_conflicts(wafer_with(*made))) == []
    assert len(made[0].colours) <= 2


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
    program = wafer_with(there, west, east)
    assert list(colour_conflicts(program)) == []
    program.transfers = (there, back)  # type: ignore[misc]
    assert next(colour_conflicts(program)).startswith("transfer back, colour 7")
    program.transfers = (there, dataclasses.replace(back, colours=(8,)))  # type: ignore[misc]
    assert list(colour_conflicts(program)) == []


def wafer_with(transfer: Transfer, source: Block, target: Block) -> Program:
    """What `colour_conflicts` reads of a Program."""
    named = {"source": source, "target": target, "west": source, "east": target}
    program: Any = SimpleNamespace(blocks=(source, target), transfers=(transfer,), block=named.__getitem__)
    return cast(Program, program)
