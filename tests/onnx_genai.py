"""Files as onnxruntime-genai's builder writes them, by hand: the same operators, inputs and outputs, fp32 or int4.

Held against files of the builder itself (0.18.0): packed projections, GroupQueryAttention with do_rotary, residual sums
inside the norms, and MatMulNBits of 4 bits in blocks of 32, symmetric. The builder writes a window for the layers that
the configuration's `layer_types` call sliding; Mistral's has no such field, and the builder would drop its window. Here
it is written, as for layers that slide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCK = 32
MICROSOFT = "com.microsoft"


def write_genai(module: Any, path: Path, *, int4: bool = False) -> Path:
    """A transformers Llama, Mistral, Qwen2 or Qwen3 as the builder would write it, weights in a file beside it.

    Of a module on the meta device the weights are said to be there and are not; RoPE's frequencies have to be real.
    """
    writer = _Writer(module, int4)
    writer.model()
    past, present = writer.caches("past_key_values", "past"), writer.caches("present", "total")
    inputs = [_value("input_ids", ["batch", "sequence"]), _value("attention_mask", ["batch", "total"]), *past]
    logits = _value("logits", ["batch", "sequence", writer.config.vocab_size], TensorProto.FLOAT)
    graph = helper.make_graph(writer.nodes, "main", inputs, [logits, *present], writer.tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    file = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if writer.bare:
        path.write_bytes(file.SerializeToString())
        return path
    onnx.save_model(
        file,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=128,
    )
    return path


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[rows, columns] in 4 bits: (bytes [rows, blocks, 16], low nibble first, zero point 8; scales [rows, blocks])."""
    rows, columns = weight.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = weight
    padded = padded.reshape(rows, blocks, BLOCK)
    scales = np.maximum(np.abs(padded).max(-1) / 7, 1e-8).astype(np.float32)
    values = (np.clip(np.round(padded / scales[..., None]), -8, 7) + 8).astype(np.uint8)
    return values[..., ::2] | values[..., 1::2] << 4, scales


def rounded(weight: np.ndarray) -> np.ndarray:
    """What is left of a weight [rows, columns] in 4 bits."""
    stored, scales = quantized(weight)
    values = np.stack((stored & 15, stored >> 4), -1).reshape(*scales.shape, BLOCK).astype(np.float32) - 8
    left: NDArray[Any] = (values * scales[..., None]).reshape(len(weight), -1)
    return left[:, : weight.shape[1]]


def _value(name: str, shape: list[Any], type_: int = TensorProto.INT64) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type_, shape)


