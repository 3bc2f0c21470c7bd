"""torch -> raw -> canonical -> recognised: every stage computes what torch computes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from tests.compiler_modules import (
    LLAMA3_ROPE,
    VOCAB,
    Spelt,
    hugging_face,
    randomize,
    tokens_of,
    weights_of,
)
from wsesim_compiler.errors import ExportError, MissingBufferError, UnsupportedOperatorError
from wsesim_compiler.frontends.torch_export import from_exported, from_torch
from wsesim_compiler.interpret import interpret
from wsesim_compiler.ir import Graph, Node
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.recognize import recognize
from wsesim_compiler.text import parse_graph
from wsesim_models.config import LlamaConfig, RopeScaling, config
from wsesim_models.llama import Llama

FREQUENCIES = tuple(1.0 / 100.0 ** (i / 8) for i in range(0, 8, 2))
OURS = LlamaConfig("ours", 40, 32, 2, 4, 2, 8, 48, 1e-6, 10_000.0, RopeScaling(8.0, 1.0, 4.0, 64), False, 256)


def stages(graph: Graph) -> tuple[Graph, Graph, Graph]:
    canonical = canonicalize(graph)
    return graph, canonical, recognize(canonical)


def logits_of(graph: Graph, module: torch.nn.Module) -> np.ndarray:
    """Logits [T, V], or [1, V] if the graph gives only the last token's."""
    value = graph.inputs[0]
    tokens = tokens_of().reshape([1] * (len(value.type.shape) - 1) + [-1])
    return interpret(graph, weights_of(module), {value.name: tokens})[0].reshape(-1, VOCAB)


def assert_stages_compute(module: torch.nn.Module, graphs: tuple[Graph, ...]) -> None:
    """All stages agree to float64's rounding, and with torch to float32's."""
    outs = [logits_of(graph, module) for graph in graphs]
    rows = len(outs[0])  # one, if the module gives only the last token's logits
    for out in outs[1:]:
        np.testing.assert_allclose(out[-rows:], outs[0], rtol=1e-9, atol=1e-11)
    result = module(torch.from_numpy(tokens_of())[None])
    logits = getattr(result, "logits", result).detach().numpy().reshape(-1, VOCAB)
    np.testing.assert_allclose(outs[0], logits, rtol=1e-5, atol=1e-5)
    for graph in graphs:
        assert parse_graph(str(graph)) == graph


