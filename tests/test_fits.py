"""What fits a wafer and what is refused: the design's table, and that a refusal's advice is good."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import ORACLE, recognised_graph
from wsesim.errors import keyword
from wsesim.machine import Machine, load_machine
from wsesim.program import Program
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.ir import Graph, Node, Parameter, with_inputs
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.passes.place import fits
from wsesim_compiler.placement.refuse import largest
from wsesim_models.config import CONFIGS, LlamaConfig

WSE3 = load_machine("wse3")
HOST_COPY = dataclasses.replace(WSE3, code_reserved_bytes=26 * 1024, host_copy_reserved_bytes=4 * 1024)
TOY = load_machine("toy4x4")
TINY = CONFIGS["tiny"]
HYBRID = Options(strategy="hybrid", layers_per_block=4, block=(256, 256))

Recognised = Callable[[str | LlamaConfig], Graph]


def refusal(graph: Graph, machine: Machine, options: Options) -> str:
    with pytest.raises(PlacementError) as refused:
        lower(graph, machine, options, ORACLE)
    return str(refused.value)


def advised(message: str, options: Options) -> Options | None:
    """The options with the smallest change of a refusal applied; None where it is about the machine."""
    advice = message.split("Smallest change that fits: ")[1]
    named = {name: ast.literal_eval(value) for name, value in re.findall(r"`(\w+)=([^`]*)`", advice)}
    assert " ".join(keyword(name, value) for name, value in named.items()) in advice, "nothing else is said"
    return dataclasses.replace(options, **named) if named else None


def assert_says_what_is_missing(message: str, machine: Machine) -> None:
    """Block, operator, bytes needed and there, and they are consistent."""
    found = re.search(
        r"block (\w+) \((\d+) x (\d+) PEs\) needs ([\d,]+) bytes on a PE, ([\d,]+) are there \(short by ([\d,]+)\): "
        r"weights ([\d,]+), KV ([\d,]+), buffers ([\d,]+); the largest operator is (\w+\.\w+) with ([\d,]+)\. Smallest",
        message,
    )
    assert found, message
    needed, there, short, weights, kv, buffers, largest_operator = (
        int(found[n].replace(",", "")) for n in (4, 5, 6, 7, 8, 9, 11)
    )
    assert there == machine.room_bytes
    assert needed - there == short > 0
    assert weights + kv + buffers == needed
    assert 0 < largest_operator <= weights + kv


# The design's table.


def test_8b_fits_a_wse3_pipelined_with_two_sequences_of_8k(recognised: Recognised) -> None:
    made = lower(recognised("llama3.1-8b"), WSE3, Options(sequences=2), ORACLE)
    assert_within_the_arithmetic(made)
    assert len(made.blocks) == 34


def test_8b_fits_the_blocks_that_the_design_names(recognised: Recognised) -> None:
    made = lower(recognised("llama3.1-8b"), WSE3, Options(sequences=2, block=(190, 128)), ORACLE)
    layers = [b for b in made.blocks if b.name.startswith("layer")]
    assert {(b.columns, b.rows) for b in layers} == {(190, 128)}
    assert (len({b.x for b in layers}), len({b.y for b in layers})) == (4, 8)
    assert_within_the_arithmetic(made)


def assert_within_the_arithmetic(made: Program) -> None:
    """Layers 13.96 GB, head and embedding 1.05 each, KV 1.07 per 8K sequence; padding and buffers on top."""
    pes = {b.name: b.rect.pes for b in made.blocks}
    weights = {m.block: m.weight_bytes * pes[m.block] / 1e9 for m in made.memory}
    layers = sum(size for block, size in weights.items() if block.startswith("layer"))
    assert 13.96 <= layers < 1.1 * 13.96
    assert 1.05 <= weights["embed"] < 1.1 * 1.05
    assert 1.05 <= weights["head"] < 1.1 * 1.05
    kv = sum(m.kv_bytes * pes[m.block] for m in made.memory) / 1e9
    assert 1.07 * made.sequences <= kv < 1.15 * 1.07 * made.sequences
    assert made.machine.usable.pes * made.machine.room_bytes / 1e9 == pytest.approx(21.95, abs=0.005)


@pytest.mark.parametrize(("machine", "options"), [(WSE3, HYBRID), (HOST_COPY, Options())], ids=["256", "host copy"])
def test_8b_is_refused_where_the_design_says_and_the_advice_fits(
    machine: Machine, options: Options, recognised: Recognised
) -> None:
    graph = recognised("llama3.1-8b")
    message = refusal(graph, machine, options)
    assert message.startswith(f"llama3.1-8b does not fit wse3 as {options.strategy}: block layer0")
    assert_says_what_is_missing(message, machine)
    changed = advised(message, options)
    assert changed
    lower(graph, machine, changed, ORACLE)


def test_70b_is_refused_and_told_how_many_wafers_its_weights_are(recognised: Recognised) -> None:
    message = refusal(deepened(recognised, CONFIGS["llama3.1-70b"]), WSE3, Options())
    assert_says_what_is_missing(message, WSE3)
    assert "7 wafers or more (the weights alone are 141.11 GB, one wse3 has room for 21.95 GB)" in message


def deepened(recognised: Recognised, config: LlamaConfig) -> Graph:
    """The recognised graph of a deep model, its last layers copies of the second: exporting them takes long."""
    graph = recognised(dataclasses.replace(config, layers=2))
    second = partition(graph).layers[1]
    nodes = [node for fused in second.fused for node in fused.nodes]
    inner = [node.name for node in nodes] + [p.name for p in graph.parameters if ".layers.1." in p.name]
    copies: list[Node] = []
    parameters: list[Parameter] = []
    arriving = second.target
    for layer in range(2, config.layers):
        renamed = {name: f"{name}@{layer}" for name in inner} | {second.source: arriving}
        copies += [
            dataclasses.replace(n, name=renamed[n.name], inputs=tuple(renamed.get(i, i) for i in n.inputs))
            for n in nodes
        ]
        parameters += [dataclasses.replace(p, name=renamed[p.name]) for p in graph.parameters if p.name in renamed]
        arriving = renamed[second.target]
    last = graph.nodes.index(graph.producers()[second.target]) + 1
    head = [with_inputs(n, [arriving if i == second.target else i for i in n.inputs]) for n in graph.nodes[last:]]
    return graph.replace(parameters=(*graph.parameters, *parameters), nodes=(*graph.nodes[:last], *copies, *head))


@pytest.mark.parametrize("sequences", [1, 2])
def test_8b_is_on_the_edge_of_a_wse2(sequences: int, recognised: Recognised) -> None:
    """Refused at 8K; the advised context fits, and nothing between the two does."""
    graph, wse2 = recognised("llama3.1-8b"), load_machine("wse2")
    options = Options(sequences=sequences)
    message = refusal(graph, wse2, options)
    assert_says_what_is_missing(message, wse2)
    changed = advised(message, options)
    assert changed and changed.sequences == sequences
    assert 2048 < changed.max_context < 8192 // sequences
    assert lower(graph, wse2, changed, ORACLE).max_context == changed.max_context
    one_step_more = dataclasses.replace(changed, max_context=changed.max_context + 128)
    assert not fits(partition(graph), wse2, one_step_more)


# Advice, on a wafer small enough to try many.


@pytest.mark.parametrize(
    ("config", "options", "advice"),
    [
        ({}, {"sequences": 40}, "`sequences=10`"),
        ({}, {"max_context": 8192}, "`max_context="),
        ({}, {"max_context": 8192, "sequences": 12}, "`max_context="),
        ({}, {"max_context": 64, "sequences": 4000}, "`sequences="),
        ({}, {"block": (4, 2)}, "`block=None`"),
        ({}, {"block": (2, 2), "prefill_chunk": 200}, "`prefill_chunk=None`"),
        ({"layers": 13}, {"max_context": 64}, "`strategy='shared'`"),
        ({"layers": 20}, {"strategy": "shared", "max_context": 32}, "`timing_dtype='int8'`"),
        ({"vocab_size": 6144}, {"timing_dtype": "fp32"}, "`timing_dtype='int8'`"),
        ({"ffn_dim": 2304}, {"timing_dtype": "int8", "max_context": 64, "strategy": "shared"}, "sram_bytes of "),
        ({"vocab_size": 16384}, {}, "3 wafers or more"),
        ({"vocab_size": 16384, "tied": False}, {}, "5 wafers or more"),
    ],
)
def test_advice_is_the_smallest_change_and_good(
    config: dict[str, Any], options: dict[str, Any], advice: str, recognised: Recognised
) -> None:
    graph = deepened(recognised, dataclasses.replace(TINY, name="small", **config))
    stated = Options(**{"max_context": 256, **options})
    message = refusal(graph, TOY, stated)
    assert f"Smallest change that fits: {advice}" in message
    changed = advised(message, stated)
    if changed:
        lower(graph, TOY, changed, ORACLE)
    more = re.search(r"sram_bytes of ([\d,]+)", message)
    if more:
        larger = dataclasses.replace(TOY, sram_bytes=int(more[1].replace(",", "")))
        lower(graph, larger, stated, ORACLE)
        assert not fits(partition(graph), dataclasses.replace(larger, sram_bytes=larger.sram_bytes - 256), stated)


def test_both_sequences_and_context_go_where_neither_alone_suffices(recognised: Recognised) -> None:
    graph = recognised("tiny")
    options = Options(max_context=65536, sequences=400)
    message = refusal(graph, TOY, options)
    assert "fits: `max_context=" in message
    assert message.endswith(" `sequences=1`")
    changed = advised(message, options)
    assert changed
    lower(graph, TOY, changed, ORACLE)


@pytest.mark.parametrize("tied", [True, False])
def test_a_vocabulary_that_does_not_fit_is_named_not_a_layer(tied: bool, recognised: Recognised) -> None:
    graph = recognised(dataclasses.replace(TINY, name="wide", vocab_size=16384, tied=tied))
    message = refusal(graph, TOY, Options(max_context=256))
    assert_says_what_is_missing(message, TOY)
    assert f"block {'table' if tied else 'embed'} (4 x 4 PEs)" in message
    assert "the largest operator is embed.table" in message


def test_blocks_that_do_not_stand_side_by_side_are_refused_without_bytes(recognised: Recognised) -> None:
    message = refusal(recognised("tiny"), TOY, Options(max_context=256, block=(4, 2)))
    assert "2 blocks of 4 x 2 PEs for the layers, layer0 the first, do not stand in the 4 x 3 PEs" in message
    deep = deepened(recognised, dataclasses.replace(TINY, name="small", layers=20))
    assert "20 blocks of a row or more for the layers" in refusal(deep, TOY, Options(max_context=32))


def test_layers_of_unlike_widths_are_placed_by_the_widest(recognised: Recognised) -> None:
    """The largest layer decides the blocks: it stands second here, and its block is named in a refusal."""
    graph = widened(recognised("tiny"), 1, 192)
    made = lower(graph, TOY, Options(max_context=256), ORACLE)
    first, second = (m.weight_bytes for m in made.memory if m.block.startswith("layer"))
    assert first < second <= TOY.room_bytes
    message = refusal(widened(recognised("tiny"), 1, 2048), TOY, Options(max_context=256))
    assert "block layer1" in message


def widened(graph: Graph, layer: int, ffn: int) -> Graph:
    """The graph with another FFN width in one layer."""
    old = TINY.ffn_dim
    mine = [p.name for p in graph.parameters if f".{layer}.mlp." in p.name]

    def resized(item: Any) -> Any:
        shape = tuple(ffn if extent == old else extent for extent in item.type.shape)
        return dataclasses.replace(item, type=dataclasses.replace(item.type, shape=shape))

    makers = [n for n in graph.nodes if set(n.inputs) & set(mine)]
    swiglu = [n for n in graph.nodes if n.op == "swiglu" and set(n.inputs) <= {m.name for m in makers}]
    changed = {item.name for item in (*makers, *swiglu)}
    return graph.replace(
        parameters=tuple(resized(p) if p.name in mine else p for p in graph.parameters),
        nodes=tuple(resized(n) if n.name in changed else n for n in graph.nodes),
    )


@given(
    columns=st.integers(1, 12),
    rows=st.integers(1, 12),
    room=st.integers(300, 20_000),
    strategy=st.sampled_from(["pipelined", "shared"]),
    context=st.integers(1, 600),
    sequences=st.integers(1, 3),
    chunk=st.none() | st.integers(1, 9),
    batch=st.integers(1, 3),
    untied=st.booleans(),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_a_placement_is_found_where_there_is_one_and_its_program_is_sound(
    columns: int,
    rows: int,
    room: int,
    strategy: str,
    context: int,
    sequences: int,
    chunk: int | None,
    batch: int,
    untied: bool,
) -> None:
    """`fits`, which looks at the flattest tables alone, agrees with the whole search; what is found verifies."""
    usable = dataclasses.replace(TOY.usable, columns=columns, rows=rows)
    machine = dataclasses.replace(
        TOY, columns=columns, rows=rows, usable=usable, sram_bytes=TOY.code_reserved_bytes + room
    )
    options = Options(strategy, context, sequences, prefill_chunk=chunk, batch=min(batch, sequences))
    graph = recognised_graph(dataclasses.replace(TINY, tied=not untied))
    if fits(partition(graph), machine, options):
        made = lower(graph, machine, options, ORACLE)
        assert max(m.total_bytes for m in made.memory) <= room
        assert made.prefill_chunk == (chunk or made.prefill_chunk)
    else:
        message = refusal(graph, machine, options)
        changed = advised(message, options)
        if changed:
            lower(graph, machine, changed, ORACLE)


@given(limit=st.integers(0, 300), edge=st.integers(-5, 310))
@settings(deadline=None, derandomize=True)
def test_the_largest_that_holds_is_found(limit: int, edge: int) -> None:
    assert largest(limit, lambda n: n <= edge) == min(max(edge, 0), limit)
