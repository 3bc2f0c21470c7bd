"""Machines by name or file: the presets beside this module, or a user's own TOML with the same fields."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from wsesim.machine.defects import DEFECTS, dead_pes, rows_of
from wsesim.machine.errors import MachineFileError, UnknownMachineError
from wsesim.machine.fields import build
from wsesim.machine.machine import Fabric, Host, Machine, OpCost, Rect, SlowPE

MOST_PES = 10_000_000  # ten times any wafer: the state of each is kept
MOST_STREAM_CYCLES = 127  # a task keeps them in a byte
MOST_CYCLES = 10_000  # of a step of the hardware: far above any, and no sum of a segment's overflows
MOST_FACTOR = 10_000  # and as much for rates, and for how much a PE is slower
OPS = ("copy", "fma", "elementwise", "reduce", "exp", "divide", "rsqrt", "relay", "compare")
_ELSEWHERE = ("name", "ops", "dead")  # the file's name, and fields that are spelt otherwise
FIELDS = (*(f.name for f in dataclasses.fields(Machine) if f.init and f.name not in _ELSEWHERE), "op", *DEFECTS)
"""What the file of a machine may state at its top level."""

T = TypeVar("T")


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
        return parse_machine(_read(path), path.stem)
    raise UnknownMachineError("machine", name, machine_names(), "or a machine's .toml file")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MachineFileError(f"{path}: cannot be read as a machine: {error}") from None


def parse_machine(text: str, name: str) -> Machine:
    """The machine that a TOML text describes. Raises MachineFileError."""
    try:
        machine = _from_table(tomllib.loads(text), name)
    except tomllib.TOMLDecodeError as error:
        raise MachineFileError(f"machine {name}: not TOML: {error}") from None
    except ValueError as error:
        raise MachineFileError(f"machine {name}: {error}") from None
    check_machine(machine)
    return machine


def check_machine(machine: Machine) -> None:
    """Raises MachineFileError for the first rule that a machine's numbers break."""
    for holds, rule in _rules(machine):
        if not holds:
            raise MachineFileError(f"machine {machine.name}: broken rule: {rule}")


def _from_table(table: dict[str, Any], name: str) -> Machine:
    for extra in sorted(set(table) - set(FIELDS)):
        raise ValueError(f"unknown field {extra!r}; known: {', '.join(FIELDS)}")
    costs = _section(table, "op")
    for op in sorted(set(costs) ^ set(OPS)):
        raise ValueError(f"operation {op!r} is {'unknown' if op in costs else 'missing'}; known: {', '.join(OPS)}")
    parts: dict[str, Any] = {
        "usable": _part(Rect, "usable", _section(table, "usable")),
        "fabric": _fabric(_section(table, "fabric")),
        "host": _part(Host, "host", _section(table, "host")),
        "ops": tuple((op, _op_cost(f"op.{op}", _section(costs, op))) for op in OPS),
        "assumptions": _texts(table, "assumptions"),
        "slow": tuple(SlowPE(x, y, _fraction("slow", factor)) for x, y, factor in rows_of(table, "slow", 3)),
    }
    parts["dead"] = dead_pes(table, parts["usable"])
    plain = {field: value for field, value in table.items() if field not in ("op", *DEFECTS)}
    return build(Machine, {"name": name, **plain, **parts})


def _section(table: dict[str, Any], field: str) -> dict[str, Any]:
    if field not in table:
        raise ValueError(f"field {field!r} is missing")
    if not isinstance(table[field], dict):
        raise ValueError(f"field {field!r} is {table[field]!r}, not a table")
    return dict(table[field])


def _texts(table: dict[str, Any], field: str) -> tuple[str, ...]:
    texts = table.get(field, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"field {field!r} is {texts!r:.60}, not a list of texts")
    return tuple(texts)


def _part(cls: type[T], section: str, values: dict[str, Any]) -> T:
    """A part of the machine, with its section's name before what is wrong in it."""
    try:
        return build(cls, values)
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from None


def _fabric(table: dict[str, Any]) -> Fabric:
    if "wavelet_cycles" not in table:
        raise ValueError("fabric: field 'wavelet_cycles' is missing")
    wavelet = _fraction("fabric: field 'wavelet_cycles'", table.pop("wavelet_cycles"))
    ratio = {"wavelet_numerator": wavelet.numerator, "wavelet_denominator": wavelet.denominator}
    return _part(Fabric, "fabric", {**table, **ratio})


def _op_cost(section: str, table: dict[str, Any]) -> OpCost:
    names = {"relaunch": "relaunch", "fp16": "rate_fp16", "fp32": "rate_fp32"}  # in the file: in OpCost
    for extra in sorted(set(table) - {"launch", *names}):
        raise ValueError(f"{section}: unknown field {extra!r}; known: launch, {', '.join(names)}")
    for missing in sorted({"launch", "fp16", "fp32"} - set(table)):
        raise ValueError(f"{section}: field {missing!r} is missing")
    exact = {names[n]: _fraction(f"{section}: field {n!r}", v) for n, v in table.items() if n in names}
    return _part(OpCost, section, {"launch": table["launch"], "relaunch": Fraction(0), **exact})


