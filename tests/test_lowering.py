"""Invariants of the lowering: they hold for every placement and Program, whatever the planner chooses."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch

from tests.programs import BIASED, NORMED, ORACLE, program
from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.machine import Rect, load_machine
from wsesim.program.build import LayerShape, layer_kernels
from wsesim.program.collectives import ALGORITHMS, COLLECTIVES
from wsesim.program.kernels import Linear, QKNorm, Rope, WeightRef
from wsesim.program.kv import KVCache
from wsesim.program.parts import Block
from wsesim.program.routes import entry_pe, feedback_path, sampler_pe, transfer_paths
from wsesim.toolchain.compiling import stage_text
from wsesim.toolchain.options import STAGES
from wsesim_compiler.errors import PartitionError
from wsesim_compiler.frontends.torch_export import from_torch
from wsesim_compiler.ir import Graph, Node
from wsesim_compiler.lower import lower, understand
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.placement.memory import block_memory
from wsesim_models.config import CONFIGS, LlamaConfig
from wsesim_models.llama import Llama

Recognised = Callable[[str | LlamaConfig], Graph]

TINY = [
    ("tiny", machine, strategy, {"layers_per_block": 2} if strategy == "hybrid" else {})
    for machine in ("toy4x4", "wse2", "wse3")
    for strategy in ("pipelined", "shared", "hybrid")
]
LARGE: list[tuple[str, str, str, dict[str, Any]]] = [
    ("smollm2-135m", "wse2", "pipelined", {}),
    ("smollm2-135m", "wse3", "pipelined", {}),
    ("smollm2-135m", "wse3", "hybrid", {"layers_per_block": 4}),  # 30 layers: the last block has two
    ("llama3.1-8b", "wse2", "pipelined", {"max_context": 4096}),
    ("llama3.1-8b", "wse3", "pipelined", {}),
    ("llama3.1-8b", "wse3", "shared", {}),
    ("llama3.1-8b", "wse3", "hybrid", {"layers_per_block": 2, "max_context": 4096}),
]
CASES = TINY + LARGE
every_case = pytest.mark.parametrize(("model", "machine", "strategy", "options"), CASES)


@every_case
def test_blocks_are_apart_inside_and_as_many_as_the_strategy_says(
    model: str, machine: str, strategy: str, options: dict[str, Any]
) -> None:
    made = program(model, machine, strategy, **options)
    for a, b in combinations(made.blocks, 2):
        assert not a.rect.overlaps(b.rect), (a, b)
    assert all(made.machine.usable.contains(b.rect) for b in made.blocks)
    layers = len({k.name.split(".")[0] for k in made.kernels if k.name.startswith("layer")})
    assert layers == {"tiny": 2, "smollm2-135m": 30, "llama3.1-8b": 32}[model]
    each = {"pipelined": 1, "shared": layers}.get(strategy) or options["layers_per_block"]
    blocks = [b for b in made.blocks if b.name.startswith("layer")]
    assert len(blocks) == -(-layers // each)
    assert len({(b.columns, b.rows) for b in blocks}) == 1


@every_case
def test_no_pe_is_over_its_room(
    model: str, machine: str, strategy: str, options: dict[str, Any], recognised: Recognised
) -> None:
    """The memory map holds every tile, KV row and buffer of the Program's kernels, counted here again."""
    made = program(model, machine, strategy, **options)
    stated = Options(strategy, made.max_context, made.sequences)
    assert [m.block for m in made.memory] == [b.name for b in made.blocks]
    for block, memory in zip(made.blocks, made.memory, strict=True):
        assert memory.total_bytes <= made.machine.room_bytes
        assert memory == block_memory(block, made.kernels_of(block.name), stated, made.prefill_chunk)
        weights = {w.name: w for k in made.kernels_of(block.name) for w, _, _ in k.tiles}
        shapes = {p.name: p.type.shape for p in recognised(model).parameters}
        elements = sum(_product(shapes[name]) for name in weights)
        assert memory.weight_bytes * block.rect.pes >= 2 * elements, "fewer bytes than the weights themselves"
        layers = len({k.name.split(".")[0] for k in made.kernels_of(block.name) if k.name.startswith("layer")})
        kv_row = 2 * int(shapes["model.layers.0.self_attn.k_proj.weight"][0])
        assert memory.kv_bytes * block.rect.pes >= 2 * layers * made.max_context * kv_row, "fewer bytes than the cache"


