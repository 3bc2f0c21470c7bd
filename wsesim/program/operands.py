"""What kernels tell of themselves: the values and weights that they use, and the sums over their lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wsesim.program.layout import Layout

ALONG = "along"
ACROSS = "across"
SEGMENT = "segment"  # of a line across, where a head lies on several positions

ID_ELEMENTS = 2
"""A token id of 32 bits, in elements of fp16."""
CANDIDATE_ELEMENTS = 1 + ID_ELEMENTS
"""A candidate of the draw: its logit and its id."""


def other_axis(axis: str) -> str:
    return ACROSS if axis == ALONG else ALONG


@dataclass(frozen=True, slots=True)
class WeightRef:
    """Rows [start, stop) of the stored tensor `name`, transposed first if `transpose`; the layouts permute."""

    name: str
    start: int
    stop: int
    transpose: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """One of the vectors that a Linear yields: its weight has layout.size rows, its bias as many elements."""

    value: str
    weight: WeightRef
    layout: Layout
    bias: WeightRef | None = None


class Operand(NamedTuple):
    """A value that a kernel reads or makes, its layout, and the axis that it is split over."""

    value: str
    layout: Layout
    axis: str


def across(value: str, layout: Layout) -> Operand:
    return Operand(value, layout, ACROSS)


class Tile(NamedTuple):
    """A PE's part of a weight: `elements` of it. `rows` is the number of rows that the whole weight must have."""

    weight: WeightRef
    elements: int
    rows: int


class LineSum(NamedTuple):
    """A kernel's collective: `elements` a token are summed over the first `used` positions of each line.

    used: None is the whole line. everybody: all positions receive the sum, else only the root has it. streamable: a
    position may send a sum on while it receives it.
    """

    used: int | None
    elements: int
    everybody: bool = True
    streamable: bool = True
