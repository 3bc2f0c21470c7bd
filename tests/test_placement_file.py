"""Placements by hand: their text, that it leads to the same Program, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import ORACLE, UNTIED
from wsesim.errors import InvalidInputError, UnknownNameError, WsesimError
from wsesim.machine import Machine, load_machine
from wsesim.program import Program
from wsesim.program.collectives import COLLECTIVES
from wsesim.program.parts import AXES, Block
from wsesim.toolchain.compiling import stage_text
from wsesim.toolchain.step_timing import make_timing
from wsesim.toolchain.text_source import make_executor
from wsesim_compiler.errors import PlacementError, PlacementFileError
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower
from wsesim_compiler.options import AUTO, ByPhase, Options, PlacedBlock
from wsesim_compiler.placement.placement_file import parse_placement, placement_text
from wsesim_models.config import LlamaConfig
from wsesim_models.load import load

Recognised = Callable[[str | LlamaConfig], Graph]

TOY = load_machine("toy4x4")
TABLE = 'table = { x = 0, y = 0, columns = 4, rows = 1, stages = ["embed", "head"] }'
LAYER0 = 'layer0 = { x = 0, y = 1, columns = 2, rows = 3, stages = ["layer0"] }'
LAYER1 = 'layer1 = { x = 2, y = 1, columns = 2, rows = 3, stages = ["layer1"] }'
LAYER0_ATTN = 'attn = { x = 0, y = 1, columns = 2, rows = 2, stages = ["layer0_attn"] }'
LAYER0_FFN = 'ffn = { x = 0, y = 3, columns = 2, rows = 1, stages = ["layer0_ffn"] }'


def by_hand(*lines: str, above: str = "", below: str = "", **options: Any) -> Options:
    text = "\n".join((above, "[blocks]", *(lines or (TABLE, LAYER0, LAYER1)), below))
    return parse_placement(text, "mine.toml", Options(**{"max_context": 256, **options}))


def stages_of(graph: Graph, machine: Machine, options: Options) -> tuple[dict[str, str], Program]:
    """The text of each stage of the lowering, and the Program."""
    seen: dict[str, str] = {}
    program = lower(graph, machine, options, ORACLE, lambda stage, value: seen.update({stage: stage_text(value)}))
    return seen, program


# Text.


@st.composite
def options_stated(draw: st.DrawFn) -> Options:
    """Options that a placement's text can state."""
    names = st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)
    kernels = st.from_regex(r"[a-z0-9_]+\.[a-z0-9_]+", fullmatch=True)
    number = st.integers(-3, 2000)
    extent = st.integers(1, 2000)
    blocks = st.lists(
        st.builds(
            PlacedBlock,
            st.builds(Block, names, number, number, extent, extent, st.sampled_from(AXES)),
            st.lists(names, min_size=1, max_size=3).map(tuple),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda placed: placed.block.name,
    ).map(tuple)
    algorithm = st.sampled_from(COLLECTIVES)
    stated = st.dictionaries(kernels, st.builds(ByPhase, algorithm, algorithm), max_size=3)
    forms = st.dictionaries(kernels, st.builds(ByPhase, kernels, kernels), max_size=3)
    return draw(
        st.builds(
            Options,
            strategy=st.sampled_from(["pipelined", "explicit"]),
            prefill_chunk=st.none() | st.integers(1, 9),
            softmax=st.sampled_from([AUTO, "two_pass", "fused"]),
            collective=st.just(AUTO) | algorithm,
            blocks=blocks,
            collectives=stated.map(lambda named: tuple(named.items())),
            forms=forms.map(lambda named: tuple(named.items())),
        )
    )


@given(options_stated())
@settings(deadline=None, derandomize=True)
def test_a_text_says_what_it_was_made_of(options: Options) -> None:
    text = placement_text(options, options.blocks)
    assert parse_placement(text, "mine.toml", Options()) == options


@pytest.mark.parametrize("stage", ["place", "choose", "route", "plan_memory"])
@pytest.mark.parametrize("strategy", [{}, {"strategy": "shared"}, {"strategy": "hybrid", "layers_per_block": 2}])
@pytest.mark.parametrize("model", ["tiny", UNTIED], ids=["tied", "untied"])
def test_every_stage_of_a_placement_reads_back_to_the_same_program(
    model: str | LlamaConfig, strategy: dict[str, Any], stage: str, recognised: Recognised
) -> None:
    made, program = stages_of(recognised(model), TOY, Options(**strategy, max_context=256))
    again, same = stages_of(recognised(model), TOY, parse_placement(made[stage], stage, Options(max_context=256)))
    assert same.text() == program.text()
    assert again["plan_memory"] == made["plan_memory"]


@pytest.mark.parametrize(
    ("model", "strategy"), [(m, s) for m in ("smollm2-135m", "llama3.1-8b") for s in ("pipelined", "shared")]
)
def test_a_large_model_s_placement_reads_back_to_the_same_program(
    model: str, strategy: str, recognised: Recognised
) -> None:
    wse3 = load_machine("wse3")
    made, program = stages_of(recognised(model), wse3, Options(strategy=strategy))
    for stage in ("place", "choose"):
        _, same = stages_of(recognised(model), wse3, parse_placement(made[stage], stage, Options()))
        assert same.text() == program.text()


def test_what_the_file_states_is_in_the_program(recognised: Recognised) -> None:
    stated = '"layer1.qkv" = "ring"\n"layer0.o" = { decode = "tree", prefill = "chain" }'
    options = by_hand(above='prefill_chunk = 3\ncollective = "star"', below=f"[collectives]\n{stated}")
    made = lower(recognised("tiny"), TOY, options, ORACLE)
    assert (made.strategy, made.prefill_chunk) == ("explicit", 3)
    assert [b.name for b in made.blocks] == ["table", "layer0", "layer1"]
    others = {k.name: k.reduce for k in made.kernels if hasattr(k, "reduce") and k.reduce != "star"}
    assert others == {"layer1.qkv": "ring", "layer0.o": "tree"}
    assert {k.name: found for k in made.kernels if (found := getattr(k, "prefill_reduce", ""))} == {"layer0.o": "chain"}


def test_attention_and_ffn_on_blocks_of_their_own(recognised: Recognised) -> None:
    made = lower(recognised("tiny"), TOY, by_hand(TABLE, LAYER0_ATTN, LAYER0_FFN, LAYER1), ORACLE)
    roles = {block: [k.name for k in made.kernels_of(block)] for block in ("attn", "ffn", "layer1")}
    assert [roles["attn"][n] for n in (0, -1)] == ["layer0_attn.attn_norm", "layer0_attn.attn_add"]
    assert [roles["ffn"][n] for n in (0, -1)] == ["layer0_ffn.ffn_norm", "layer0_ffn.ffn_add"]
    assert [t.name for t in made.transfers][:3] == [
        *("embed_to_layer0_attn", "layer0_attn_to_layer0_ffn", "layer0_ffn_to_layer1"),
    ]


def test_head_and_embedding_lie_anywhere(recognised: Recognised) -> None:
    """Not tied: apart, in the middle of the layers, or one of them with a layer."""
    options = by_hand(
        'a = { x = 0, y = 0, columns = 4, rows = 2, stages = ["layer0"] }',
        'b = { x = 0, y = 2, columns = 2, rows = 2, stages = ["embed"] }',
        'c = { x = 2, y = 2, columns = 2, rows = 2, stages = ["layer1", "head"] }',
    )
    made = lower(recognised(UNTIED), TOY, options, ORACLE)
    assert [(t.source, t.target) for t in made.transfers] == [("b", "a"), ("a", "c")]
    assert (made.feedback.source, made.feedback.target) == ("c", "b")


# Refusals.

SYNTAX = {
    "no TOML": ("[blocks", "mine.toml: is not TOML"),
    "no blocks": ("prefill_chunk = 1", "there is no block; one is name = { x = 0"),
    "unknown field": ("[block]", "unknown field 'block' (did you mean blocks?); known: strategy, prefill_chunk, "),
    "blocks no table": ("blocks = 3", "blocks is 3, not a table"),
    "block no table": ("[blocks]\na = 3", "block a is 3, not a table with x, y"),
    "block without rows": ('[blocks]\na = {x=0, y=0, columns=1, stages=["embed"]}', "block a: field 'rows' is missing"),
    "unknown of block": (
        '[blocks]\na = {x=0, y=0, columns=1, rows=1, z=1, stages=["embed"]}',
        "block a: unknown field 'z'; known: x, y, columns, rows, left_out_columns, left_out_rows, axis, st",
    ),
    "misspelt of block": (
        '[blocks]\na = {x=0, y=0, colums=1, rows=1, stages=["embed"]}',
        "block a: unknown field 'colums' (did you mean columns?); known: x, y, columns, rows, left_out_columns, left_",
    ),
    "a place no number": ('[blocks]\na = {x="0", y=0, columns=1, rows=1, stages=["embed"]}', "'x' is '0', not of type"),
    "empty": ('[blocks]\na = {x=0, y=0, columns=0, rows=1, stages=["embed"]}', "a is 0 x 1 PEs; columns and rows"),
    "axis": (
        '[blocks]\na = {x=0, y=0, columns=1, rows=1, axis="row", stages=["embed"]}',
        "axis is 'row'; it is one of rows, columns",
    ),
    "no stages": ("[blocks]\na = {x=0, y=0, columns=1, rows=1}", "block a: stages is None, not a list of names"),
    "stages one text": ('[blocks]\na = {x=0, y=0, columns=1, rows=1, stages="embed"}', "stages is 'embed', not a list"),
    "a name": ('[blocks]\n"a b" = {x=0, y=0, columns=1, rows=1, stages=["embed"]}', "block 'a b': a name is of"),
    "chunk": ("prefill_chunk = 0\n[blocks]\na = {}", "prefill_chunk is 0; it is an integer of at least 1"),
    "phase unknown": (
        '[blocks]\na = {x=0, y=0, columns=1, rows=1, stages=["embed"]}\n[collectives]\n"a.b" = { decode = "tree" }',
        "collective of a.b: field 'prefill' is missing",
    ),
    "collective no text": ("collective = 3\n[blocks]\na = {}", "collective is 3, not a text"),
}


@pytest.mark.parametrize("mistake", SYNTAX)
def test_a_text_that_is_no_placement_is_refused(mistake: str) -> None:
    text, words = SYNTAX[mistake]
    with pytest.raises(PlacementFileError, match=re.escape(words)):
        parse_placement(text, "mine.toml", Options())


OUTSIDE = LAYER1.replace("x = 2", "x = 3")
OVERLAPPING = LAYER1.replace("x = 2", "x = 1")
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown stage": (
        (TABLE, LAYER0, LAYER1.replace('["layer1"]', '["layer2"]')),
        "block layer1 has the stage 'layer2', which tiny has not; stages are embed, layer0 to layer1",
    ),
    "stage missing": ((TABLE, LAYER0), "no block has layer1; every stage of tiny lies on one"),
    "half missing": ((TABLE, LAYER0_ATTN, LAYER1), "no block has layer0_ffn; every stage"),
    "stage twice": (
        (TABLE, LAYER0, LAYER1.replace('["layer1"]', '["layer1", "layer0"]')),
        "stage layer0 lies on layer0 and layer1; it lies on one block, once",
    ),
    "layer and half": (
        (TABLE, LAYER0, LAYER1.replace('["layer1"]', '["layer1", "layer0_ffn"]')),
        "stage layer0 and a half of it are both on a block; it is the layer, or layer0_attn and layer0_ffn",
    ),
    "tied apart": (
        (TABLE.replace('"embed", "head"', '"embed"'), LAYER0, LAYER1.replace('["layer1"]', '["layer1", "head"]')),
        "embed and head share one table in tiny; they lie on one block, not on table and layer1",
    ),
    "outside": (
        (TABLE, LAYER0, OUTSIDE),
        "block layer1 (2 x 3 at (3, 1)) reaches out of the usable rectangle of toy4x4, 4 x 4 at (0, 0)",
    ),
    "overlap": (
        (TABLE, LAYER0, OVERLAPPING),
        "layer0 (2 x 3 at (0, 1)) and layer1 (2 x 3 at (1, 1)) overlap, first on PE (1, 1)",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_blocks_and_stages_that_cannot_be_are_refused(mistake: str, recognised: Recognised) -> None:
    lines, words = WRONG[mistake]
    with pytest.raises(PlacementFileError) as refused:
        lower(recognised("tiny"), TOY, by_hand(*lines), ORACLE)
    assert str(refused.value).startswith("placement of tiny by hand: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"above": 'strategy = "mine"'}, "unknown strategy 'mine'; known: "),
        ({"above": 'collective = "tee"'}, "unknown collective 'tee'; known: tree"),
        ({"below": '[collectives]\n"layer0.qkv" = "tee"'}, "unknown collective 'tee'"),
        ({"below": '[collectives]\n"layer0.qvk" = "tree"'}, "unknown kernel with a collective 'layer0.qvk'; known: "),
    ],
)
def test_unknown_names_are_refused(options: dict[str, str], words: str, recognised: Recognised) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(words)):
        lower(recognised("tiny"), TOY, by_hand(**options), ORACLE)


