"""Numbers: every field of a machine, and the figures that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from wsesim.machine.parts import Fabric, Host, OpCost, Rect, SlowPE, dtype_bytes


@dataclass(frozen=True, slots=True, repr=False)
class Numbers:
    """The numbers of one wafer. Cycles are the unit of time; only `clock_hz` turns them into seconds.

    Code works with `Machine`, which can also be changed and printed. The functions that read, check and print machines
    take `Numbers`, so that they need not import `Machine`.
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
    input_queues: int
    reserved_queues: int
    switch_positions: int
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
    base: Numbers | None = field(default=None, compare=False)
    _cost: dict[str, OpCost] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cost", dict(self.ops))

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
