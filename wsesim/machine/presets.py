"""The presets: TOML files beside this module. Each states every field of a machine, with the source of each number."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, TypeVar

from wsesim.files import parse_toml
from wsesim.machine.numbers import Numbers
from wsesim.machine.rules import check_machine
from wsesim.machine.values import fields_from, flat, read_values

M = TypeVar("M", bound=Numbers)


@cache
def machine_names() -> tuple[str, ...]:
    """Names of the presets."""
    presets = resources.files("wsesim.machine") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in presets.iterdir() if p.name.endswith(".toml")))


def is_preset(name: str) -> bool:
    return name in machine_names()


def preset_text(name: str) -> str:
    """The TOML of a preset, with the source of each number."""
    return (resources.files("wsesim.machine") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def preset(kind: type[M], name: str) -> M:
    """The preset `name` as a value of `kind`, which is `Machine` but for this package's own functions."""
    machine = kind(name=name, **_fields(name))
    check_machine(machine)
    return machine


@cache
def _fields(name: str) -> dict[str, Any]:
    return fields_from(read_values(flat(parse_toml(preset_text(name), f"machine {name}"))))
