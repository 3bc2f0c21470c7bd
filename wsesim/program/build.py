"""Kernels of one layer by its dimensions, where no model's graph is needed: for measurements and for architects."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    Add,
    FlashSum,
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


def layer_kernels(
    shape: LayerShape, block: Block, reduce: str, cache: KVCache = DEFAULT_CACHE, *, fused: bool = False
) -> dict[str, Kernel]:
    """The layer's kernels on `block` by role, in dependency order; every collective is `reduce`.

    `fused`: softmax and weighted sum are one kernel.
    """
    residual, hidden = Uniform(shape.dim, block.along), Uniform(shape.ffn_dim, block.across)
    query = Heads(shape.kv_heads, shape.heads // shape.kv_heads, shape.head_dim, block.across, "half")
    key = Heads(shape.kv_heads, 1, shape.head_dim, block.across, "half")
    on = block.name

    def linear(role: str, source: str, layout: Layout, axis: str, **outputs: Layout) -> Linear:
        made = tuple(Output(value, WeightRef(f"{role}.{value}", 0, out.size), out) for value, out in outputs.items())
        return Linear(role, on, source, layout, axis, made, reduce, True)

    def norm(role: str, source: str) -> RMSNorm:
        return RMSNorm(role, on, source, f"{role}.out", WeightRef(role, 0, shape.dim), residual, EPS, reduce)

    kernels: tuple[Kernel, ...] = (
        norm("attn_norm", "x"),
        linear("qkv", "attn_norm.out", residual, ALONG, q=query, k=key, v=key),
        *_turned(shape, on, (query, key), reduce),
        Score("score", on, "q.turned", "k.turned", "scores", query, key, shape.head_dim**-0.5, reduce, cache),
        *_mixed(on, query, key, reduce, cache, fused),
        linear("o", "mixed", query, ACROSS, attended=residual),
        Add("attn_add", on, "x", "attended", "y", residual),
        norm("ffn_norm", "y"),
        linear("gate_up", "ffn_norm.out", residual, ALONG, gate=hidden, up=hidden),
        SwiGLU("swiglu", on, "gate", "up", "gated", hidden),
        linear("down", "gated", hidden, ACROSS, fed=residual),
        Add("ffn_add", on, "y", "fed", "z", residual),
    )
    return {kernel.name: kernel for kernel in kernels}


def _turned(shape: LayerShape, on: str, layouts: tuple[Heads, Heads], reduce: str) -> tuple[Kernel, ...]:
    """Queries and keys, normed if that is part of the layer, and rotated."""
    targets, rotations = ("q.turned", "k.turned"), (1.0,) * (shape.head_dim // 2)
    if not shape.qk_norm:
        return (Rope("rope", on, ("q", "k"), targets, layouts, rotations),)
    weights = tuple(WeightRef(f"qk_norm.{value}", 0, shape.head_dim) for value in "qk")
    normed = ("q.normed", "k.normed")
    norm = QKNorm("qk_norm", on, ("q", "k"), normed, layouts, weights, (EPS, EPS), reduce)
    return norm, Rope("rope", on, normed, targets, layouts, rotations)


def _mixed(on: str, query: Heads, key: Heads, reduce: str, cache: KVCache, fused: bool) -> tuple[Kernel, ...]:
    """From scores to the mixed values."""
    if fused:
        return (FlashSum("flash_sum", on, "scores", "v", "mixed", query, key, reduce, cache),)
    return (
        Softmax("softmax", on, "scores", "shares", query, reduce, cache),
        WeightedSum("weighted_sum", on, "shares", "v", "mixed", query, key, reduce, cache),
    )
