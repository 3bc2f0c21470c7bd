"""Dead PEs: read from files; placements on them are refused, and the compiler avoids them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import ORACLE, UNTIED, recognised_graph
from wsesim.machine import Machine, Rect, load_machine, with_defects
from wsesim.machine.errors import MachineFileError
from wsesim.program import Program, verify_program
from wsesim.program.parts import Block
from wsesim.program.routes import routed
from wsesim.toolchain.step_timing import make_timing
from wsesim_compiler.errors import PlacementError, PlacementFileError
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.placement.ground import Ground, LeftOut, grounds
from wsesim_models.config import CONFIGS, LlamaConfig

Recognised = Callable[[str | LlamaConfig], Graph]

TOY = load_machine("toy4x4")


def toy(side: int, dead: set[tuple[int, int]]) -> Machine:
    """A toy wafer of another size, with dead PEs."""
    return dataclasses.replace(TOY, columns=side, rows=side, usable=Rect(0, 0, side, side), dead=frozenset(dead))


def assert_avoids(made: Program) -> None:
    """No line of a block and no route touches a dead PE, worked out PE by PE."""
    dead = made.machine.dead
    for block in made.blocks:
        inside = {pe for pe in dead if block.rect.has(*pe)}
        assert not {(x, y) for x, y in inside if x in block.column_places or y in block.row_places}
        assert {*block.left_out_columns} <= {x for x, _ in dead} and {*block.left_out_rows} <= {y for _, y in dead}
    assert not dead & {path.position(hop) for _, path in routed(made) for hop in range(path.total_hops + 1)}
    verify_program(made)


# Files.


def test_rows_columns_and_single_pes_are_read_and_added(tmp_path: Path) -> None:
    path = tmp_path / "defects.toml"
    path.write_text("dead = [[3, 3]]\ndead_rows = [0]\ndead_columns = [2]\n")
    made = with_defects(dataclasses.replace(TOY, dead=frozenset({(1, 1)})), str(path))
    assert made.dead == {(1, 1), (3, 3), *((x, 0) for x in range(4)), *((2, y) for y in range(4))}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dead_row = [1]", "unknown field 'dead_row'; known: dead, dead_rows, dead_columns"),
        ("dead_rows = [4]", "field 'dead_rows': 4 is not usable; 0 to 3 are"),
        ("dead_columns = [-1]", "field 'dead_columns': -1 is not usable; 0 to 3 are"),
        ("dead_rows = 1", "field 'dead_rows' is 1, not a list of numbers"),
        ("dead = [[4, 0]]", "dead PEs lie inside the usable rectangle, 4 x 4 at (0, 0); (4, 0) does not"),
        ("dead = [[1, 1], [1, 1]]", "field 'dead' names a PE twice"),
        ("dead = ", "Invalid value"),
        (None, "No such file"),
    ],
)
def test_a_file_of_defects_that_is_none_is_refused(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "defects.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MachineFileError, match=re.escape(words)):
        with_defects(TOY, str(path))


# By hand.


def by_hand(**sizes: tuple[int, int, int, int]) -> Options:
    stages = {"table": ("embed", "head")}
    blocks = (PlacedBlock(Block(n, *size, "rows"), stages.get(n, (n,))) for n, size in sizes.items())
    return Options(strategy="explicit", max_context=64, blocks=tuple(blocks))


def test_a_block_on_a_dead_pe_is_refused_with_the_pe(recognised: Recognised) -> None:
    machine = toy(5, {(4, 4), (3, 2)})
    with pytest.raises(PlacementFileError, match=re.escape("block layer1 (2 x 3 at (2, 1)) is on the dead PE (3, 2)")):
        lower(
            recognised("tiny"), machine, by_hand(table=(0, 0, 4, 1), layer0=(0, 1, 2, 3), layer1=(2, 1, 2, 3)), ORACLE
        )


def test_a_reslice_takes_the_lanes_beside_a_dead_pe(recognised: Recognised) -> None:
    """Row 1 lies between the table and the layers; of its PEs only one works on each side."""
    options = by_hand(table=(0, 0, 4, 1), layer0=(0, 2, 2, 2), layer1=(2, 2, 2, 2))
    free = lower(recognised("tiny"), toy(4, set()), options, ORACLE)
    assert [t.lanes for t in free.transfers] == [None] * 3
    made = lower(recognised("tiny"), toy(4, {(0, 1), (3, 1)}), options, ORACLE)
    assert [t.lanes for t in made.transfers] == [(1, 1), None, (2, 2)]
    assert_avoids(made)
    assert make_timing(made).decode(31).cycles > 0


def test_a_straight_transfer_has_no_way_around(recognised: Recognised) -> None:
    options = by_hand(table=(0, 0, 5, 1), layer0=(0, 1, 2, 3), layer1=(3, 1, 2, 3))
    words = "transfer layer0_to_layer1 from block layer0 (2 x 3 at (0, 1)) to layer1 (2 x 3 at (3, 1)) has no way"
    with pytest.raises(PlacementError, match=re.escape(f"{words} around the dead PE (2, 2)")):
        lower(recognised("tiny"), toy(5, {(2, 2)}), options, ORACLE)


def test_the_ids_go_home_on_another_column(recognised: Recognised) -> None:
    sizes = {"embed": (0, 0, 4, 2), "layer0": (0, 4, 2, 2), "layer1": (2, 4, 2, 2), "head": (0, 6, 4, 1)}
    options = by_hand(**sizes)
    free = lower(recognised(UNTIED), toy(7, set()), options, ORACLE)
    (back,) = (path for name, path in routed(free) if name == "feedback")
    assert free.feedback.lane is None
    made = lower(recognised(UNTIED), toy(7, {(back.x, 3)}), options, ORACLE)
    assert made.feedback.lane is not None and made.feedback.lane != back.x
    assert_avoids(made)
    assert make_timing(made).decode(31).cycles > 0
    with pytest.raises(PlacementError, match="has no way around the dead PE"):
        lower(recognised(UNTIED), toy(7, {(x, 3) for x in range(7)}), options, ORACLE)


# By themselves.


def test_grounds_are_beside_rows_and_columns_that_are_dead() -> None:
    assert grounds(toy(6, set())) == (Ground(0, 6, ((0, 6),)),)
    assert grounds(toy(6, {(x, 2) for x in range(6)})) == (Ground(0, 6, ((3, 3),)), Ground(0, 6, ((0, 2),)))
    assert grounds(toy(6, {(4, y) for y in range(6)})) == (Ground(0, 4, ((0, 6),)), Ground(5, 1, ((0, 6),)))
    whole = Ground(0, 5, ((0, 5),), LeftOut((2,), (1,), ((2, 1),)))
    beside = Ground(3, 3, ((0, 6),)), Ground(0, 2, ((0, 6),))
    assert grounds(toy(6, {(2, 1)})) == (Ground(0, 6, ((0, 1), (2, 4))), whole, *beside)
    assert grounds(toy(6, {(2, 0)}))[0] == Ground(0, 6, ((1, 5),)), "shorter, and no column less"
    assert Ground(1, 5, ((0, 6),)) in grounds(toy(6, {(0, 2)})), "narrower, and no row less"
    divided = {(x, 2) for x in range(6)} | {(1, 0), (3, 4)}
    assert Ground(0, 5, ((3, 2),), LeftOut((3,), (4,), ((3, 4),))) in grounds(toy(6, divided)), "below the dead row"
    assert grounds(toy(2, {(0, 0), (1, 1)})) == (Ground(0, 1, ((1, 1),)), Ground(1, 1, ((0, 1),)))
    assert grounds(toy(2, {(x, y) for x in range(2) for y in range(2)})) == ()


def test_a_long_scratch_costs_no_column() -> None:
    """Leaving out ten rows and ten columns would cost a third of the PEs; the rows alone are a sixth."""
    scratched = grounds(toy(60, {(20 + n, 20 + n) for n in range(10)}))
    assert scratched[0] == Ground(0, 60, ((0, 20), (30, 30)))
    assert any(ground.left_out.columns for ground in scratched)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
@settings(deadline=None, derandomize=True)
def test_what_is_stacked_stands_on_the_runs(rows: list[int], heights: list[int]) -> None:
    firsts = [sum(rows[:n]) + n for n in range(len(rows))]  # a dead row between
    ground = Ground(0, 1, tuple(zip(firsts, rows, strict=True)))
    tops = ground.stack(heights)
    if tops is None:
        assert sum(heights) > max(rows) - max(heights)
        return
    stood = [range(top, top + height) for top, height in zip(tops, heights, strict=True)]
    clean = {y for first, count in ground.runs for y in range(first, first + count)}
    assert all(set(rows) <= clean for rows in stood)
    assert all(a.stop <= b.start for a, b in pairwise(stood))


@pytest.mark.parametrize("strategy", [{}, {"strategy": "shared"}, {"strategy": "hybrid", "layers_per_block": 2}])
@pytest.mark.parametrize(
    "dead",
    [{(300, 600)}, {(x, 300) for x in range(762)} | {(700, y) for y in range(1172)}, {(0, 0), (761, 40), (380, 700)}],
    ids=["one", "a row and a column", "three"],
)
def test_strategies_place_around_dead_pes(
    strategy: dict[str, Any], dead: set[tuple[int, int]], recognised: Recognised
) -> None:
    wse3 = load_machine("wse3")
    machine = dataclasses.replace(wse3, dead=frozenset((x, y) for x, y in dead if wse3.usable.has(x, y)))
    assert_avoids(lower(recognised("smollm2-135m"), machine, Options(**strategy, collective="two_phase"), ORACLE))


def test_8b_loses_less_than_a_row_of_blocks_to_a_dead_pe(recognised: Recognised) -> None:
    machine = dataclasses.replace(load_machine("wse3"), dead=frozenset({(300, 600)}))
    made = lower(recognised("llama3.1-8b"), machine, Options(collective="two_phase"), ORACLE)
    assert_avoids(made)
    assert len(made.blocks) == 34


@given(
    side=st.integers(3, 9),
    dead=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8),
    strategy=st.sampled_from(["pipelined", "shared"]),
    tied=st.booleans(),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_on_any_wafer_the_dead_are_avoided_or_said_to_be_in_the_way(
    side: int, dead: set[tuple[int, int]], strategy: str, tied: bool
) -> None:
    machine = toy(side, {(x, y) for x, y in dead if x < side and y < side})
    graph = recognised_graph(CONFIGS["tiny"] if tied else UNTIED)
    try:
        made = lower(graph, machine, Options(strategy, 64, collective="chain"), ORACLE)
    except PlacementError as refused:
        assert re.search(r"does not fit toy4x4|no way around the dead PE \(\d, \d\)", str(refused))
        assert machine.dead, "without dead PEs it fits"
        return
    assert_avoids(made)
