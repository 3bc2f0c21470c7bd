"""Operators that sum: products with weights, reductions, softmax and torch's fused attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from wsesim_compiler.ir import Shape
from wsesim_compiler.operators.operator import (
    CANONICAL,
    RAW,
    RECOGNIZED,
    Array,
    Operator,
    axis,
    broadcast,
    operator,
    require,
    with_dim,
)


def linear_shape(
    x: Shape,
    weight: Shape,
    bias: Shape | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    transpose: bool = False,
) -> Shape:
    """x [..., i], weight [o, i] ([i, o] if `transpose`), bias [o] -> [..., stop - start]."""
    require(len(weight) == 2 and len(x) >= 1, f"linear of {list(x)} by a weight {list(weight)}")
    outputs, inputs = reversed(weight) if transpose else weight
    require(x[-1] == inputs, f"{x[-1]} features for a weight {list(weight)}")
    require(bias is None or bias == (outputs,), f"bias {bias} for a weight {list(weight)}")
    end = outputs if stop is None else stop
    require(isinstance(outputs, int) and isinstance(end, int), f"a weight {list(weight)}")
    require(0 <= start < int(end) <= int(outputs), f"rows {start} to {end} of a weight {list(weight)}")
    return (*x[:-1], int(end) - start)


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    transpose: bool = False,
) -> Array:
    """x @ rows.T + bias, of the weight's rows (columns if `transpose`) and the bias's elements [start, stop)."""
    rows = (weight.T if transpose else weight)[start:stop]
    product = x @ rows.T
    return np.asarray(product if bias is None else product + bias[start:stop])


def _embedding_shape(tokens: Shape, weight: Shape) -> Shape:
    require(len(weight) == 2, f"an embedding table {list(weight)}")
    return (*tokens, weight[1])


def _embedding(tokens: Array, weight: Array) -> Array:
    return np.asarray(weight[tokens])


def _matmul_shape(x: Shape, y: Shape) -> Shape:
    require(len(x) >= 2 and len(y) >= 2, f"product of {list(x)} and {list(y)}")
    require(x[-1] == y[-2], f"product of {list(x)} and {list(y)}")
    return (*broadcast(x[:-2], y[:-2]), x[-2], y[-1])


def _einsum_shape(*operands: Shape, equation: str) -> Shape:
    terms, _, result = equation.replace(" ", "").partition("->")
    require(bool(result) and "." not in equation, f"einsum {equation!r}")
    sizes: dict[str, Any] = {}
    for labels, shape in zip(terms.split(","), operands, strict=True):
        require(len(labels) == len(shape), f"einsum {equation!r} of {[list(s) for s in operands]}")
        for label, dim in zip(labels, shape, strict=True):
            require(
                sizes.setdefault(label, dim) == dim,
                f"einsum {equation!r}: {label} is {sizes[label]} and {dim}",
            )
    return tuple(sizes[label] for label in result)


def _einsum(*operands: Array, equation: str) -> Array:
    return np.asarray(np.einsum(equation, *operands))


def _softmax_shape(x: Shape, *, dim: int, dtype: str | None = None) -> Shape:
    axis(dim, len(x))
    return x


def softmax(x: Array, *, dim: int = -1, dtype: str | None = None) -> Array:
    """exp(x) over its sum along `dim`; the largest is subtracted first."""
    e = np.exp(x - x.max(axis=dim, keepdims=True))
    return np.asarray(e / e.sum(axis=dim, keepdims=True))


def _reduced_shape(
    x: Shape, *, dim: tuple[int, ...] | int | None = None, keepdim: bool = False, dtype: str | None = None
) -> Shape:
    dims = range(len(x)) if dim is None else (dim,) if isinstance(dim, int) else dim
    reduced = {axis(d, len(x)) for d in dims}
    if keepdim:
        return tuple(1 if index in reduced else size for index, size in enumerate(x))
    return tuple(size for index, size in enumerate(x) if index not in reduced)


def _reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    def meaning(
        x: Array, *, dim: tuple[int, ...] | int | None = None, keepdim: bool = False, dtype: str | None = None
    ) -> Array:
        return np.asarray(function(x, axis=dim, keepdims=keepdim))

    return meaning


def _rms_norm_shape(
    x: Shape, weight: Shape | None = None, *, normalized_shape: Shape, eps: float | None = None
) -> Shape:
    require(normalized_shape == x[-1:], f"rms_norm over {list(normalized_shape)} of {list(x)}")
    require(weight is None or weight == x[-1:], f"rms_norm of {list(x)} by a weight {weight}")
    return x


def _rms_norm(
    x: Array, weight: Array | None = None, *, normalized_shape: tuple[int, ...], eps: float | None = None
) -> Array:
    floor = float(np.finfo(np.float32).eps) if eps is None else eps
    scaled = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + floor)
    return np.asarray(scaled if weight is None else scaled * weight)


def _sdpa_shape(
    q: Shape,
    k: Shape,
    v: Shape,
    mask: Shape | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
) -> Shape:
    require(len(q) == len(k) == len(v) >= 3, f"attention over ranks {len(q)}, {len(k)}, {len(v)}")
    require(q[-1] == k[-1] and k[-2] == v[-2], f"attention of {list(q)}, {list(k)}, {list(v)}")
    require(enable_gqa or q[-3] == k[-3] == v[-3], f"{q[-3]} query heads for {k[-3]} key heads")
    if mask is not None:
        broadcast(mask, (*q[:-1], k[-2]))
    return with_dim(q, len(q) - 1, v[-1])


def _sdpa(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout_p: float = 0.0,
) -> Array:
    repeats = q.shape[-3] // k.shape[-3]
    keys, values = np.repeat(k, repeats, axis=-3), np.repeat(v, repeats, axis=-3)
    scores = q @ keys.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        mask = np.tril(np.ones(scores.shape[-2:], bool))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    return np.asarray(softmax(scores) @ values)


OPERATORS: tuple[Operator, ...] = (
    operator("linear", (2, 3), linear_shape, linear, stages=(RAW, CANONICAL, RECOGNIZED)),
    operator("embedding", 2, _embedding_shape, _embedding, stages=(RAW, CANONICAL, RECOGNIZED)),
    operator("matmul", 2, _matmul_shape, np.matmul),
    operator("bmm", 2, _matmul_shape, np.matmul, stages=(RAW,)),
    operator("einsum", (1, 8), _einsum_shape, _einsum),
    operator("softmax", 1, _softmax_shape, softmax),
    operator("mean", 1, _reduced_shape, _reduction(np.mean)),
    operator("sum", 1, _reduced_shape, _reduction(np.sum)),
    operator("rms_norm", (1, 2), _rms_norm_shape, _rms_norm),
    operator("scaled_dot_product_attention", (3, 4), _sdpa_shape, _sdpa),
)
