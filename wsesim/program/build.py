"""Kernels of one layer from its dimensions, without a model's graph: for measurements and for architects."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.program.collectives import COLLECTIVES, is_collective
from wsesim.program.gemm import ALGORITHMS, RINGS
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
from wsesim.program.kv import DEFAULT_CACHE, KV_DTYPES, POLICIES, KVCache
from wsesim.program.layout import Heads, Layout, Uniform
from wsesim.program.parts import Block
from wsesim.program.prompt_kernels import (
    Align,
    Gemm,
    PromptKernel,
    TokenAdd,
    TokenNorm,
    TokenRope,
    TokenSoftmax,
    TokenSwiGLU,
)

EPS = 1e-5  # decides no cycle


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Dimensions of a Llama-like layer.

    qk_norm: each head of q and k is normalised before its rotation. gated: the result of attention is multiplied by the
    sigmoid of another projection of the layer's input, as wide as q.
    """

    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_dim: int
    qk_norm: bool = False
    gated: bool = False


def layer_kernels(
    shape: LayerShape, block: Block, reduce: str, cache: KVCache = DEFAULT_CACHE, *, fused: bool = False
) -> dict[str, Kernel]:
    """The layer's kernels on `block` by role, in dependency order; every collective is `reduce`.

    `fused`: softmax and weighted sum are one kernel. Raises InvalidInputError and UnknownNameError for dimensions, a
    block, a collective or a cache that no layer has.
    """
    _check_layer(shape, block, reduce, cache)
    residual, hidden = Uniform(shape.dim, block.along), Uniform(shape.ffn_dim, block.across)
    query = Heads(shape.kv_heads, shape.heads // shape.kv_heads, shape.head_dim, block.across, "half")
    key = Heads(shape.kv_heads, 1, shape.head_dim, block.across, "half")
    on = block.name

    def linear(role: str, source: str, layout: Layout, axis: str, **outputs: Layout) -> Linear:
        made = tuple(Output(value, WeightRef(f"{role}.{value}", 0, out.size), out) for value, out in outputs.items())
        return Linear(role, on, source, layout, axis, made, reduce, True)

    def norm(role: str, source: str) -> RMSNorm:
        return RMSNorm(role, on, source, f"{role}.out", WeightRef(role, 0, shape.dim), residual, EPS, reduce)

    gates: dict[str, Layout] = {"gate": query} if shape.gated else {}
    opened = Uniform(query.size, block.across)  # a sigmoid and a product cost what SwiGLU does
    gate = (SwiGLU("attn_gate", on, "gate", "mixed", "opened", opened),) if shape.gated else ()
    kernels: tuple[Kernel, ...] = (
        norm("attn_norm", "x"),
        linear("qkv", "attn_norm.out", residual, ALONG, q=query, k=key, v=key, **gates),
        *_turned(shape, on, (query, key), reduce),
        Score("score", on, "q.turned", "k.turned", "scores", query, key, shape.head_dim**-0.5, reduce, cache),
        *_mixed(on, query, key, reduce, cache, fused),
        *gate,
        linear("o", gate[0].target if gate else "mixed", query, ACROSS, attended=residual),
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


def prefill_kernels(
    shape: LayerShape, block: Block, tokens: int, algorithm: str, reduce: str = "two_phase"
) -> dict[str, PromptKernel]:
    """The kernels of one layer for a whole prompt of `tokens` on a square block, by role, in dependency order.

    As in WaferLLM's prefill, `algorithm` computes every product. Queries, keys and values share one alignment of their
    input, and so do gate and up. The scores are a transposed product, which needs a ring even with summa. Nothing is
    masked. Raises InvalidInputError for a block that is not square and for a layer with several heads, and
    UnknownNameError.
    """
    _check_prompt(shape, block, tokens, algorithm)
    on, dim, ffn = block.name, shape.dim, shape.ffn_dim
    turning = algorithm if algorithm in RINGS else "meshgemm"

    def norm(role: str, source: str) -> TokenNorm:
        return TokenNorm(role, on, source, f"{role}.out", tokens, dim, reduce)

    def align(value: str, rows: int, columns: int, across: bool = True) -> tuple[Align, ...]:
        moved = Align(f"align_{value}", on, value, rows, columns, across, turning)
        return (moved,) if algorithm in RINGS or value in ("k", "scores") else ()

    def gemm(role: str, left: str, right: str, target: str, inner: int, columns: int) -> Gemm:
        return Gemm(role, on, left, right, target, tokens, inner, columns, False, algorithm)

    def scores() -> tuple[PromptKernel, ...]:
        product = Gemm("score", on, "q", "k", "scores", tokens, dim, tokens, True, turning)
        return *align("k", tokens, dim, across=False), product, *align("scores", tokens, tokens)

    kernels: tuple[PromptKernel, ...] = (
        norm("attn_norm", "x"),
        *align("attn_norm.out", tokens, dim),
        *(gemm(value, "attn_norm.out", f"{value}.weight", value, dim, dim) for value in ("q", "k", "v")),
        *(TokenRope(f"rope_{value}", on, value, value, tokens, dim) for value in ("q", "k")),
        *scores(),
        TokenSoftmax("softmax", on, "scores", "shares", tokens, reduce),
        *align("shares", tokens, tokens),
        *align("v", tokens, dim, across=False),
        gemm("weighted_sum", "shares", "v", "mixed", tokens, dim),
        *align("mixed", tokens, dim),
        gemm("o", "mixed", "o.weight", "attended", dim, dim),
        TokenAdd("attn_add", on, "x", "attended", "y", tokens, dim),
        norm("ffn_norm", "y"),
        *align("ffn_norm.out", tokens, dim),
        *(gemm(value, "ffn_norm.out", f"{value}.weight", value, dim, ffn) for value in ("up", "gate")),
        TokenSwiGLU("swiglu", on, "gate", "up", "gated", tokens, ffn),
        *align("gated", tokens, ffn),
        gemm("down", "gated", "down.weight", "fed", ffn, dim),
        TokenAdd("ffn_add", on, "y", "fed", "z", tokens, dim),
    )
    return {kernel.name: kernel for kernel in kernels}


def _check_layer(shape: LayerShape, block: Block, reduce: str, cache: KVCache) -> None:
    sizes = {name: getattr(shape, name) for name in ("dim", "heads", "kv_heads", "head_dim", "ffn_dim")}
    for name, size in {**sizes, "block.columns": block.columns, "block.rows": block.rows}.items():
        if size < 1:
            raise InvalidInputError(f"{name} is {size}; it is at least 1")
    if shape.heads % shape.kv_heads:
        raise InvalidInputError(f"{shape.heads} heads do not share {shape.kv_heads} KV heads evenly")
    if shape.head_dim % 2:
        raise InvalidInputError(f"head_dim is {shape.head_dim}; a rotation needs an even one")
    if block.axis != "rows":
        raise UnknownNameError("axis", block.axis, ("rows",))
    if not is_collective(reduce):
        raise UnknownNameError("collective", reduce, COLLECTIVES, "or two_phase:GROUPS")
    if cache.policy not in POLICIES:
        raise UnknownNameError("KV policy", cache.policy, POLICIES)
    if cache.dtype not in (None, *KV_DTYPES):
        raise UnknownNameError("KV dtype", str(cache.dtype), KV_DTYPES)


def _check_prompt(shape: LayerShape, block: Block, tokens: int, algorithm: str) -> None:
    if algorithm not in ALGORITHMS:
        raise UnknownNameError("algorithm of a matrix product", algorithm, ALGORITHMS)
    if block.rows != block.columns:
        raise InvalidInputError(
            f"block {block.name} is {block.columns} x {block.rows} PEs; a prompt needs a square one"
        )
    if block.rect.pes != block.pes:
        raise InvalidInputError(f"block {block.name} leaves out PEs; a prompt needs a block without gaps")
    for name, size in (("dim", shape.dim), ("ffn_dim", shape.ffn_dim), ("block.columns", block.columns)):
        if size < 1:
            raise InvalidInputError(f"{name} is {size}; it is at least 1")
    if tokens < 1:
        raise InvalidInputError(f"a prompt of {tokens} tokens; it has at least 1")
    if (shape.heads, shape.kv_heads, shape.head_dim) != (1, 1, shape.dim):
        raise InvalidInputError(
            f"a prompt on a shared block is laid out for one head as wide as the layer ({shape.dim}), "
            f"not {shape.heads} heads and {shape.kv_heads} KV heads of {shape.head_dim}"
        )
