"""Words of a line of text: what Graphs and Partitions are written in, and read from."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from wsesim_compiler.errors import GraphSyntaxError

_PLAIN = r"[A-Za-z0-9_./:+-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NUMBER = r"-?(?:inf|nan|\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![A-Za-z0-9_./:+-])"
_TOKEN = re.compile(
    rf"[ \t]*(?:(?P<comment>//.*)|(?P<reference>[%@](?:{_PLAIN}|{_QUOTED}))|(?P<string>{_QUOTED})"
    rf"|(?P<number>{_NUMBER})|(?P<word>{_PLAIN})|(?P<mark>[][(){{}},=])|(?P<end>$))"
)


def word(text: str) -> str:
    """The name as it is written: a JSON string if it has unusual characters."""
    plain = re.fullmatch(_PLAIN, text) and not re.match(_NUMBER, text) and not text.startswith("//")
    return text if plain else json.dumps(text)


class Line:
    """The tokens of one line, with a cursor."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.tokens = _tokens(number, text)
        self.at = 0

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def fail(self, message: str) -> NoReturn:
        raise GraphSyntaxError(self.number, message)

    def accept(self, mark: str) -> bool:
        if self.tokens[self.at] != ("mark", mark):
            return False
        self.at += 1
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(f"expected {mark!r}, found {self.tokens[self.at][1]!r}")

    def word(self) -> str:
        if self.kind not in ("word", "string"):
            self.fail(f"expected a name, found {self.tokens[self.at][1]!r}")
        return unquoted(self.take())

    def reference(self) -> str:
        if self.kind != "reference":
            self.fail(f"expected %NAME or @NAME, found {self.tokens[self.at][1]!r}")
        return unquoted(self.take()[1:])

    def colon(self) -> None:
        if self.kind != "word" or self.take() != ":":
            self.fail("expected ':' before the type")

    def comment(self) -> str:
        return unquoted(self.take()[len("//") :].strip(" ")) if self.kind == "comment" else ""

    def finish(self) -> None:
        if self.kind != "end":
            self.fail(f"unexpected {self.tokens[self.at][1]!r}")


def unquoted(text: str) -> str:
    """The name that was written."""
    return str(json.loads(text)) if text.startswith('"') else text


def _tokens(number: int, text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while not tokens or tokens[-1][0] != "end":
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise GraphSyntaxError(number, f"cannot read {text[position:].strip()!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens
