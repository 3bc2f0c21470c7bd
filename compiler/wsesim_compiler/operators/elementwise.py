"""Elementwise operators: arithmetic, comparison, choice, casts. A binary one may take a number as `other`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wsesim_compiler.ir import Shape
from wsesim_compiler.operators.operator import RAW, Array, Operator, broadcast, operator, same

FLOATS = frozenset({"f64", "f32", "f16", "bf16"})


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return np.asarray(x * sigmoid(x))


def cast(x: Array, *, dtype: str) -> Array:
    """Precision among floats is the interpreter's, not the model's: a cast only changes the kind."""
    kind = np.float64 if dtype in FLOATS else np.bool_ if dtype == "bool" else np.int64
    return x.astype(kind)


def _with_other(x: Shape, y: Shape = (), *, other: float | None = None) -> Shape:
    return broadcast(x, y)


def _binary(ufunc: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    def meaning(x: Array, y: Array | None = None, *, other: float | None = None) -> Array:
        return np.asarray(ufunc(x, other if y is None else y))

    return meaning


def _power_shape(x: Shape, y: Shape = (), *, exponent: float = 0.0, self: float = 0.0) -> Shape:
    return broadcast(x, y)


def _power(x: Array, y: Array | None = None, **scalar: float) -> Array:
    if y is not None:
        return np.asarray(np.power(x, y))
    if "self" in scalar:
        return np.asarray(np.power(float(scalar["self"]), x))
    exponent = scalar["exponent"]
    return np.asarray(x**exponent if exponent >= 0 else 1.0 / x**-exponent)


def _where_shape(condition: Shape, *values: Shape, self: float = 0.0, other: float = 0.0) -> Shape:
    return broadcast(condition, *values)


def _where(condition: Array, *values: Array, **scalar: float) -> Array:
    rest = iter(values)
    yes = scalar["self"] if "self" in scalar else next(rest)
    no = scalar["other"] if "other" in scalar else next(rest)
    return np.where(condition, yes, no)


def _masked_fill_shape(x: Shape, mask: Shape, *, value: float) -> Shape:
    return broadcast(x, mask)


def _masked_fill(x: Array, mask: Array, *, value: float) -> Array:
    return np.where(mask, x.dtype.type(value), x)


def _clamp_shape(x: Shape, *, min: float | None = None, max: float | None = None) -> Shape:
    return x


def _clamp(x: Array, *, min: float | None = None, max: float | None = None) -> Array:
    return np.asarray(np.clip(x, min, max))


def _cast_shape(x: Shape, *, dtype: str) -> Shape:
    return x


def _to_shape(x: Shape, *, dtype: str | None = None) -> Shape:
    return x


def _to(x: Array, *, dtype: str | None = None) -> Array:
    return x if dtype is None else cast(x, dtype=dtype)


def _type_as(x: Array, other: Array) -> Array:
    return x.astype(other.dtype)


def _first(x: Shape, other: Shape) -> Shape:
    return x


def _identity(x: Array, **ignored: object) -> Array:
    return x


def _dropout_shape(x: Shape, *, p: float = 0.5, train: bool = False) -> Shape:
    return x


_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "reciprocal": lambda x: 1.0 / x,
    "exp": np.exp,
    "log": np.log,
    "cos": np.cos,
    "sin": np.sin,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "logical_not": np.logical_not,
    "bitwise_not": np.invert,
    "isnan": np.isnan,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}
_RAW_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "rsub": lambda x, y: y - x,
    "__and__": np.bitwise_and,
    "__or__": np.bitwise_or,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
}
_IDENTITIES = ("contiguous", "clone", "alias", "detach", "lift_fresh_copy")

OPERATORS: tuple[Operator, ...] = (
    operator("add", (1, 2), _with_other, _binary(np.add), stages=("raw", "canonical", "recognized")),
    *(operator(name, 1, same, meaning) for name, meaning in _UNARY.items()),
    *(operator(name, (1, 2), _with_other, _binary(ufunc)) for name, ufunc in _BINARY.items()),
    *(operator(n, (1, 2), _with_other, _binary(ufunc), stages=(RAW,)) for n, ufunc in _RAW_BINARY.items()),
    *(operator(name, 1, same, _identity, stages=(RAW,)) for name in _IDENTITIES),
    operator("dropout", 1, _dropout_shape, _identity, stages=(RAW,)),
    operator("pow", (1, 2), _power_shape, _power),
    operator("where", (1, 3), _where_shape, _where),
    operator("masked_fill", 2, _masked_fill_shape, _masked_fill),
    operator("clamp", 1, _clamp_shape, _clamp),
    operator("cast", 1, _cast_shape, cast, stages=("canonical",)),
    operator("to", 1, _to_shape, _to, stages=(RAW,)),
    operator("_to_copy", 1, _to_shape, _to, stages=(RAW,)),
    operator("type_as", 2, _first, _type_as, stages=(RAW,)),
)
