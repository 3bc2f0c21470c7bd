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
import re
import reprlib
from collections.abc import Iterable

MOST_MESSAGE = 2000
"""Characters of an error's message."""

_LONG_WORD = re.compile(r"\S{400,}")
_SHOWN = 150
"""Characters at either end of a long word."""


class WsesimError(Exception):
    """Base of all errors that name a user's mistake, in one line: what is longer, or holds control characters, is not.

    Values come from files of strangers. A value of a megabyte is not echoed, and no escape sequence reaches a terminal.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


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
        super().__init__(f"unknown {kind} {brief(name, 200)}; known: {', '.join(nearest)}{hint and '; ' + hint}")


class UnknownKeywordError(UnknownNameError, TypeError):
    """A keyword that a call does not have."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("keyword", name, known)


def brief(value: object, most: int = 60) -> str:
    """A value as messages show it: its repr in at most so many characters, of lists and tables the first elements."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = most
    try:
        text = short.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return clipped(text, most)


def first_line(error: BaseException, most: int = 200) -> str:
    """What an error of a library says, as a reason in a message of ours: its first line, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return clipped(lines[0] if lines else type(error).__name__, most)


def clipped(text: str, most: int = 200) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(text: str) -> str:
    """A text in one line of at most MOST_MESSAGE characters, control characters written as escapes.

    Of a word that is longer than any name the middle is left out, so that what is said after it stays.
    """
    lines = [_LONG_WORD.sub(_ends, line.strip()) for line in text.splitlines() if line.strip()]
    ends = [" " if line.endswith((":", ";", ",")) else "; " for line in lines[:-1]]
    joined = "".join(line + end for line, end in zip(lines, [*ends, ""], strict=False))[: MOST_MESSAGE + 1]
    return clipped("".join(c if c.isprintable() else repr(c)[1:-1] for c in joined), MOST_MESSAGE)


def _ends(word: re.Match[str]) -> str:
    return f"{word[0][:_SHOWN]}...{word[0][-_SHOWN:]}"


def keyword(name: str, value: object) -> str:
    """An option and its value as messages name it: `sequences=2`."""
    return f"`{name}={value!r}`"


def _nearest_first(name: str, known: Iterable[str]) -> list[str]:
    def distance(other: str) -> float:
        return -difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()

    return sorted(known, key=distance)
