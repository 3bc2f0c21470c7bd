"""Program: blocks, kernels in dependency order, transfers between blocks, and the memory map."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass

from wsesim.machine import Machine
from wsesim.machine.text import machine_notes
from wsesim.program.kernels import Kernel
from wsesim.program.parts import Block, BlockMemory, ColourUse, Feedback, Stage, Transfer
from wsesim.program.text import constructor
from wsesim.software import WSESIM, Software
from wsesim.tables import Table, si_bytes

VERSION = 2  # of the Program's meaning; part of the fingerprint

LISTS = {
    "block": "blocks",
    "kernel": "kernels",
    "stage": "stages",
    "transfer": "transfers",
    "colour": "colours",
    "memory": "memory",
}
"""The word that begins a line of a Program's text, and the field that the line is an item of."""
SINGLE = ("machine", "software", "feedback")
"""The fields that have one line of their own. All others stand in the header."""
END = "end"
"""The last line: a text that was cut off has none."""


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
    stages: tuple[Stage, ...]
    transfers: tuple[Transfer, ...]
    feedback: Feedback
    colours: tuple[ColourUse, ...]
    memory: tuple[BlockMemory, ...]
    batch: int = 1
    software: Software = WSESIM

    def block(self, name: str) -> Block:
        return next(b for b in self.blocks if b.name == name)

    def kernels_of(self, block: str) -> tuple[Kernel, ...]:
        return tuple(k for k in self.kernels if k.block == block)

    def kernels_in(self, stage: Stage) -> tuple[Kernel, ...]:
        return self.kernels[stage.start : stage.stop]

    def entering(self, stage: Stage) -> Transfer | None:
        """The transfer that brings what the stage reads; None if the value is made on the stage's own block."""
        read = {operand.value for kernel in self.kernels_in(stage) for operand in kernel.reads}
        return next((t for t in self.transfers if t.target == stage.block and t.value in read), None)

    def in_phase(self, phase: str) -> Program:
        """The Program whose only collectives are those of DECODE or PREFILL."""
        return dataclasses.replace(self, kernels=tuple(k.in_phase(phase) for k in self.kernels))

    @property
    def pes(self) -> int:
        """PEs that compute for a block."""
        return sum(b.pes for b in self.blocks)

    @property
    def sram_bytes(self) -> int:
        """Bytes of weights, KV cache and buffers, summed over all PEs of all blocks (padding included)."""
        pes = {b.name: b.pes for b in self.blocks}
        return sum(m.total_bytes * pes[m.block] for m in self.memory)

    def fingerprint(self) -> str:
        """Hex digits over model, machine, placement, numerics and the Program's version."""
        itself = dataclasses.replace(self, machine=dataclasses.replace(self.machine, base=None))
        stated = f"{VERSION}\n{self.machine.fingerprint()}\n{itself.text()}"
        return hashlib.sha256(stated.encode()).hexdigest()[:20]

    def text(self) -> str:
        """The whole Program as text, one item a line. `wsesim.program.parse_program` reads it back."""
        own_lines = (*LISTS.values(), *SINGLE)
        header = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.name not in own_lines]
        lines = [f"program {VERSION}", f"header({', '.join(header)})"]
        lines += [f"{name} {constructor(getattr(self, name))}" for name in SINGLE]
        for word, field in LISTS.items():
            lines += [f"{word} {constructor(item)}" for item in getattr(self, field)]
        return "\n".join([*lines, END]) + "\n"

    def summary(self) -> Table:
        """The table of `wsesim compile`: blocks of one shape together, their fullest PE, and the transfers."""
        machine = self.machine
        memory = {m.block: m for m in self.memory}
        shapes: dict[tuple[int, int, int], list[str]] = {}
        for block in self.blocks:
            shapes.setdefault((block.columns, block.rows, memory[block.name].total_bytes), []).append(block.name)
        rows = [("blocks", "PEs each", "bytes on the fullest PE", "of")]
        rows += [
            (_names(names), f"{columns} x {height}", f"{total:,}", f"{machine.room_bytes:,}")
            for (columns, height, total), names in shapes.items()
        ]
        kinds = Counter(t.kind for t in self.transfers)
        turns = f"{kinds['turn']} turns, " if kinds["turn"] else ""
        moves = (
            f"{len(self.kernels)} kernels; {kinds['straight']} straight transfers, {kinds['reslice']} reslices; "
            f"{turns}context {self.max_context:,} x {self.sequences}; fingerprint {self.fingerprint()}"
        )
        return Table(
            f"{self.model} on {machine.name}, {self.strategy}: {self.pes:,} PEs "
            f"in {len(self.blocks)} blocks, {si_bytes(self.sram_bytes)} of SRAM",
            tuple(rows),
            heading=True,
            notes=(moves, *machine_notes(machine)),
        )

    def __repr__(self) -> str:
        blocks = f"{len(self.blocks)} blocks, {self.pes:,} PEs"
        return f"<Program {self.model} on {self.machine.name}, {self.strategy}: {blocks}, context {self.max_context:,}>"

    def __str__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)})"
