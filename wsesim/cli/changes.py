"""The value of --with: the options in which a run differs from the first one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from wsesim.cli.values import parser_of
from wsesim.errors import InvalidInputError, WsesimError, brief
from wsesim.machine import parse_setting

EXAMPLE = "strategy=hybrid,layers_per_block=4"


def changes(text: str) -> dict[str, Any]:
    """As `parse_changes`, for argparse."""
    try:
        return parse_changes(text)
    except WsesimError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_changes(text: str) -> dict[str, Any]:
    """`strategy=hybrid,layers_per_block=4` as options and their values, as `wsesim.compare` takes them.

    Options may be spelt as on the command line, as layers-per-block. After `form=`, an entry that is no option is one
    more kernel. Raises InvalidInputError or UnknownNameError.
    """
    from wsesim.toolchain.comparing import SETTING, change_options, check_changes

    known, found = change_options(), dict[str, Any]()
    for name, value in _entries(text, {*known, "model"}, SETTING):
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


def _entries(text: str, known: set[str], setting: str) -> Iterator[tuple[str, str]]:
    """Name and value of each entry; `setting` begins the name of a machine's field.

    A kernel of `form` joins the entry before it.
    """
    entries: list[list[str]] = []
    for piece in _pieces(text):
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not (equals and name):
            raise InvalidInputError(f"{brief(piece)} states no option; write OPTION=VALUE, as in {EXAMPLE}")
        own = name if name.startswith(setting) else name.removeprefix("--").replace("-", "_")
        if own not in known and not own.startswith(setting) and entries and entries[-1][0] == "form":
            entries[-1][1] += f",{name}={value}"
        else:
            entries.append([own, value])
    return ((name, value) for name, value in entries)


def _pieces(text: str) -> Iterator[str]:
    """The text between commas; those inside of a list do not count."""
    begun = depth = 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth <= 0:
            yield text[begun:position]
            begun = position + 1
    yield text[begun:]
