"""Kernels of one layer by its dimensions, where no model's graph is needed: for measurements and for architects."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    Add,
    Kernel,
    Linear,
    Output,
    QKNorm,
    RMSNorm,
    Rope,
    Score,
    Softmax,
    SwiGLU,
    WeightedSum,
    WeightRef,
)
from wsesim.program.kv import DEFAULT_CACHE, KVCache
from wsesim.program.layout import Heads, Layout, Uniform
from wsesim.program.program import Block

EPS = 1e-5  # decides no cycle


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Dimensions of a Llama-like layer; `qk_norm`: each head of q and k is normalised before its rotation."""

    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_dim: int
    qk_norm: bool = False


def layer_kernels(shape: LayerShape, block: Block, reduce: str, cache: KVCache = DEFAULT_CACHE) -> dict[str, Kernel]:
    """The layer's kernels on `block` by role, in dependency order; every collective is `reduce`."""
    residual, hidden = Uniform(shape.dim, block.along), Uniform(shape.ffn_dim, block.across)
    query = Heads(shape.kv_heads, shape.heads // shape.kv_heads, shape.head_dim, block.across, "half")
    key = Heads(shape.kv_heads, 1, shape.head_dim, block.across, "half")
    on = block.name

    def linear(role: str, source: str, layout: Layout, axis: str, **outputs: Layout) -> Linear:
        made = tuple(Output(value, WeightRef(f"{role}.{value}", 0, out.size), out) for value, out in outputs.items())
        return Linear(role, on, source, layout, axis, made, reduce, True)

    def norm(role: str, source: str) -> RMSNorm:
        return RMSNorm(role, on, source, f"{role}.out", WeightRef(role, 0, shape.dim), residual, EPS, reduce)

    def head_norm() -> QKNorm:
        weights = tuple(WeightRef(f"qk_norm.{value}", 0, shape.head_dim) for value in "qk")
        made = tuple(f"{value}.normed" for value in "qk")
        return QKNorm("qk_norm", on, ("q", "k"), made, (query, key), weights, (EPS, EPS), reduce)

    norms = (head_norm(),) if shape.qk_norm else ()
    turned_from = norms[0].targets if norms else ("q", "k")
    kernels: tuple[Kernel, ...] = (
        norm("attn_norm", "x"),
        linear("qkv", "attn_norm.out", residual, ALONG, q=query, k=key, v=key),
        *norms,
        Rope("rope", on, turned_from, ("q.turned", "k.turned"), (query, key), (1.0,) * (shape.head_dim // 2)),
        Score("score", on, "q.turned", "k.turned", "scores", query, key, shape.head_dim**-0.5, reduce, cache),
        Softmax("softmax", on, "scores", "shares", query, reduce, cache),
        WeightedSum("weighted_sum", on, "shares", "v", "mixed", query, key, reduce, cache),
        linear("o", "mixed", query, ACROSS, attended=residual),
        Add("attn_add", on, "x", "attended", "y", residual),
        norm("ffn_norm", "y"),
        linear("gate_up", "ffn_norm.out", residual, ALONG, gate=hidden, up=hidden),
        SwiGLU("swiglu", on, "gate", "up", "gated", hidden),
        linear("down", "gated", hidden, ACROSS, fed=residual),
        Add("ffn_add", on, "y", "fed", "z", residual),
    )
    return {kernel.name: kernel for kernel in kernels}
