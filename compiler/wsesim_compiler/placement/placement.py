"""Placement: blocks on the wafer and the stages that live on each. One representation for every strategy.

`place` fills `blocks`, `chunk` the prompt's chunk, `choose` the collectives, `route` the transfers, `plan_memory` the
memory map.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from wsesim.machine import Machine
from wsesim.program.kernels import Kernel
from wsesim.program.parts import Block, BlockMemory, ColourUse, Feedback, Transfer
from wsesim.tables import Table
from wsesim_compiler.options import ByPhase, Options, PlacedBlock
from wsesim_compiler.partition import Partition, Stage
from wsesim_compiler.placement.placement_file import placement_text
from wsesim_compiler.placement.stage_kernels import stage_kernels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a partition lives on a machine, as far as the passes so far have decided."""

    partition: Partition
    machine: Machine
    options: Options
    blocks: tuple[PlacedBlock, ...]
    prefill_chunk: int = 1
    collectives: tuple[tuple[str, ByPhase], ...] = ()
    forms: tuple[tuple[str, ByPhase], ...] = ()
    transfers: tuple[Transfer, ...] = ()
    feedback: Feedback | None = None
    colours: tuple[ColourUse, ...] = ()
    memory: tuple[BlockMemory, ...] = ()

    def block_of(self, stage: str) -> Block:
        return next(placed.block for placed in self.blocks if stage in placed.stages)

    def kernels_of(self, stage: Stage) -> tuple[Kernel, ...]:
        """The stage's kernels on its block, with the chosen collectives, before that the option's."""
        chosen, block = dict(self.collectives), self.block_of(stage.name)
        asked = ByPhase(self.options.collective, self.options.collective)
        forms = dict(self.forms)
        kernels = stage_kernels(self.partition, stage, block, self.options, lambda name: chosen.get(name, asked))
        return tuple(k.written(forms[k.name].decode, forms[k.name].prefill) if k.name in forms else k for k in kernels)

    def kernels_on(self, placed: PlacedBlock) -> tuple[Kernel, ...]:
        return tuple(k for s in self.partition.stages if s.name in placed.stages for k in self.kernels_of(s))

    def __repr__(self) -> str:
        return f"<Placement of {self.partition.graph.name} on {self.machine.name}: {len(self.blocks)} blocks>"

    def _repr_html_(self) -> str:
        rows = [("block", "PEs", "axis", "stages")]
        rows += [(p.block.name, str(p.block.rect), p.block.axis, " ".join(p.stages)) for p in self.blocks]
        return Table(repr(self)[1:-1], tuple(rows), heading=True).html()

    def __str__(self) -> str:
        """A placement file, and as comments what follows from it."""
        title = f"# {self.partition.graph.name} on {self.machine.name}"
        lines = [title, placement_text(self._stated(), self.blocks)]
        for t in self.transfers:
            colours = ", ".join(map(str, t.colours))
            lines.append(f"# transfer {t.name}: {t.source} -> {t.target}, {t.kind}, colours {colours}")
        for m in self.memory:
            parts = f"weights {m.weight_bytes}, KV {m.kv_bytes}, buffers {m.buffer_bytes}"
            lines.append(f"# memory {m.block}: {m.total_bytes} of {self.machine.room_bytes} bytes a PE ({parts})")
        return "\n".join(lines) + "\n"

    def _stated(self) -> Options:
        """The options with what has been chosen; every choice is made once the collectives are."""
        if not self.collectives:
            return self.options
        return dataclasses.replace(
            self.options, prefill_chunk=self.prefill_chunk, collectives=self.collectives, forms=self.forms
        )