def test_what_a_transfer_brings_stays_in_a_buffer_until_the_first_add() -> None:
    """So a layer alone needs the same buffers as a layer between others."""
    made = program("tiny", "toy4x4", "shared")
    block = made.block("layer0_1")
    options = Options("shared", made.max_context)
    both, one = (
        block_memory(block, [k for k in made.kernels_of(block.name) if k.name.startswith(layer)], options, chunk=3)
        for layer in ("layer", "layer1")
    )
    assert both.buffer_bytes == one.buffer_bytes
    assert both.kv_bytes == 2 * one.kv_bytes


def _product(shape: tuple[Any, ...]) -> int:
    product = 1
    for extent in shape:
        product *= int(extent)
    return product


def test_a_fused_softmax_is_one_kernel_and_needs_no_other_scores() -> None:
    whole, fused = (program("tiny", "wse3", softmax=softmax, block=(8, 8)) for softmax in ("two_pass", "fused"))
    roles = [[k.name for k in made.kernels if k.name.startswith("layer0.")] for made in (whole, fused)]
    assert roles[0][3:6] == ["layer0.score", "layer0.softmax", "layer0.weighted_sum"]
    assert roles[1][3:5] == ["layer0.score", "layer0.flash_sum"]
    assert [len(r) for r in roles] == [13, 12]
    bytes_of = [{m.block: m for m in made.memory}["layer0"] for made in (whole, fused)]
    assert bytes_of[0].kv_bytes == bytes_of[1].kv_bytes
    assert bytes_of[0].buffer_bytes >= bytes_of[1].buffer_bytes


def test_the_cache_takes_its_bytes_from_policy_and_dtype() -> None:
    """64 positions on a block of 6 lines are 11 a line, or all on one; K and V of 16 features lie on 4 columns each."""
    block = Block("layer0", 0, 0, 4, 6, "rows")
    shape = LayerShape(32, 4, 2, 8, 64)
    sizes = {
        cache: block_memory(block, layer_kernels(shape, block, "chain", cache).values(), Options(max_context=64), 1)
        for cache in (KVCache(), KVCache("shift"), KVCache("concat"), KVCache(dtype="int8"))
    }
    assert [m.kv_bytes for m in sizes.values()] == [11 * 2 * 4 * 2, 11 * 2 * 4 * 2, 64 * 2 * 4 * 2, 11 * 2 * 4]
    assert len({m.weight_bytes for m in sizes.values()}) == 1
    buffers = [m.buffer_bytes for m in sizes.values()]
    assert buffers[0] == buffers[1] == buffers[3] <= buffers[2]


@every_case
def test_every_weight_is_placed_exactly_once(
    model: str, machine: str, strategy: str, options: dict[str, Any], recognised: Recognised
) -> None:
    made = program(model, machine, strategy, **options)
    graph = recognised(model)
    rows: dict[str, list[tuple[int, int]]] = {p.name: [] for p in graph.parameters}
    homes: dict[str, set[str]] = {p.name: set() for p in graph.parameters}
    readers: Counter[str] = Counter()
    for kernel in made.kernels:
        for ref in dict.fromkeys(tile.weight for tile in kernel.tiles):
            rows[ref.name] = sorted({*rows[ref.name], (ref.start, ref.stop)})
            homes[ref.name].add(kernel.block)
            readers[ref.name] += 1
            assert not ref.transpose
    for parameter in graph.parameters:  # the ranges of rows follow one another from the first row to the last
        edges = [0, *(stop for _, stop in rows[parameter.name])]
        assert [start for start, _ in rows[parameter.name]] == edges[:-1], parameter.name
        assert edges[-1] == parameter.type.shape[0], parameter.name
        assert len(homes[parameter.name]) == 1, parameter.name
    table = graph.nodes[0].inputs[1]
    tied = graph.nodes[-1].inputs[1] == table  # then the embedding and the head read it, from one block
    assert {name for name, count in readers.items() if count > 1} == ({table} if tied else set())


