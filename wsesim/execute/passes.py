"""Passes: the tokens of one or several texts that go through the weights together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Ids
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.sequence import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Tokens of one text in a pass: rows `first`, first + 1, ... of every value. `ends`: the last ones."""

    sequence: Sequence
    ids: Ids[int]
    first: int
    ends: bool

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def last(self) -> int:
        return self.first + self.tokens - 1


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Parts of different texts, one after the other."""

    parts: tuple[Part, ...]

    @property
    def tokens(self) -> int:
        return self.parts[-1].last + 1

    @property
    def capacity(self) -> int:
        """The distance of two rows of scores, which is one for all; keys and values are found without it."""
        return max(part.sequence.capacity for part in self.parts)

    def positions(self) -> NDArray[np.int64]:
        """[tokens] the position of each token in its own text."""
        begins = [(part.sequence.position, part.tokens) for part in self.parts]
        return np.concatenate([np.arange(position, position + tokens) for position, tokens in begins])

    def ended(self) -> Pass | None:
        """The last token of each part that ends, a row each; None if none does."""
        ending = (part for part in self.parts if part.ends)
        parts = tuple(Part(part.sequence, part.ids[-1:], row, True) for row, part in enumerate(ending))
        return Pass(parts) if parts else None


def passes(texts: Iterable[tuple[Sequence, Ids[int]]], size: int) -> Iterator[Pass]:
    """The ids of each text, one text after the other, `size` tokens a pass; what is left of a text begins the next."""
    parts: list[Part] = []
    room = size
    for sequence, ids in texts:
        begin = 0
        while begin < len(ids):
            taken = ids[begin : begin + room]
            begin += len(taken)
            parts.append(Part(sequence, taken, size - room, begin == len(ids)))
            room -= len(taken)
            if not room:
                yield Pass(tuple(parts))
                parts, room = [], size
    if parts:
        yield Pass(tuple(parts))
