"""What a trace says about itself: the unit of its times, the clock, and the Program that ran."""

from __future__ import annotations

from wsesim.program import Program
from wsesim.report.trace.events import Instant, Trace
from wsesim.version import __version__

UNIT = "1 ns of this trace is 1 cycle"


def say_about(trace: Trace, program: Program, *, prefix: str = "") -> None:
    """Adds the trace's attributes, and the same as an event at cycle 0. `prefix` stands before their names."""
    machine = program.machine
    stated: dict[str, int | float | str] = {
        "unit": UNIT,
        "clock_hz": round(machine.clock_hz),
        "model": program.model,
        "machine": machine.name,
        "machine_fingerprint": machine.fingerprint(),
        "software": program.software.name,
        "strategy": program.strategy,
        "timing_dtype": program.timing_dtype,
        "program": program.fingerprint(),
        "wsesim_version": __version__,
    }
    trace.about({f"{prefix}{key}": value for key, value in stated.items()})
    name = f"{UNIT}, at {machine.clock_hz / 1e6:g} MHz"
    trace.add(Instant(trace.track(f"about {program.model}"), name, 0, stated))