@every_case
def test_the_blocks_are_one_chain_of_transfers_and_back(
    model: str, machine: str, strategy: str, options: dict[str, Any]
) -> None:
    made = program(model, machine, strategy, **options)
    order = list(dict.fromkeys(k.block for k in made.kernels))
    visits = [b for b, following in pairwise([k.block for k in made.kernels] + [""]) if b != following]
    assert [(t.source, t.target) for t in made.transfers] == list(pairwise(visits))
    assert set(order) == {b.name for b in made.blocks}
    assert (made.feedback.source, made.feedback.target) == (visits[-1], visits[0])
    for transfer in made.transfers:  # the value that leaves is made by the last kernel, read by the first there
        entering = next(k for k in made.kernels if k.name.startswith(transfer.name.split("_to_")[1] + "."))
        assert entering.block == transfer.target
        assert transfer.value in [operand.value for operand in entering.reads]


@every_case
def test_transfers_reach_whole_blocks_and_the_id_the_embedding(
    model: str, machine: str, strategy: str, options: dict[str, Any]
) -> None:
    made = program(model, machine, strategy, **options)
    for t in made.transfers:
        source, target = made.block(t.source), made.block(t.target)
        arrived = np.zeros((made.machine.rows, made.machine.columns), np.int64)
        for path in transfer_paths(t, source, target):
            (x, y), (end_x, end_y) = path.position(path.first_drop), path.position(path.total_hops)
            assert y == end_y
            arrived[y, min(x, end_x) : max(x, end_x) + 1] += path.elements
        expected = np.zeros_like(arrived)
        for line, row in enumerate(t.target_layout.indices()):
            elements = t.target_layout.width if t.kind == "straight" else int((row >= 0).sum())
            expected[target.y + line, target.x : target.x + target.columns] = elements
        np.testing.assert_array_equal(arrived, expected, err_msg=t.name)
    back = feedback_path(made)
    start, end = sampler_pe(made), entry_pe(made)
    assert made.block(made.feedback.source).rect.has(*start)
    assert made.block(made.feedback.target).rect.has(*end)
    assert (back is None) == (start == end)
    if back:
        assert (back.x, back.y) == start
        assert back.position(back.total_hops) == end


@every_case
def test_every_collective_is_chosen(model: str, machine: str, strategy: str, options: dict[str, Any]) -> None:
    made = program(model, machine, strategy, **options)
    reduced = [k.reduce for k in made.kernels if hasattr(k, "reduce")]
    assert set(reduced) <= set(COLLECTIVES)
    assert len(reduced) >= 8 * sum(k.name.endswith(".qkv") for k in made.kernels)
    colours = {c for t in made.transfers for c in t.colours} | set(made.feedback.colours)
    assert not colours & {c for use in made.colours for c in use.colours}


@pytest.mark.parametrize("collective", ALGORITHMS)
def test_a_collective_that_is_asked_for_is_taken(collective: str) -> None:
    made = program("tiny", "toy4x4", collective=collective)
    assert {k.reduce for k in made.kernels if hasattr(k, "reduce")} == {collective}


def test_an_offset_usable_rectangle_moves_every_block() -> None:
    toy = load_machine("toy4x4")
    larger = dataclasses.replace(toy, columns=9, rows=8, usable=Rect(3, 2, 4, 4))
    there, here = program("tiny", larger), program("tiny", "toy4x4")
    assert [(b.x - 3, b.y - 2, b.columns, b.rows) for b in there.blocks] == [
        (b.x, b.y, b.columns, b.rows) for b in here.blocks
    ]


