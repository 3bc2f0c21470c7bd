"""How each ONNX operator is written in the raw vocabulary, where its operands are not known before the model runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from wsesim_compiler.errors import ShapeError
from wsesim_compiler.frontends.many_tokens import one_token
from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.tensors import DTYPES
from wsesim_compiler.frontends.onnx.values import (
    Dynamic,
    NotReadError,
    Operand,
    Parts,
    Static,
    Weight,
    dims,
    integers,
    is_past,
    scalar,
)
from wsesim_compiler.ir import TOKENS, Dim, Shape
from wsesim_compiler.operators.elementwise import FLOATS
from wsesim_compiler.operators.operator import broadcast, resolved
from wsesim_compiler.operators.views import END, MANY

Given: TypeAlias = dict[str, Any]
Results: TypeAlias = "Operand | tuple[Operand, ...]"
_OPEN = 2**31


@dataclass(frozen=True, slots=True)
class Rule:
    """`emit(builder, attributes, *operands)` gives the result, or several; any other attribute is refused."""

    emit: Callable[..., Results]
    attributes: frozenset[str]


def rule(emit: Callable[..., Results], attributes: str = "") -> Rule:
    """A Rule whose attributes are written as words."""
    return Rule(emit, frozenset(attributes.split()))


def _unary(op: str) -> Rule:
    return rule(lambda build, given, x: build.add(op, x))


def _binary(op: str, reverse: str = "", dtype: str | None = None) -> Rule:
    return rule(_either(op, reverse, dtype))


def _either(op: str, reverse: str = "", dtype: str | None = None) -> Callable[..., Operand]:
    """`reverse` is the operator for a number as first operand; without it the two cannot be exchanged."""

    def emit(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
        for one, number, name in ((x, scalar(y), op), (y, scalar(x), reverse)):
            if number is not None and name and _keeps_shape(build, x, y, one):
                return build.add(name, one, dtype=dtype, other=number)
        return build.add(op, x, y, dtype=dtype)

    return emit


def _keeps_shape(build: Builder, x: Operand, y: Operand, kept: Operand) -> bool:
    return broadcast(build.shape(x), build.shape(y)) == build.shape(kept)


def _add(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    """A bias after a product with weights belongs to it."""
    for product, bias in ((x, y), (y, x)):
        made = build.made_by(product, "linear")
        if (
            made is not None
            and len(made.inputs) == 2
            and isinstance(bias, Weight)
            and bias.view.shape == made.shape[-1:]
        ):
            return build.add("linear", Dynamic(made.inputs[0]), Dynamic(made.inputs[1]), bias)
    return _sum(build, given, x, y)


def _divide(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    if build.tensor(x).dtype not in FLOATS:
        raise NotReadError("a quotient of whole numbers")
    number = scalar(x)
    if number is None or not _keeps_shape(build, x, y, y):
        return build.add("div", x, y)
    inverse = build.add("reciprocal", y)
    return inverse if number == 1 else build.add("mul", inverse, other=number)


def _power(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    number = scalar(y)
    return build.add("pow", x, y) if number is None else build.add("pow", x, exponent=number)


def _any_number(op: str) -> Rule:
    exchanged = _either(op, op)

    def emit(build: Builder, given: Given, *operands: Operand) -> Operand:
        result = operands[0]
        for operand in operands[1:]:
            result = exchanged(build, given, result, operand)
        return result

    return rule(emit)


def _where(build: Builder, given: Given, condition: Operand, yes: Operand, no: Operand) -> Operand:
    found = {"self": scalar(yes), "other": scalar(no)}
    numbers: dict[str, Any] = {name: number for name, number in found.items() if number is not None}
    rest = [value for value in (yes, no) if scalar(value) is None]
    shapes = [build.shape(value) for value in (condition, *rest)]
    if broadcast(*shapes) != broadcast(build.shape(condition), build.shape(yes), build.shape(no)):
        raise NotReadError("a choice that is wider than its condition")
    return build.add("where", condition, *rest, dtype=build.tensor(yes).dtype, **numbers)


def _cast(build: Builder, given: Given, x: Operand) -> Operand:
    if given["to"] not in DTYPES:
        raise NotReadError(f"to the element type {given['to']}")
    return _to(build, x, DTYPES[given["to"]][0])


def _cast_like(build: Builder, given: Given, x: Operand, like: Operand) -> Operand:
    return _to(build, x, build.tensor(like).dtype)


def _to(build: Builder, x: Operand, dtype: str) -> Operand:
    same = build.tensor(x).dtype == dtype or (isinstance(x, Weight) and dtype in FLOATS)
    return x if same else build.add("to", x, dtype=dtype)


def _clip(build: Builder, given: Given, x: Operand, low: Operand = None, high: Operand = None) -> Operand:
    bounds: dict[str, Any] = {name: scalar(value) for name, value in (("min", low), ("max", high)) if value is not None}
    if None in bounds.values():
        raise NotReadError("to bounds that are no numbers")
    return build.add("clamp", x, **bounds)


def _same(build: Builder, given: Given, x: Operand, *ignored: Operand) -> Operand:
    return x


def _softmax(build: Builder, given: Given, x: Operand) -> Operand:
    scores = build.shape(x)
    if build.single and scores[-2:] == (TOKENS, TOKENS) and not _is_masked(build, x):
        x = build.add("where", _lower_triangle(build), x, other=-math.inf)
    return build.add("softmax", x, dim=given.get("axis", -1))


def _is_masked(build: Builder, scores: Operand) -> bool:
    """Whether a mask was added to the scores, or chose among them."""
    made = build.nodes.get(scores.name) if isinstance(scores, Dynamic) else None
    return made is not None and made.op in ("where", "add", "masked_fill")


def _lower_triangle(build: Builder) -> Operand:
    """The mask [T, T] of the positions that each token sees; the newest, the only one of its file, sees all."""
    ones = build.add("full", size=(TOKENS, TOKENS), fill_value=1, dtype="i64")
    return build.add("ne", build.add("tril", ones, diagonal=0), dtype="bool", other=0)


def _reduce(op: str) -> Rule:
    def emit(build: Builder, given: Given, x: Operand, axes: Operand = None) -> Operand:
        along = tuple(given.get("axes", ())) if axes is None else integers(axes)
        if not along:
            raise NotReadError("over no axes or all")
        return build.add(op, x, dim=along, keepdim=bool(given.get("keepdims", 1)))

    return rule(emit, "axes keepdims noop_with_empty_axes")


def _matmul(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    if isinstance(y, Weight) and len(y.view.shape) == 2 and y.view.blocks is None:
        return build.add("linear", x, Weight(y.view.transpose()))
    if len(build.shape(x)) < 2 or len(build.shape(y)) < 2:
        raise NotReadError("of a vector")
    return build.add("matmul", x, y)


def _einsum(build: Builder, given: Given, *operands: Operand) -> Operand:
    return build.add("einsum", *operands, equation=given["equation"])


def _gemm(build: Builder, given: Given, x: Operand, y: Operand, bias: Operand = None) -> Operand:
    if (given.get("alpha", 1.0), given.get("transA", 0)) != (1.0, 0) or (
        bias is not None and given.get("beta", 1.0) != 1.0
    ):
        raise NotReadError("with alpha, beta or transA")
    if not isinstance(y, Weight) or len(y.view.shape) != 2:
        raise NotReadError("by something else than weights")
    weight = y if given.get("transB", 0) else Weight(y.view.transpose())
    return build.add("linear", x, weight, *(() if bias is None else (bias,)))


def _reshape(build: Builder, given: Given, x: Operand, shape: Operand) -> Operand:
    before = build.shape(x)
    target = list(dims(shape))
    if not given.get("allowzero", 0):
        target = [before[i] if dim == 0 and i < len(before) else dim for i, dim in enumerate(target)]
    if isinstance(x, Weight) and x.view.dtype == "u8" and target[0] == before[0]:
        return x  # quantised: its rows are read flat
    one = build.single and TOKENS in before and target[before.index(TOKENS) : before.index(TOKENS) + 1] == [1]
    rows = None if one else _head_rows(before, target)
    if rows is None:
        return _reshaped(build, x, _resolved(build, before, tuple(target)))
    made = _reshaped(build, x, rows)
    build.head_rows.add(made.name)
    return made


def _resolved(build: Builder, before: Shape, target: Shape) -> Shape:
    """The target with the size that its -1 stands for; a file for one token may say 1 where T is meant."""
    try:
        return resolved(before, target)
    except ShapeError:
        if not build.single:
            raise
    return resolved(one_token(before), target)


def _head_rows(before: Shape, target: list[Dim]) -> Shape | None:
    """[1, T, heads, head_dim] for [1, T, heads * head_dim] reshaped to [.., -1, head_dim], T * heads rows."""
    width, size = before[-1], target[-1]
    if TOKENS not in before or TOKENS in target or target[-2:-1] != [-1] or any(dim != 1 for dim in target[:-2]):
        return None
    if not isinstance(width, int) or not isinstance(size, int) or not 0 < size < width or width % size:
        return None
    return (*before[:-1], width // size, size)


def _reshaped(build: Builder, x: Operand, shape: Shape) -> Dynamic:
    return build.add("reshape", x, shape=shape)


def _unsqueeze(build: Builder, given: Given, x: Operand, axes: Operand) -> Operand:
    before = list(build.shape(x))
    along = integers(axes)
    rank = len(before) + len(along)
    for axis in sorted(axis % rank for axis in along):
        before.insert(axis, 1)
    return _reshaped(build, x, tuple(before))


def _squeeze(build: Builder, given: Given, x: Operand, axes: Operand = None) -> Operand:
    before = build.shape(x)
    along = range(len(before)) if axes is None else {axis % len(before) for axis in integers(axes)}
    return _reshaped(build, x, tuple(dim for i, dim in enumerate(before) if i not in along or dim != 1))


def _flatten(build: Builder, given: Given, x: Operand) -> Operand:
    before, axis = build.shape(x), given.get("axis", 1)
    return _reshaped(build, x, (*resolved(before[:axis], (-1,)), *resolved(before[axis:], (-1,))))


def _transpose(build: Builder, given: Given, x: Operand) -> Operand:
    if isinstance(x, Weight) and len(x.view.shape) == 2 and given.get("perm", (1, 0)) == (1, 0):
        return Weight(x.view.transpose())
    return build.add("permute", x, dims=given.get("perm", tuple(range(len(build.shape(x))))[::-1]))


def _expand(build: Builder, given: Given, x: Operand, shape: Operand) -> Operand:
    return build.add("expand", x, size=broadcast(build.shape(x), dims(shape)))


def _slice(
    build: Builder,
    given: Given,
    x: Operand,
    starts: Operand,
    ends: Operand,
    axes: Operand = None,
    steps: Operand = None,
) -> Operand:
    first, last = dims(starts), dims(ends)
    along = tuple(range(len(first))) if axes is None else integers(axes)
    strides = (1,) * len(first) if steps is None else integers(steps)
    for start, end, axis, step in zip(first, last, along, strides, strict=True):
        if step <= 0:
            raise NotReadError("backwards")
        x = build.add("slice", x, dim=axis, **_bounds(build.shape(x)[axis], start, end), step=step)
    return x


def _bounds(size: Dim, start: Dim, end: Dim) -> dict[str, Any]:
    """What a slice of a dimension begins and ends with, by torch's sentinels."""
    closed = END if end == size or (isinstance(end, int) and end >= (size if isinstance(size, int) else _OPEN)) else end
    first = 0 if isinstance(start, int) and start <= -_OPEN else start
    return {"start": first, "end": closed}


