"""What the numbers of a machine must satisfy, whatever they were read from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from wsesim.machine.errors import MachineFileError
from wsesim.machine.numbers import Numbers
from wsesim.machine.parts import MOST_PES, Fabric, Rect
from wsesim.machine.values import KINDS, OPS, value_text, values_of

MOST_STREAM_CYCLES = 127  # a task keeps them in a byte
MOST_CYCLES = 10_000  # of a step of the hardware: far above any, and no sum of a segment's overflows
MOST_FACTOR = 10_000  # and as much for rates, and for how much a PE is slower
LEAST_RATE = Fraction(1, MOST_FACTOR)

Limits = tuple[Any, Any]
"""The least and the most of a field, both allowed. None: no limit."""

LIMITS: dict[str, Limits] = {
    "columns": (1, MOST_PES),
    "rows": (1, MOST_PES),
    "usable.columns": (1, MOST_PES),
    "usable.rows": (1, MOST_PES),
    "code_reserved_bytes": (0, None),
    "host_copy_reserved_bytes": (0, None),
    "reserved_colours": (0, None),
    "reserved_queues": (0, None),
    "switch_positions": (0, MOST_CYCLES),
    "reroute_cycles": (0, MOST_CYCLES),
    "activate_cycles": (0, MOST_CYCLES),
    "stream_cycles": (0, MOST_STREAM_CYCLES),
    "loop_cycles": (0, MOST_CYCLES),
    "wavelet_bytes": (1, None),
    "fabric.hop_cycles": (1, MOST_CYCLES),
    "fabric.ramp_send_cycles": (0, MOST_CYCLES),
    "fabric.ramp_receive_cycles": (0, MOST_CYCLES),
    "fabric.turn_cycles": (0, MOST_CYCLES),
    "fabric.queue_wavelets": (1, MOST_CYCLES),
    "host.send_call_s": (0, None),
    "host.receive_call_s": (0, None),
    "host.wafer_crossing_s": (0, None),
}
LIMITS |= {f"op.{op}.{cost}": (0, MOST_CYCLES) for op in OPS for cost in ("launch", "relaunch")}
LIMITS |= {f"op.{op}.{rate}": (LEAST_RATE, None) for op in OPS for rate in ("fp16", "fp32")}


def check_machine(machine: Numbers, where: str = "") -> None:
    """Raises MachineFileError for the first rule that a machine's numbers break; `where` stands before it."""
    for holds, rule in _rules(machine):
        if not holds:
            raise MachineFileError(f"{where or f'machine {machine.name}'}: broken rule: {rule}")
    if machine.base is not None:
        check_machine(machine.base, f"{where or f'machine {machine.name}'}: base {machine.base.name}")


def _rules(machine: Numbers) -> Iterator[tuple[bool, str]]:
    """Every rule, and whether it holds. A rule that others rely on comes before them."""
    m, whole = machine, Rect(0, 0, machine.columns, machine.rows)
    yield m.base is None or m.base.base is None, "the base of a machine has no base of its own"
    yield tuple(name for name, _ in m.ops) == OPS, f"the operations are {', '.join(OPS)}"
    yield m.fabric.wavelet_denominator > 0, "the denominator of fabric.wavelet_cycles is positive"
    values = values_of(m)
    for path, limits in LIMITS.items():
        yield _is_within(values[path], limits), f"{_range(path, limits)}, not {value_text(values[path])}"
    yield m.columns * m.rows <= MOST_PES, f"columns x rows is at most {MOST_PES:,} PEs, not {m.columns} x {m.rows}"
    yield whole.contains(m.usable), f"the usable rectangle {m.usable} lies inside {whole}"
    reserved = m.code_reserved_bytes + m.host_copy_reserved_bytes
    yield m.room_bytes > 0, f"sram_bytes exceeds the {reserved} bytes that are reserved of it, {m.sram_bytes} does not"
    yield m.reserved_queues < m.input_queues, f"input_queues are more than the {m.reserved_queues} reserved_queues"
    yield m.reserved_colours < m.colours, f"colours are more than the {m.reserved_colours} reserved_colours"
    yield from _wavelet_rules(m.fabric)
    for path in ("clock_hz", "host.link_bytes_per_s"):
        yield values[path] > 0, f"{path} is positive, not {value_text(values[path])}"
    for path in (path for path, kind in KINDS.items() if kind is float):
        yield math.isfinite(values[path]), f"{path} is finite, not {value_text(values[path])}"
    yield all(m.usable.has(*pe) for pe in m.dead), "dead PEs lie inside the usable rectangle"
    yield all(whole.has(s.x, s.y) for s in m.slow), "slow PEs lie on the wafer"
    yield all(1 <= s.factor <= MOST_FACTOR for s in m.slow), f"the factor of a slow PE is from 1 to {MOST_FACTOR:,}"


def _wavelet_rules(fabric: Fabric) -> Iterator[tuple[bool, str]]:
    """Of the two integers as they are: the engine multiplies by them."""
    ratio = fabric.wavelet_numerator, fabric.wavelet_denominator
    yield ratio[0] > 0, f"fabric.wavelet_cycles is positive, not {value_text(Fraction(*ratio))}"
    small = f"fabric.wavelet_cycles is a fraction of integers up to {MOST_CYCLES:,}, not {ratio[0]}/{ratio[1]}"
    yield max(ratio) <= MOST_CYCLES, small


def _is_within(value: Any, limits: Limits) -> bool:
    least, most = limits
    return bool(value >= least and (most is None or value <= most))


def _range(path: str, limits: Limits) -> str:
    least, most = limits
    least_text = str(least) if isinstance(least, Fraction) else f"{least:,}"
    return f"{path} is at least {least_text}" if most is None else f"{path} is from {least_text} to {most:,}"
