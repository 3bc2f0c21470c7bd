"""The errors that a user can cause, as types.

WsesimError                  one line that names what is wrong and what would be right; the command line exits with 2
├── UnknownNameError         a name that is not in a table; the known names follow, nearest first
│   └── UnknownKeywordError  a keyword that a call does not have; also a TypeError
├── InvalidInputError        a value outside its range, or a file that is not what it claims to be
├── DoesNotFitError          more bytes, PEs or colours needed than there are
└── VerificationError        a Graph, Program or TaskGraph that breaks a rule of its stage

Each package derives its own from these in its own `errors.py`. Impossible states are `assert`s.

A message names an option as Python spells it, in backticks: give `sequences=2`. The command line prints the same
message with its own spelling: give --sequences 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WsesimError(Exception):
    """Base of all errors that name a user's mistake."""


class InvalidInputError(WsesimError):
    """A value outside its range, or a file that is not what it claims to be."""


class DoesNotFitError(WsesimError):
    """More bytes, PEs or colours are needed than there are."""


class VerificationError(WsesimError):
    """A Graph, Program or TaskGraph breaks a rule of its stage."""


class UnknownNameError(WsesimError):
    """A name that is not in its table: `kind` is what it should have named, `known` what there is."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        nearest = _nearest_first(name, known)
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(nearest)}{hint and '; ' + hint}")


class UnknownKeywordError(UnknownNameError, TypeError):
    """A keyword that a call does not have."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("keyword", name, known)


def keyword(name: str, value: object) -> str:
    """An option and its value as messages name it: `sequences=2`."""
    return f"`{name}={value!r}`"


def _nearest_first(name: str, known: Iterable[str]) -> list[str]:
    def distance(other: str) -> float:
        return -difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()

    return sorted(known, key=distance)
