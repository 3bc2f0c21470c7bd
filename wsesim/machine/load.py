"""Machines by name or file: the presets, or a user's own TOML with the same fields."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from wsesim.errors import InvalidInputError, brief
from wsesim.files import parse_toml, read_text
from wsesim.machine.defects import DEFECTS, dead_pes
from wsesim.machine.errors import MachineFileError, UnknownMachineError
from wsesim.machine.machine import Machine
from wsesim.machine.presets import is_preset, machine_names, preset
from wsesim.machine.rules import check_machine
from wsesim.machine.values import fields_from, flat, read_values, values_of

MOST_BASES = 8  # files that build on one another


def load_machine(name: str) -> Machine:
    """The preset `name`, or the machine that the TOML file `name` describes.

    A file states all fields, or `base` and those that differ from it: `base` is a preset or another TOML file, beside
    this one. Raises UnknownMachineError (no such preset or file) and MachineFileError (a field missing, unknown or out
    of range).
    """
    if is_preset(name):
        return _preset(name)
    if _is_toml(Path(name)):
        return _from_file(Path(name), ())
    raise UnknownMachineError("machine", name, machine_names(), "or a machine's .toml file")


def parse_machine(text: str, name: str) -> Machine:
    """The machine that a TOML text describes. Raises MachineFileError."""
    return _parsed(text, name, f"machine {name}", Path(), ())


@cache
def _preset(name: str) -> Machine:
    return preset(Machine, name)


def _is_toml(path: Path) -> bool:
    """Whether something lies at a path that is written as a TOML file; what it is, its reader says."""
    try:
        return path.suffix == ".toml" and path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _from_file(path: Path, users: tuple[Path, ...]) -> Machine:
    """`users` are the files whose base this one is, resolved, the first one first."""
    own = path.resolve()
    if own in users:
        circle = " -> ".join(file.name for file in (*users, own))
        raise MachineFileError(f"{path}: a machine cannot be its own base: {circle}")
    if len(users) >= MOST_BASES:
        raise MachineFileError(f"{path}: is base number {len(users)} in a row; at most {MOST_BASES - 1} files are")
    try:
        text = read_text(path, "a machine")
    except InvalidInputError as error:
        raise MachineFileError(str(error)) from None
    return _parsed(text, path.stem, str(path), path.parent, (*users, own))


def _parsed(text: str, name: str, where: str, folder: Path, users: tuple[Path, ...]) -> Machine:
    """`where` stands before what is wrong; a base that is a file lies in `folder`."""
    try:
        table = parse_toml(text, where)
    except InvalidInputError as error:
        raise MachineFileError(str(error)) from None
    base = _base(table.pop("base"), where, folder, users) if "base" in table else None
    try:
        values = read_values(flat(table), None if base is None else values_of(base))
    except ValueError as error:
        raise MachineFileError(f"{where}: {error}") from None
    machine = Machine(name=name, base=base and (base.base or base), **fields_from(values))
    check_machine(machine, where)
    return machine


def _base(stated: Any, where: str, folder: Path, users: tuple[Path, ...]) -> Machine:
    if not isinstance(stated, str):
        raise MachineFileError(f"{where}: field 'base' is {brief(stated)}, not the name of a preset or of a .toml file")
    if is_preset(stated):
        return _preset(stated)
    if _is_toml(folder / stated):
        return _from_file(folder / stated, users)
    known = ", ".join(machine_names())
    raise MachineFileError(
        f"{where}: base {brief(stated)} is neither a preset ({known}) nor a .toml file beside this one"
    )


def with_defects(machine: Machine, path: str) -> Machine:
    """The machine with the dead PEs of the file at `path` added to its own. Raises MachineFileError."""
    try:
        table = parse_toml(read_text(path, f"defects of {machine.name}"), path)
        for extra in sorted(set(table) - set(DEFECTS)):
            raise ValueError(f"unknown field {brief(extra)}; known: {', '.join(DEFECTS)}")
        dead = machine.dead | dead_pes(table, machine.usable)
    except InvalidInputError as error:  # no file, no text, no TOML
        raise MachineFileError(str(error)) from None
    except ValueError as error:
        raise MachineFileError(f"{path}: cannot be read as defects of {machine.name}: {error}") from None
    return dataclasses.replace(machine, dead=dead, base=machine.base or machine)
