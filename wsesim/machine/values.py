"""A machine as flat values: every field by its one spelling, which is the TOML's.

    values_of(load_machine("wse3"))["fabric.hop_cycles"]  # 2
    values_of(load_machine("wse3"))["op.fma.fp16"]        # Fraction(73, 25)

Files, `--set` and `Machine.with_` all read values with `read_values`; `fields_from` makes a machine's fields of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from difflib import SequenceMatcher
from fractions import Fraction
from typing import Any, get_type_hints

from wsesim.errors import brief
from wsesim.machine.defects import DEFECTS, dead_pes, rows_of
from wsesim.machine.numbers import Numbers
from wsesim.machine.parts import Fabric, Host, OpCost, Rect, SlowPE

OPS = ("copy", "fma", "elementwise", "reduce", "exp", "divide", "rsqrt", "relay", "compare")
COST_FIELDS = {"launch": "launch", "relaunch": "relaunch", "fp16": "rate_fp16", "fp32": "rate_fp32"}
"""Of a vector operation: the field's spelling, and the attribute of OpCost."""

_PARTS: dict[str, type] = {"usable": Rect, "fabric": Fabric, "host": Host}
_RATIO = ("fabric.wavelet_numerator", "fabric.wavelet_denominator")  # together one field, `fabric.wavelet_cycles`
_LISTS: dict[str, Any] = {"assumptions": (), "dead": frozenset(), "slow": ()}
_NO_NUMBERS = ("name", "base", "ops", *_PARTS, *_LISTS)


def _kinds() -> dict[str, type]:
    """The type of each field: int, float, Fraction, or list for what is no number."""
    hints = get_type_hints(Numbers)
    kinds = {f.name: hints[f.name] for f in dataclasses.fields(Numbers) if f.init and f.name not in _NO_NUMBERS}
    kinds |= dict.fromkeys(_LISTS, list)
    for section, part in _PARTS.items():
        for name, hint in get_type_hints(part).items():
            path = f"{section}.{name}"
            kinds |= {"fabric.wavelet_cycles": Fraction} if path in _RATIO else {path: hint}
    cost = get_type_hints(OpCost)
    return kinds | {f"op.{op}.{name}": cost[attribute] for op in OPS for name, attribute in COST_FIELDS.items()}


KINDS = _kinds()
"""Every field of a machine and its type: int, float, Fraction or list."""
FIELDS = (*KINDS, *(name for name in DEFECTS if name not in KINDS))
"""What a file or a setting may state. `dead_rows` and `dead_columns` are short for entries of `dead`."""
_OPTIONAL = _LISTS | {f"op.{op}.relaunch": Fraction(0) for op in OPS}
_KIND_NAMES = {int: "an integer", float: "a number", list: "a list"}


def values_of(machine: Numbers) -> dict[str, Any]:
    """The value of each field, in the order of KINDS."""
    fabric, costs = machine.fabric, dict(machine.ops)
    values: dict[str, Any] = {}
    for path in KINDS:
        *section, name = path.split(".")
        if path == "fabric.wavelet_cycles":
            values[path] = Fraction(fabric.wavelet_numerator, fabric.wavelet_denominator)
        elif section[:1] == ["op"]:
            values[path] = getattr(costs[section[1]], COST_FIELDS[name])
        else:
            values[path] = getattr(getattr(machine, section[0]) if section else machine, name)
    return values


