"""The critical path of a whole step: from its end back through its segments to its beginning, without gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.critical_path import CriticalPath, StepKind, critical_path
from wsesim.engine.timing import Step
from wsesim.engine.wafer import SegmentRun
from wsesim.machine import Machine

CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class PathStep:
    """`cycles` of one kind for operator `label` of `segment`, on PE `pe` or on the way to `to_pe` (wafer
    coordinates).
    """

    kind: StepKind
    segment: str
    label: str
    pe: tuple[int, int]
    to_pe: tuple[int, int]
    start_cycle: int
    cycles: int


def step_path(step: Step, machine: Machine) -> tuple[PathStep, ...]:
    """Steps in the order of time; their cycles sum exactly to `step.cycles`. Needs runs with timelines."""
    number, pe = len(step.runs) - 1, None
    found: list[PathStep] = []
    expected = step.cycles
    while number >= 0:
        run = step.runs[number]
        task = _last_task(run, pe) if pe else _ending_task(run, step.cycles)
        if task is None:
            number -= 1
            continue
        path = _trace(run, machine, task)
        found += _wait(run, path.end_cycle + run.base, expected, pe)
        found += reversed(_on_wafer(run, path))
        pe = _position(run, path.origin.number)
        expected = path.origin.cycle + run.base
        number -= 1
    found.reverse()
    assert sum(s.cycles for s in found) == step.cycles - expected
    return tuple(found)


def _trace(run: SegmentRun, machine: Machine, task: int) -> CriticalPath:
    assert run.effect.timeline is not None, "the run kept no timelines"
    return critical_path(run.segment.plan.graph, run.effect.timeline, machine.fabric, task)


def _ending_task(run: SegmentRun, end_cycle: int) -> int | None:
    assert run.effect.timeline is not None
    tasks = np.flatnonzero(run.effect.timeline.task_end + run.base == end_cycle)
    return int(tasks[-1]) if tasks.size else None


def _last_task(run: SegmentRun, pe: tuple[int, int]) -> int | None:
    """The last task of a PE in this segment, None if it has none."""
    window, plan = run.segment.window, run.segment.plan
    if not window.has(*pe):
        return None
    number = (pe[1] - window.y) * window.columns + pe[0] - window.x
    if not plan.busy[number]:
        return None
    return int(np.searchsorted(plan.graph.pe, number, side="right")) - 1


def _position(run: SegmentRun, number: int) -> tuple[int, int]:
    window = run.segment.window
    return window.x + number % window.columns, window.y + number // window.columns


def _wait(run: SegmentRun, ended: int, expected: int, pe: tuple[int, int] | None) -> list[PathStep]:
    """What a PE that was held back for a credit waited between two segments."""
    if expected == ended or pe is None:
        return []
    return [PathStep("wait", run.segment.name, CREDIT, pe, pe, ended, expected - ended)]


def _on_wafer(run: SegmentRun, path: CriticalPath) -> list[PathStep]:
    return [
        PathStep(
            s.kind,
            run.segment.name,
            s.label,
            _position(run, s.pe),
            _position(run, s.to_pe),
            s.start_cycle + run.base,
            s.cycles,
        )
        for s in path.steps
    ]
