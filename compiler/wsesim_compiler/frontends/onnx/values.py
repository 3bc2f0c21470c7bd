"""What a name of the file stands for while it is read.

    Dynamic   a node of the Graph, or its input
    Weight    a tensor of the model's weights, not read
    Static    what depends on nothing but T, computed for a few T: shapes, positions, masks, angles
    Parts     several of these, where the file has a sequence
    UNKNOWN   the result of an operator that is not read

Shapes and positions are thus computed, not matched: `[1, T, 4, 8]` is what is [1, 7, 4, 8] for T = 7 and [1, 11, 4, 8]
for T = 11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from wsesim_compiler.frontends.onnx.weights import WeightView
from wsesim_compiler.ir import TOKENS, Dim, Shape
from wsesim_compiler.operators.operator import Array

if TYPE_CHECKING:
    from onnx import NodeProto

PROBES = (7, 11)
"""T for which static values are computed; primes, so that no size of a model is taken for T."""

LARGEST_STATIC = 1 << 20
"""Elements of one static value for one T."""

_SENTINEL = 2**31


class NotReadError(Exception):
    """Why a node is not read; becomes one line of an UnsupportedOperatorError."""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A value of the Graph, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the weights, as `view` sees it."""

    view: WeightView


@dataclass(frozen=True, slots=True, eq=False)
class Static:
    """`arrays[i]` is the value for T = PROBES[i]; `node` and `operands` say what made it, where something did.

    `past` marks cached keys or values, or a view of them, of a file for one token: T - 1 rows that nothing reads.
    `largest` is the largest whole number among what it was computed from. `bend` is that of the operators at which a
    length beyond the probes would not show (comparisons, minima, slices): below PROBES[0], the probes tell everything.
    """

    arrays: tuple[Array, ...]
    dtype: str
    node: NodeProto | None = None
    operands: tuple[Operand, ...] = ()
    largest: int = 0
    bend: int = 0
    depth: int = 0
    past: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """A sequence of values: what a tensor was cut into."""

    values: tuple[Operand, ...]


class Unknown:
    """A result that is not read."""


UNKNOWN = Unknown()
"""A result of an operator that is not read: said where it comes from."""
UNREAD = Unknown()
"""A result that the rule of its operator leaves out, such as a cache: said where it is read."""
ReadValue: TypeAlias = Dynamic | Weight | Static | Parts | Unknown
Operand: TypeAlias = Dynamic | Weight | Static | Parts | None
"""None for an operand that a node leaves out."""


def is_past(value: Operand) -> bool:
    """Whether a value is cached keys or values of a file for one token, which nothing reads."""
    return isinstance(value, Static) and value.past


def constant(array: Array, dtype: str) -> Static:
    """A value that does not depend on T."""
    return Static((array,) * len(PROBES), dtype, largest=largest_whole(array))


def by_tokens(make: Callable[[int], Array], dtype: str = "i64") -> Static:
    """The value that `make` gives for each T."""
    return Static(tuple(make(tokens) for tokens in PROBES), dtype)


def dim_of(sizes: tuple[int, ...]) -> Dim:
    """The dimension that has these sizes for T of PROBES. Raises NotReadError if it is neither a number nor T."""
    if len(set(sizes)) == 1:
        return sizes[0]
    if sizes == PROBES:
        return TOKENS
    raise NotReadError(f"a size of {sizes[0]} for {PROBES[0]} tokens and {sizes[1]} for {PROBES[1]}")


def shape_of(value: Static) -> Shape:
    """Shape of a static value."""
    shapes = [array.shape for array in value.arrays]
    if len({len(shape) for shape in shapes}) != 1:
        raise NotReadError("a rank that depends on the number of tokens")
    return tuple(dim_of(sizes) for sizes in zip(*shapes, strict=True))


def dims(value: Operand) -> tuple[Dim, ...]:
    """Sizes that a static value of rank 0 or 1 holds."""
    if not isinstance(value, Static):
        raise NotReadError("a shape or index that is not known before the model runs")
    if value.bend >= PROBES[0]:
        raise NotReadError(f"a size or index that changes at a length of {value.bend}")
    shape = shape_of(value)
    if len(shape) > 1 or TOKENS in shape or value.dtype not in ("i64", "i32"):
        raise NotReadError(f"a shape or index given as {value.dtype} {list(shape)}")
    columns = zip(*(np.ravel(array).tolist() for array in value.arrays), strict=True)
    return tuple(dim_of(tuple(map(int, column))) for column in columns)


def integers(value: Operand) -> tuple[int, ...]:
    """As `dims`, where none may be T."""
    found = dims(value)
    numbers = tuple(dim for dim in found if isinstance(dim, int))
    if len(numbers) != len(found):
        raise NotReadError("an axis or length that depends on the number of tokens")
    return numbers


def scalar(value: Operand) -> int | float | bool | None:
    """The number that a static value of one element holds for every T; None if it is anything else.

    A float32 is read as the shortest decimal that rounds to it, as it was meant: 1e-06, not 9.999999974752427e-07.
    """
    if not isinstance(value, Static) or value.bend >= PROBES[0] or any(array.size != 1 for array in value.arrays):
        return None
    numbers = {array.reshape(()).item() for array in value.arrays}
    if len(numbers) != 1:
        return None
    number = numbers.pop()
    return shortest(number) if value.dtype == "f32" else number


def shortest(number: float) -> float:
    """The shortest decimal that rounds to this float32."""
    return float(str(np.float32(number)))


def same_everywhere(value: Static) -> int | float | bool | None:
    """The number that every element of a static value is, for every T; None if they differ."""
    if value.bend >= PROBES[0] or not all(array.size for array in value.arrays):
        return None
    first = value.arrays[0].flat[0]
    return first.item() if all(np.all(array == first) for array in value.arrays) else None


def counted(value: Static) -> tuple[int, int, int] | None:
    """(axis, first, step) if a value of whole numbers counts along one axis of T and is the same along all others."""
    if value.bend >= PROBES[0] or value.dtype not in ("i64", "i32"):
        return None
    for axis in range(min(array.ndim for array in value.arrays)):
        if tuple(array.shape[axis] for array in value.arrays) == PROBES:
            found = {_counting(array, axis) for array in value.arrays}
            line = found.pop()
            if not found and line is not None:
                return (axis, *line)
    return None


def _counting(array: Array, axis: int) -> tuple[int, int] | None:
    lines = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
    if not lines.size:
        return None
    first, step = int(lines[0, 0]), int(lines[0, 1] - lines[0, 0])
    line = first + step * np.arange(lines.shape[1])
    return (first, step) if np.array_equal(lines, np.broadcast_to(line, lines.shape)) else None


def largest_whole(array: Array) -> int:
    """The largest size among the whole numbers of an array, but for sentinels and infinities."""
    if not array.size or array.dtype.kind not in "if":
        return 0
    sizes = np.abs(array.astype(np.float64))
    whole = sizes[
        np.isfinite(sizes) & (sizes < _SENTINEL) & (sizes == np.floor(np.where(np.isfinite(sizes), sizes, 0)))
    ]
    return int(whole.max(initial=0))
