"""Machines by name or file: the presets beside this module, or a user's own TOML with the same fields."""

from __future__ import annotations

import dataclasses
import tomllib
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from wsesim.machine.errors import MachineFileError, UnknownMachineError
from wsesim.machine.machine import Fabric, Host, Machine, OpCost, Rect, SlowPE

OPS = ("copy", "fma", "elementwise", "reduce", "exp", "divide", "rsqrt", "relay", "compare")


def machine_names() -> tuple[str, ...]:
    """Names of the presets."""
    presets = resources.files("wsesim.machine") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in presets.iterdir() if p.name.endswith(".toml")))


def load_machine(name: str) -> Machine:
    """The preset `name`, or the machine that the TOML file `name` describes.

    Raises UnknownMachineError (no such preset or file) and MachineFileError (a field missing, unknown or out of range).
    """
    if name in machine_names():
        text = (resources.files("wsesim.machine") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
        return parse_machine(text, name)
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return parse_machine(path.read_text(encoding="utf-8"), path.stem)
    raise UnknownMachineError("machine", name, machine_names(), "or a machine's .toml file")


def parse_machine(text: str, name: str) -> Machine:
    """The machine that a TOML text describes."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MachineFileError(f"machine {name}: not TOML: {error}") from None
    try:
        machine = _from_table(dict(table), name)
    except KeyError as error:
        raise MachineFileError(f"machine {name}: field {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise MachineFileError(f"machine {name}: {error}") from None
    _check(machine)
    return machine


def _from_table(table: dict[str, Any], name: str) -> Machine:
    costs = table.pop("op")
    unknown = set(costs) ^ set(OPS)
    if unknown:
        raise ValueError(f"operations {sorted(unknown)} are missing or unknown; a machine states {', '.join(OPS)}")
    parts: dict[str, Any] = {
        "usable": Rect(**table.pop("usable")),
        "fabric": _fabric(table.pop("fabric")),
        "host": Host(**table.pop("host")),
        "ops": tuple((op, _op_cost(costs[op])) for op in OPS),
        "assumptions": tuple(table.pop("assumptions", ())),
        "dead": frozenset((x, y) for x, y in table.pop("dead", ())),
        "slow": tuple(SlowPE(x, y, Fraction(factor)) for x, y, factor in table.pop("slow", ())),
    }
    known = {f.name for f in dataclasses.fields(Machine)} - {"name", "_cost"} - set(parts)
    for missing in sorted(known - set(table)):
        raise KeyError(missing)
    for extra in sorted(set(table) - known):
        raise ValueError(f"unknown field {extra!r}; known: {', '.join(sorted(known | set(parts)))}")
    return Machine(name=name, **table, **parts)


def _fabric(table: dict[str, Any]) -> Fabric:
    wavelet = Fraction(table.pop("wavelet_cycles"))
    return Fabric(wavelet_numerator=wavelet.numerator, wavelet_denominator=wavelet.denominator, **table)


def _op_cost(table: dict[str, Any]) -> OpCost:
    return OpCost(
        launch=table["launch"],
        relaunch=Fraction(table.get("relaunch", 0)),
        rate_fp16=Fraction(table["fp16"]),
        rate_fp32=Fraction(table["fp32"]),
    )


def _check(machine: Machine) -> None:
    whole = Rect(0, 0, machine.columns, machine.rows)
    rules = (
        (machine.columns > 0 and machine.rows > 0, "columns and rows are positive"),
        (whole.contains(machine.usable), f"the usable rectangle {machine.usable} lies inside {whole}"),
        (machine.clock_hz > 0, "clock_hz is positive"),
        (machine.room_bytes > 0, f"sram_bytes {machine.sram_bytes} exceeds what is reserved of it"),
        (machine.fabric.hop_cycles >= 1, "hop_cycles is at least 1"),
        (machine.fabric.queue_wavelets >= 1, "queue_wavelets is at least 1"),
        (all(machine.usable.has(*pe) for pe in machine.dead), "dead PEs lie inside the usable rectangle"),
        (all(s.factor >= 1 for s in machine.slow), "the factor of a slow PE is at least 1"),
        (all(min(c.rate_fp16, c.rate_fp32) > 0 for _, c in machine.ops), "rates are positive"),
    )
    for holds, rule in rules:
        if not holds:
            raise MachineFileError(f"machine {machine.name}: broken rule: {rule}")
