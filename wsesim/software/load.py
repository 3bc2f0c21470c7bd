"""Software by name or file: the presets beside this module, or a user's own TOML with the same fields.

    slot_cycles = 0
    routes = "rewritten"

    [forms.RMSNorm]
    name = "two_pass"
    steps = ["elementwise(width)", "reduce(width)", "all_reduce(tokens)"]

`base = "wsesim"` takes everything from another preset that the file does not state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from wsesim.errors import InvalidInputError, brief
from wsesim.files import parse_toml, read_text
from wsesim.machine.fields import build
from wsesim.software.errors import SoftwareFileError, UnknownSoftwareError
from wsesim.software.form import KINDS, Form
from wsesim.software.rules import check_software
from wsesim.software.software import GemmCode, Software

T = TypeVar("T")


@cache
def software_names() -> tuple[str, ...]:
    """Names of the presets."""
    presets = resources.files("wsesim.software") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in presets.iterdir() if p.name.endswith(".toml")))


def software_text(name: str) -> str:
    """The TOML of a preset, or of a file, with the source of each number. Raises as `load_software` does."""
    if name not in software_names():
        load_software(name)
        return read_text(name, "a software")
    return (resources.files("wsesim.software") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def load_software(name: str) -> Software:
    """The preset `name`, or the software that the TOML file `name` describes.

    Raises UnknownSoftwareError (no such preset or file) and SoftwareFileError (a field missing, unknown or out of
    range, or a step that cannot be read).
    """
    if name in software_names():
        return _preset(name)
    path = Path(name)
    if path.suffix != ".toml" or not path.exists():
        raise UnknownSoftwareError("software", name, software_names(), "or a software's .toml file")
    try:
        return parse_software(read_text(path, "a software"), path.stem, str(path))
    except SoftwareFileError:
        raise
    except InvalidInputError as error:
        raise SoftwareFileError(str(error)) from None


@cache
def _preset(name: str) -> Software:
    return parse_software(software_text(name), name, f"software {name}")


def parse_software(text: str, name: str, where: str) -> Software:
    """The software that a TOML text describes; `where` stands before what is wrong. Raises SoftwareFileError."""
    try:
        return _from_table(parse_toml(text, where), name)
    except InvalidInputError as error:
        raise SoftwareFileError(str(error)) from None
    except ValueError as error:
        raise SoftwareFileError(f"{where}: {error}") from None


def _from_table(table: dict[str, Any], name: str) -> Software:
    base = table.pop("base", None)
    if base is not None and base not in software_names():
        raise ValueError(f"base is {brief(base)}; known: {', '.join(software_names())}")
    stated: dict[str, Any] = _fields_of(_preset(base)) if base is not None else {}
    forms: dict[str, tuple[Form, ...]] = {}
    for form in stated.get("forms", ()):
        forms[form.kind] = (*forms.get(form.kind, ()), form)
    forms |= _forms(table.pop("forms", {}))
    missing = [kind for kind in KINDS if kind not in forms]
    if missing:
        raise ValueError(f"no form of {missing[0]}; without `base` every kind of kernel has one")
    if "gemm" in table:
        table["gemm"] = build(GemmCode, _table(table["gemm"], "gemm"))
    if "assumptions" in table:
        table["assumptions"] = tuple(table["assumptions"])
    written = tuple(form for kind in KINDS for form in forms[kind])
    software = build(Software, {**stated, **table, "name": name, "forms": written})
    check_software(software)
    return software


def _fields_of(software: Software) -> dict[str, Any]:
    return {f.name: getattr(software, f.name) for f in dataclasses.fields(software)}


def _forms(tables: Any) -> dict[str, tuple[Form, ...]]:
    """The forms of each kind: a table, or a list of tables for several."""
    forms = {}
    for kind, stated in _table(tables, "forms").items():
        if kind not in KINDS:
            raise ValueError(f"kernel {kind!r} has no form; those that have: {', '.join(KINDS)}")
        several = stated if isinstance(stated, list) and stated else [stated]
        forms[kind] = tuple(_form(kind, _table(table, f"forms.{kind}")) for table in several)
    return forms


def _form(kind: str, fields: Mapping[str, Any]) -> Form:
    lists = {name: tuple(_list(fields[name], name)) for name in ("steps", "each_output", "at_root") if name in fields}
    return build(Form, {**fields, **lists, "kind": kind})


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"field {name!r} is {brief(value)}, not a table")
    return value


def _list(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"field {name!r} is {brief(value)}, not a list of texts")
    return value


WSESIM = load_software("wsesim")
"""How this project's compiler writes its kernels."""
