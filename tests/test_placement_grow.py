"""A placement by hand with blocks that are too small: the refusal says how many rows or columns they lack."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.programs import ORACLE, recognised_graph
from wsesim.machine import Machine, load_machine
from wsesim.program.parts import Block
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.partition import Partition
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.placement.grow import missing_pes
from wsesim_compiler.placement.place_by_hand import fits_by_hand
from wsesim_models.config import CONFIGS

GROWN = re.compile(r"blocks? (\w+)(?: to (\w+) \((\d+)\))?: (\d+) (row|column)s? more(?: each)?, (\d+) x (\d+) PEs")


def wafer(room_bytes: int) -> Machine:
    """A WSE-3 with so many bytes of room on each PE."""
    whole = load_machine("wse3")
    return dataclasses.replace(whole, sram_bytes=whole.sram_bytes - whole.room_bytes + room_bytes)


def by_hand(columns: int, rows: int, apart: int) -> Options:
    """Both layers on blocks of one size, `apart` rows from one to the next, and a large table above them."""
    layers = (Block(f"layer{n}", 0, 16 + n * apart, columns, rows, "rows") for n in range(2))
    table = PlacedBlock(Block("table", 0, 0, 16, 16, "rows"), ("embed", "head"))
    blocks = (table, *(PlacedBlock(block, (block.name,)) for block in layers))
    return Options(strategy="explicit", max_context=64, blocks=blocks)


def tiny() -> Partition:
    return partition(recognised_graph(CONFIGS["tiny"]))


def resized(options: Options, names: set[str], columns: int, rows: int) -> Options:
    blocks = tuple(
        PlacedBlock(dataclasses.replace(p.block, columns=columns, rows=rows), p.stages) if p.block.name in names else p
        for p in options.blocks
    )
    return dataclasses.replace(options, blocks=blocks)


@pytest.mark.parametrize(("columns", "rows"), [(4, 2), (8, 1), (2, 5), (3, 3), (16, 1), (1, 7)])
@pytest.mark.parametrize("room_bytes", [900, 1500, 4000])
def test_the_rows_or_columns_that_are_said_fit_and_one_less_does_not(columns: int, rows: int, room_bytes: int) -> None:
    machine, options, split = wafer(room_bytes), by_hand(columns, rows, 600), tiny()
    said = missing_pes(split, machine, options)
    if fits_by_hand(split, machine, options):
        assert said == ""
        return
    found = GROWN.fullmatch(said)
    assert found and found.group(1, 2, 3) == ("layer0", "layer1", "2")
    more, width, height = (int(found[n]) for n in (4, 6, 7))
    assert (width, height) == ((columns, rows + more) if found[5] == "row" else (columns + more, rows))
    both = {"layer0", "layer1"}
    assert fits_by_hand(split, machine, resized(options, both, width, height))
    less = (width, height - 1) if found[5] == "row" else (width - 1, height)
    assert not fits_by_hand(split, machine, resized(options, both, *less))


def test_the_refusal_says_it_and_what_is_said_compiles() -> None:
    graph, machine, options = recognised_graph(CONFIGS["tiny"]), wafer(1500), by_hand(4, 2, 600)
    with pytest.raises(PlacementError) as refused:
        lower(graph, machine, options, ORACLE)
    advice = str(refused.value).split("Smallest change that fits: ")[1]
    found = GROWN.match(advice)
    assert found and "placement" not in advice
    lower(graph, machine, resized(options, {"layer0", "layer1"}, int(found[6]), int(found[7])), ORACLE)


def test_only_the_blocks_that_are_short_are_named() -> None:
    options = resized(by_hand(4, 2, 600), {"layer1"}, 40, 40)
    assert re.match(r"block layer0: \d+ (row|column)s? more, \d+ x \d+ PEs$", missing_pes(tiny(), wafer(1500), options))


def test_larger_blocks_that_meet_others_are_said_to_do_so() -> None:
    options = by_hand(4, 2, apart=2)
    assert missing_pes(tiny(), wafer(1500), options).endswith("PEs (other blocks have to make room)")


def test_where_no_larger_block_helps_nothing_is_said_of_them() -> None:
    """The wafer has too few PEs, or a PE has no room for what every PE holds."""
    assert missing_pes(tiny(), wafer(40), by_hand(4, 2, 600)) == ""
    small = dataclasses.replace(load_machine("toy4x4"), sram_bytes=load_machine("toy4x4").code_reserved_bytes + 900)
    blocks = tuple(
        PlacedBlock(Block(name, 0, y, 1, 1, "rows"), stages)
        for y, (name, stages) in enumerate({"t": ("embed", "head"), "a": ("layer0",), "b": ("layer1",)}.items())
    )
    assert missing_pes(tiny(), small, Options(strategy="explicit", max_context=64, blocks=blocks)) == ""
