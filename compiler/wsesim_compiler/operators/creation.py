"""Operators that make tables: ranges, fills, triangles, running sums. Masks and angles are built of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wsesim_compiler.ir import Dim, Shape
from wsesim_compiler.operators.elementwise import cast
from wsesim_compiler.operators.operator import RAW, Array, Operator, axis, operator, require


def _arange_shape(*, end: Dim, start: Dim = 0, step: int = 1, dtype: str | None = None) -> Shape:
    if start == 0 and step == 1:
        return (end if isinstance(end, str) else int(np.ceil(end)),)
    require(not isinstance(start, str) and not isinstance(end, str), f"a range from {start} to {end} by {step}")
    return (len(np.arange(start, end, step)),)


def _arange(*, end: float, start: float = 0, step: float = 1, dtype: str | None = None) -> Array:
    return _typed(np.arange(start, end, step), dtype)


def _typed(x: Array, dtype: str | None) -> Array:
    return x if dtype is None else cast(x, dtype=dtype)


def _full_shape(*, size: Shape, fill_value: float, dtype: str | None = None) -> Shape:
    return size


def _full(*, size: tuple[int, ...], fill_value: float, dtype: str | None = None) -> Array:
    return _typed(np.full(size, fill_value), dtype)


def _filled_shape(*, size: Shape, dtype: str | None = None) -> Shape:
    return size


def _filled(value: float) -> Callable[..., Array]:
    return lambda *, size, dtype=None: _typed(np.full(size, value), dtype)


def _new_shape(x: Shape, *, size: Shape, dtype: str | None = None) -> Shape:
    return size


def _new(value: float) -> Callable[..., Array]:
    return lambda x, *, size, dtype=None: _typed(np.full(size, value, x.dtype), dtype)


def _new_full_shape(x: Shape, *, size: Shape, fill_value: float, dtype: str | None = None) -> Shape:
    return size


def _new_full(x: Array, *, size: tuple[int, ...], fill_value: float, dtype: str | None = None) -> Array:
    return _typed(np.full(size, fill_value, x.dtype), dtype)


def _like_shape(x: Shape, *, dtype: str | None = None) -> Shape:
    return x


def _like(value: float) -> Callable[..., Array]:
    return lambda x, *, dtype=None: _typed(np.full_like(x, value), dtype)


def _full_like_shape(x: Shape, *, fill_value: float, dtype: str | None = None) -> Shape:
    return x


def _full_like(x: Array, *, fill_value: float, dtype: str | None = None) -> Array:
    return _typed(np.full(x.shape, fill_value, x.dtype), dtype)


def _scalar_shape(*, s: float, dtype: str | None = None) -> Shape:
    return ()


def _scalar(*, s: float, dtype: str | None = None) -> Array:
    return _typed(np.asarray(s), dtype)


def _triangle_shape(x: Shape, *, diagonal: int = 0) -> Shape:
    require(len(x) >= 2, f"a triangle of {list(x)}")
    return x


def _tril(x: Array, *, diagonal: int = 0) -> Array:
    return np.tril(x, diagonal)


def _triu(x: Array, *, diagonal: int = 0) -> Array:
    # np.triu multiplies nothing by a mask, so -inf stays -inf above the diagonal and 0 below.
    return np.triu(x, diagonal)


def _outer_shape(x: Shape, y: Shape) -> Shape:
    require(len(x) == len(y) == 1, f"outer product of {list(x)} and {list(y)}")
    return (*x, *y)


def _along_shape(x: Shape, *, dim: int, dtype: str | None = None) -> Shape:
    axis(dim, len(x))
    return x


def _cumsum(x: Array, *, dim: int, dtype: str | None = None) -> Array:
    return _typed(np.cumsum(x, axis=dim), dtype)


def _diff_shape(x: Shape, *ends: Shape, n: int = 1, dim: int = -1) -> Shape:
    index = axis(dim, len(x))
    require(n == 1 and len(ends) == 1 and ends[0][index] == 1, "only first differences with one value in front")
    return x


def _diff(x: Array, prepend: Array, *, n: int = 1, dim: int = -1) -> Array:
    return np.diff(x, n, axis=dim, prepend=prepend)


_FILLS: dict[str, float] = {"ones": 1.0, "zeros": 0.0}


def _fills(prefix: str, suffix: str, shape: Any, meaning: Any, operands: int) -> list[Operator]:
    return [operator(prefix + name + suffix, operands, shape, meaning(v)) for name, v in _FILLS.items()]


OPERATORS: tuple[Operator, ...] = (
    operator("arange", 0, _arange_shape, _arange),
    operator("full", 0, _full_shape, _full),
    *_fills("", "", _filled_shape, _filled, 0),
    *_fills("new_", "", _new_shape, _new, 1),
    *_fills("", "_like", _like_shape, _like, 1),
    operator("new_full", 1, _new_full_shape, _new_full),
    operator("full_like", 1, _full_like_shape, _full_like),
    operator("scalar_tensor", 0, _scalar_shape, _scalar),
    operator("tril", 1, _triangle_shape, _tril),
    operator("triu", 1, _triangle_shape, _triu),
    operator("outer", 2, _outer_shape, np.outer, stages=(RAW, "canonical")),
    operator("cumsum", 1, _along_shape, _cumsum),
    operator("diff", 2, _diff_shape, _diff),
)
