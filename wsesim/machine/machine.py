"""Machine: the frozen numbers of one wafer. Every figure's source stands in the preset that carries it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

TIMING_DTYPES = ("fp16", "bf16", "int8", "fp32")
MOST_PES = 10_000_000  # ten times any wafer: the state of each is kept


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of PEs: its north-west corner (x, y) and its extent; y grows southwards."""

    x: int
    y: int
    columns: int
    rows: int

    @property
    def pes(self) -> int:
        return self.columns * self.rows

    def overlaps(self, other: Rect) -> bool:
        return not (
            self.x + self.columns <= other.x
            or other.x + other.columns <= self.x
            or self.y + self.rows <= other.y
            or other.y + other.rows <= self.y
        )

    def contains(self, other: Rect) -> bool:
        return (
            self.x <= other.x
            and self.y <= other.y
            and other.x + other.columns <= self.x + self.columns
            and other.y + other.rows <= self.y + self.rows
        )

    def has(self, x: int, y: int) -> bool:
        return self.x <= x < self.x + self.columns and self.y <= y < self.y + self.rows

    def hull(self, other: Rect) -> Rect:
        """The smallest rectangle that contains both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        east = max(self.x + self.columns, other.x + other.columns)
        south = max(self.y + self.rows, other.y + other.rows)
        return Rect(x, y, east - x, south - y)

    def __str__(self) -> str:
        return f"{self.columns} x {self.rows} at ({self.x}, {self.y})"


@dataclass(frozen=True, slots=True)
class Fabric:
    """Timing of routers and ramps. A wavelet takes `wavelet_numerator / wavelet_denominator` cycles on a link."""

    hop_cycles: int
    ramp_send_cycles: int
    ramp_receive_cycles: int
    turn_cycles: int
    wavelet_numerator: int
    wavelet_denominator: int
    queue_wavelets: int


@dataclass(frozen=True, slots=True)
class OpCost:
    """Cost of one vector operation on one PE: `launch + (repeats - 1) * relaunch + repeats * n / rate` cycles.

    A rate is elements per cycle; bf16 and int8 take the fp16 rate, a stated assumption of the design.
    """

    launch: int
    relaunch: Fraction
    rate_fp16: Fraction
    rate_fp32: Fraction

    def work_cycles(self, elements: int, repeats: int, dtype: str) -> int:
        """Cycles after the launch, rounded up once."""
        rate = self.rate_fp32 if dtype == "fp32" else self.rate_fp16
        exact = (repeats - 1) * self.relaunch + Fraction(repeats * elements) / rate
        return -(-exact.numerator // exact.denominator)


@dataclass(frozen=True, slots=True)
class Host:
    """What lies between a client and the wafer."""

    link_bytes_per_s: float
    send_call_s: float  # host to device, one call
    receive_call_s: float  # device to host, one call
    wafer_crossing_s: float  # from one wafer to the next, through hosts


@dataclass(frozen=True, slots=True)
class SlowPE:
    """A straggler: every task of the PE at (x, y) takes `factor` times its work cycles."""

    x: int
    y: int
    factor: Fraction


@dataclass(frozen=True, slots=True, repr=False)
class Machine:
    """One wafer. Cycles are the unit of everything; `clock_hz` alone turns them into seconds.

    docs/machines.md defines every field. `base` is what this machine was derived from, by a file's `base`, `with_` or
    `--set`; reports say what differs from it. It is no part of the value: machines of equal numbers are equal.
    """

    name: str
    columns: int
    rows: int
    usable: Rect
    clock_hz: float
    sram_bytes: int
    code_reserved_bytes: int
    host_copy_reserved_bytes: int
    colours: int
    reserved_colours: int
    reroute_cycles: int
    activate_cycles: int
    stream_cycles: int  # from a wavelet at a running operation to its result, in memory or on the way out
    loop_cycles: int
    wavelet_bytes: int
    fabric: Fabric
    host: Host
    ops: tuple[tuple[str, OpCost], ...]
    assumptions: tuple[str, ...] = ()
    dead: frozenset[tuple[int, int]] = frozenset()
    slow: tuple[SlowPE, ...] = ()
    base: Machine | None = field(default=None, compare=False)
    _cost: dict[str, OpCost] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cost", dict(self.ops))

    def __repr__(self) -> str:
        return f"Machine({self.name}, {self.columns} x {self.rows} PEs, {self.clock_hz / 1e6:g} MHz)"

    def __str__(self) -> str:
        from wsesim.machine.text import machine_text

        return machine_text(self)

    def with_(self, changes: Mapping[str, object], *, name: str | None = None) -> Machine:
        """This machine with other values of some fields, spelt as in TOML.

            load_machine("wse3").with_({"fabric.hop_cycles": 1, "op.fma.fp16": 4})

        It is called `name`, or as this one with a `+` behind it. Raises MachineFileError for a field that is unknown,
        of another type, or out of range.
        """
        from wsesim.machine.settings import changed

        return changed(self, changes, name)

    def op(self, name: str) -> OpCost:
        return self._cost[name]

    @property
    def room_bytes(self) -> int:
        """SRAM of one PE that weights, KV cache and buffers may take."""
        return self.sram_bytes - self.code_reserved_bytes - self.host_copy_reserved_bytes

    def wavelets(self, elements: int, dtype: str) -> int:
        """Wavelets that `elements` values of `dtype` fill; never none, a message has a head."""
        return max(1, -(-elements * dtype_bytes(dtype) // self.wavelet_bytes))

    def seconds(self, cycles: float) -> float:
        return cycles / self.clock_hz

    def cycles(self, seconds: float) -> int:
        """The nearest whole number of cycles."""
        return round(seconds * self.clock_hz)

    def fingerprint(self) -> str:
        """Twelve hex digits over the name and every number of the machine."""
        from wsesim.machine.text import canonical_text

        return hashlib.sha256(canonical_text(self).encode()).hexdigest()[:12]


def dtype_bytes(dtype: str) -> int:
    return {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[dtype]
