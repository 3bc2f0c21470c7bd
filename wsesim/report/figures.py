"""StepFigures: what one simulated step took and where, as values. Report adds how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wsesim.engine.observe.path import PathStep
from wsesim.engine.steps.pipeline import Flow
from wsesim.machine.text import Difference
from wsesim.report.bounds import Bounds, MachineBounds
from wsesim.report.kinds import KINDS as KINDS
from wsesim.report.padding import MultiplyAdds
from wsesim.report.sensitivity import Elasticity
from wsesim.report.setup import Setup


@dataclass(frozen=True, slots=True)
class Share:
    """Cycles of one operator on the critical path, by kind (compute, launch, network, wait, reroute)."""

    operator: str
    cycles: int
    by_kind: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StageShare:
    """Cycles of one stage on the critical path, by kind; the transfer into the stage counts with it.

    `kind`, `layer` and `block` are those of the Program's stage. The way of the ids back is a stage called feedback,
    which lies on no block.
    """

    stage: str
    kind: str
    layer: int | None
    block: str | None
    by_kind: tuple[int, ...]

    @property
    def cycles(self) -> int:
        return sum(self.by_kind)

    def to_json(self) -> dict[str, Any]:
        """Plain values, by field."""
        where = {"stage": self.stage, "kind": self.kind, "layer": self.layer, "block": self.block}
        return where | {"cycles": self.cycles} | dict(zip(KINDS, self.by_kind, strict=True))


@dataclass(frozen=True, slots=True)
class StepFigures:
    """The figures of one simulated step. docs/report.md defines them.

    `cycles` go from token to token; in prefill, from the prompt to the first id. The shares sum to them exactly,
    and so do the stages.
    `tokens` are the prompt's, or in a decode step those of the batch, one of each sequence.
    `setup`: blocks, collectives, and whatever else was compiled.
    `forms`: of each kernel's role the forms that the step ran, where the software has several.
    `bounds` hold for this placement, `machine_bounds` for any placement of the model on this machine.
    `machine_differences`: the fields in which the machine differs from `machine_base`; `machine_notes`: the same
    as text.
    `sram_free_bytes`: for each block, what its fullest PE has left for weights, cache and buffers.
    `late_requests` of `link_events` link requests came out of order between segments; 0 means the order is exact.
    Only on request: `flow`, the steady state of several steps in flight; `free_cycles` and `free_flow`, the same step
    and steady state with links and ramps that are never busy; `sensitivity` to the machine's constants.
    """

    model: str
    machine: str
    software: str
    forms: tuple[tuple[str, tuple[str, ...]], ...]
    strategy: str
    timing_dtype: str
    fingerprint: str
    phase: str
    tokens: int
    context: int
    cycles: int
    logits_cycles: int
    clock_hz: float
    pes: int
    sram_bytes: int
    shares: tuple[Share, ...]
    stages: tuple[StageShare, ...]
    setup: Setup
    path: tuple[PathStep, ...]
    bounds: Bounds
    machine_bounds: MachineBounds
    late_requests: int
    link_events: int
    multiply_adds: MultiplyAdds
    sram_free_bytes: tuple[tuple[str, int], ...]
    flow: Flow | None = None
    free_cycles: int | None = None
    free_flow: Flow | None = None
    sensitivity: tuple[Elasticity, ...] = ()
    machine_base: str | None = None
    machine_differences: tuple[Difference, ...] = ()
    machine_notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.cycles / self.clock_hz

    @property
    def batch(self) -> int:
        """Sequences whose tokens go through the kernels together."""
        return self.tokens if self.phase == "decode" else 1

    @property
    def cycles_per_token(self) -> float:
        return self.cycles / self.tokens

    @property
    def seconds_per_token(self) -> float:
        return self.seconds / self.tokens

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def utilisation(self) -> float:
        """The multiply-adds of the model's weights, over those that all PEs of the blocks could do in these cycles at
        the FMA rate of the timing dtype.
        """
        return self.bounds.arithmetic_cycles / self.cycles

    @property
    def congestion_cycles(self) -> int | None:
        """The cost of waiting for links and ramps: these cycles minus those with free links."""
        return None if self.free_cycles is None else self.cycles - self.free_cycles

    @property
    def flow_congestion_cycles(self) -> Fraction | None:
        """As `congestion_cycles`, for the period of the steady state."""
        if self.flow is None or self.free_flow is None:
            return None
        return self.flow.period_cycles - self.free_flow.period_cycles

    def by_kind(self) -> dict[str, int]:
        """Cycles of the critical path by kind; they sum to its length."""
        return {kind: sum(s.by_kind[i] for s in self.shares) for i, kind in enumerate(KINDS)}

    def flow_tokens_per_second(self, flow: Flow) -> float:
        """Tokens per second of all sequences in flight together."""
        return flow.batch * self.clock_hz / float(flow.period_cycles)