@pytest.mark.parametrize(
    "fields",
    [
        {"attn_implementation": "sdpa"},
        {"attn_implementation": "eager"},
        {"tie_word_embeddings": True},
        {"rope_parameters": LLAMA3_ROPE},
        {"attn_implementation": "eager", "tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"family": "qwen3"},
        {"family": "qwen3", "attn_implementation": "eager", "num_key_value_heads": 1},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_hugging_face_llama(fields: dict[str, Any]) -> None:
    module = randomize(hugging_face(**fields))
    graphs = stages(from_torch(module, "tiny"))
    assert_stages_compute(module, graphs)
    tied = graphs[2].nodes[0].inputs[1] == graphs[2].nodes[-1].inputs[1]
    assert tied == fields.get("tie_word_embeddings", False)


def test_meta_and_cpu_give_the_same_graph() -> None:
    texts = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            graph = stages(from_torch(Llama(OURS), "ours"))[2]
        texts.append(str(graph))
    assert texts[0] == texts[1]


def test_ours_and_transformers_qwen3_are_the_same_model() -> None:
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    with torch.device("meta"):
        theirs = from_torch(hugging_face(family="qwen3", rope_parameters=rope), "model")
        ours = from_torch(Llama(dataclasses.replace(OURS, rope_scaling=None, qk_norm=True)), "model")
    texts = [stages(graph)[2].text(provenance=False) for graph in (ours, theirs)]
    assert texts[0] == texts[1]
    assert texts[0].count("= qk_norm(") == 4


def test_ours_and_hugging_faces_are_the_same_model() -> None:
    with torch.device("meta"):
        theirs = from_torch(hugging_face(rope_parameters=LLAMA3_ROPE), "model")
        ours = from_torch(Llama(OURS), "model")
    texts = [stages(graph)[2].text(provenance=False) for graph in (ours, theirs)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("fields", [{}, {"qk_norm": True}, {"qk_norm": True, "kv_heads": 1}])
def test_our_llama_computes(fields: dict[str, Any]) -> None:
    module = randomize(Llama(dataclasses.replace(OURS, **fields)))
    graphs = stages(from_torch(module))
    assert_stages_compute(module, graphs)


SPELLINGS: list[dict[str, Any]] = [
    {},
    {
        "norm": "fused",
        "rope": "chunk",
        "attention": "sdpa_scaled_queries",
        "mlp": "silu_last",
        "angles": "einsum",
    },
    {
        "norm": "default_eps",
        "rope": "interleaved",
        "attention": "sdpa_mask",
        "mlp": "sigmoid",
        "residual": "last",
    },
    {"norm": "sqrt", "rope": "unbind", "attention": "masked_fill", "output": "last"},
    {"norm": "div", "rope": "none", "attention": "triu", "output": "last_logits"},
    {"norm": "cast_after", "attention": "where", "angles": "powers", "tokens": "flat"},
]


def _spelt(value: dict[str, str] | str) -> str:
    return value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()) or "plain"


@pytest.mark.parametrize("spelling", SPELLINGS, ids=_spelt)
def test_hand_written_spellings(spelling: dict[str, Any]) -> None:
    module = randomize(Spelt(**spelling))
    graphs = stages(from_torch(module))
    assert_stages_compute(module, graphs)
    recognised = graphs[2]
    expected = [
        "embedding",
        "rmsnorm",
        "linear",
        "rope",
        "linear",
        "rope",
        "linear",
        "attention",
        "linear",
        "add",
    ]
    expected += ["rmsnorm", "linear", "linear", "swiglu", "linear", "add", "rmsnorm", "head"]
    if spelling.get("rope") == "none":
        expected = [op for op in expected if op != "rope"]
    assert [node.op for node in recognised.nodes] == expected
    attention = next(node for node in recognised.nodes if node.op == "attention")
    scale = 0.125 if spelling.get("attention") == "sdpa_scaled_queries" else 8**-0.5
    assert attention.number("scale") == pytest.approx(scale, rel=1e-12)
    assert [attention.attribute(name) for name in ("heads", "kv_heads", "head_dim")] == [4, 2, 8]
    if "rope" in expected:
        rope = next(node for node in recognised.nodes if node.op == "rope")
        pairing = "interleaved" if spelling.get("rope") in ("interleaved", "unbind") else "half"
        assert rope.attribute("pairing") == pairing
        assert len(recognised.constants) == 1
        np.testing.assert_allclose(recognised.constants[0].values, FREQUENCIES, rtol=1e-6)


@pytest.mark.parametrize("norm", ["pow", "fused", "default_eps", "sqrt", "div", "cast_after"])
@pytest.mark.parametrize("rope", ["half", "interleaved", "none"])
def test_norms_of_heads_in_every_spelling(norm: str, rope: str) -> None:
    module = randomize(Spelt(norm=norm, rope=rope, qk_norm="before"))
    graphs = stages(from_torch(module))
    assert_stages_compute(module, graphs)
    norms = [node for node in graphs[2].nodes if node.op == "qk_norm"]
    assert [node.inputs[1] for node in norms] == ["blocks.0.q_norm.scale", "blocks.0.k_norm.scale"]
    assert [node.attribute("heads") for node in norms] == [4, 2]


@pytest.mark.parametrize(
    ("spelling", "reason"),
    [
        ({"attention": "both_ways"}, "its mask is neither causal nor a sliding window"),
        ({"attention": "blocks600"}, "its mask depends on the length 600, but not as a sliding window's does"),
        ({"attention": "full"}, "it is not causal"),
        ({"attention": "none"}, "its mask is neither causal nor a sliding window"),
        ({"attention": "swapped_groups"}, "not consecutive features"),
        ({"rope": "squared_positions"}, "its position embedding is not RoPE"),
        ({"qk_norm": "whole"}, "not over each head by itself"),
        ({"qk_norm": "after"}, "not before the rotation"),
        ({"qk_norm": "twice"}, "not each made from one projection"),
        ({"qk_norm": "values"}, "its values are normed"),
    ],
    ids=_spelt,
)
def test_attention_that_is_not_llamas_is_refused_by_reason(spelling: dict[str, str], reason: str) -> None:
    graph = canonicalize(from_torch(Spelt(layers=2, **spelling)))
    with pytest.raises(UnsupportedOperatorError, match=reason) as caught:
        recognize(graph)
    assert len(caught.value.operators) == 2
    assert "at blocks.* (2 times)" in str(caught.value)


@pytest.mark.parametrize("window", [1, 3, 200, 501, 4096, 32768])
@pytest.mark.parametrize("attention", ["window", "eager_window"])
def test_sliding_windows_of_any_length(window: int, attention: str) -> None:
    module = randomize(Spelt(layers=2, attention=f"{attention}{window}"))
    graphs = stages(from_torch(module))
    assert [n.attribute("window") for n in graphs[2].nodes if n.op == "attention"] == [window, window]
    assert_stages_compute(module, graphs)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("family", "fields", "windows"),
    [
        ("mistral", {"sliding_window": 5}, [5, 5]),
        ("mistral", {"sliding_window": 4096}, [4096, 4096]),
        ("mistral", {"sliding_window": None}, [None, None]),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, [None, 4]),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, [4, 4]),
    ],
)
def test_sliding_windows_of_transformers(
    attention: str, family: str, fields: dict[str, Any], windows: list[int | None]
) -> None:
    module = randomize(hugging_face(family=family, attn_implementation=attention, **fields))
    graphs = stages(from_torch(module))
    assert [n.attribute("window") for n in graphs[2].nodes if n.op == "attention"] == windows
    assert_stages_compute(module, graphs)


