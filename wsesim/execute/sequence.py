"""Sequence: the KV cache of one text and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.memory import aligned_zeros
from wsesim.execute.tiles import PANEL
from wsesim.program.layout import ceil_div

Floats = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Sequence:
    """State of one text: `position` tokens have been seen; keys and values of each attention hold `capacity`.

    key_rows, value_rows: cached elements of one position, for each attention. `tiles` and `values` say how
    they are laid out; both grow by appending, so growing copies a prefix.
    """

    key_rows: tuple[int, ...]
    value_rows: tuple[int, ...]
    position: int = 0
    capacity: int = 0
    keys: list[Floats] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)

    def reserve(self, positions: int) -> None:
        """Room for `positions` tokens: at least doubled, in whole blocks of PANEL."""
        if positions <= self.capacity:
            return
        blocks = ceil_div(max(positions, 2 * self.capacity, 4 * PANEL), PANEL)
        self.capacity = blocks * PANEL
        self.keys = _grown(self.keys, self.key_rows, self.capacity)
        self.values = _grown(self.values, self.value_rows, self.capacity)

    def copy(self) -> Sequence:
        """The same text, to go on by itself."""
        keys, values = (
            _grown(self.keys, self.key_rows, self.capacity),
            _grown(self.values, self.value_rows, self.capacity),
        )
        return Sequence(self.key_rows, self.value_rows, self.position, self.capacity, keys, values)


def _grown(arrays: list[Floats], rows: tuple[int, ...], capacity: int) -> list[Floats]:
    """Parts of one array, which the system maps in large pages; `arrays` are their prefixes."""
    ends = np.cumsum(rows) * capacity
    grown = np.split(aligned_zeros(sum(rows) * capacity), ends[:-1])
    for new, old in zip(grown, arrays, strict=False):
        new[: len(old)] = old
    return grown
