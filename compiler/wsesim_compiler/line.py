"""Words of a line of text: what Graphs and Partitions are written in, and read from."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from wsesim.errors import brief
from wsesim_compiler.errors import GraphSyntaxError

_PLAIN = r"[A-Za-z0-9_./:+-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NUMBER = r"-?(?:inf|nan|\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![A-Za-z0-9_./:+-])"
_MOST_NAME = 400
"""Characters of a name."""
_MOST_DIGITS = 300
"""Of an integer: as many as a float can hold."""
_MOST_SIZE = 1 << 62
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
            self.fail(f"expected {mark!r}, found {brief(self.tokens[self.at][1])}")

    def word(self) -> str:
        if self.kind not in ("word", "string"):
            self.fail(f"expected a name, found {brief(self.tokens[self.at][1])}")
        return self.unquoted(self.take())

    def take_number(self) -> int | float:
        """A number: an integer if it is written as one."""
        text = self.take()
        if not text.lstrip("-").isdigit():
            return float(text)
        if len(text) > _MOST_DIGITS:
            self.fail(f"the number {brief(text)} has more than {_MOST_DIGITS} digits")
        return int(text)

    def dimension(self) -> int:
        """A size of a tensor."""
        text = self.tokens[self.at][1]
        size = self.take_number()
        if not isinstance(size, int) or abs(size) >= _MOST_SIZE:
            self.fail(f"a dimension is a whole number below 2^62 or a name, not {brief(text)}")
        return size

    def unquoted(self, text: str) -> str:
        """The name that was written."""
        if text.startswith('"'):
            try:
                text = str(json.loads(text))
                text.encode()
            except ValueError:
                self.fail(f"{brief(text)} is no JSON string")
        if len(text) > _MOST_NAME:
            self.fail(f"the name {brief(text)} is longer than {_MOST_NAME} characters")
        return text

    def reference(self) -> str:
        if self.kind != "reference":
            self.fail(f"expected %NAME or @NAME, found {brief(self.tokens[self.at][1])}")
        return self.unquoted(self.take()[1:])

    def colon(self) -> None:
        if self.kind != "word" or self.take() != ":":
            self.fail("expected ':' before the type")

    def comment(self) -> str:
        return self.unquoted(self.take()[len("//") :].strip(" ")) if self.kind == "comment" else ""

    def finish(self) -> None:
        if self.kind != "end":
            self.fail(f"unexpected {brief(self.tokens[self.at][1])}")


def _tokens(number: int, text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while not tokens or tokens[-1][0] != "end":
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise GraphSyntaxError(number, f"cannot read {brief(text[position:].strip())}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens
