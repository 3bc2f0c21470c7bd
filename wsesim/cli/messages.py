"""Messages of the command line: on one line, with options as they are typed."""

from __future__ import annotations

import ast
import re

from wsesim.errors import one_line
from wsesim.toolchain.options import GROUPS, options_in

_KEYWORD = re.compile(r"`(\w+)(?:=([^`]*))?`")


def as_typed(message: str) -> str:
    """The message with `sequences=2` as --sequences 2 and `block=None` as no --block, on one line."""
    return _KEYWORD.sub(_as_typed, one_line(message))


def flag(name: str) -> str:
    """The option's spelling: max_context is --max-context."""
    return f"--{name.replace('_', '-')}"


def _as_typed(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name not in options_in(*GROUPS):
        return found[0]
    if value is None:
        return flag(name)
    return f"no {flag(name)}" if value == "None" else f"{flag(name)} {_value_as_typed(value)}"


def _value_as_typed(value: str) -> str:
    """'shared' as shared, (190, 128) as 190x128. A text that is no literal stays as it is."""
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return "x".join(map(str, literal)) if isinstance(literal, tuple) else str(literal)