def _gather(build: Builder, given: Given, x: Operand, indices: Operand) -> Operand:
    axis = given.get("axis", 0)
    if isinstance(x, Weight) and isinstance(indices, Dynamic) and len(x.view.shape) == 2 and axis == 0:
        return build.add("embedding", indices, x, dtype=x.view.dtype)
    if not isinstance(indices, Static):
        raise NotReadError("of rows that are not known before the model runs")
    picked = dims(indices)
    if build.shape(indices) == ():
        return build.add("select", x, dim=axis, index=_whole(picked[0]))
    if len(picked) != 1:
        raise NotReadError("of several rows")
    at = _whole(picked[0])
    return build.add("slice", x, dim=axis, start=at, end=END if at == -1 else at + 1)


def _whole(index: Dim) -> int:
    if not isinstance(index, int):
        raise NotReadError("at an index that depends on the number of tokens")
    return index


def _concat(build: Builder, given: Given, *parts: Operand) -> Operand:
    """What is empty, a cache of no tokens, goes."""
    kept = [part for part in parts if not is_past(part) and 0 not in build.shape(part)]
    if not kept:
        raise NotReadError("of nothing")
    return kept[0] if len(kept) == 1 else build.add("cat", *kept, dim=given["axis"])


def _split(build: Builder, given: Given, x: Operand, sizes: Operand = None) -> tuple[Operand, ...]:
    axis = given.get("axis", 0)
    count: int = given.get("num_outputs") or given["outputs"]
    total = _size(build, x, axis)
    return _cut(build, x, axis, integers(sizes) if sizes is not None else _each(total, -(-total // count)))


def _split_to_sequence(build: Builder, given: Given, x: Operand, sizes: Operand) -> Parts:
    axis, parts = given.get("axis", 0), integers(sizes)
    return Parts(_cut(build, x, axis, _each(_size(build, x, axis), parts[0]) if build.shape(sizes) == () else parts))


def _sequence_at(build: Builder, given: Given, sequence: Operand, index: Operand) -> Operand:
    if not isinstance(sequence, Parts):
        raise NotReadError("of something else than the parts of a tensor")
    return sequence.values[integers(index)[0]]


def _size(build: Builder, x: Operand, axis: int) -> int:
    size = build.shape(x)[axis]
    if not isinstance(size, int):
        raise NotReadError("of the tokens")
    return size


def _each(total: int, size: int) -> tuple[int, ...]:
    """As many equal parts as there are, and what is left."""
    if not size > 0 or total // size > MANY:
        raise NotReadError(f"of {total} in parts of {size}")
    return tuple(min(size, total - start) for start in range(0, total, size))


def _cut(build: Builder, x: Operand, axis: int, parts: tuple[int, ...]) -> tuple[Operand, ...]:
    rank = len(build.shape(x))
    if build.made_by(x, "linear") and axis in (-1, rank - 1) and sum(parts) == build.shape(x)[-1]:
        stops = tuple(accumulate(parts))
        return tuple(build.part(x, stop - size, stop) for size, stop in zip(parts, stops, strict=True))
    whole = build.add("split_with_sizes", x, split_sizes=parts, dim=axis)
    return tuple(build.add("getitem", whole, index=index) for index in range(len(parts)))


def _trilu(build: Builder, given: Given, x: Operand, diagonal: Operand = None) -> Operand:
    k = 0 if diagonal is None else _whole(dims(diagonal)[0])
    return build.add("triu" if given.get("upper", 1) else "tril", x, diagonal=k)


_sum = _either("add", "add")

RULES: dict[str, Rule] = {
    **{
        name: _unary(name.lower())
        for name in ("Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Cos", "Sin", "Tanh", "Sigmoid")
    },
    "Not": rule(lambda build, given, x: build.add("logical_not", x)),
    "IsNaN": rule(lambda build, given, x: build.add("isnan", x, dtype="bool")),
    "Add": rule(_add),
    "Sub": _binary("sub", "rsub"),
    "Mul": _binary("mul", "mul"),
    "Div": rule(_divide),
    "Pow": rule(_power),
    "Min": _any_number("minimum"),
    "Max": _any_number("maximum"),
    "Equal": _binary("eq", "eq", "bool"),
    "Less": _binary("lt", "gt", "bool"),
    "LessOrEqual": _binary("le", "ge", "bool"),
    "Greater": _binary("gt", "lt", "bool"),
    "GreaterOrEqual": _binary("ge", "le", "bool"),
    "And": _binary("logical_and", dtype="bool"),
    "Or": _binary("logical_or", dtype="bool"),
    "Where": rule(_where),
    "Clip": rule(_clip),
    "Cast": rule(_cast, "to saturate round_mode"),
    "CastLike": rule(_cast_like, "saturate round_mode"),
    "Identity": rule(_same),
    "Dropout": rule(_same, "seed"),
    "Softmax": rule(_softmax, "axis"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "MatMul": rule(_matmul),
    "Einsum": rule(_einsum, "equation"),
    "Gemm": rule(_gemm, "alpha beta transA transB"),
    "Reshape": rule(_reshape, "allowzero"),
    "Unsqueeze": rule(_unsqueeze),
    "Squeeze": rule(_squeeze),
    "Flatten": rule(_flatten, "axis"),
    "Transpose": rule(_transpose, "perm"),
    "Expand": rule(_expand),
    "Slice": rule(_slice),
    "Gather": rule(_gather, "axis"),
    "Concat": rule(_concat, "axis"),
    "Split": rule(_split, "axis num_outputs"),
    "SplitToSequence": rule(_split_to_sequence, "axis keepdims"),
    "SequenceAt": rule(_sequence_at),
    "Trilu": rule(_trilu, "upper"),
}
