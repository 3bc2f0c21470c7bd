"""A toy Llama for the tests of execute: a Program built by hand, its weights, and the same model in plain NumPy
float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    Add,
    Embed,
    FlashSum,
    Kernel,
    Linear,
    Output,
    QKNorm,
    RMSNorm,
    Rope,
    Sample,
    Score,
    Softmax,
    SwiGLU,
    WeightedSum,
    WeightRef,
)
from wsesim.program.kv import DEFAULT_CACHE, KVCache
from wsesim.program.layout import Heads, Layout, Uniform
from wsesim.program.parts import Block, Feedback, Transfer

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]


@dataclass(frozen=True)
class Toy:
    """Sizes of the model and of its blocks. Layer l lies on a block of along[l] x across positions."""

    vocabulary: int = 50
    dim: int = 36
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 8
    ffn: int = 44
    eps: float = 1e-5
    theta: float = 10000.0
    along: tuple[int, ...] = (7, 5)
    across: int = 9
    reduce: str = "chain"
    pairing: str = "half"
    max_context: int = 512
    tied: bool = True
    qk_norm: bool = False
    cache: KVCache = DEFAULT_CACHE
    fused: bool = False
    biased: bool = False

    @property
    def inv_freq(self) -> tuple[float, ...]:
        return tuple(float(np.float32(self.theta ** (-i / self.head_dim))) for i in range(0, self.head_dim, 2))


class Store:
    """A WeightStore over arrays; it counts what is loaded."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays
        self.loads: list[str] = []

    def names(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def load(self, name: str) -> Array:
        self.loads.append(name)
        return self.arrays[name]


class Bf16Store(Store):
    """A Store that offers bf16 values raw. Matrices must not be read with `load`."""

    def raw(self, name: str) -> tuple[str, NDArray[np.uint16]]:
        return "bf16", (self.arrays[name].view(np.uint32) >> 16).astype(np.uint16)


def weights(toy: Toy, seed: int = 0) -> dict[str, Array]:
    """Random weights in float32, by the names of the Program."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> Array:
        values: Array = (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return values

    q, kv = toy.heads * toy.head_dim, toy.kv_heads * toy.head_dim
    made = {"embed": matrix(toy.vocabulary, toy.dim) * np.float32(4), "norm": _gain(rng, toy.dim)}
    if not toy.tied:
        made["head"] = matrix(toy.vocabulary, toy.dim)
    for layer in range(len(toy.along)):
        made |= {
            f"{layer}.norm1": _gain(rng, toy.dim),
            f"{layer}.qkv": matrix(q + 2 * kv, toy.dim),
            f"{layer}.o": matrix(q, toy.dim) * np.float32(1.1),  # [in, out]: stored transposed
            f"{layer}.norm2": _gain(rng, toy.dim),
            f"{layer}.gate": matrix(toy.ffn, toy.dim),
            f"{layer}.up": matrix(toy.ffn, toy.dim),
            f"{layer}.down": matrix(toy.dim, toy.ffn),
        }
        if toy.biased:
            made |= {f"{layer}.qkv_bias": _gain(rng, q + 2 * kv), f"{layer}.down_bias": _gain(rng, toy.dim)}
        if toy.qk_norm:
            made |= {f"{layer}.{part}_norm": _gain(rng, toy.head_dim) for part in "qk"}
    return made


def _gain(rng: np.random.Generator, size: int) -> Array:
    return (1 + 0.1 * rng.standard_normal(size)).astype(np.float32)


def program(toy: Toy) -> Program:
    blocks: list[Block] = []
    kernels: list[Kernel] = []
    transfers: list[Transfer] = []
    for layer, along in enumerate(toy.along):
        name = f"b{layer}"
        blocks.append(Block(name, 0, 0, along, toy.across, "columns"))
        x = Uniform(toy.dim, along)
        if layer == 0:
            vocabulary = Uniform(toy.vocabulary, toy.across)
            kernels.append(Embed("embed", name, "x0", WeightRef("embed", 0, toy.vocabulary), vocabulary, x))
        else:
            before = Uniform(toy.dim, toy.along[layer - 1])
            transfers.append(Transfer(f"t{layer}", f"x{layer}", f"b{layer - 1}", name, before, x, "reslice", ()))
        kernels += _layer(toy, layer, name, x)
    kernels += _head(toy, name, x)
    return Program(
        model="toy",
        strategy="explicit",
        machine=load_machine("toy4x4"),
        max_context=toy.max_context,
        sequences=1,
        timing_dtype="fp16",
        prefill_chunk=1,
        vocabulary=toy.vocabulary,
        dimension=toy.dim,
        blocks=tuple(blocks),
        kernels=tuple(kernels),
        stages=(),
        transfers=tuple(transfers),
        feedback=Feedback(source=name, target="b0", colours=()),
        colours=(),
        memory=(),
    )


def _layer(toy: Toy, layer: int, block: str, x: Uniform) -> list[Kernel]:
    def value(name: str) -> str:
        return f"{layer}.{name}"

    def linear(name: str, source: str, layout: Layout, axis: str, *outputs: Output) -> Linear:
        return Linear(value(name), block, source, layout, axis, outputs, toy.reduce, True)

    q_layout = Heads(toy.kv_heads, toy.heads // toy.kv_heads, toy.head_dim, toy.across, toy.pairing)
    kv_layout = Heads(toy.kv_heads, 1, toy.head_dim, toy.across, toy.pairing)
    ffn = Uniform(toy.ffn, toy.across)
    q, kv = q_layout.size, kv_layout.size

    def part(name: str, start: int, stop: int, layout: Layout) -> Output:
        bias = WeightRef(value("qkv_bias"), start, stop) if toy.biased else None
        return Output(value(name), WeightRef(qkv, start, stop), layout, bias)

    def norm(name: str, source: str, target: str) -> RMSNorm:
        gain = WeightRef(value(name), 0, toy.dim)
        return RMSNorm(value(name), block, source, value(target), gain, x, toy.eps, toy.reduce)

    down_bias = WeightRef(value("down_bias"), 0, toy.dim) if toy.biased else None
    qkv, scale, layouts = value("qkv"), toy.head_dim**-0.5, (q_layout, kv_layout)
    rotated = (value("qr"), value("kr"))
    gains = tuple(WeightRef(value(f"{part}_norm"), 0, toy.head_dim) for part in "qk")
    normed, epses = (value("qn"), value("kn")), (toy.eps, 2 * toy.eps)
    parts = (value("q"), value("k"))
    norms = [QKNorm(value("qk_norm"), block, parts, normed, layouts, gains, epses, toy.reduce)] if toy.qk_norm else []
    two_pass = [
        Softmax(value("softmax"), block, value("s"), value("p"), q_layout, toy.reduce, toy.cache),
        WeightedSum(value("sum"), block, value("p"), value("v"), value("a"), *layouts, toy.reduce, toy.cache),
    ]
    flash = [FlashSum(value("sum"), block, value("s"), value("v"), value("a"), *layouts, toy.reduce, toy.cache)]
    turned_from = normed if toy.qk_norm else parts
    return [
        norm("norm1", f"x{layer}", "n1"),
        linear("qkv", value("n1"), x, ALONG,
               part("q", 0, q, q_layout), part("k", q, q + kv, kv_layout), part("v", q + kv, q + 2 * kv, kv_layout)),
        *norms,
        Rope(value("rope"), block, turned_from, rotated, layouts, toy.inv_freq),
        Score(value("score"), block, *rotated, value("s"), *layouts, scale, toy.reduce, toy.cache),
        *(flash if toy.fused else two_pass),
        linear("o", value("a"), q_layout, ACROSS, Output(value("y"), WeightRef(value("o"), 0, toy.dim, True), x)),
        Add(value("add1"), block, f"x{layer}", value("y"), value("m"), x),
        norm("norm2", value("m"), "n2"),
        linear("ffn", value("n2"), x, ALONG,
               Output(value("g"), WeightRef(value("gate"), 0, toy.ffn), ffn),
               Output(value("u"), WeightRef(value("up"), 0, toy.ffn), ffn)),
        SwiGLU(value("swiglu"), block, value("g"), value("u"), value("h"), ffn),
        linear("down", value("h"), ffn, ACROSS, Output(value("d"), WeightRef(value("down"), 0, toy.dim), x, down_bias)),
        Add(value("add2"), block, value("m"), value("d"), f"x{layer + 1}", x),
    ]  # fmt: skip


def _head(toy: Toy, block: str, x: Uniform) -> list[Kernel]:
    logits = Uniform(toy.vocabulary, toy.across)
    head = WeightRef("embed" if toy.tied else "head", 0, toy.vocabulary)
    return [
        RMSNorm("norm", block, f"x{len(toy.along)}", "n", WeightRef("norm", 0, toy.dim), x, toy.eps, toy.reduce),
        Linear("head", block, "n", x, ALONG, (Output("logits", head, logits),), toy.reduce, False),
        Sample("sample", block, "logits", "id", logits, 8, toy.reduce),
    ]  # fmt: skip


def llama64(toy: Toy, arrays: Mapping[str, Array], ids: list[int]) -> Array64:
    """Logits [T, vocabulary] of the same model in float64, from whole matrices, with positions from 0."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    x = w["embed"][ids]
    for layer in range(len(toy.along)):
        x = x + _attention64(toy, w, layer, _norm64(x, w[f"{layer}.norm1"], toy.eps))
        n = _norm64(x, w[f"{layer}.norm2"], toy.eps)
        gate = n @ w[f"{layer}.gate"].T
        x = (
            x
            + (gate / (1 + np.exp(-gate)) * (n @ w[f"{layer}.up"].T)) @ w[f"{layer}.down"].T
            + w.get(f"{layer}.down_bias", 0)
        )
    return _norm64(x, w["norm"], toy.eps) @ w["embed" if toy.tied else "head"].T


def _norm64(x: Array64, weight: Array64, eps: float) -> Array64:
    normed: Array64 = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight
    return normed


def _attention64(toy: Toy, w: Mapping[str, Array64], layer: int, n: Array64) -> Array64:
    tokens, q, kv = len(n), toy.heads * toy.head_dim, toy.kv_heads * toy.head_dim
    y = n @ w[f"{layer}.qkv"].T + w.get(f"{layer}.qkv_bias", 0)
    query, key = y[:, :q].reshape(tokens, toy.heads, -1), y[:, q : q + kv].reshape(tokens, toy.kv_heads, -1)
    if toy.qk_norm:
        query = _norm64(query, w[f"{layer}.q_norm"], toy.eps)
        key = _norm64(key, w[f"{layer}.k_norm"], 2 * toy.eps)
    query, key = _rotate64(toy, query), _rotate64(toy, key)
    value = y[:, q + kv :].reshape(tokens, toy.kv_heads, -1)
    group = np.arange(toy.heads) // (toy.heads // toy.kv_heads)
    scores = np.einsum("thd,chd->htc", query, key[:, group]) * toy.head_dim**-0.5
    behind = np.arange(tokens)[:, None] - np.arange(tokens)
    scores[:, (behind < 0) | (behind >= (toy.cache.window or tokens))] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    summed: Array64 = np.einsum("htc,chd->thd", p, value[:, group]).reshape(tokens, q)
    return summed @ w[f"{layer}.o"]


def _rotate64(toy: Toy, x: Array64) -> Array64:
    angle = np.arange(len(x))[:, None, None] * np.array(toy.inv_freq)
    half = toy.head_dim // 2
    first, second = (
        (slice(0, half), slice(half, None)) if toy.pairing == "half" else (slice(0, None, 2), slice(1, None, 2))
    )
    out = np.empty_like(x)
    out[..., first] = x[..., first] * np.cos(angle) - x[..., second] * np.sin(angle)
    out[..., second] = x[..., second] * np.cos(angle) + x[..., first] * np.sin(angle)
    return out
