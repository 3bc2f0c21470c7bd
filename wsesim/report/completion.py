"""The table below a completion's text."""

from __future__ import annotations

from wsesim.machine.text import machine_notes
from wsesim.program.program import Program
from wsesim.runtime.completion import Completion
from wsesim.tables import Table, si_bytes


def completion_text(completion: Completion, program: Program, text_from: str | None) -> str:
    """The table as text."""
    return completion_table(completion, program, text_from).text()


def completion_table(completion: Completion, program: Program, text_from: str | None) -> Table:
    """Model, machine and placement, then the modelled times; the last row has this computer's wall times."""
    machine = program.machine
    title = (
        f"{program.model} on {machine.name} at {machine.clock_hz / 1e6:g} MHz, {program.strategy}, "
        f"timing in {program.timing_dtype}"
    )
    stand_in = f"\n  the text and the token counts are {text_from}'s, the times {program.model}'s" if text_from else ""
    *modelled, here = completion.rows()
    wafer = ("wafer", f"{program.pes:,} PEs", f"{si_bytes(program.sram_bytes)} of SRAM")
    return Table(f"{title}{stand_in}", (*modelled, wafer, here), notes=machine_notes(machine))