def _fraction(what: str, value: object) -> Fraction:
    try:
        text = str(value)
        size = 0.0 if "/" in text else abs(float(text))
        if size != 0 and not 1e-9 < size < 1e9:  # before an exponent is written out in digits
            raise ValueError
        return Fraction(text)  # a float as it is written: 2.92, not its nearest binary fraction
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{what} is {value!r:.60}, not a number from 1e-9 to 1e9") from None


def _rules(machine: Machine) -> Iterator[tuple[bool, str]]:
    """Every rule of a machine's numbers, and whether it holds."""
    m, fabric, host, costs = machine, machine.fabric, machine.host, [cost for _, cost in machine.ops]
    whole = Rect(0, 0, m.columns, m.rows)
    yield machine.columns * machine.rows <= MOST_PES, f"columns x rows is at most {MOST_PES:,} PEs"
    yield tuple(name for name, _ in m.ops) == OPS, f"the operations are {', '.join(OPS)}"
    yield m.columns > 0 and m.rows > 0, "columns and rows are positive"
    yield m.usable.columns > 0 and m.usable.rows > 0, "the usable rectangle is not empty"
    yield whole.contains(m.usable), f"the usable rectangle {m.usable} lies inside {whole}"
    yield 0 < m.clock_hz < math.inf, "clock_hz is positive"
    yield min(m.code_reserved_bytes, m.host_copy_reserved_bytes) >= 0, "reserved bytes are not negative"
    yield m.room_bytes > 0, f"sram_bytes {m.sram_bytes} exceeds what is reserved of it"
    yield 0 <= m.reserved_colours < m.colours, "colours are more than reserved_colours"
    yield m.wavelet_bytes >= 1, "wavelet_bytes is at least 1"
    steps = m.reroute_cycles, m.activate_cycles, m.loop_cycles
    yield min(steps) >= 0, "reroute_cycles, activate_cycles and loop_cycles are not negative"
    yield 0 <= m.stream_cycles <= MOST_STREAM_CYCLES, f"stream_cycles are between 0 and {MOST_STREAM_CYCLES}"
    yield max(steps) <= MOST_CYCLES, f"reroute_cycles, activate_cycles and loop_cycles are at most {MOST_CYCLES:,}"
    yield 1 <= fabric.hop_cycles <= MOST_CYCLES, f"hop_cycles is between 1 and {MOST_CYCLES:,}"
    yield 1 <= fabric.queue_wavelets <= MOST_CYCLES, f"queue_wavelets is between 1 and {MOST_CYCLES:,}"
    yield fabric.wavelet_numerator > 0, "wavelet_cycles is positive"
    yield (
        max(fabric.wavelet_numerator, fabric.wavelet_denominator) <= MOST_CYCLES,
        f"wavelet_cycles is a fraction of integers up to {MOST_CYCLES:,}",
    )
    ramps = fabric.ramp_send_cycles, fabric.ramp_receive_cycles, fabric.turn_cycles
    yield min(ramps) >= 0, "the cycles of ramps and turns are not negative"
    yield max(ramps) <= MOST_CYCLES, f"the cycles of ramps and turns are at most {MOST_CYCLES:,}"
    yield 0 < host.link_bytes_per_s < math.inf, "link_bytes_per_s is positive"
    calls = host.send_call_s, host.receive_call_s, host.wafer_crossing_s
    yield all(0 <= seconds < math.inf for seconds in calls), "the host's seconds are not negative"
    yield all(c.launch >= 0 and c.relaunch >= 0 for c in costs), "launch and relaunch are not negative"
    prices = [price for c in costs for price in (Fraction(c.launch), c.relaunch)]
    yield max(prices) <= MOST_CYCLES, f"launch and relaunch are at most {MOST_CYCLES:,}"
    yield all(min(c.rate_fp16, c.rate_fp32) > 0 for c in costs), "rates are positive"
    rates = [rate for c in costs for rate in (c.rate_fp16, c.rate_fp32)]
    yield min(rates) >= Fraction(1, MOST_FACTOR), f"rates are at least 1/{MOST_FACTOR:,} elements a cycle"
    yield all(m.usable.has(*pe) for pe in m.dead), "dead PEs lie inside the usable rectangle"
    yield all(whole.has(s.x, s.y) for s in m.slow), "slow PEs lie on the wafer"
    yield all(1 <= s.factor <= MOST_FACTOR for s in m.slow), f"the factor of a slow PE is from 1 to {MOST_FACTOR:,}"
