"""Operators that move or repeat elements: reshapes, permutations, slices, concatenations and indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wsesim_compiler.ir import Dim, Shape
from wsesim_compiler.operators.operator import (
    CANONICAL,
    RAW,
    Array,
    Operator,
    axis,
    broadcast,
    operator,
    require,
    resolved,
    with_dim,
)

END = 2**63 - 1
"""What torch writes for the open end of a slice."""


def _reshape_shape(x: Shape, *, shape: Shape) -> Shape:
    return resolved(x, shape)


def _view_shape(x: Shape, *, size: Shape) -> Shape:
    return resolved(x, size)


def _flatten_shape(x: Shape, *, start_dim: int = 0, end_dim: int = -1) -> Shape:
    first, last = axis(start_dim, len(x)), axis(end_dim, len(x))
    return resolved(x, (*x[:first], -1, *x[last + 1 :]))


def _unflatten_shape(x: Shape, *, dim: int, sizes: Shape) -> Shape:
    index = axis(dim, len(x))
    return resolved(x, (*x[:index], *sizes, *x[index + 1 :]))


def _unsqueeze_shape(x: Shape, *, dim: int) -> Shape:
    index = axis(dim, len(x) + 1)
    return (*x[:index], 1, *x[index:])


def _squeeze_shape(x: Shape, *, dim: int | tuple[int, ...] | None = None) -> Shape:
    dims = range(len(x)) if dim is None else (dim,) if isinstance(dim, int) else dim
    dropped = {axis(d, len(x)) for d in dims}
    return tuple(size for index, size in enumerate(x) if index not in dropped or size != 1)


def _reshaping(rule: Callable[..., Shape]) -> Callable[..., Array]:
    """Meaning of an operator that only changes the shape: its own rule, on numbers."""
    return lambda x, **attributes: x.reshape(rule(x.shape, **attributes))


def _permute_shape(x: Shape, *, dims: tuple[int, ...]) -> Shape:
    order = [axis(dim, len(x)) for dim in dims]
    require(sorted(order) == list(range(len(x))), f"{list(dims)} does not permute rank {len(x)}")
    return tuple(x[index] for index in order)


def _permute(x: Array, *, dims: tuple[int, ...]) -> Array:
    return x.transpose(dims)


def _transpose_shape(x: Shape, *, dim0: int, dim1: int) -> Shape:
    first, second = axis(dim0, len(x)), axis(dim1, len(x))
    return with_dim(with_dim(x, first, x[second]), second, x[first])


def _transpose(x: Array, *, dim0: int, dim1: int) -> Array:
    return x.swapaxes(dim0, dim1)


def _t_shape(x: Shape) -> Shape:
    return x[::-1]


def _t(x: Array) -> Array:
    return x.T


def _expand_shape(x: Shape, *, size: Shape) -> Shape:
    padded = (1,) * (len(size) - len(x)) + x
    require(len(padded) == len(size), f"{list(x)} does not expand to {list(size)}")
    target = tuple(have if want == -1 else want for have, want in zip(padded, size, strict=True))
    require(broadcast(padded, target) == target, f"{list(x)} does not expand to {list(size)}")
    return target


def _expand(x: Array, *, size: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, [int(dim) for dim in _expand_shape(x.shape, size=size)])


def _expand_as_shape(x: Shape, other: Shape) -> Shape:
    return _expand_shape(x, size=other)


def _expand_as(x: Array, other: Array) -> Array:
    return np.broadcast_to(x, other.shape)


def _slice_shape(x: Shape, *, dim: int = 0, start: Dim | None = None, end: Dim | None = None, step: int = 1) -> Shape:
    index = axis(dim, len(x))
    return with_dim(x, index, _slice_dim(x[index], start, end, step))


def _slice_dim(size: Dim, start: Dim | None, end: Dim | None, step: int) -> Dim:
    if isinstance(size, int):
        return _slice_of_table(size, start, end, step)
    if start in (None, 0) and end in (None, END, size) and step == 1:
        return size
    # T is at least 1, so only these slices of it have a length that does not depend on it.
    require(step == 1 and _one_of_many(start, end), f"a slice [{start}:{end}:{step}] of {size} tokens")
    return 1


def _slice_of_table(size: int, start: Dim | None, end: Dim | None, step: int) -> Dim:
    if isinstance(end, str) and start in (None, 0) and step == 1:
        return end
    bounds = [bound for bound in (start, end) if not isinstance(bound, str)]
    require(len(bounds) == 2, f"a slice [{start}:{end}:{step}] of {size}")
    return len(range(size)[bounds[0] : bounds[1] : step])


def _one_of_many(start: Dim | None, end: Dim | None) -> bool:
    return (start in (None, 0) and end == 1) or (start == -1 and end in (None, END))


def _slice(x: Array, *, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    index: list[slice] = [slice(None)] * x.ndim
    index[dim] = slice(start, end, step)
    return x[tuple(index)]


def _select_shape(x: Shape, *, dim: int, index: int) -> Shape:
    at = axis(dim, len(x))
    size = x[at]
    require(isinstance(size, str) or -size <= index < size, f"index {index} is outside {size}")
    return (*x[:at], *x[at + 1 :])


def _select(x: Array, *, dim: int, index: int) -> Array:
    return np.asarray(np.take(x, index, axis=dim))


def _chunk_shape(x: Shape, *, chunks: int, dim: int = 0) -> list[Shape]:
    size = x[axis(dim, len(x))]
    require(isinstance(size, int), "the tokens are not divided into chunks")
    return _split_shape(x, split_size=-(-int(size) // chunks), dim=dim)


def _split_shape(x: Shape, *, split_size: int | tuple[int, ...], dim: int = 0) -> list[Shape]:
    index = axis(dim, len(x))
    return [with_dim(x, index, size) for size in _parts(x[index], split_size)]


def _split_with_sizes_shape(x: Shape, *, split_sizes: tuple[int, ...], dim: int = 0) -> list[Shape]:
    return _split_shape(x, split_size=split_sizes, dim=dim)


def _parts(size: Dim, split: int | tuple[int, ...]) -> tuple[int, ...]:
    require(isinstance(size, int), "the tokens are not split")
    total = int(size)
    parts = tuple(min(split, total - i) for i in range(0, total, split)) if isinstance(split, int) else split
    require(sum(parts) == total, f"parts {list(parts)} of {total}")
    return parts


def _splitting(rule: Callable[..., list[Shape]]) -> Callable[..., list[Array]]:
    """Meaning of an operator that cuts one dimension: the cuts come from its own rule, on numbers."""

    def meaning(x: Array, *, dim: int = 0, **attributes: Any) -> list[Array]:
        sizes = [int(shape[dim]) for shape in rule(x.shape, dim=dim, **attributes)]
        return np.split(x, np.cumsum(sizes)[:-1], axis=dim)

    return meaning


def _unbind_shape(x: Shape, *, dim: int = 0) -> list[Shape]:
    size = x[axis(dim, len(x))]
    require(isinstance(size, int), "the tokens are not unbound")
    return [_select_shape(x, dim=dim, index=0)] * int(size)


def _unbind(x: Array, *, dim: int = 0) -> list[Array]:
    return list(np.moveaxis(x, dim, 0))


def _cat_shape(*parts: Shape, dim: int = 0) -> Shape:
    index = axis(dim, len(parts[0]))
    rests = {with_dim(part, index, 0) for part in parts}
    require(len(rests) == 1, f"parts {[list(part) for part in parts]} differ beside dimension {dim}")
    sizes = [part[index] for part in parts]
    if len(sizes) == 1:
        return parts[0]
    require(all(isinstance(size, int) for size in sizes), "the tokens are not concatenated")
    return with_dim(parts[0], index, sum(int(size) for size in sizes))


def _cat(*parts: Array, dim: int = 0) -> Array:
    return np.concatenate(parts, axis=dim)


def _stack_shape(*parts: Shape, dim: int = 0) -> Shape:
    require(len(set(parts)) == 1, f"parts {[list(part) for part in parts]} differ")
    index = axis(dim, len(parts[0]) + 1)
    return (*parts[0][:index], len(parts), *parts[0][index:])


def _stack(*parts: Array, dim: int = 0) -> Array:
    return np.stack(parts, axis=dim)


def _repeat_shape(x: Shape, *, repeats: Shape) -> Shape:
    padded = (1,) * (len(repeats) - len(x)) + x
    require(len(padded) == len(repeats), f"{list(x)} is not repeated {list(repeats)} times")
    return tuple(_times(dim, count) for dim, count in zip(padded, repeats, strict=True))


def _times(dim: Dim, count: Dim) -> Dim:
    if dim == 1 or count == 1:
        return count if dim == 1 else dim
    require(isinstance(dim, int) and isinstance(count, int), f"{dim} repeated {count} times")
    return int(dim) * int(count)


def _repeat(x: Array, *, repeats: tuple[int, ...]) -> Array:
    return np.tile(x, repeats)


def _repeat_interleave_shape(x: Shape, *, repeats: int, dim: int, output_size: Dim | None = None) -> Shape:
    index = axis(dim, len(x))
    return with_dim(x, index, _times(x[index], repeats))


def _repeat_interleave(x: Array, *, repeats: int, dim: int, output_size: int | None = None) -> Array:
    return np.repeat(x, repeats, axis=dim)


def _index_shape(x: Shape, *indices: Shape, positions: tuple[int, ...]) -> Shape:
    """`positions` are the indexed dimensions, ascending, one per index tensor."""
    require(len(positions) == len(indices), f"{len(indices)} index tensors for {len(positions)} dimensions")
    picked = broadcast(*indices)
    adjacent = positions == tuple(range(positions[0], positions[0] + len(positions)))
    rest = [(i, dim) for i, dim in enumerate(x) if i not in positions]
    at = positions[0] if adjacent else 0
    before = tuple(dim for i, dim in rest if i < at)
    return (*before, *picked, *(dim for i, dim in rest if i >= at))


def _index(x: Array, *indices: Array, positions: tuple[int, ...]) -> Array:
    index: list[Any] = [slice(None)] * x.ndim
    for position, values in zip(positions, indices, strict=True):
        index[position] = values
    return np.asarray(x[tuple(index)])


def _index_copy_shape(x: Shape, index: Shape, source: Shape, *, dim: int) -> Shape:
    at = axis(dim, len(x))
    require(len(index) == 1 and source == with_dim(x, at, index[0]), f"{list(source)} at {list(index)} of {list(x)}")
    return x


def _index_copy(x: Array, index: Array, source: Array, *, dim: int) -> Array:
    copied = np.array(x)
    np.moveaxis(copied, dim, 0)[index] = np.moveaxis(source, dim, 0)
    return copied


def _getitem_shape(*parts: Shape, index: int) -> Shape:
    require(0 <= index < len(parts), f"result {index} of {len(parts)}")
    return parts[index]


def _getitem(*parts: Array, index: int) -> Array:
    return parts[index]


_RESHAPES: dict[str, Callable[..., Shape]] = {
    "view": _view_shape,
    "_unsafe_view": _view_shape,
    "flatten": _flatten_shape,
    "unflatten": _unflatten_shape,
    "unsqueeze": _unsqueeze_shape,
    "squeeze": _squeeze_shape,
}
_SPLITS: dict[str, Callable[..., list[Shape]]] = {
    "chunk": _chunk_shape,
    "split": _split_shape,
    "split_with_sizes": _split_with_sizes_shape,
}
MANY = 1 << 16

OPERATORS: tuple[Operator, ...] = (
    operator("reshape", 1, _reshape_shape, _reshaping(_reshape_shape)),
    *(operator(name, 1, rule, _reshaping(rule), stages=(RAW,)) for name, rule in _RESHAPES.items()),
    operator("permute", 1, _permute_shape, _permute),
    operator("transpose", 1, _transpose_shape, _transpose, stages=(RAW,)),
    *(operator(name, 1, _t_shape, _t, stages=(RAW,)) for name in ("t", "numpy_T")),
    operator("expand", 1, _expand_shape, _expand),
    operator("expand_as", 2, _expand_as_shape, _expand_as, stages=(RAW,)),
    operator("slice", 1, _slice_shape, _slice),
    operator("select", 1, _select_shape, _select),
    *(operator(name, 1, rule, _splitting(rule), stages=(RAW,)) for name, rule in _SPLITS.items()),
    operator("unbind", 1, _unbind_shape, _unbind, stages=(RAW,)),
    operator("index_copy", 3, _index_copy_shape, _index_copy),
    operator("getitem", 1, _getitem_shape, _getitem, stages=(RAW,)),
    operator("cat", (1, MANY), _cat_shape, _cat),
    operator("stack", (1, MANY), _stack_shape, _stack),
    operator("repeat", 1, _repeat_shape, _repeat),
    operator("repeat_interleave", 1, _repeat_interleave_shape, _repeat_interleave),
    operator("index", (2, MANY), _index_shape, _index, stages=(RAW, CANONICAL)),
)