@pytest.mark.parametrize("order", ["serpentine", "row_major"])
def test_the_order_of_the_blocks_is_the_one_asked_for(order: str) -> None:
    made = program("smollm2-135m", "wse3", block=(100, 100), order=order)
    layers = [b for b in made.blocks if b.name.startswith("layer")]
    per_row = 762 // 100
    for number, block in enumerate(layers):
        row, place_in_row = divmod(number, per_row)
        back = order == "serpentine" and row % 2
        assert block.x == 100 * (per_row - 1 - place_in_row if back else place_in_row)
        assert block.y == layers[0].y + 100 * row
    straight = sum(t.kind == "straight" for t in made.transfers)
    assert straight == 29 - 4, "only where a row ends is there a reslice between layers"


def test_every_stage_of_tiny_on_toy4x4_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    """Read these texts to see what a pass does, and what a change does to it."""
    with torch.device("meta"):
        raw = from_torch(Llama(CONFIGS["tiny"]), name="tiny")
    seen: dict[str, Any] = {}
    graph = understand(raw, seen.__setitem__)
    lower(graph, load_machine("toy4x4"), Options(max_context=256), ORACLE, seen.__setitem__)
    assert tuple(seen) == STAGES
    for stage, value in seen.items():
        golden(f"tiny/{stage}.txt", stage_text(value))


def test_the_stages_are_seen_in_order_and_lowering_is_repeatable(recognised: Recognised) -> None:
    seen: list[str] = []
    graph, toy = recognised("tiny"), load_machine("toy4x4")
    one = lower(graph, toy, Options(max_context=256), ORACLE, lambda stage, _: seen.append(stage))
    assert tuple(seen) == STAGES[3:]
    assert str(one) == str(lower(graph, toy, Options(max_context=256), ORACLE))


# partition.


def test_axes_alternate_at_each_linear_and_operands_agree(recognised: Recognised) -> None:
    graph = recognised("smollm2-135m")
    split = partition(graph)
    assert split.axes[graph.nodes[0].name] == "along"
    for node in graph.nodes:
        for operand in node.inputs:
            if operand in split.axes:
                turns = node.op in ("linear", "head")
                assert (split.axes[operand] != split.axes[node.name]) == turns, node.name
    assert [s.kind for s in split.stages] == ["embed", *["layer"] * 30, "head"]
    assert all(before.target == after.source for before, after in pairwise(split.stages))
    assert split.tied
    placed = [n.name for s in split.stages for f in s.fused for n in f.nodes]
    assert sorted(placed) == sorted(n.name for n in graph.nodes), "every node is in one kernel"


def test_linears_of_one_source_are_one_kernel(recognised: Recognised) -> None:
    roles = [f.role for f in partition(recognised("tiny")).layers[0].fused]
    ffn = ["ffn_norm", "gate_up", "swiglu", "down", "ffn_add"]
    assert roles == ["attn_norm", "qkv", "rope", "attention", "o", "attn_add", *ffn]
    normed = [f.role for f in partition(recognised(NORMED)).layers[0].fused]
    assert normed == ["attn_norm", "qkv", "qk_norm", "rope", "attention", "o", "attn_add", *ffn]


def test_biases_lie_with_their_weights_and_take_their_bytes() -> None:
    made, without = program(BIASED, "toy4x4"), program("tiny", "toy4x4")
    qkv, plain = (next(k for k in p.kernels if k.name == "layer0.qkv") for p in (made, without))
    assert isinstance(qkv, Linear) and isinstance(plain, Linear)
    for output, part in zip(qkv.outputs, "qkv", strict=True):
        assert output.bias == WeightRef(f"model.layers.0.self_attn.{part}_proj.bias", 0, output.layout.size)
    biased, bare = (block_memory(made.block(k.block), [k], Options(), 1).weight_bytes for k in (qkv, plain))
    assert biased - bare == 2 * sum(output.layout.width for output in qkv.outputs)


def test_the_norms_of_q_and_k_are_one_kernel_with_the_layouts_of_the_rotation() -> None:
    made = program(NORMED, "wse3")
    norm = next(k for k in made.kernels if isinstance(k, QKNorm))
    rope = next(k for k in made.kernels if isinstance(k, Rope))
    assert norm.targets == rope.sources and norm.layouts == rope.layouts and norm.layouts[0].segment > 1
    assert [w.name for w in norm.weights] == [f"model.layers.0.self_attn.{part}_norm.weight" for part in "qk"]
    memory = block_memory(made.block(norm.block), [norm], Options(), 1)
    assert memory.weight_bytes == 2 * 2 * norm.layouts[0].features


