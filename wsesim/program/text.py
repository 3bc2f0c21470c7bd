"""Text form of Programs: one line an item, each line a constructor with its fields; `parse(print(p)) == p`.

program 1
header(model='tiny', ...)
machine Machine(name='toy4x4', ...)
block Block(name='layer0', x=0, ...)
kernel Linear(name='layer0.qkv', ...)
...
end
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from wsesim.errors import InvalidInputError, brief, first_line
from wsesim.files import read_text, write_whole
from wsesim.machine import Fabric, Host, Machine, OpCost, Rect
from wsesim.machine.fields import build
from wsesim.machine.machine import SlowPE
from wsesim.program.errors import ProgramTextError
from wsesim.program.kernels import KERNEL_TYPES, Output, WeightRef
from wsesim.program.kv import KVCache
from wsesim.program.layout import Heads, Uniform
from wsesim.program.program import VERSION, Block, BlockMemory, ColourUse, Feedback, Program, Transfer
from wsesim.program.verify import verify_program

_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (
        *(Machine, Fabric, Host, OpCost, Rect, SlowPE, Block, Transfer, Feedback, ColourUse, BlockMemory),
        *(Uniform, Heads, KVCache, Output, WeightRef, *KERNEL_TYPES),
    )
}
_LISTS = {
    "block": "blocks",
    "kernel": "kernels",
    "transfer": "transfers",
    "colour": "colours",
    "memory": "memory",
}
_SINGLE = ("machine", "feedback")
_END = "end"  # a text that was cut off at the end of a line has none
_WRAPPERS: dict[str, Callable[[Any], Any]] = {"Fraction": Fraction, "frozenset": frozenset}
_UNREADABLE = (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)


def print_program(program: Program) -> str:
    """The whole Program as text."""
    scalars = {
        f.name: getattr(program, f.name)
        for f in dataclasses.fields(program)
        if f.name not in (*_LISTS.values(), *_SINGLE)
    }
    lines = [f"program {VERSION}", "header(" + ", ".join(f"{k}={v!r}" for k, v in scalars.items()) + ")"]
    lines += [f"{name} {_text(getattr(program, name))}" for name in _SINGLE]
    for word, field in _LISTS.items():
        lines += [f"{word} {_text(item)}" for item in getattr(program, field)]
    return "\n".join([*lines, _END]) + "\n"


def parse_program(text: str) -> Program:
    """The Program that a text describes. Raises ProgramTextError with the line's number."""
    lines = text.rstrip().splitlines()
    if not lines or lines[0] != f"program {VERSION}":
        raise ProgramTextError(f"not a Program of version {VERSION}: the first line is {brief(''.join(lines[:1]))}")
    if lines[-1] != _END:
        raise ProgramTextError(f"not a whole Program: the last line, {len(lines)}, is not {_END!r}")
    fields: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {field: [] for field in _LISTS.values()}
    for number, line in enumerate(lines[1:-1], start=2):
        if line.strip():
            _read_line(line, number, fields, lists)
    try:
        return build(Program, {**fields, **{name: tuple(items) for name, items in lists.items()}})
    except ValueError as error:
        raise ProgramTextError(f"not a whole Program: {error}") from None


def save_program(program: Program, path: str | Path) -> None:
    """Writes the Program's text to `path`, never half of it."""
    write_whole(Path(path), program.text())


def load_program(path: str | Path) -> Program:
    """The Program saved at `path`, verified. Raises ProgramTextError, and what `verify_program` raises."""
    try:
        program = parse_program(read_text(path, "a Program"))
    except ProgramTextError as error:
        raise ProgramTextError(f"{path}: cannot be read as a Program: {error}") from None
    except InvalidInputError as error:
        raise ProgramTextError(str(error)) from None
    verify_program(program)
    return program


def _read_line(line: str, number: int, fields: dict[str, Any], lists: dict[str, list[Any]]) -> None:
    word, _, rest = line.partition(" ")
    try:
        if line.startswith("header("):
            header = _keywords(ast.parse(line, mode="eval").body)
            for name in sorted({*lists, *_SINGLE} & header.keys()):
                raise ValueError(f"field {name!r} has lines of its own")
            fields.update(header)
        elif word in _LISTS:
            lists[_LISTS[word]].append(_value(ast.parse(rest, mode="eval").body))
        elif word in _SINGLE:
            fields[word] = _value(ast.parse(rest, mode="eval").body)
        else:
            raise ValueError(f"unknown word {brief(word)}")
    except _UNREADABLE as error:
        raise ProgramTextError(f"line {number} of the Program: {first_line(error)}") from None


def _text(value: Any) -> str:
    """Constructor text; fields that stand at their default are left out, as are derived ones."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = [(f, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
        said = [f"{f.name}={_text(v)}" for f, v in shown if v != f.default]
        return f"{type(value).__name__}({', '.join(said)})"
    if isinstance(value, tuple):
        return "(" + "".join(_text(v) + ", " for v in value).rstrip(" ") + ")"
    if isinstance(value, frozenset):
        return f"frozenset({_text(tuple(sorted(value)))})"
    if isinstance(value, Fraction):
        return f"Fraction('{value}')"
    return repr(value)


def _value(node: ast.expr) -> Any:
    """Evaluates constructors of known types, tuples and literals, nothing else."""
    if isinstance(node, ast.Tuple):
        return tuple(_value(e) for e in node.elts)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name in _WRAPPERS and len(node.args) == 1 and not node.keywords:
        return _WRAPPERS[name](_value(node.args[0]))
    if name not in _TYPES:
        raise ValueError(f"unknown constructor {brief(name)}")
    return build(_TYPES[name], _keywords(node))


def _keywords(node: ast.expr) -> dict[str, Any]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("a constructor takes its fields by name")
    names = [str(k.arg) for k in node.keywords]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"field {name!r} is given twice")
    return {name: _value(k.value) for name, k in zip(names, node.keywords, strict=True)}
