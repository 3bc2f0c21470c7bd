"""The value of --with: the options in which a run differs from the first one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from wsesim.cli.values import parser_of
from wsesim.errors import InvalidInputError, brief
from wsesim.machine import parse_setting
from wsesim.toolchain.comparing import SETTING, change_options, check_changes

EXAMPLE = "strategy=hybrid,layers_per_block=4"
_COMMA = re.compile(r",(?![^\[\]]*\])")
"""A comma that is not inside of a list."""


def parse_changes(text: str) -> dict[str, Any]:
    """`strategy=hybrid,layers_per_block=4` as options and their values, as `wsesim.compare` takes them.

    Options may be spelt as on the command line, as layers-per-block. After `form=`, an entry that is no option is one
    more kernel. Raises InvalidInputError or UnknownNameError.
    """
    known, found = change_options(), dict[str, Any]()
    for name, value in _entries(text, {*known, "model"}):
        if name in found:
            raise InvalidInputError(f"{name} is stated twice in {brief(text)}")
        if name.startswith(SETTING):
            _, found[name] = parse_setting(f"{name[len(SETTING) :]}={value}")
        elif name in known:
            try:
                found[name] = parser_of(known[name])(value)
            except argparse.ArgumentTypeError as error:
                raise InvalidInputError(f"{name}: {error}") from None
        else:
            found[name] = value
        check_changes({name: found[name]})
    return found


def _entries(text: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each entry. A kernel of `form` joins the entry before it."""
    entries: list[list[str]] = []
    for piece in _COMMA.split(text):
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not (equals and name):
            raise InvalidInputError(f"{brief(piece)} states no option; write OPTION=VALUE, as in {EXAMPLE}")
        own = name if name.startswith(SETTING) else name.removeprefix("--").replace("-", "_")
        if own not in known and not own.startswith(SETTING) and entries and entries[-1][0] == "form":
            entries[-1][1] += f",{name}={value}"
        else:
            entries.append([own, value])
    return ((name, value) for name, value in entries)
