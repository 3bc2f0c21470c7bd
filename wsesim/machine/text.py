"""A machine as text: TOML that reads back to it, what differs from its base, and the text that decides cache keys."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from textwrap import wrap
from typing import Any

from wsesim.machine.numbers import Numbers
from wsesim.machine.presets import is_preset, preset, preset_text
from wsesim.machine.values import toml_text, toml_value, value_text, values_of


@dataclass(frozen=True, slots=True)
class Difference:
    """A field whose value differs from that of the base."""

    field: str
    base: Any
    value: Any

    def __str__(self) -> str:
        return f"{self.field} {value_text(self.base)} -> {value_text(self.value)}"

    def to_json(self) -> dict[str, Any]:
        """As TOML states the values; of a list of PEs their number."""
        shown = [value_text(v) if isinstance(v, frozenset | tuple) else toml_value(v) for v in (self.base, self.value)]
        return {"field": self.field, "base": shown[0], "value": shown[1]}


def differences(machine: Numbers, base: Numbers | None = None) -> tuple[Difference, ...]:
    """The fields of `machine` that differ from `base`, in the order of the TOML; assumptions are left out.

    None is the machine's own base, or the preset of its name; a machine that has neither differs in nothing.
    """
    base = base or base_of(machine)
    if base is None:
        return ()
    before = values_of(base)
    found = (Difference(path, before[path], value) for path, value in values_of(machine).items())
    return tuple(d for d in found if d.base != d.value and d.field != "assumptions")


def base_of(machine: Numbers) -> Numbers | None:
    """What a machine was derived from; of one that has a preset's name, that preset."""
    return machine.base or (preset(type(machine), machine.name) if is_preset(machine.name) else None)


def differences_text(machine: Numbers) -> str:
    """As `wse3 with fabric.hop_cycles 2 -> 1`; empty for a machine that differs in nothing."""
    base, found = base_of(machine), differences(machine)
    return f"{base.name} with {', '.join(map(str, found))}" if base is not None and found else ""


def machine_notes(machine: Numbers) -> tuple[str, ...]:
    """What reports print below their figures: what a derived machine has otherwise than its base, in lines of 108."""
    text = differences_text(machine)
    return tuple(wrap(f"machine: {text}", 108, subsequent_indent="  ")) if text else ()


def machine_text(machine: Numbers) -> str:
    """TOML that reads back to an equal machine, if its file is called `machine.name`.toml.

    Of a preset it is the preset's own file, with the source of each number. A derived machine states all of its fields;
    comments say what the base has.
    """
    if is_preset(machine.name) and machine == preset(type(machine), machine.name):
        return preset_text(machine.name)
    base, changes = base_of(machine), {d.field: d.base for d in differences(machine)}
    lines = [f"# {_printable(line)}" for line in (machine.name, differences_text(machine)) if line]
    if base is not None and is_preset(base.name) and base == preset(type(base), base.name):
        lines.append(f'base = "{base.name}"')
    for section, fields in groupby(values_of(machine).items(), key=lambda item: item[0].rpartition(".")[0]):
        lines += [f"\n[{section}]"] * bool(section)
        for path, value in fields:
            was = f"  # {value_text(changes[path])} on {_printable(base.name)}" if base and path in changes else ""
            lines.append(f"{path.rpartition('.')[2]} = {toml_text(value)}{was}")
    return "\n".join(lines) + "\n"


def canonical_text(machine: Numbers) -> str:
    """The name and every number, one a line, whatever they were written like. Neither assumptions nor the base."""
    stated = {path: value for path, value in values_of(machine).items() if path != "assumptions"}
    return "\n".join([f"name = {machine.name}", *(f"{path} = {toml_text(value)}" for path, value in stated.items())])


def whole_text(machine: Numbers) -> str:
    """As `canonical_text`, with the assumptions and the base: everything that a saved Program states of its machine."""
    base = "" if machine.base is None else f"\nbase:\n{whole_text(machine.base)}"
    return f"{canonical_text(machine)}\nassumptions = {toml_text(machine.assumptions)}{base}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
