"""The critical path of a whole step: from its end back through its segments to its beginning, without gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.critical_path import CriticalPath, StepKind, critical_path
from wsesim.engine.timing import Step
from wsesim.engine.wafer import SegmentRun
from wsesim.machine import Machine


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
    expected, credit = step.cycles, None
    while number >= 0:
        run = step.runs[number]
        task = _last_task(run, pe) if pe else _ending_task(run, step.cycles)
        if task is None:
            number -= 1
            continue
        if _end(run, task) != expected:  # the sender was held: what it waited for is the receiver's last task
            assert credit is not None and pe != credit, "a PE began late for no reason"
            pe, number = credit, _number_before(step, credit, expected, number)
            continue
        path = _trace(run, machine, task)
        found += reversed(_on_wafer(run, path))
        pe, credit = _position(run, path.origin.number), run.credit
        expected = path.origin.cycle + run.base
        number -= 1
    found.reverse()
    assert sum(s.cycles for s in found) == step.cycles - expected
    return tuple(found)


def _number_before(step: Step, pe: tuple[int, int], end_cycle: int, below: int) -> int:
    """The run in which `pe` ended a segment's tasks at `end_cycle`; it is of an earlier chunk, further back."""
    for number in range(below, -1, -1):
        task = _last_task(step.runs[number], pe)
        if task is not None and _end(step.runs[number], task) == end_cycle:
            return number
    raise AssertionError("a credit that nobody gave")


def _end(run: SegmentRun, task: int) -> int:
    assert run.effect.timeline is not None, "the run kept no timelines"
    return int(run.effect.timeline.task_end[task]) + run.base


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
