"""Files of onnxruntime-genai's operators, fp32 and int4: the model of torch's graph, the numbers of onnxruntime."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tests.compiler_modules import VOCAB, tokens_of
from tests.onnx_genai import BLOCK, quantized, write_genai
from tests.onnx_models import model, session
from tests.programs import recognised_graph
from wsesim_compiler.errors import UnsupportedOperatorError
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.interpret import interpret
from wsesim_compiler.lower import understand
from wsesim_compiler.roles import named_by_role
from wsesim_models.config import config

IDS = [int(i) for i in tokens_of()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama3.1-8b", "llama3.1-70b"])
def test_a_large_model_without_weights_is_the_same_graph(name: str, tmp_path: Path) -> None:
    """From a file of some hundred kilobytes. Frequencies in float32 and in float64 differ in the last bit."""
    ours = config(name)
    rope = {"rope_type": "llama3", "rope_theta": ours.rope_theta, "original_max_position_embeddings": 8192}
    rope |= {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    theirs = LlamaConfig(
        vocab_size=ours.vocab_size, hidden_size=ours.dim, intermediate_size=ours.ffn_dim, num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads, num_key_value_heads=ours.kv_heads, head_dim=ours.head_dim,
        rms_norm_eps=ours.norm_eps, rope_parameters=rope, max_position_embeddings=8192,
    )  # fmt: skip
    with torch.device("meta"):
        module = LlamaForCausalLM(theirs)
    module.model.rotary_emb = LlamaRotaryEmbedding(theirs)
    path = write_genai(module, tmp_path / "model.onnx")
    read = from_onnx(path)
    made, expected = (named_by_role(graph) for graph in (understand(read.graph), recognised_graph(ours)))
    assert made.nodes == tuple(
        dataclasses.replace(n, source=m.source) for n, m in zip(expected.nodes, made.nodes, strict=True)
    )
    assert made.parameters == expected.parameters
    np.testing.assert_allclose(made.constants[0].values, expected.constants[0].values, rtol=1e-6)
    assert len(read.weights.missing()) == 7 * ours.layers + 2


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("softcap", 30.0, "with softcap 30.0"),
        ("smooth_softmax", 1, "with smooth_softmax 1"),
        ("sliding_window_cache", 1, "with sliding_window_cache and no window"),
        ("rotary_embedding_dim", 8, "with rotary_embedding_dim"),
        ("num_heads", 5, "of 5 and 2 heads packed in 128 features"),
    ],
)
def test_what_attention_asks_for_beside_is_refused(attribute: str, value: Any, reason: str, tmp_path: Path) -> None:
    path = write_genai(model("llama"), tmp_path / "model.onnx")
    file = onnx.load(path, load_external_data=False)
    node = next(node for node in file.graph.node if node.op_type == "GroupQueryAttention")
    kept = [a for a in node.attribute if a.name != attribute]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(attribute, value)])
    path.write_bytes(file.SerializeToString())
    with pytest.raises(UnsupportedOperatorError, match=f"com.microsoft.GroupQueryAttention at .*: {reason}"):
        from_onnx(path)


def test_tables_that_are_not_ropes_are_refused(tmp_path: Path) -> None:
    path = write_genai(model("llama"), tmp_path / "model.onnx")
    file = onnx.load(path)
    table = next(tensor for tensor in file.graph.initializer if tensor.name == "cos_cache")
    table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table) * 1.5, "cos_cache"))
    onnx.save(file, path)
    with pytest.raises(UnsupportedOperatorError, match="tables that are not the cosines and sines of positions"):
        from_onnx(path)


@pytest.mark.parametrize(
    ("bits", "points"), [(4, "none"), (4, "packed"), (4, "floats"), (2, "packed"), (8, "none"), (8, "packed")]
)
@pytest.mark.parametrize("columns", [64, 80])
def test_quantised_weights_are_what_onnxruntime_multiplies_by(
    bits: int, points: str, columns: int, tmp_path: Path
) -> None:
    rows, count, rng = 6, -(-columns // BLOCK), np.random.default_rng(0)
    arrays = {
        "q": rng.integers(0, 256, (rows, count, BLOCK * bits // 8), np.uint8),
        "scales": rng.standard_normal((rows, count)).astype(np.float32),
    }
    if points == "packed":
        arrays["points"] = rng.integers(0, 256, (rows, -(-count * bits // 8)), np.uint8)
    elif points == "floats":
        arrays["points"] = rng.uniform(0, 15, (rows, count)).astype(np.float32)
    table = rng.standard_normal((VOCAB, columns)).astype(np.float32)
    path = one_product(tmp_path, table, arrays, K=columns, N=rows, bits=bits, block_size=BLOCK)
    read = from_onnx(path)
    expected = session(path).run(None, {"tokens": np.arange(VOCAB)[None]})[0][0]
    np.testing.assert_allclose(table.astype(np.float64) @ read.weights.load("q").T, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(read.weights.raw("q")[1], read.weights.load("q"))


def one_product(folder: Path, table: np.ndarray, arrays: dict[str, np.ndarray], **sizes: int) -> Path:
    nodes = [
        onnx.helper.make_node("Gather", ["table", "tokens"], ["x"]),
        onnx.helper.make_node("MatMulNBits", ["x", *arrays], ["y"], domain="com.microsoft", **sizes),
    ]
    return write(folder, nodes, {"table": table, **arrays})


def write(
    folder: Path, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], output: str = "y", opset: int = 21
) -> Path:
    """A file of these nodes, from tokens [1, T] to the float output."""
    tokens = onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, [1, "T"])
    made = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "main", [tokens], [made], tensors)
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_a_quantised_table_shared_with_the_head_is_one_weight(tmp_path: Path) -> None:
    stored, scales = quantized(np.random.default_rng(0).standard_normal((VOCAB, 64)).astype(np.float32))
    sizes = {"K": 64, "N": VOCAB, "bits": 4, "block_size": BLOCK}
    nodes = [
        onnx.helper.make_node("Reshape", ["q", "flat"], ["rows"]),
        onnx.helper.make_node(
            "GatherBlockQuantized", ["rows", "tokens", "scales"], ["x"], domain="com.microsoft", bits=4,
            block_size=BLOCK, gather_axis=0, quantize_axis=1,
        ),
        onnx.helper.make_node("MatMulNBits", ["x", "q", "scales"], ["y"], domain="com.microsoft", **sizes),
    ]  # fmt: skip
    path = write(tmp_path, nodes, {"q": stored, "scales": scales, "flat": np.array([VOCAB, 32])})
    assert [parameter.name for parameter in from_onnx(path).graph.parameters] == ["q"]
    assert_computes_ids(path)


def assert_computes_ids(path: Path) -> None:
    read = from_onnx(path)
    ids = np.array([IDS])
    np.testing.assert_allclose(
        interpret(read.graph, read.weights.load, {"tokens": ids})[0],
        session(path).run(None, {"tokens": ids})[0],
        atol=1e-4,
    )


HEADS, SIZE = 4, 16


def projected(rng: np.random.Generator) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """q, k, v [1, T, 64] of the tokens, and the tables of a rotation."""
    angles = np.outer(np.arange(32), 100.0 ** (-np.arange(SIZE // 2) / 8)).astype(np.float32)
    arrays = {
        "table": rng.standard_normal((VOCAB, 24)).astype(np.float32),
        **{f"w{part}": rng.standard_normal((24, HEADS * SIZE)).astype(np.float32) for part in "qkv"},
        "cos": np.cos(angles),
        "sin": np.sin(angles),
        "zero": np.array(0),
        "one": np.array(1),
        "first": np.array([0]),
    }
    nodes = [
        onnx.helper.make_node("Gather", ["table", "tokens"], ["x"]),
        *(onnx.helper.make_node("MatMul", ["x", f"w{part}"], [part]) for part in "qkv"),
        onnx.helper.make_node("Shape", ["tokens"], ["count1"], start=1),
        onnx.helper.make_node("Squeeze", ["count1"], ["count"]),
        onnx.helper.make_node("Range", ["zero", "count", "one"], ["line"]),
        onnx.helper.make_node("Unsqueeze", ["line", "first"], ["positions"]),
    ]
    return nodes, arrays


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("mask", ["causal", "bias"])
def test_onnxruntimes_rotation_and_attention(interleaved: int, mask: str, tmp_path: Path) -> None:
    nodes, arrays = projected(np.random.default_rng(0))
    arrays["packed"] = np.random.default_rng(1).standard_normal(3 * HEADS * SIZE).astype(np.float32)
    arrays |= {"lowest": np.array(-1e9, np.float32), "shape": np.array([1, 1, -1, 1])}
    nodes += [
        *(
            onnx.helper.make_node(
                "RotaryEmbedding", [part, "positions", "cos", "sin"], [f"{part}r"], domain="com.microsoft",
                interleaved=interleaved,
            )
            for part in "qk"
        ),
        onnx.helper.make_node("Reshape", ["line", "shape"], ["rows"]),
        onnx.helper.make_node("Less", ["rows", "line"], ["later"]),
        onnx.helper.make_node("Cast", ["later"], ["hidden"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", ["hidden", "lowest"], ["bias"]),
        onnx.helper.make_node(
            "MultiHeadAttention", ["qr", "kr", "v", "packed", "", "bias" if mask == "bias" else ""], ["y"],
            domain="com.microsoft", num_heads=HEADS, unidirectional=int(mask == "causal"),
        ),
    ]  # fmt: skip
    assert_computes_ids(write(tmp_path, nodes, arrays))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_opset_23s_rotation_and_attention(interleaved: int, tmp_path: Path) -> None:
    """By positions in stored tables, three dimensions, causal without a mask."""
    nodes, arrays = projected(np.random.default_rng(0))
    nodes += [
        *(
            onnx.helper.make_node(
                "RotaryEmbedding", [part, "cos", "sin", "positions"], [f"{part}r"], interleaved=interleaved,
                num_heads=HEADS,
            )
            for part in "qk"
        ),
        onnx.helper.make_node(
            "Attention", ["qr", "kr", "v"], ["y"], q_num_heads=HEADS, kv_num_heads=HEADS, is_causal=1, scale=0.3
        ),
    ]  # fmt: skip
    assert_computes_ids(write(tmp_path, nodes, arrays, opset=23))
