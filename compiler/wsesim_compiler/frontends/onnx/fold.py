"""What ONNX operators compute, for static values: shapes, positions, masks and angles, for one T at a time.

Sizes are checked before anything is made, so a hostile file cannot ask for more than LARGEST_STATIC elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, TypeAlias

import numpy as np

from wsesim_compiler.frontends.onnx.tensors import DTYPES
from wsesim_compiler.frontends.onnx.values import LARGEST_STATIC, NotReadError
from wsesim_compiler.operators.elementwise import cast, sigmoid
from wsesim_compiler.operators.operator import Array

Given: TypeAlias = dict[str, Any]
Fold: TypeAlias = Callable[..., Array]
"""`fold(attributes, *arrays)`, None for an operand that is left out."""

BENDING = frozenset(
    {
        *(
            "Equal",
            "Less",
            "LessOrEqual",
            "Greater",
            "GreaterOrEqual",
            "Min",
            "Max",
            "Clip",
            "Mod",
            "Div",
            "Abs",
            "Where",
        ),
        *("Slice", "Gather", "GatherND", "ScatterND", "Trilu", "CumSum", "Not", "And", "Or", "IsNaN"),
    }
)
"""Operators at which a length may show that is beyond the T that are tried."""


def bounded(shape: Iterable[int]) -> tuple[int, ...]:
    """The shape. Raises NotReadError if a static value of it would be too large, or cannot be."""
    sizes = tuple(int(dim) for dim in shape)
    if any(dim < 0 for dim in sizes) or prod(sizes) > LARGEST_STATIC:
        raise NotReadError(f"a table of {list(sizes)}")
    return sizes


def _with(ufunc: Callable[..., Any]) -> Fold:
    def fold(given: Given, *arrays: Array) -> Array:
        bounded(np.broadcast_shapes(*(array.shape for array in arrays)))
        return np.asarray(ufunc(*arrays))

    return fold


def _any_number(ufunc: Callable[..., Any]) -> Fold:
    def fold(given: Given, *arrays: Array) -> Array:
        result = arrays[0]
        for array in arrays[1:]:
            bounded(np.broadcast_shapes(result.shape, array.shape))
            result = np.asarray(ufunc(result, array))
        return result

    return fold


def _divided(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return np.asarray(x / y)
    if not np.all(y):
        raise NotReadError("a whole number divided by zero")
    return np.asarray(np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)))


def _power(x: Array, y: Array) -> Array:
    return np.asarray(np.power(x.astype(np.float64), y.astype(np.float64)).astype(x.dtype))


def _cast(given: Given, x: Array) -> Array:
    if given["to"] not in DTYPES:
        raise NotReadError(f"the element type {given['to']}")
    return cast(x, dtype=DTYPES[given["to"]][0])


def _reshape(given: Given, x: Array, shape: Array) -> Array:
    target = shape.astype(int).tolist()
    if not given.get("allowzero", 0):
        target = [x.shape[i] if dim == 0 and i < x.ndim else dim for i, dim in enumerate(target)]
    return x.reshape(target)


def _unsqueeze(given: Given, x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(axes.astype(int).ravel().tolist()))


def _squeeze(given: Given, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else tuple(axes.astype(int).ravel().tolist()))


def _transpose(given: Given, x: Array) -> Array:
    return x.transpose(given.get("perm"))


def _expand(given: Given, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, bounded(np.broadcast_shapes(x.shape, bounded(shape.astype(int).tolist()))))


def _concat(given: Given, *parts: Array) -> Array:
    return np.concatenate(parts, axis=given["axis"])


def _slice(
    given: Given, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Array:
    index = [slice(None)] * x.ndim
    along = range(len(starts)) if axes is None else axes.astype(int).tolist()
    strides = [1] * len(starts) if steps is None else steps.astype(int).tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), along, strides, strict=True):
        if step <= 0:
            raise NotReadError("a slice that goes backwards")
        index[axis] = slice(int(start), int(end), int(step))
    return x[tuple(index)]


def _gather(given: Given, x: Array, indices: Array) -> Array:
    axis = given.get("axis", 0)
    bounded((*x.shape[:axis], *indices.shape, *x.shape[axis:][1:]))
    return np.take(x, indices.astype(int), axis=axis)


def _gather_nd(given: Given, x: Array, indices: Array) -> Array:
    if given.get("batch_dims", 0):
        raise NotReadError("GatherND with batch dimensions")
    bounded((*indices.shape[:-1], *x.shape[indices.shape[-1] :]))
    return np.asarray(x[tuple(np.moveaxis(indices.astype(int), -1, 0))])


def _scatter_nd(given: Given, x: Array, indices: Array, updates: Array) -> Array:
    if given.get("reduction", "none") != "none":
        raise NotReadError("ScatterND with a reduction")
    changed = x.copy()
    changed[tuple(np.moveaxis(indices.astype(int), -1, 0))] = updates
    return changed


def _range(given: Given, start: Array, limit: Array, step: Array) -> Array:
    first, last, by = (array.reshape(()).item() for array in (start, limit, step))
    if not by or not np.isfinite([first, last, by]).all():
        raise NotReadError(f"a range from {first} to {last} by {by}")
    bounded((max(0, int(np.ceil((last - first) / by))),))
    return np.arange(first, last, by)


def _constant_of_shape(given: Given, shape: Array) -> Array:
    value = given["value"].arrays[0].ravel()[0] if "value" in given else 0.0
    return np.full(bounded(shape.astype(int).tolist()), value)


def _cumsum(given: Given, x: Array, axis: Array) -> Array:
    if given.get("exclusive", 0) or given.get("reverse", 0):
        raise NotReadError("an exclusive or reversed running sum")
    return np.cumsum(x, axis=int(axis.reshape(())))


def _trilu(given: Given, x: Array, diagonal: Array | None = None) -> Array:
    k = 0 if diagonal is None else int(diagonal.reshape(()))
    return np.triu(x, k) if given.get("upper", 1) else np.tril(x, k)


def _matmul(given: Given, x: Array, y: Array) -> Array:
    bounded((*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), *x.shape[-2:-1], *y.shape[-1:]))
    return np.asarray(x @ y)


def _einsum(given: Given, *arrays: Array) -> Array:
    terms, _, result = given["equation"].replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, array in zip(terms.split(","), arrays, strict=True):
        sizes |= dict(zip(term, array.shape, strict=True))
    bounded(sizes[label] for label in result)
    return np.asarray(np.einsum(given["equation"], *arrays))


def _reduced(function: Callable[..., Any]) -> Fold:
    def fold(given: Given, x: Array, axes: Array | None = None) -> Array:
        along = given.get("axes") if axes is None else axes.astype(int).ravel().tolist()
        if not along and given.get("noop_with_empty_axes", 0):
            return x
        return np.asarray(function(x, axis=tuple(along) if along else None, keepdims=bool(given.get("keepdims", 1))))

    return fold


def _clip(given: Given, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    return np.asarray(np.clip(x, low, high))


def _identity(given: Given, x: Array, *ignored: Array | None) -> Array:
    return x


def _cast_like(given: Given, x: Array, like: Array) -> Array:
    return x.astype(like.dtype)


FOLDS: dict[str, Fold] = {
    "Add": _with(np.add),
    "Sub": _with(np.subtract),
    "Mul": _with(np.multiply),
    "Div": _with(_divided),
    "Mod": _with(np.mod),
    "Pow": _with(_power),
    "Equal": _with(np.equal),
    "Less": _with(np.less),
    "LessOrEqual": _with(np.less_equal),
    "Greater": _with(np.greater),
    "GreaterOrEqual": _with(np.greater_equal),
    "And": _with(np.logical_and),
    "Or": _with(np.logical_or),
    "Where": _with(np.where),
    "Min": _any_number(np.minimum),
    "Max": _any_number(np.maximum),
    "Neg": _with(np.negative),
    "Abs": _with(np.abs),
    "Not": _with(np.logical_not),
    "Sqrt": _with(np.sqrt),
    "Exp": _with(np.exp),
    "Reciprocal": _with(np.reciprocal),
    "Cos": _with(np.cos),
    "Sin": _with(np.sin),
    "Sigmoid": _with(sigmoid),
    "IsNaN": _with(np.isnan),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Identity": _identity,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cumsum,
    "Trilu": _trilu,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "ReduceSum": _reduced(np.sum),
    "ReduceMean": _reduced(np.mean),
    "ReduceMax": _reduced(np.max),
    "Clip": _clip,
}