def test_what_is_made_once_has_one_collective(recognised: Recognised) -> None:
    options = by_hand(below='[collectives]\n"head.logits" = { decode = "tree", prefill = "chain" }')
    with pytest.raises(InvalidInputError, match=r"head\.logits is made once after either phase, by one collective"):
        lower(recognised("tiny"), TOY, options, ORACLE)


def test_a_strategy_is_explicit_only_with_blocks(recognised: Recognised) -> None:
    with pytest.raises(UnknownNameError, match="unknown strategy 'explicit'; known: "):
        lower(recognised("tiny"), TOY, Options(strategy="explicit"), ORACLE)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"sequences": 40}, {"sequences": 10}),
        ({"above": "prefill_chunk = 300"}, {"prefill_chunk": None}),
        ({"max_context": 8192}, {"max_context": 2176}),
    ],
)
def test_a_block_over_its_sram_is_refused_and_the_advice_fits(
    options: dict[str, Any], advice: dict[str, Any], recognised: Recognised
) -> None:
    asked = by_hand(**options)
    with pytest.raises(PlacementError) as refused:
        lower(recognised("tiny"), TOY, asked, ORACLE)
    message = str(refused.value)
    assert re.search(r"block \w+ \(\d x \d PEs\) needs [\d,]+ bytes on a PE, 32,768 are there", message)
    (field, value), *_ = advice.items()
    assert (f"`{field}={value}`" if value else f"no {field} in the placement's file") in message
    lower(recognised("tiny"), TOY, dataclasses.replace(asked, **advice), ORACLE)


