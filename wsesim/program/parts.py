"""Parts of a Program besides its kernels: blocks, transfers between them, colours, and the memory map."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.machine import Rect
from wsesim.program.layout import Layout

AXES = ("rows", "columns")

EMBED, LAYER, ATTENTION, FFN, HEAD, SAMPLE = STAGE_KINDS = ("embed", "layer", "attention", "ffn", "head", "sample")
LAYER_KINDS = (LAYER, ATTENTION, FFN)
"""Kinds of the stages between the embedding and the head: a whole layer, or one half of it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of PEs. `axis` is the way the residual stream is split over it: "rows" or "columns"."""

    name: str
    x: int
    y: int
    columns: int
    rows: int
    axis: str

    @property
    def rect(self) -> Rect:
        return Rect(self.x, self.y, self.columns, self.rows)

    @property
    def along(self) -> int:
        """Positions over which the residual stream is split."""
        return self.rows if self.axis == "rows" else self.columns

    @property
    def across(self) -> int:
        """Positions over which it is replicated."""
        return self.columns if self.axis == "rows" else self.rows

    def turned(self) -> Block:
        """Its mirror image: columns and rows exchanged, and the residual stream split over the other ones."""
        axis = AXES[1 - AXES.index(self.axis)]
        return Block(self.name, self.y, self.x, self.rows, self.columns, axis)


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