def test_all_leftovers_are_named_at_once() -> None:
    graph = canonicalize(from_torch(Spelt(layers=2, norm="pow", attention="full", residual="last")))
    doubled = graph.replace(nodes=tuple(_without_activation(node) for node in graph.nodes))
    with pytest.raises(UnsupportedOperatorError) as caught:
        recognize(doubled)
    found = [(u.op, u.source) for u in caught.value.operators]
    assert found == [
        ("scaled_dot_product_attention", "blocks.0"),
        ("scaled_dot_product_attention", "blocks.1"),
        ("tanh", "blocks.0"),
        ("mul", "blocks.0"),
        ("tanh", "blocks.1"),
        ("mul", "blocks.1"),
    ]


def _without_activation(node: Node) -> Node:
    return dataclasses.replace(node, op="tanh") if node.op == "silu" else node


def test_front_end_names_every_unknown_operator() -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        from_torch(Spelt(layers=2, norm="layer", mlp="gelu"), "odd")
    found = {(u.op, u.source) for u in caught.value.operators}
    assert found == {
        *(("layer_norm", f"blocks.{i}.{norm}") for i in range(2) for norm in ("one", "two")),
        ("layer_norm", "last"),
        *(("gelu", f"blocks.{i}") for i in range(2)),
    }
    assert "odd" in str(caught.value)
    assert "gelu at blocks.* (2 times)" in str(caught.value)


def test_buffer_without_value_needs_the_option() -> None:
    with torch.device("meta"):
        module = Spelt()
    with pytest.raises(MissingBufferError, match=r"'frequencies' \[4\].*inv_freq=") as caught:
        from_torch(module)
    assert caught.value.buffer == "frequencies"
    recognised = stages(from_torch(module, inv_freq=FREQUENCIES))[2]
    assert recognised.constants[0].values == tuple(float(np.float32(f)) for f in FREQUENCIES)


def test_more_than_the_logits_is_refused() -> None:
    class Two(Spelt):
        def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits = super().forward(tokens)
            return logits, logits

    with pytest.raises(UnsupportedOperatorError, match="the output, the logits, is not one value but 2"):
        recognize(canonicalize(from_torch(Two())))


def test_stored_tables_are_refused_with_the_way_out() -> None:
    class Stored(Spelt):
        def __init__(self) -> None:
            super().__init__(rope="chunk")
            self.register_buffer("angle_table", torch.outer(torch.arange(64.0), self.frequencies))

        def _angles(self, tokens: int) -> torch.Tensor:
            return self.angle_table[:tokens]

    with pytest.raises(UnsupportedOperatorError, match="stored tables; make them in forward"):
        recognize(canonicalize(from_torch(Stored())))


