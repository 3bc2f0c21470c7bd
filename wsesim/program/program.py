"""Program: blocks, kernels in dependency order, transfers between blocks, and the memory map."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from wsesim.machine import Machine, Rect
from wsesim.program.kernels import Kernel, in_phase
from wsesim.program.layout import Layout

AXES = ("rows", "columns")
VERSION = 1  # of the Program's meaning; part of the fingerprint


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


@dataclass(frozen=True, slots=True)
class Program:
    """What the PEs of one wafer do for one model. Context and tokens of a step are symbols: a run fixes them.

    `print(program)` prints the table of `wsesim compile`; `text()` is the whole Program, and parses back.
    `sequences` have a place in the KV cache. `prefill_chunk` tokens of a prompt, and in a decode step up to `batch`
    tokens of as many sequences, go through a block together: its buffers hold them.
    """

    model: str
    strategy: str
    machine: Machine
    max_context: int
    sequences: int
    timing_dtype: str
    prefill_chunk: int
    vocabulary: int
    dimension: int
    blocks: tuple[Block, ...]
    kernels: tuple[Kernel, ...]
    transfers: tuple[Transfer, ...]
    feedback: Feedback
    colours: tuple[ColourUse, ...]
    memory: tuple[BlockMemory, ...]
    batch: int = 1

    def block(self, name: str) -> Block:
        return next(b for b in self.blocks if b.name == name)

    def kernels_of(self, block: str) -> tuple[Kernel, ...]:
        return tuple(k for k in self.kernels if k.block == block)

    def in_phase(self, phase: str) -> Program:
        """The Program whose only collectives are those of DECODE or PREFILL."""
        return dataclasses.replace(self, kernels=tuple(in_phase(k, phase) for k in self.kernels))

    @property
    def pes(self) -> int:
        """PEs that belong to a block."""
        return sum(b.rect.pes for b in self.blocks)

    @property
    def sram_bytes(self) -> int:
        """Bytes of weights, KV cache and buffers, summed over all PEs of all blocks (padding included)."""
        pes = {b.name: b.rect.pes for b in self.blocks}
        return sum(m.total_bytes * pes[m.block] for m in self.memory)

    def fingerprint(self) -> str:
        """Hex digits over model, machine, placement, numerics and the Program's version."""
        itself = dataclasses.replace(self, machine=dataclasses.replace(self.machine, base=None))
        stated = f"{VERSION}\n{self.machine.fingerprint()}\n{itself.text()}"
        return hashlib.sha256(stated.encode()).hexdigest()[:20]

    def text(self) -> str:
        """The whole Program as text, which `parse_program` reads back."""
        from wsesim.program.text import print_program  # which needs the class above

        return print_program(self)

    def __repr__(self) -> str:
        blocks = f"{len(self.blocks)} blocks, {self.pes:,} PEs"
        return f"<Program {self.model} on {self.machine.name}, {self.strategy}: {blocks}, context {self.max_context:,}>"

    def __str__(self) -> str:
        """The table that `wsesim compile` prints."""
        from wsesim.program.summary import summary

        return summary(self).text()

    def _repr_html_(self) -> str:
        from wsesim.program.summary import summary

        return summary(self).html()
