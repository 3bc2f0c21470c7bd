"""RoPE: a rotation in raw operators, and the inverse frequencies that stored cosines and sines are made of."""

from __future__ import annotations

import numpy as np

from wsesim_compiler.errors import OnnxFileError
from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.values import PROBES, Dynamic, NotReadError, Operand, Static, Weight, constant
from wsesim_compiler.ir import TOKENS
from wsesim_compiler.operators.operator import Array
from wsesim_compiler.operators.views import END

_ROWS = 8192
_PRECISION = {"f32": 1e-6, "f16": 2e-3, "bf16": 2e-2, "f64": 1e-9}


def rotated(build: Builder, x: Operand, cos: Operand, sin: Operand, interleaved: bool) -> Operand:
    """x [1, heads, T, head_dim] turned by the angles whose cosines and sines are [1, 1, T, head_dim / 2]."""
    shape = build.shape(x)
    half = build.shape(cos)[-1]
    if not isinstance(half, int) or shape[-1] != 2 * half:
        raise NotReadError(f"a rotation of {half} pairs in heads of {shape[-1]}")
    if interleaved:
        pairs = build.add("reshape", x, shape=(*shape[:-1], half, 2))
        first, second = (build.add("select", pairs, dim=4, index=index) for index in (0, 1))
    else:
        first = build.add("slice", x, dim=3, start=0, end=half)
        second = build.add("slice", x, dim=3, start=half, end=END)
    turned = (
        build.add("sub", build.add("mul", first, cos), build.add("mul", second, sin)),
        build.add("add", build.add("mul", second, cos), build.add("mul", first, sin)),
    )
    if not interleaved:
        return build.add("cat", *turned, dim=3)
    return build.add("reshape", build.add("stack", *turned, dim=4), shape=shape)


def angles(build: Builder, cos: Operand, sin: Operand, positions: Operand) -> tuple[Operand, Operand]:
    """Cosines and sines [1, 1, T, head_dim / 2] of tables: stored ones by position, or made for these tokens.

    Stored tables become the frequencies that they were made from, as the recogniser wants them.
    """
    if isinstance(cos, Weight) and isinstance(sin, Weight):
        _require_in_order(positions)
        key = (cos.view, sin.view)
        if key not in build.tables:
            build.tables[key] = _made_angles(build, _frequencies(build, cos, sin))
        return build.tables[key]
    if positions is not None:
        raise NotReadError("by positions in tables that are made while the model runs")
    half = build.shape(cos)[-1]
    made = [build.add("reshape", table, shape=(1, 1, TOKENS, half)) for table in (cos, sin)]
    return made[0], made[1]


def _made_angles(build: Builder, frequencies: tuple[float, ...]) -> tuple[Dynamic, Dynamic]:
    positions = build.add("reshape", build.add("arange", end=TOKENS, dtype="f32"), shape=(1, 1, TOKENS, 1))
    angle = build.add("mul", positions, constant(np.asarray(frequencies), "f32"))
    return build.add("cos", angle), build.add("sin", angle)


def _require_in_order(positions: Operand) -> None:
    in_order = isinstance(positions, Static) and all(
        np.array_equal(array.ravel(), np.arange(tokens)) for array, tokens in zip(positions.arrays, PROBES, strict=True)
    )
    if positions is not None and not in_order:
        raise NotReadError("at positions that are not 0 to T - 1")


def _frequencies(build: Builder, cos: Weight, sin: Weight) -> tuple[float, ...]:
    """The model's inverse frequencies: what the tables' angles grow by, rounded as the model's own are.

    Where the tables' data is absent, they come from `build.rope`.
    """
    if cos.view.shape != sin.view.shape or len(cos.view.shape) != 2 or cos.view.shape[0] < 2:
        raise NotReadError(f"by tables {list(cos.view.shape)} and {list(sin.view.shape)}")
    if not all(weight.view.available() for weight in (cos, sin)):
        told = build.rope.frequencies(cos.view.shape[1])
        if told is None:
            raise NotReadError(f"its tables of cosines and sines are absent; {build.rope.ways()}")
        return told
    try:
        cosines, sines = (weight.view.stored()[:_ROWS] for weight in (cos, sin))
    except OnnxFileError as error:
        raise NotReadError(f"its tables of cosines and sines are needed: {error}") from None
    with np.errstate(all="ignore"):  # a damaged table holds anything
        return _checked(
            _wide(cos.view.dtype, cosines), _wide(sin.view.dtype, sines), _PRECISION.get(cos.view.dtype, 0.0)
        )


def _checked(cosines: Array, sines: Array, precision: float) -> tuple[float, ...]:
    turns = _fitted(np.arctan2(sines, cosines))
    angle = np.outer(np.arange(len(cosines)), turns)
    slack = precision + np.abs(angle) * 2.0**-22
    agree = [np.abs(made - table) <= slack for made, table in ((np.cos(angle), cosines), (np.sin(angle), sines))]
    if not np.all(agree):
        raise NotReadError("by tables that are not the cosines and sines of positions times frequencies")
    return tuple(float(np.float32(turn)) for turn in turns)


def _wide(dtype: str, table: Array) -> Array:
    if dtype == "bf16":
        return (table.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return table.astype(np.float64)


def _fitted(turned: Array) -> Array:
    """The slope of angles [positions, pairs] known up to whole turns: first from near positions, then from all."""
    count = len(turned)
    slope = turned[1]
    last = 1
    while last < count - 1:
        last = min(2 * last, count - 1)
        slope = _unwrapped(turned[last], last * slope) / last
    positions = np.arange(count)[:, None]
    return np.asarray((positions * _unwrapped(turned, positions * slope)).sum(0) / (positions**2).sum())


def _unwrapped(angle: Array, near: Array) -> Array:
    return np.asarray(angle + 2 * np.pi * np.round((near - angle) / (2 * np.pi)))
