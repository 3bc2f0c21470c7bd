"""Operator: a name with its shape rule and NumPy meaning, and the shape arithmetic that the rules share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from wsesim_compiler.errors import ShapeError
from wsesim_compiler.ir import Dim, Shape

Array: TypeAlias = NDArray[Any]
RAW, CANONICAL, RECOGNIZED = "raw", "canonical", "recognized"
"""The stages of a Graph."""


@dataclass(frozen=True, slots=True)
class Operator:
    """`shape(*shapes, **attributes)` gives the result's shape, a list for several results, or ShapeError.

    `meaning(*arrays, **attributes)` computes in the arrays' precision; the interpreter has put numbers for T.
    A `stateful` meaning takes the keywords `state` (KVState) and `node` (str) as well.
    """

    name: str
    least: int
    most: int
    attributes: frozenset[str]
    shape: Callable[..., Shape | list[Shape]]
    meaning: Callable[..., Any]
    stages: frozenset[str]
    stateful: bool = False


def operator(
    name: str,
    operands: int | tuple[int, int],
    shape: Callable[..., Shape | list[Shape]],
    meaning: Callable[..., Any],
    *,
    stages: Iterable[str] = (RAW, CANONICAL),
    stateful: bool = False,
) -> Operator:
    """An Operator whose attributes are the keyword-only parameters of its shape rule."""
    least, most = (operands, operands) if isinstance(operands, int) else operands
    parameters = inspect.signature(shape).parameters.values()
    attributes = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
    return Operator(name, least, most, attributes, shape, meaning, frozenset(stages), stateful)


def require(condition: bool, message: str) -> None:
    """Raise ShapeError with the message unless the condition holds."""
    if not condition:
        raise ShapeError(message)


def broadcast(*shapes: Shape) -> Shape:
    """NumPy's broadcasting, where T equals only T."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_broadcast_dim(dims) for dims in zip(*padded, strict=True))


def _broadcast_dim(dims: tuple[Dim, ...]) -> Dim:
    wide = set(dims) - {1}
    require(len(wide) <= 1, f"dimensions {', '.join(map(str, dims))} do not broadcast")
    return wide.pop() if wide else 1


def axis(dim: int, rank: int) -> int:
    """A dimension's index counted from the front."""
    require(-rank <= dim < rank, f"dimension {dim} is outside rank {rank}")
    return dim % rank


def size_of(shape: Iterable[Dim]) -> tuple[int, tuple[str, ...]]:
    """Number of elements as an integer factor and the sorted symbolic factors."""
    factor, symbols = 1, []
    for dim in shape:
        if isinstance(dim, int):
            factor *= dim
        else:
            symbols.append(dim)
    return factor, tuple(sorted(symbols))


def resolved(shape: Shape, target: Iterable[Dim]) -> Shape:
    """`target` with its one -1 replaced so that it holds as many elements as `shape`."""
    dims = tuple(target)
    (have, symbols), (want, wanted) = size_of(shape), size_of(dim for dim in dims if dim != -1)
    if -1 not in dims:
        require((have, symbols) == (want, wanted), f"{list(shape)} does not reshape to {list(dims)}")
        return dims
    left = list(symbols)
    for symbol in wanted:
        require(symbol in left, f"{list(shape)} does not reshape to {list(dims)}")
        left.remove(symbol)
    require(want > 0 and have % want == 0, f"{list(shape)} does not reshape to {list(dims)}")
    return tuple(_missing(have // want, left) if dim == -1 else dim for dim in dims)


def _missing(factor: int, symbols: list[str]) -> Dim:
    require(not symbols or (len(symbols) == 1 and factor == 1), "a dimension would be a multiple of T")
    return symbols[0] if symbols else factor


def same(shape: Shape) -> Shape:
    """The rule of elementwise operators."""
    return shape


def with_dim(shape: Shape, index: int, dim: Dim) -> Shape:
    """`shape` with one dimension replaced."""
    return (*shape[:index], dim, *shape[index + 1 :])