def fields_from(values: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of the machine with these values, but for its name and base: the inverse of `values_of`.

    Neither their types nor the rules are checked.
    """
    wavelet = values["fabric.wavelet_cycles"]
    stated = {**values, **dict(zip(_RATIO, (wavelet.numerator, wavelet.denominator), strict=True))}
    parts: dict[str, Any] = {
        section: part(**{f.name: stated[f"{section}.{f.name}"] for f in dataclasses.fields(part)})
        for section, part in _PARTS.items()
    }
    parts["ops"] = tuple(
        (op, OpCost(**{attribute: values[f"op.{op}.{own}"] for own, attribute in COST_FIELDS.items()})) for op in OPS
    )
    plain = {path: value for path, value in values.items() if "." not in path}
    return plain | parts


def read_values(stated: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All values of a machine: those of `base`, replaced by the stated ones, which are as TOML has them.

    `dead_rows` and `dead_columns` add to `dead`. Raises ValueError for a field that is unknown, missing, or of
    another type.
    """
    for path in stated:
        check_field(path)
    values = dict(_OPTIONAL if base is None else base)
    values |= {path: _read(path, value) for path, value in stated.items() if path not in DEFECTS}
    for missing in (path for path in KINDS if path not in values):
        raise ValueError(f"field {missing!r} is missing")
    defects = {name: stated[name] for name in DEFECTS if name in stated}
    if defects:
        usable = Rect(**{f.name: values[f"usable.{f.name}"] for f in dataclasses.fields(Rect)})
        values["dead"] = dead_pes(defects, usable) | (frozenset() if "dead" in stated else values["dead"])
    return values


def check_field(path: str) -> None:
    """Raises ValueError for a field that no machine has, with the nearest ones."""

    def likeness(field: str) -> float:
        spellings = field, field.rpartition(".")[2]  # the section may have been left out
        return max(SequenceMatcher(None, path, spelling).ratio() for spelling in spellings)

    if path not in FIELDS:
        nearest = sorted(FIELDS, key=likeness, reverse=True)[:3]
        raise ValueError(f"unknown field {brief(path)}; nearest: {', '.join(nearest)}")


def flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A nested TOML table by the paths of its fields. Raises ValueError for a number where a section belongs."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        path = before + key
        is_section = path in (*_PARTS, "op") or before == "op."
        if is_section and not isinstance(value, dict):
            raise ValueError(f"{path!r} is {brief(value)}, not a table")
        if is_section and before == "op." and key not in OPS:
            raise ValueError(f"operation {brief(key)} is unknown; known: {', '.join(OPS)}")
        inner = flat(value, f"{path}.") if is_section else {path: value}
        for twice in found.keys() & inner.keys():
            raise ValueError(f"field {twice!r} is given twice")
        found |= inner
    return found


def toml_value(value: Any) -> Any:
    """A value as TOML states it: numbers, texts and lists; a fraction is a text."""
    match value:
        case Fraction():
            return _fraction_text(value)
        case frozenset():
            return [list(pe) for pe in sorted(value)]
        case tuple():
            return [[s.x, s.y, _fraction_text(s.factor)] if isinstance(s, SlowPE) else s for s in value]
    return value


def toml_text(value: Any) -> str:
    """The TOML literal of a value."""
    value = toml_value(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, list):
        items = [toml_text(item) for item in value]
        lines = len(items) > 4 or any(isinstance(item, str) for item in value)
        return "[\n" + "".join(f"    {item},\n" for item in items) + "]" if lines else f"[{', '.join(items)}]"
    return _quoted(value) if isinstance(value, str) else str(value)


def value_text(value: Any) -> str:
    """A value as reports print it; of a list of PEs their number."""
    if isinstance(value, frozenset | tuple):
        return f"{len(value):,} PEs" if value else "none"
    return _float_text(value) if isinstance(value, float) else str(toml_value(value))


def _read(path: str, value: Any) -> Any:
    """A field's value from what TOML or Python states. Raises ValueError."""
    kind = KINDS[path]
    if kind is Fraction:
        return fraction(f"field {path!r}", value)
    if path == "slow":
        rows = rows_of({path: value}, path, 3)
        return tuple(SlowPE(x, y, fraction("slow", factor)) for x, y, factor in rows)
    if path == "assumptions":
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ValueError(f"field {path!r} is {brief(value)}, not a list of texts")
        return tuple(value)
    if type(value) is not int and not (kind is float and type(value) is float):
        raise ValueError(f"field {path!r} is {brief(value)}, not {_KIND_NAMES[kind]}")
    try:
        return kind(value)
    except OverflowError:
        raise ValueError(f"field {path!r} is {brief(value)}, too large a number") from None


def fraction(what: str, value: object) -> Fraction:
    """An exact number: an integer, a fraction as "9/8", or a decimal as it is written. Raises ValueError."""
    try:
        if isinstance(value, bool):
            raise ValueError
        text = str(value)
        size = 0.0 if "/" in text else abs(float(text))
        if size != 0 and not 1e-9 < size < 1e9:  # before an exponent is written out in digits
            raise ValueError
        return Fraction(text)  # a float as it is written: 2.92, not its nearest binary fraction
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{what} is {brief(value)}, not a number from 1e-9 to 1e9") from None


def _fraction_text(value: Fraction) -> str:
    """Two decimals where they are exact, else a fraction."""
    short = f"{float(value):.2f}".rstrip("0").rstrip(".") if abs(value) < 10**9 else ""
    return short if short and Fraction(short) == value else str(value)


def _float_text(value: float) -> str:
    short = f"{value:g}"
    mantissa, e, exponent = (short if float(short) == value else repr(value)).partition("e")
    return mantissa + (f"e{int(exponent)}" if e else "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