@pytest.mark.parametrize("raised", [0, -4])
def test_the_bytes_that_a_refusal_asks_for_are_enough_and_no_more(raised: int, recognised: Recognised) -> None:
    small = dataclasses.replace(TOY, sram_bytes=TOY.code_reserved_bytes + 3000)
    with pytest.raises(PlacementError) as refused:
        lower(recognised("tiny"), small, by_hand(), ORACLE)
    short = re.search(r"short by ([\d,]+)", str(refused.value))
    assert short
    larger = dataclasses.replace(small, sram_bytes=small.sram_bytes + int(short[1].replace(",", "")) + raised)
    if raised:
        with pytest.raises(WsesimError):
            lower(recognised("tiny"), larger, by_hand(), ORACLE)
    else:
        lower(recognised("tiny"), larger, by_hand(), ORACLE)


# The other axis.


def transposed(placed: PlacedBlock) -> PlacedBlock:
    b = placed.block
    axis = {"rows": "columns", "columns": "rows"}[b.axis]
    block = dataclasses.replace(b, x=b.y, y=b.x, columns=b.rows, rows=b.columns, axis=axis)
    return dataclasses.replace(placed, block=block)


@pytest.mark.parametrize("strategy", ["pipelined", "shared"])
def test_blocks_split_over_columns_do_what_those_split_over_rows_do(strategy: str, recognised: Recognised) -> None:
    """A wafer is as good as its mirror image: the same kernels, cycles and numbers."""
    graph = recognised("tiny")
    seen: dict[str, Any] = {}
    upright = lower(graph, TOY, Options(strategy, 64), ORACLE, seen.__setitem__)
    blocks = tuple(transposed(placed) for placed in seen["place"].blocks)
    lying = lower(graph, TOY, Options(strategy, 64, blocks=blocks), ORACLE)
    assert {b.axis for b in lying.blocks} == {"columns"}
    assert lying.kernels == upright.kernels
    assert [t.kind for t in lying.transfers] == [t.kind for t in upright.transfers]
    assert make_timing(lying).decode(31).cycles == make_timing(upright).decode(31).cycles
    assert make_timing(lying).prefill(5).cycles == make_timing(upright).prefill(5).cycles


