"""Layouts: which elements of a vector lie on which position of a line of PEs.

A vector is split along one axis of its block and replicated across the other. Every position holds the same number of
elements, `width`; what does not fill it is padding, index -1. Only `used` positions hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, slots=True)
class Uniform:
    """`size` elements in order, `ceil(size / parts)` to a position."""

    size: int
    parts: int

    @property
    def width(self) -> int:
        return ceil_div(self.size, self.parts)

    @property
    def used(self) -> int:
        return ceil_div(self.size, self.width)

    def indices(self) -> NDArray[np.int32]:
        """[used, width] element at each place, -1 where there is padding."""
        return _uniform_indices(self)


@dataclass(frozen=True, slots=True)
class Heads:
    """`groups` KV heads of `repeat` query heads each, laid so that attention needs no move between positions.

    A group takes a segment of consecutive positions (or a position several groups, where there are fewer positions than
    groups); within a segment each position holds whole rotation pairs, of every head of the group the same ones.
    K and V have repeat = 1. In a position the order is [group, query head of the group, feature], rotation partners
    adjacent. `pairing` names the partners in the model's own order: half (i, i + d/2) or interleaved (2i, 2i + 1).
    """

    groups: int
    repeat: int
    head_dim: int
    parts: int
    pairing: str

    @property
    def size(self) -> int:
        return self.groups * self.repeat * self.head_dim

    @property
    def groups_per_position(self) -> int:
        return ceil_div(self.groups, self.parts)

    @property
    def segment(self) -> int:
        """Positions of one group."""
        return ceil_div(self.head_dim, self.features)

    @property
    def features(self) -> int:
        """Features of one head on one position, even."""
        if self.parts < 2 * self.groups:
            return self.head_dim
        return 2 * ceil_div(self.head_dim // 2, self.parts // self.groups)

    @property
    def width(self) -> int:
        return self.heads * self.features

    @property
    def heads(self) -> int:
        """Query heads that one position works for."""
        return self.groups_per_position * self.repeat

    @property
    def used(self) -> int:
        return self.segment * ceil_div(self.groups, self.groups_per_position)

    def indices(self) -> NDArray[np.int32]:
        """[used, width] element at each place, -1 where there is padding."""
        return _heads_indices(self)


Layout = Uniform | Heads


@lru_cache(maxsize=256)
def _uniform_indices(layout: Uniform) -> NDArray[np.int32]:
    flat = np.full(layout.used * layout.width, -1, np.int32)
    flat[: layout.size] = np.arange(layout.size, dtype=np.int32)
    return _frozen(flat.reshape(layout.used, layout.width))


@lru_cache(maxsize=256)
def _heads_indices(layout: Heads) -> NDArray[np.int32]:
    position, group_slot, head, feature = np.meshgrid(
        np.arange(layout.used),
        np.arange(layout.groups_per_position),
        np.arange(layout.repeat),
        np.arange(layout.features),
        indexing="ij",
    )
    group = (position // layout.segment) * layout.groups_per_position + group_slot
    place = (position % layout.segment) * layout.features + feature  # rotation partners adjacent
    half = layout.head_dim // 2
    original = place // 2 + (place % 2) * half if layout.pairing == "half" else place
    index = (group * layout.repeat + head) * layout.head_dim + original
    there = (group < layout.groups) & (place < layout.head_dim)
    return _frozen(np.where(there, index, -1).astype(np.int32).reshape(layout.used, layout.width))


def _frozen(array: NDArray[np.int32]) -> NDArray[np.int32]:
    array.flags.writeable = False
    return array