class _Writer:
    """Nodes and initialisers of one model, in order."""

    def __init__(self, module: Any, int4: bool) -> None:
        self.config, self.int4 = module.config, int4
        self.window = getattr(self.config, "sliding_window", None) or -1
        self.weights = {name: _values(p) for name, p in module.named_parameters(remove_duplicate=False)}
        self.bare = any(p.is_meta for p in module.parameters())
        self.layers = self.config.num_hidden_layers
        self.heads, self.kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        self.head_dim = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.heads
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.inv_freq = next(b for name, b in module.named_buffers() if name.endswith("rotary_emb.inv_freq"))

    def caches(self, name: str, rows: str) -> list[onnx.ValueInfoProto]:
        """Keys and values of every layer, of a window those of its positions alone."""
        rows = f"{rows}_{'sliding' if self.window > 0 else 'sequence'}_length"
        shape = ["batch", self.kv_heads, rows, self.head_dim]
        names = [f"{name}.{layer}.{part}" for layer in range(self.layers) for part in ("key", "value")]
        return [_value(n, shape, TensorProto.FLOAT) for n in names]

    def model(self) -> None:
        for name, function in (("cos_cache", torch.cos), ("sin_cache", torch.sin)):
            positions = torch.arange(self.config.max_position_embeddings).float()
            self.tensor(name, function(torch.outer(positions, self.inv_freq)).numpy())
        self.lengths()
        table = self.tensor("model.embed_tokens.weight", self.weights["model.embed_tokens.weight"])
        total = self.node("Gather", [table, "input_ids"], "/embed")
        skip = None
        for layer in range(self.layers):
            total, skip = self.layer(layer, total, skip)
        normed, _ = self.norm("model.norm", total, skip)
        self.linear("lm_head", self.weights["lm_head.weight"], normed, output="logits")

    def lengths(self) -> None:
        """The mask as counts: of the last position, and of all."""
        one = self.tensor("one", np.array([1], np.int64))
        counted = self.node("ReduceSum", ["attention_mask", one], "/mask/sum", keepdims=0)
        self.node("Cast", [self.node("Sub", [counted, one], "/mask/last")], "/mask/last32", to=TensorProto.INT32)
        shape = self.node("Shape", ["attention_mask"], "/mask/shape")
        at = self.tensor("at", np.array(1, np.int64))
        self.node("Cast", [self.node("Gather", [shape, at], "/mask/total")], "/mask/total32", to=TensorProto.INT32)

    def layer(self, index: int, total: str, skip: str | None) -> tuple[str, str]:
        name = f"model.layers.{index}"
        normed, total = self.norm(f"{name}.input_layernorm", total, skip)
        mixed = self.attention(index, normed)
        out = self.linear(f"{name}.self_attn.o_proj", self.weights[f"{name}.self_attn.o_proj.weight"], mixed)
        normed, total = self.norm(f"{name}.post_attention_layernorm", total, out)
        gate, up = (
            self.linear(m := f"{name}.mlp.{p}_proj", self.weights[f"{m}.weight"], normed) for p in ("gate", "up")
        )
        sigmoid = self.node("Sigmoid", [gate], f"/{name}/sigmoid")
        silu = self.node("Mul", [gate, sigmoid], f"/{name}/silu")
        product = self.node("Mul", [silu, up], f"/{name}/product")
        return total, self.linear(f"{name}.mlp.down_proj", self.weights[f"{name}.mlp.down_proj.weight"], product)

    def attention(self, index: int, x: str) -> str:
        name = f"model.layers.{index}.self_attn"
        packed = np.concatenate([self.weights[f"{name}.{part}_proj.weight"] for part in "qkv"])
        query, key, value = self.linear(f"{name}.qkv_proj", packed, x), "", ""
        if f"{name}.q_proj.bias" in self.weights:
            bias = self.tensor(f"{name}.bias", np.concatenate([self.weights[f"{name}.{p}_proj.bias"] for p in "qkv"]))
            query = self.node("Add", [query, bias], f"/{name}/add")
        if f"{name}.q_norm.weight" in self.weights:
            query, key, value = self.normed_heads(name, query)
        past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        inputs = [query, key, value, *past, "/mask/last32", "/mask/total32", "cos_cache", "sin_cache", "", "", ""]
        outputs = [f"/{name}/mixed", f"present.{index}.key", f"present.{index}.value"]
        sliding = {"sliding_window_cache": 1} if self.window > 0 else {}
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention", inputs, outputs, domain=MICROSOFT, num_heads=self.heads,
                kv_num_heads=self.kv_heads, scale=self.head_dim**-0.5, local_window_size=self.window, softcap=0.0,
                do_rotary=1, rotary_interleaved=0, **sliding,
            )
        )  # fmt: skip
        return outputs[0]

    def normed_heads(self, name: str, packed: str) -> tuple[str, str, str]:
        sizes = [self.heads * self.head_dim, *[self.kv_heads * self.head_dim] * 2]
        parts = [f"/{name}/{part}" for part in "qkv"]
        split = self.tensor(f"{name}.sizes", np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [packed, split], parts, axis=-1))
        for index, part in enumerate("qk"):
            rows = self.tensor(f"{name}.{part}.rows", np.array([0, -1, self.head_dim], np.int64))
            whole = self.tensor(f"{name}.{part}.whole", np.array([0, -1, sizes[index]], np.int64))
            heads = self.node("Reshape", [parts[index], rows], f"/{name}/{part}/rows")
            normed, _ = self.norm(f"{name}.{part}_norm", heads, None)
            parts[index] = self.node("Reshape", [normed, whole], f"/{name}/{part}/whole")
        return parts[0], parts[1], parts[2]

    def norm(self, name: str, x: str, skip: str | None) -> tuple[str, str]:
        """The normed sum of x and skip, and the sum."""
        weight, eps = self.tensor(f"{name}.weight", self.weights[f"{name}.weight"]), self.config.rms_norm_eps
        if skip is None:
            return self.node(
                "SimplifiedLayerNormalization", [x, weight], f"/{name}", axis=-1, epsilon=eps, stash_type=1
            ), x
        outputs = [f"/{name}", "", "", f"/{name}/sum"]
        kind = "SkipSimplifiedLayerNormalization"
        self.nodes.append(helper.make_node(kind, [x, skip, weight], outputs, domain=MICROSOFT, epsilon=eps))
        return outputs[0], outputs[3]

    def linear(self, name: str, weight: np.ndarray, x: str, output: str = "") -> str:
        output = output or f"/{name}"
        if not self.int4:
            return self.node("MatMul", [x, self.tensor(f"{name}.MatMul.weight", weight.T)], output)
        stored, scales = quantized(weight)
        inputs = [x, self.tensor(f"{name}.weight_Q4", stored), self.tensor(f"{name}.weight_scales", scales)]
        rows, columns = weight.shape
        sizes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        self.nodes.append(helper.make_node("MatMulNBits", inputs, [output], domain=MICROSOFT, **sizes))
        return output

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, values: np.ndarray) -> str:
        if self.bare and values.size > 1 << 20:
            return self.absent(name, values.shape)
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def absent(self, name: str, shape: tuple[int, ...]) -> str:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="absent.data"))
        self.tensors.append(tensor)
        return name


def _values(parameter: torch.Tensor) -> np.ndarray:
    if parameter.is_meta:
        return np.broadcast_to(np.zeros(1, np.float32), tuple(parameter.shape))
    return np.asarray(parameter.detach().numpy())
