"""Rules of the ONNX operators that move or cut tensors: reshapes, transposes, slices, gathers, concatenations."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from wsesim_compiler.errors import ShapeError
from wsesim_compiler.frontends.many_tokens import one_token
from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.rule import Given, Rule, rule
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
)
from wsesim_compiler.ir import TOKENS, Dim, Shape
from wsesim_compiler.operators.operator import broadcast, resolved
from wsesim_compiler.operators.views import END, MANY

_OPEN = 2**31


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
        return build.add("select", x, dim=axis, index=whole(picked[0]))
    if len(picked) != 1:
        raise NotReadError("of several rows")
    at = whole(picked[0])
    return build.add("slice", x, dim=axis, start=at, end=END if at == -1 else at + 1)


def whole(index: Dim) -> int:
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
    k = 0 if diagonal is None else whole(dims(diagonal)[0])
    return build.add("triu" if given.get("upper", 1) else "tril", x, diagonal=k)


VIEW_RULES: dict[str, Rule] = {
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
