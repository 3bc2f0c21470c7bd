"""A machine with a few fields changed: `Machine.with_` in Python, `--set FIELD=VALUE` on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from wsesim.errors import InvalidInputError, brief
from wsesim.files import parse_toml
from wsesim.machine.errors import MachineFileError
from wsesim.machine.numbers import Numbers
from wsesim.machine.rules import check_machine
from wsesim.machine.text import base_of
from wsesim.machine.values import KINDS, check_field, fields_from, fraction, read_values, values_of


def parse_setting(text: str) -> tuple[str, Any]:
    """The field and the value of `fabric.hop_cycles=1`; a list is written as in TOML: `dead_rows=[3]`.

    Raises InvalidInputError for a field that no machine has, or a value of another type.
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise InvalidInputError(f"{brief(text)} sets nothing; write FIELD=VALUE, as in fabric.hop_cycles=1")
    try:
        check_field(path)
        return path, _parsed(path, value)
    except ValueError as error:
        raise InvalidInputError(f"{brief(text)}: {error}") from None


def _parsed(path: str, text: str) -> Any:
    """A value from its text, by the field's type. Raises ValueError."""
    kind = KINDS.get(path, list)
    if kind is Fraction:
        return fraction(f"field {path!r}", text)
    if kind is list:
        return _list(path, text)
    try:
        return kind(text)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise ValueError(f"field {path!r} is {brief(text)}, not {what}") from None


def _list(path: str, text: str) -> Any:
    try:
        table = parse_toml(f"value = {text}", path)
    except InvalidInputError:
        table = {}
    if set(table) != {"value"}:
        raise ValueError(f"field {path!r} is {brief(text)}, not a list as in TOML")
    return table["value"]


def changed(machine: Numbers, changes: Mapping[str, object], name: str | None) -> Numbers:
    """As `Machine.with_`."""
    base = base_of(machine) or machine
    own_name = machine.name if name is None else name
    try:
        values = read_values(changes, values_of(machine))
    except ValueError as error:
        raise MachineFileError(f"machine {own_name}: {error}") from None
    if name is None and values != values_of(machine):
        own_name = base.name if values == values_of(base) else f"{machine.name.removesuffix('+')}+"
    new_base = None if base.name == own_name else base
    made = dataclasses.replace(machine, name=own_name, base=new_base, **fields_from(values))
    check_machine(made)
    return made