LINEARS = {
    # spelling of the linears: what a linear reads beside its input, its attributes; q first, gate, down
    "module": (1, {}, 1, {}, 1),
    "bias": (2, {}, 1, {}, 1),
    "added_bias": (2, {}, 1, {}, 1),
    "bias_everywhere": (2, {}, 2, {}, 2),
    "packed": (1, {"start": 0, "stop": 32}, 1, {"start": 0, "stop": 48}, 1),
    "packed_bias": (2, {"start": 0, "stop": 32}, 1, {"start": 0, "stop": 48}, 1),
    "product": (1, {}, 1, {}, 1),
    "transposed": (1, {"transpose": True}, 1, {"transpose": True}, 1),
}


@pytest.mark.parametrize("linear", LINEARS)
def test_linears_in_every_spelling(linear: str) -> None:
    module = randomize(Spelt(linear=linear))
    graphs = stages(from_torch(module))
    assert_stages_compute(module, graphs)
    linears = [node for node in graphs[2].nodes if node.op == "linear"]
    q, _, _, _, gate, _, down = linears
    found = (len(q.inputs) - 1, dict(q.attributes), len(gate.inputs) - 1, dict(gate.attributes), len(down.inputs) - 1)
    assert found == LINEARS[linear]


def test_packed_parts_follow_each_other_and_read_one_weight() -> None:
    q, k, v, *_ = (n for n in stages(from_torch(Spelt(linear="packed_bias")))[2].nodes if n.op == "linear")
    assert [(n.attribute("start"), n.attribute("stop")) for n in (q, k, v)] == [(0, 32), (32, 48), (48, 64)]
    assert {n.inputs[1:] for n in (q, k, v)} == {("blocks.0.qkv.packed.weight", "blocks.0.qkv.packed.bias")}


def test_a_head_may_have_a_bias_and_an_embedding_a_padding_index() -> None:
    module = Spelt()
    module.table = torch.nn.Embedding(VOCAB, 32, padding_idx=0)
    module.logits = torch.nn.Linear(32, VOCAB)
    graphs = stages(from_torch(randomize(module)))
    assert_stages_compute(module, graphs)
    assert graphs[2].nodes[-1].inputs[1:] == ("logits.weight", "logits.bias")


def test_exported_program_needs_dynamic_tokens() -> None:
    module, tokens = Spelt(), torch.zeros((1, 9), dtype=torch.int64)
    with pytest.raises(ExportError, match="number of tokens is fixed to 9"):
        from_exported(torch.export.export(module, (tokens,), strict=False))
    dynamic = ({1: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (tokens,), dynamic_shapes=dynamic, strict=False)
    assert str(from_exported(program, "m")) == str(from_torch(module, "m"))


def test_module_that_takes_something_else() -> None:
    with pytest.raises(ExportError, match=r"Linear cannot be exported as forward\(tokens"):
        from_torch(torch.nn.Linear(3, 3))


def test_every_node_of_a_layer_knows_its_module() -> None:
    recognised = stages(from_torch(Llama(OURS)))[2]
    sources = [node.source for node in recognised.nodes if node.op != "head"]
    assert all(source.startswith("model.") for source in sources)
    assert recognised.nodes[3].source == "model.layers.0.self_attn"


def test_llama_8b_on_meta() -> None:
    with torch.device("meta"):
        module = Llama(config("llama3.1-8b"))
    recognised = stages(from_torch(module, "llama3.1-8b"))[2]
    assert Counter(node.op for node in recognised.nodes) == {
        "linear": 32 * 7,
        "rmsnorm": 32 * 2 + 1,
        "rope": 32 * 2,
        "attention": 32,
        "swiglu": 32,
        "add": 32 * 2,
        "embedding": 1,
        "head": 1,
    }
    assert len(recognised.parameters) == 32 * 9 + 3
    assert recognised.constants[0].type.shape == (64,)
    assert parse_graph(str(recognised)) == recognised
