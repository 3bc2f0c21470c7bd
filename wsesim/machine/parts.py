"""Parts of a machine: rectangles of PEs, the fabric, vector operations, the host, and slow PEs."""

from __future__ import annotations

from dataclasses import dataclass
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


def dtype_bytes(dtype: str) -> int:
    return {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[dtype]
