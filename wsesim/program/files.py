"""Programs read from text and files, and written to files. `parse_program(program.text()) == program`.

program 2
header(model='tiny', ...)
machine Machine(name='toy4x4', ...)
block Block(name='layer0', x=0, ...)
kernel Linear(name='layer0.qkv', ...)
stage Stage(name='layer0', kind='layer', layer=0, ...)
...
end
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsesim.errors import InvalidInputError, brief, first_line
from wsesim.files import read_text, write_whole
from wsesim.machine import Fabric, Host, Machine, OpCost, Rect
from wsesim.machine.fields import build
from wsesim.machine.parts import SlowPE
from wsesim.program.errors import ProgramTextError
from wsesim.program.kernels import KERNEL_TYPES, Output, WeightRef
from wsesim.program.kv import KVCache
from wsesim.program.layout import Heads, Uniform
from wsesim.program.parts import Block, BlockMemory, ColourUse, Feedback, Stage, Transfer
from wsesim.program.program import END, LISTS, SINGLE, VERSION, Program
from wsesim.program.text import UNREADABLE, read_constructor, read_keywords
from wsesim.program.verify import verify_program
from wsesim.software import Form, Software
from wsesim.software.software import GemmCode

_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (
        *(Machine, Fabric, Host, OpCost, Rect, SlowPE, Block, Stage, Transfer, Feedback, ColourUse, BlockMemory),
        *(Uniform, Heads, KVCache, Output, WeightRef, *KERNEL_TYPES),
        *(Software, Form, GemmCode),
    )
}


def parse_program(text: str) -> Program:
    """The Program that a text describes, not verified. Raises ProgramTextError with the line's number."""
    lines = text.rstrip().splitlines()
    if not lines or lines[0] != f"program {VERSION}":
        raise ProgramTextError(f"not a Program of version {VERSION}: the first line is {brief(''.join(lines[:1]))}")
    if lines[-1] != END:
        raise ProgramTextError(f"not a whole Program: the last line, {len(lines)}, is not {END!r}")
    fields: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {field: [] for field in LISTS.values()}
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
    """The Program saved at `path`, verified. Raises ProgramTextError, and the errors of `verify_program`."""
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
            header = read_keywords(line, _TYPES)
            for name in sorted({*lists, *SINGLE} & header.keys()):
                raise ValueError(f"field {name!r} has lines of its own")
            fields.update(header)
        elif word in LISTS:
            lists[LISTS[word]].append(read_constructor(rest, _TYPES))
        elif word in SINGLE:
            fields[word] = read_constructor(rest, _TYPES)
        else:
            raise ValueError(f"unknown word {brief(word)}")
    except UNREADABLE as error:
        raise ProgramTextError(f"line {number} of the Program: {first_line(error)}") from None
