"""Parts of a Program besides its kernels: blocks, transfers between them, colours, and the memory map."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from wsesim.machine import Rect
from wsesim.program.layout import Layout

AXES = ("rows", "columns")

EMBED, LAYER, ATTENTION, FFN, HEAD, SAMPLE = STAGE_KINDS = ("embed", "layer", "attention", "ffn", "head", "sample")
LAYER_KINDS = (LAYER, ATTENTION, FFN)
"""Kinds of the stages between the embedding and the head: a whole layer, or one half of it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of PEs. `axis` is the way the residual stream is split over it: "rows" or "columns".

    A block may leave out columns and rows of the wafer that lie inside it. Their PEs hold and compute nothing; their
    routers pass on what crosses them. `columns` and `rows` count those that are used.
    """

    name: str
    x: int
    y: int
    columns: int
    rows: int
    axis: str
    left_out_columns: tuple[int, ...] = ()
    left_out_rows: tuple[int, ...] = ()

    @property
    def rect(self) -> Rect:
        """The block's extent, with what it leaves out."""
        return Rect(self.x, self.y, self.columns + len(self.left_out_columns), self.rows + len(self.left_out_rows))

    @property
    def pes(self) -> int:
        """PEs that are used."""
        return self.columns * self.rows

    @property
    def column_places(self) -> Sequence[int]:
        """Wafer coordinate of each used column, ascending."""
        return _places(self.x, self.columns, self.left_out_columns)

    @property
    def row_places(self) -> Sequence[int]:
        """Wafer coordinate of each used row, ascending."""
        return _places(self.y, self.rows, self.left_out_rows)

    def moved(self, x: int, y: int) -> Block:
        """The block as it is at another place, and what it leaves out with it."""
        columns = tuple(place + x - self.x for place in self.left_out_columns)
        rows = tuple(place + y - self.y for place in self.left_out_rows)
        return dataclasses.replace(self, x=x, y=y, left_out_columns=columns, left_out_rows=rows)

    def leaves_out(self, x: int, y: int) -> bool:
        """Whether neither a used column nor a used row has the PE: then no line of the block crosses its router."""
        return x in self.left_out_columns and y in self.left_out_rows

    @property
    def along(self) -> int:
        """Positions over which the residual stream is split."""
        return self.rows if self.axis == "rows" else self.columns

    @property
    def across(self) -> int:
        """Positions over which it is replicated."""
        return self.columns if self.axis == "rows" else self.rows

    def turned(self) -> Block:
        """Its mirror image: columns become rows and rows become columns, and the axis changes with them."""
        axis = AXES[1 - AXES.index(self.axis)]
        left_out = self.left_out_rows, self.left_out_columns
        return Block(self.name, self.y, self.x, self.rows, self.columns, axis, *left_out)


@lru_cache(maxsize=512)
def _places(first: int, count: int, left_out: tuple[int, ...]) -> Sequence[int]:
    extent = range(first, first + count + len(left_out))
    return tuple(place for place in extent if place not in left_out) if left_out else extent


def wrongly_left_out(block: Block) -> str:
    """What is wrong with the columns and rows that a block leaves out, in words; "" if nothing is."""
    rect = block.rect
    for what, left_out, first, extent in (
        ("column", block.left_out_columns, rect.x, rect.columns),
        ("row", block.left_out_rows, rect.y, rect.rows),
    ):
        inside = range(first + 1, first + extent - 1)
        for number, place in enumerate(left_out):
            if place not in inside:
                there = {0: "none is", 1: f"{inside.start} is"}.get(
                    len(inside), f"{inside.start} to {inside.stop - 1} are"
                )
                return f"leaves out {what} {place}, which is not inside it; of its {what}s {there}"
            if number and place <= left_out[number - 1]:
                return f"leaves out {what}s {left_out[number - 1]} and {place}; they are in ascending order, each once"
    return ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the model that runs on one block: the Program's kernels [start, stop).

    `kind` is one of STAGE_KINDS. `layer` is the layer's number, from 0, or None for a stage of no layer.
    """

    name: str
    kind: str
    layer: int | None
    block: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """The value `value` moves from block to block.

    `straight`: the lines of both blocks continue each other, each line's last PE sends to all of the next block's
    line. `reslice`: piece by piece to other lines, with one turn. `turn`: to a block that is split the other way.
    `colours` are what it occupies. `lanes` are the first and last column (row, where the source is split over its
    columns) on which a reslice leaves; None: all that both blocks share.
    """

    name: str
    value: str
    source: str
    target: str
    source_layout: Layout
    target_layout: Layout
    kind: str
    colours: tuple[int, ...]
    lanes: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """The sampled id goes from the sampling block back to the embedding's (one wavelet), along the column `lane`.

    None: along the sampler's own column.
    """

    source: str
    target: str
    colours: tuple[int, ...]
    lane: int | None = None


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """Bytes of the fullest PE of a block."""

    block: str
    weight_bytes: int
    kv_bytes: int
    buffer_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.kv_bytes + self.buffer_bytes


@dataclass(frozen=True, slots=True)
class ColourUse:
    """Colours that a kind of collective holds on the PEs of a block. Kinds that share colours are rerouted in turn."""

    block: str
    kind: str
    colours: tuple[int, ...]
