"""Report: the figures of one simulated step, and how they are shown: as text, as HTML, as JSON."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from wsesim.engine.observe.path import PathStep, step_path
from wsesim.engine.steps.pipeline import Flow
from wsesim.engine.steps.timing import Step
from wsesim.machine.text import base_of, differences, machine_notes
from wsesim.program.program import Program
from wsesim.program.written import form_of
from wsesim.progress import working
from wsesim.report.bounds import lower_bounds, machine_bounds
from wsesim.report.figures import KINDS, Share, StepFigures
from wsesim.report.padding import multiply_adds_done
from wsesim.report.schema import stamped
from wsesim.report.sensitivity import Elasticity
from wsesim.report.setup import setup_of
from wsesim.report.stage_shares import stage_shares
from wsesim.report.stretches import operator_of
from wsesim.report.tables import report_html, report_text


@dataclass(frozen=True, slots=True)
class Report(StepFigures):
    """The figures of one simulated step. `print(report)` prints the tables of `wsesim simulate`."""

    def __repr__(self) -> str:
        step = f"decode over {self.context:,} cached" if self.phase == "decode" else f"prefill of {self.tokens:,}"
        return (
            f"<Report {self.model} on {self.machine}, {step}: {self.cycles_per_token:,.0f} cycles a token, "
            f"{self.tokens_per_second:,.0f} tokens/s>"
        )

    def __str__(self) -> str:
        return report_text(self)

    def _repr_html_(self) -> str:
        return report_html(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the figures that scripts ask for stand at the top."""
        return stamped(self._figures())

    def _figures(self) -> dict[str, Any]:
        return {
            "tokens_per_second": self.tokens_per_second,
            "cycles_per_token": self.cycles_per_token,
            "seconds_per_token": self.seconds_per_token,
            "cycles": self.cycles,
            "logits_cycles": self.logits_cycles,
            "seconds": self.seconds,
            "model": self.model,
            "machine": self.machine,
            "software": self.software,
            "forms": {role: list(names) for role, names in self.forms},
            "machine_base": self.machine_base,
            "machine_differences": [d.to_json() for d in self.machine_differences],
            "strategy": self.strategy,
            "timing_dtype": self.timing_dtype,
            "phase": self.phase,
            "tokens": self.tokens,
            "batch": self.batch,
            "context": self.context,
            "clock_hz": self.clock_hz,
            "pes": self.pes,
            "sram_bytes": self.sram_bytes,
            "sram_free_bytes": dict(self.sram_free_bytes),
            "program": self.fingerprint,
            "utilisation": self.utilisation,
            "multiply_adds": self.multiply_adds.needed,
            "padding_share": self.multiply_adds.padding_share,
            "lower_bounds_cycles": {
                "arithmetic": self.bounds.arithmetic_cycles,
                "dependent": self.bounds.dependent_cycles,
                "distance": self.bounds.distance_cycles,
            },
            "machine_lower_bounds_cycles": {
                "arithmetic": self.machine_bounds.arithmetic_cycles,
                "spread": self.machine_bounds.spread_cycles,
            },
            "critical_path_cycles": self.by_kind(),
            "operators": [
                {"operator": s.operator, "cycles": s.cycles, **dict(zip(KINDS, s.by_kind, strict=True))}
                for s in self.shares
            ],
            "stages": [share.to_json() for share in self.stages],
            **self.setup.to_json(),
            "late_requests": self.late_requests,
            "link_events": self.link_events,
            "congestion_cycles": self.congestion_cycles,
            "sensitivity": [e.to_json() for e in self.sensitivity],
            "pipeline": None if self.flow is None else self._pipeline(self.flow),
        }

    def _pipeline(self, flow: Flow) -> dict[str, Any]:
        return {
            "in_flight": flow.in_flight,
            "period_cycles": float(flow.period_cycles),
            "latency_cycles": float(flow.latency_cycles),
            "congestion_cycles": None if self.free_flow is None else float(self.flow_congestion_cycles or 0),
            "tokens_per_second": self.flow_tokens_per_second(flow),
            "bottleneck": flow.bottleneck.block,
            "busy_cycles": {use.block: float(use.busy_cycles) for use in flow.blocks},
            "late_requests": flow.late_requests,
            "link_events": flow.link_events,
        }


def report(
    program: Program,
    step: Step,
    *,
    flow: Flow | None = None,
    free_cycles: int | None = None,
    free_flow: Flow | None = None,
    sensitivity: tuple[Elasticity, ...] = (),
) -> Report:
    """The report of one step of `program`; the step's runs have kept their timelines."""
    with working("following the critical path"):
        path = step_path(step, program.machine)
    base, changes = base_of(program.machine), differences(program.machine)
    in_phase = program.in_phase(step.phase)
    return Report(
        model=program.model,
        machine=program.machine.name,
        software=program.software.name,
        forms=_forms(in_phase),
        strategy=program.strategy,
        timing_dtype=program.timing_dtype,
        fingerprint=program.fingerprint(),
        phase=step.phase,
        tokens=step.tokens,
        context=step.context,
        cycles=step.cycles,
        logits_cycles=step.logits_cycles,
        clock_hz=program.machine.clock_hz,
        pes=program.pes,
        sram_bytes=program.sram_bytes,
        shares=_shares(path),
        stages=stage_shares(program, path),
        setup=setup_of(in_phase),
        path=path,
        bounds=lower_bounds(program, step),
        machine_bounds=machine_bounds(program, step),
        late_requests=step.late_requests,
        link_events=step.link_events,
        multiply_adds=multiply_adds_done(program, step),
        sram_free_bytes=tuple((m.block, program.machine.room_bytes - m.total_bytes) for m in program.memory),
        flow=flow,
        free_cycles=free_cycles,
        free_flow=free_flow,
        sensitivity=sensitivity,
        machine_base=base.name if base is not None and changes else None,
        machine_differences=changes,
        machine_notes=machine_notes(program.machine),
    )


def _forms(program: Program) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The forms of each role, where the software has several of its kind. `program` is that of a phase."""
    forms: dict[str, dict[str, None]] = {}
    for kernel in program.kernels:
        if len(program.software.forms_of(type(kernel).__name__)) > 1:
            forms.setdefault(kernel.role, {})[form_of(kernel, program.software).name] = None
    return tuple((role, tuple(names)) for role, names in forms.items())


def _shares(path: tuple[PathStep, ...]) -> tuple[Share, ...]:
    """Operators by their cycles, most first; all layers' parts of one operator together."""
    cycles: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
    for step in path:
        cycles[operator_of(step)][step.kind] += step.cycles
    shares = [Share(name, sum(parts.values()), tuple(parts.values())) for name, parts in cycles.items()]
    return tuple(sorted(shares, key=lambda s: (-s.cycles, s.operator)))