TURNED = LAYER0.replace("stages", 'axis = "columns", stages')


@pytest.mark.parametrize("lines", [(TABLE, TURNED, LAYER1), (TABLE, LAYER0_ATTN, LAYER0_FFN, LAYER1)])
def test_what_a_placement_computes_is_what_the_model_computes(lines: tuple[str, ...], recognised: Recognised) -> None:
    """Turns and halves change no number but by the order of sums."""
    graph, weights = recognised("tiny"), load("tiny").weights
    ids = [72, 101, 108, 108, 111]
    logits = []
    for options in (by_hand(*lines), Options(max_context=256)):
        made = lower(graph, TOY, options, ORACLE)
        executor = make_executor(made, weights, "fp32")
        logits.append(executor.step(executor.new_sequence(), ids))
        assert make_timing(made).decode(5).cycles > 0
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)


def test_a_turn_whose_lines_would_cross_is_refused_at_its_router(recognised: Recognised) -> None:
    lines = (TABLE, *(line.replace("stages", 'axis = "columns", stages') for line in (LAYER0, LAYER1)))
    with pytest.raises(PlacementError) as refused:
        lower(recognised("tiny"), TOY, by_hand(*lines), ORACLE)
    assert "transfer layer1_to_head from block layer1 (2 x 3 at (2, 1)) to table" in str(refused.value)
    assert "crosses itself at router (2, 0); split both over columns, or" in str(refused.value)
