"""Text form of Programs: one line an item, each line a constructor with its fields; `parse(print(p)) == p`.

program 1
header(model='tiny', ...)
machine Machine(name='toy4x4', ...)
block Block(name='layer0', x=0, ...)
kernel Linear(name='layer0.qkv', ...)
"""

from __future__ import annotations

import ast
import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

from wsesim.machine import Fabric, Host, Machine, OpCost, Rect
from wsesim.machine.machine import SlowPE
from wsesim.program.cache_dir import write_whole
from wsesim.program.errors import ProgramTextError
from wsesim.program.kernels import KERNEL_TYPES, Output, WeightRef
from wsesim.program.layout import Heads, Uniform
from wsesim.program.program import VERSION, Block, BlockMemory, ColourUse, Feedback, Program, Transfer

_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (
        *(Machine, Fabric, Host, OpCost, Rect, SlowPE, Block, Transfer, Feedback, ColourUse, BlockMemory),
        *(Uniform, Heads, Output, WeightRef, *KERNEL_TYPES),
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
    return "\n".join(lines) + "\n"


def parse_program(text: str) -> Program:
    """The Program that a text describes. Raises ProgramTextError with the line's number."""
    lines = text.splitlines()
    if not lines or lines[0] != f"program {VERSION}":
        raise ProgramTextError(f"not a Program of version {VERSION}: the first line is {lines[:1]}")
    fields: dict[str, Any] = {field: [] for field in _LISTS.values()}
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            _read_line(line, number, fields)
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    try:
        return Program(**fields)
    except TypeError as error:
        raise ProgramTextError(f"not a whole Program: {error}") from None


def save_program(program: Program, path: str | Path) -> None:
    """Writes the Program's text to `path`, never half of it."""
    write_whole(Path(path), str(program))


def load_program(path: str | Path) -> Program:
    """The Program saved at `path`. Raises ProgramTextError."""
    try:
        return parse_program(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProgramTextError(f"{path}: cannot be read as a Program: {error}") from None


def _read_line(line: str, number: int, fields: dict[str, Any]) -> None:
    try:
        if line.startswith("header("):
            call = ast.parse(line, mode="eval").body
            assert isinstance(call, ast.Call)
            fields.update({str(k.arg): _value(k.value) for k in call.keywords})
            return
        word, _, rest = line.partition(" ")
        value = _value(ast.parse(rest, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProgramTextError(f"line {number} of the Program: {error}") from None
    if word in _LISTS:
        fields[_LISTS[word]].append(value)
    elif word in _SINGLE:
        fields[word] = value
    else:
        raise ProgramTextError(f"line {number} of the Program: unknown word {word!r}")


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
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "Fraction":
            return Fraction(*(_value(a) for a in node.args))
        if node.func.id == "frozenset":
            return frozenset(_value(node.args[0]))
        if node.func.id not in _TYPES:
            raise ValueError(f"unknown constructor {node.func.id!r}")
        return _TYPES[node.func.id](**{str(k.arg): _value(k.value) for k in node.keywords})
    if isinstance(node, ast.Tuple):
        return tuple(_value(e) for e in node.elts)
    return ast.literal_eval(node)
