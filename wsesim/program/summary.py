"""A Program in a few lines."""

from __future__ import annotations

from collections import Counter

from wsesim.machine.text import machine_notes
from wsesim.program.program import Program
from wsesim.tables import Table, si_bytes


def summary(program: Program) -> Table:
    """Blocks of one shape together, the fullest PE of each, and what moves between them."""
    machine = program.machine
    memory = {m.block: m for m in program.memory}
    shapes: dict[tuple[int, int, int], list[str]] = {}
    for block in program.blocks:
        shapes.setdefault((block.columns, block.rows, memory[block.name].total_bytes), []).append(block.name)
    rows = [("blocks", "PEs each", "bytes on the fullest PE", "of")]
    rows += [
        (_names(names), f"{columns} x {height}", f"{total:,}", f"{machine.room_bytes:,}")
        for (columns, height, total), names in shapes.items()
    ]
    kinds = Counter(t.kind for t in program.transfers)
    turns = f"{kinds['turn']} turns, " if kinds["turn"] else ""
    moves = (
        f"{len(program.kernels)} kernels; {kinds['straight']} straight transfers, {kinds['reslice']} reslices; "
        f"{turns}context {program.max_context:,} x {program.sequences}; fingerprint {program.fingerprint()}"
    )
    return Table(
        f"{program.model} on {machine.name}, {program.strategy}: {program.pes:,} PEs "
        f"in {len(program.blocks)} blocks, {si_bytes(program.sram_bytes)} of SRAM",
        tuple(rows),
        heading=True,
        notes=(moves, *machine_notes(machine)),
    )


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)})"
