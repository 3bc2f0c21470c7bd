"""Values read from a file against the fields of the frozen dataclass that they are to become."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from wsesim.errors import brief

T = TypeVar("T")


def build(cls: Callable[..., T], values: Mapping[str, Any]) -> T:
    """`cls(**values)`. Raises ValueError for a field that is missing, unknown, or of another type."""
    hints, required = _fields(cls)
    for extra in sorted(set(values) - set(hints)):
        raise ValueError(f"unknown field {extra!r}; known: {', '.join(hints)}")
    for missing in sorted(required - set(values)):
        raise ValueError(f"field {missing!r} is missing")
    for name, value in values.items():
        if not is_a(value, hints[name]):
            raise ValueError(f"field {name!r} is {brief(value)}, not of type {shown(hints[name])}")
    return cls(**values)


def is_a(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type: numbers, strings, classes, unions and containers of them."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(is_a(value, choice) for choice in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(is_a, value, arguments))
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(is_a(item, arguments[0]) for item in value)
    if origin in (tuple, frozenset):
        return isinstance(value, origin) and all(is_a(item, arguments[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is int if hint is int else isinstance(value, hint)


@lru_cache(maxsize=64)
def _fields(cls: Hashable) -> tuple[dict[str, Any], frozenset[str]]:
    """Types of all fields that are given, and the names of those without a default."""
    assert isinstance(cls, type)
    hints = get_type_hints(cls)
    given = [f for f in dataclasses.fields(cls) if f.init]
    return {f.name: hints[f.name] for f in given}, frozenset(f.name for f in given if f.default is dataclasses.MISSING)


def shown(hint: Any) -> str:
    """A type as an error names it."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