def _changed(graph: Graph, name: str, **fields: Any) -> Graph:
    return graph.replace(nodes=tuple(dataclasses.replace(n, **fields) if n.name == name else n for n in graph.nodes))


def _node(graph: Graph, op: str) -> Node:
    return next(n for n in graph.nodes if n.op == op)


def _norm_of_all_heads(graph: Graph) -> tuple[Graph, str]:
    """The rotation of the first queries becomes a norm over all of them."""
    rope, norm = _node(graph, "rope"), _node(graph, "rmsnorm")
    inputs = (rope.inputs[0], norm.inputs[1])
    return _changed(graph, rope.name, op="rmsnorm", inputs=inputs, attributes=norm.attributes), rope.name


def _mixed_axes(graph: Graph) -> tuple[Graph, str]:
    """The residual stream is added to the queries."""
    add, query = _node(graph, "add"), _node(graph, "linear")
    return _changed(graph, add.name, inputs=(add.inputs[0], query.name)), add.name


def _add_beside_the_stream(graph: Graph) -> tuple[Graph, str]:
    """The second add is of the first layer's norm, not of the stream."""
    second = [n for n in graph.nodes if n.op == "add"][1]
    norm = _node(graph, "rmsnorm")
    return _changed(graph, second.name, inputs=(norm.name, second.inputs[1])), second.name


def _no_embedding(graph: Graph) -> tuple[Graph, str]:
    return graph.replace(nodes=graph.nodes[1:]), graph.nodes[1].name


def _no_head(graph: Graph) -> tuple[Graph, str]:
    return graph.replace(nodes=graph.nodes[:-1]), graph.nodes[-2].name


def _no_layer(graph: Graph) -> tuple[Graph, str]:
    return graph.replace(nodes=(graph.nodes[0], *graph.nodes[-2:])), "no layer between"


@pytest.mark.parametrize(
    "mistake", [_norm_of_all_heads, _mixed_axes, _add_beside_the_stream, _no_embedding, _no_head, _no_layer]
)
def test_a_graph_that_cannot_be_split_is_refused_by_the_node(
    mistake: Callable[[Graph], tuple[Graph, str]], recognised: Recognised
) -> None:
    graph, words = mistake(recognised("tiny"))
    with pytest.raises(PartitionError) as refused:
        partition(graph)
    assert words in str(refused.value)
    if mistake is not _no_layer:
        assert "(from " in str(refused.value)


# Options.


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"strategy": "pipeline"}, UnknownNameError, "known: pipelined, "),
        ({"order": "snake"}, UnknownNameError, "known: serpentine"),
        ({"timing_dtype": "fp8"}, UnknownNameError, "unknown timing dtype 'fp8'"),
        ({"kv": "shifted"}, UnknownNameError, "known: shift"),
        ({"softmax": "flash"}, UnknownNameError, "unknown softmax 'flash'; known: "),
        ({"kv_dtype": "fp8"}, UnknownNameError, "unknown KV dtype 'fp8'"),
        ({"collective": "tree:4"}, UnknownNameError, "unknown collective 'tree:4'; known: tree, "),
        ({"max_context": 0}, InvalidInputError, "`max_context` is 0; it is at least 1"),
        ({"sequences": -1}, InvalidInputError, "`sequences` is -1"),
        ({"layers_per_block": 0}, InvalidInputError, "`layers_per_block` is 0"),
        ({"candidates": 0}, InvalidInputError, "`candidates` is 0"),
        ({"prefill_chunk": 0}, InvalidInputError, "prefill_chunk is 0"),
        ({"block": (4, 0)}, InvalidInputError, "`block` is (4, 0)"),
    ],
)
def test_a_wrong_option_is_named(
    options: dict[str, Any], error: type[Exception], words: str, recognised: Recognised
) -> None:
    with pytest.raises(error) as refused:
        lower(recognised("tiny"), load_machine("toy4x4"), Options(**options), ORACLE)
    assert words in str(refused.value)
