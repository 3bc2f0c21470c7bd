"""Values as constructor text, and back: `Block(name='layer0', x=0, y=0, columns=4, rows=2, axis='rows')`.

It serves frozen dataclasses, tuples, fractions, frozen sets and literals.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from wsesim.errors import brief
from wsesim.machine.fields import build

UNREADABLE = (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)
"""What `read_constructor` and `read_keywords` may raise."""

_WRAPPERS: dict[str, Callable[[Any], Any]] = {"Fraction": Fraction, "frozenset": frozenset}


def constructor(value: Any) -> str:
    """The text that builds `value`. Derived fields, and those that have their default, are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = [(f, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
        said = [f"{f.name}={constructor(v)}" for f, v in shown if v != f.default]
        return f"{type(value).__name__}({', '.join(said)})"
    if isinstance(value, tuple):
        return "(" + "".join(constructor(v) + ", " for v in value).rstrip(" ") + ")"
    if isinstance(value, frozenset):
        return f"frozenset({constructor(tuple(sorted(value)))})"
    if isinstance(value, Fraction):
        return f"Fraction('{value}')"
    return repr(value)


def read_constructor(text: str, types: Mapping[str, type]) -> Any:
    """The value that a constructor text builds of `types`. Nothing else is evaluated. Raises one of UNREADABLE."""
    return _value(ast.parse(text, mode="eval").body, types)


def read_keywords(text: str, types: Mapping[str, type]) -> dict[str, Any]:
    """The arguments of a call `name(field=value, ...)`. Raises one of UNREADABLE."""
    return _keywords(ast.parse(text, mode="eval").body, types)


def _value(node: ast.expr, types: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_value(e, types) for e in node.elts)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name in _WRAPPERS and len(node.args) == 1 and not node.keywords:
        return _WRAPPERS[name](_value(node.args[0], types))
    if name not in types:
        raise ValueError(f"unknown constructor {brief(name)}")
    return build(types[name], _keywords(node, types))


def _keywords(node: ast.expr, types: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("a constructor takes its fields by name")
    names = [str(k.arg) for k in node.keywords]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"field {name!r} is given twice")
    return {name: _value(k.value, types) for name, k in zip(names, node.keywords, strict=True)}
