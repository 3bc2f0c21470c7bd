"""Rows and columns that a block leaves out: the same arithmetic on other PEs, and cycles of the whole graph."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import NORMED, ORACLE, UNTIED, program, recognised_graph
from tests.test_dead_pes import assert_avoids, toy
from tests.test_end_to_end import ids_for, logits_of
from tests.test_wafer import assert_same
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.observe.traffic import pieces_of, wafer_busy_cycles
from wsesim.engine.steps.timing import Timing
from wsesim.execute.executor import Executor
from wsesim.machine import Machine, load_machine
from wsesim.program import Program, parse_program
from wsesim.program.collectives import COLLECTIVES
from wsesim.program.parts import Block, wrongly_left_out
from wsesim_compiler.errors import PlacementError, PlacementFileError
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.placement import ground
from wsesim_compiler.placement.ground import LeftOut
from wsesim_compiler.placement.place_by_hand import place_by_hand
from wsesim_compiler.placement.placement_file import parse_placement, placement_text
from wsesim_models.config import CONFIGS, LlamaConfig
from wsesim_models.weights import ArrayWeights
from wsesim_models.weights.random import random_weights

SIDE = 6
TINY = CONFIGS["tiny"]


def with_gaps(made: Program, machine: Machine, gaps: LeftOut, **options: Any) -> Program:
    """The Program on the same positions of another wafer, on which the PEs where gaps cross are dead."""
    dead = frozenset((x, y) for x in gaps.columns for y in gaps.rows)
    stages = {
        b.name: tuple(s.name for s in made.stages if s.block == b.name and s.name != "sample") for b in made.blocks
    }
    blocks = tuple(PlacedBlock(block, stages[block.name]) for block in gaps.opened(made.blocks))
    stated = Options(strategy="explicit", max_context=made.max_context, blocks=blocks, prefill_chunk=made.prefill_chunk)
    config = {"tiny": TINY, UNTIED.name: UNTIED, NORMED.name: NORMED}[made.model]
    return lower(
        recognised_graph(config),
        dataclasses.replace(machine, dead=dead),
        dataclasses.replace(stated, **options),
        ORACLE,
    )


def small(config: LlamaConfig, strategy: str = "pipelined", **options: object) -> Program:
    return program(config, toy(SIDE, set()), strategy, **{"max_context": 64, **options})


@st.composite
def gaps(draw: st.DrawFn) -> LeftOut:
    """Columns and rows of a wafer that has as many more."""
    count = draw(st.integers(1, 3))
    columns, rows = (
        tuple(sorted(draw(st.sets(st.integers(0, SIDE + count - 1), min_size=count, max_size=count)))) for _ in range(2)
    )
    return LeftOut(columns, rows)


def test_what_is_left_out_opens_between_the_first_and_the_last_place() -> None:
    block = Block("a", 1, 0, 3, 2, "rows")
    assert LeftOut((0, 2, 3, 9), (1,)).opened([block]) == [Block("a", 4, 0, 3, 2, "rows", (), (1,))]
    (opened,) = LeftOut((0, 3, 5, 9), ()).opened([block])
    assert opened == Block("a", 2, 0, 3, 2, "rows", (3, 5), ())
    assert list(opened.column_places) == [2, 4, 6]


def test_no_more_is_left_out_than_dead_pes_ask_for() -> None:
    """The PE at (2, 1) lies in a block. What is left out for it moves the other block onto the one at (5, 3)."""
    blocks = [Block("a", 0, 0, 4, 2, "rows"), Block("b", 3, 2, 2, 1, "rows")]
    left_out = LeftOut((2, 5, 7), (1, 3, 6), ((2, 1), (5, 3), (7, 6)))
    assert left_out.opened(blocks) == [
        Block("a", 0, 0, 4, 2, "rows", (2,), (1,)),
        Block("b", 4, 4, 2, 1, "rows", (5,)),
    ]
    assert LeftOut((7,), (6,), ((7, 6),)).opened(blocks) == blocks, "all dead PEs lie elsewhere"


@given(gaps(), st.sampled_from([TINY, UNTIED]), st.sampled_from(["pipelined", "shared"]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_folded_steps_equal_the_whole_graph(opened: LeftOut, config: LlamaConfig, strategy: str) -> None:
    side = SIDE + len(opened.columns)
    made = with_gaps(small(config, strategy, collective="chain"), toy(side, set()), opened, collective="chain")
    assert_avoids(made)
    assert parse_program(made.text()) == made
    folded, whole = Timing(made), Timing(made, EffectCache(fold=False))
    step = folded.decode(9, 4)
    assert_same(step, whole.decode(9, 4))
    assert_same(folded.prefill(2 * made.prefill_chunk + 1), whole.prefill(2 * made.prefill_chunk + 1))
    busy = wafer_busy_cycles(pieces_of(step.runs), side, side)
    idle = [(x, y) for b in made.blocks for x, y in _crossed(b)]
    assert not any(busy[y, x] for x, y in idle), "what is left out works for nobody"


def _crossed(block: Block) -> list[tuple[int, int]]:
    rect = block.rect
    inside = ((x, y) for x in range(rect.x, rect.x + rect.columns) for y in range(rect.y, rect.y + rect.rows))
    return [(x, y) for x, y in inside if x in block.left_out_columns or y in block.left_out_rows]


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_every_collective_crosses_gaps(collective: str) -> None:
    """Each hop over what is left out takes its cycles."""
    before = small(TINY, "shared", collective=collective)
    opened = LeftOut((1, 3), (2, 5))
    made = with_gaps(before, toy(8, set()), opened, collective=collective)
    assert_same(Timing(made).decode(10), Timing(made, EffectCache(fold=False)).decode(10))
    assert Timing(made).decode(10).cycles > Timing(before).decode(10).cycles


def test_a_cache_that_shifts_crosses_gaps() -> None:
    before = small(TINY, kv="shift")
    made = with_gaps(before, toy(7, set()), LeftOut((1,), (2,)), kv="shift")
    assert_same(Timing(made).decode(10), Timing(made, EffectCache(fold=False)).decode(10))


@pytest.mark.parametrize("config", [TINY, UNTIED, NORMED], ids=lambda config: config.name)
def test_logits_depend_on_positions_alone(config: LlamaConfig) -> None:
    before = small(config)
    made = with_gaps(before, toy(8, set()), LeftOut((0, 2), (3, 4)))
    weights = ArrayWeights(random_weights(config, seed=5))
    one, other = (logits_of(Executor(p, weights), ids_for(config)).numpy() for p in (before, made))
    np.testing.assert_array_equal(one, other)


def test_a_block_counts_the_pes_that_it_uses() -> None:
    before = small(TINY)
    made = with_gaps(before, toy(8, set()), LeftOut((0, 2), (3, 4)))
    assert (made.pes, made.sram_bytes) == (before.pes, before.sram_bytes)


def test_smollm2_with_gaps_equals_its_whole_graph() -> None:
    wse3 = load_machine("wse3")
    machine = dataclasses.replace(wse3, dead=frozenset({(100, 200), (400, 420), (650, 30)}))
    made = program("smollm2-135m", machine, collective="two_phase")
    assert_avoids(made)
    assert any(b.left_out_columns and b.left_out_rows for b in made.blocks)
    assert_same(Timing(made).decode(100), Timing(made, EffectCache(fold=False)).decode(100))


@given(dead=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=4), tied=st.booleans())
@settings(max_examples=8, deadline=None, derandomize=True)
def test_the_default_strategy_gives_the_same_tokens_around_dead_pes(dead: set[tuple[int, int]], tied: bool) -> None:
    config = TINY if tied else UNTIED
    whole, made = (
        program(config, toy(9, pes), "auto", max_context=64, collective="chain")
        for pes in (set[tuple[int, int]](), dead)
    )
    assert_avoids(made)
    weights = ArrayWeights(random_weights(config, seed=5))
    one, other = (logits_of(Executor(p, weights), ids_for(config)).argmax(-1).tolist() for p in (whole, made))
    assert one == other
    assert_same(Timing(made).decode(9), Timing(made, EffectCache(fold=False)).decode(9))


def test_a_model_fits_across_dead_pes_that_does_not_fit_between_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    wse3 = load_machine("wse3")
    small = dataclasses.replace(wse3.usable, columns=200, rows=180)
    machine = dataclasses.replace(wse3, usable=small, dead=frozenset({(70, 20), (40, 75), (120, 110), (170, 140)}))

    def made() -> Program:
        return lower(
            recognised_graph(CONFIGS["smollm2-135m"]), machine, Options("shared", collective="two_phase"), ORACLE
        )

    across = made()
    assert_avoids(across)
    assert any(block.left_out_columns and block.left_out_rows for block in across.blocks)
    monkeypatch.setattr(ground, "MOST_IN_ROW", 0)
    with pytest.raises(PlacementError, match="does not fit wse3 as shared"):
        made()


# Files.


HEAD = '[blocks]\ntable = { x = 0, y = 0, columns = 4, rows = 1, stages = ["embed", "head"] }\n'
LAYERS = 'layer0 = {{ x = 0, y = 1, columns = 3, rows = 3, {}, stages = ["layer0", "layer1"] }}\n'


def placed(fields: str, dead: set[tuple[int, int]]) -> Options:
    options = parse_placement(HEAD + LAYERS.format(fields), "mine.toml", Options(max_context=64))
    place_by_hand(partition(recognised_graph(TINY)), toy(7, dead), options)
    return options


def test_a_file_states_what_a_block_leaves_out() -> None:
    options = placed("left_out_columns = [2], left_out_rows = [3, 2]", {(2, 3), (2, 2)})
    assert options.blocks[1].block == Block("layer0", 0, 1, 3, 3, "rows", (2,), (2, 3))
    text = placement_text(options, options.blocks)
    assert "rows = 3, left_out_columns = [2], left_out_rows = [2, 3], axis" in text
    assert parse_placement(text, "mine.toml", Options(max_context=64)).blocks == options.blocks


@pytest.mark.parametrize(
    ("fields", "dead", "words"),
    [
        ("left_out_rows = [6]", set(), "block layer0 (3 x 4 at (0, 1)) leaves out row 6, which is not inside it"),
        ("left_out_rows = [1]", set(), "leaves out row 1, which is not inside it; of its rows 2 to 3 are"),
        ("left_out_columns = [2, 2]", set(), "leaves out columns 2 and 2; they are in ascending order, each once"),
        ("left_out_columns = 2", set(), "block layer0: left_out_columns is 2, not a list of numbers"),
        ('left_out_columns = ["2"]', set(), "left_out_columns is ['2'], not a list of numbers"),
        ("left_out_rows = [2]", {(1, 2)}, "the row of the dead PE (1, 2), but not its column; add left_out_columns"),
        ("left_out_columns = [2]", {(2, 2)}, "the column of the dead PE (2, 2), but not its row; add left_out_rows = "),
        ("axis = \"rows\"", {(2, 2)}, "is on the dead PE (2, 2); place it beside that, or leave out both: left_out"),
    ],
)  # fmt: skip
def test_what_cannot_be_left_out_is_refused(fields: str, dead: set[tuple[int, int]], words: str) -> None:
    with pytest.raises(PlacementFileError, match=re.escape(words)):
        placed(fields, dead)


def test_a_block_of_two_rows_has_none_inside() -> None:
    block = Block("a", 0, 0, 1, 1, "rows", (), (1,))
    assert wrongly_left_out(block) == "leaves out row 1, which is not inside it; of its rows none is"
