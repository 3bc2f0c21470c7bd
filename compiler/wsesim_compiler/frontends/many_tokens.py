"""A program for one token read as one for T: shapes that say 1 where T is meant are put right, operator by operator."""

from __future__ import annotations

from math import prod

from wsesim_compiler.errors import ShapeError
from wsesim_compiler.ir import TOKENS, Attribute, Shape, TensorType
from wsesim_compiler.ops import OPERATORS, infer_shape

_RESHAPES = ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")


def one_token(shape: Shape) -> Shape:
    """The shape for T = 1."""
    return tuple(1 if dim == TOKENS else dim for dim in shape)


def for_many_tokens(
    op: str, types: list[TensorType], given: dict[str, Attribute], made: Shape
) -> tuple[dict[str, Attribute], Shape]:
    """Attributes and shape of a one-token program's node for T tokens; `made`: the shape for one.

    Where the attributes say 1 and T is meant, they are put right: at the place where the operand has T, if that fits.
    Raises ShapeError where nothing fits.
    """
    if op not in OPERATORS:
        return given, made
    for candidate in _candidates(types, given):
        try:
            shape = infer_shape(op, types, tuple(sorted(candidate.items())))
        except ShapeError:
            continue
        if isinstance(shape, list) or one_token(shape) != made:
            continue
        if op not in _RESHAPES or _before_tokens(types[0].shape) == _before_tokens(shape):
            return candidate, shape
    raise ShapeError(f"{op} of one token, {[list(t.shape) for t in types]} -> {list(made)}, is not one of T tokens")


def _candidates(types: list[TensorType], given: dict[str, Attribute]) -> list[dict[str, Attribute]]:
    """The attributes with T for a 1 at the place where the operand has T, as they are, and with T for another 1."""
    own = [i for i, dim in enumerate(types[0].shape) if dim == TOKENS] if types else []
    there: list[dict[str, Attribute]] = []
    elsewhere: list[dict[str, Attribute]] = []
    for name in ("size", "shape"):
        sizes = given.get(name)
        for i, size in enumerate(sizes if isinstance(sizes, tuple) else ()):
            if size == 1 and isinstance(sizes, tuple):
                (there if i in own else elsewhere).append({**given, name: (*sizes[:i], TOKENS, *sizes[i + 1 :])})
    return [*there, given, *elsewhere]


def _before_tokens(shape: Shape) -> int | None:
    """Rows of tokens: a reshaping that has more or fewer of them would mix tokens. None without T."""
    return prod(int(dim) for dim in shape[: shape.index(TOKENS)]) if TOKENS in shape else None
