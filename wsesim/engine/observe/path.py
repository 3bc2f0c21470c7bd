"""The critical path of a whole step: from its end back through its segments to its beginning, without gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wsesim.engine.exact.effect import Piece
from wsesim.engine.exact.wafer import SegmentRun
from wsesim.engine.observe.critical_path import CriticalPath, StepKind, critical_path
from wsesim.engine.steps.timing import Step
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


@dataclass(frozen=True, slots=True)
class _Place:
    """One line of a piece of a segment's run: where a task graph ran, and from which cycle on."""

    run: SegmentRun
    piece: Piece
    line: int

    @property
    def base_cycle(self) -> int:
        return self.run.base + int(self.piece.bases[self.line])

    def last_task(self, pe: tuple[int, int]) -> int | None:
        """The last task of a PE (wafer coordinates) here, None if it has none."""
        own = np.flatnonzero(self.piece.members[self.line] == _number(self.run, pe))
        if not own.size:
            return None
        tasks = np.flatnonzero(self.piece.graph.pe == own[0])
        return int(tasks[-1]) if tasks.size else None

    def end(self, task: int) -> int:
        assert self.piece.timeline is not None, "the run kept no timelines"
        return int(self.piece.timeline.task_end[task]) + self.base_cycle

    def trace(self, task: int, machine: Machine) -> CriticalPath:
        assert self.piece.timeline is not None, "the run kept no timelines"
        return critical_path(self.piece.graph, self.piece.timeline, machine.fabric, task)

    def position(self, number: int) -> tuple[int, int]:
        """Wafer coordinates of a PE of the piece's graph."""
        row, column = divmod(int(self.piece.members[self.line, number]), self.run.segment.window.columns)
        return self.run.segment.window.x + column, self.run.segment.window.y + row

    def on_wafer(self, path: CriticalPath) -> list[PathStep]:
        return [
            PathStep(
                s.kind,
                self.run.segment.name,
                s.label,
                self.position(s.pe),
                self.position(s.to_pe),
                s.start_cycle + self.base_cycle,
                s.cycles,
            )
            for s in path.steps
        ]


def step_path(step: Step, machine: Machine) -> tuple[PathStep, ...]:
    """Steps in the order of time; their cycles sum exactly to `step.cycles`. Needs runs with timelines."""
    place, task = _ending(step)
    found: list[PathStep] = []
    while True:
        path = place.trace(task, machine)
        found += reversed(place.on_wafer(path))
        pe, begun = place.position(path.origin.number), path.origin.cycle + place.base_cycle
        before = _before(step, place, pe)
        if before is None:
            break
        if before[0].end(before[1]) != begun:  # the sender was held until the receiver's last task had ended
            assert place.run.credit is not None and pe != place.run.credit, "a PE began late for no reason"
            before = _before(step, place, place.run.credit, begun)
            assert before is not None, "a credit without a giver"
        place, task = before
    found.reverse()
    assert sum(s.cycles for s in found) == step.cycles - begun
    return tuple(found)


def _ending(step: Step) -> tuple[_Place, int]:
    """Where the step's last task ended."""
    for place in _places_back(step, len(step.runs) - 1):
        assert place.piece.timeline is not None, "the run kept no timelines"
        tasks = np.flatnonzero(place.piece.timeline.task_end + place.base_cycle == step.cycles)
        if tasks.size:
            return place, int(tasks[-1])
    raise AssertionError("nothing ends when the step does")


def _before(step: Step, place: _Place, pe: tuple[int, int], end_cycle: int | None = None) -> tuple[_Place, int] | None:
    """The PE's last task before `place`; the last one that ended at `end_cycle`, if that is given."""
    number = next(i for i, run in enumerate(step.runs) if run is place.run)
    seen = False
    for earlier in _places_back(step, number, pe):
        if not seen:
            seen = earlier.run is not place.run or _order(earlier.run, earlier.piece) < _order(place.run, place.piece)
        task = earlier.last_task(pe) if seen else None
        if task is not None and end_cycle in (None, earlier.end(task)):
            return earlier, task
    return None


def _order(run: SegmentRun, piece: Piece) -> int:
    return next(i for i, p in enumerate(run.effect.pieces) if p is piece)


def _places_back(step: Step, last: int, pe: tuple[int, int] | None = None) -> Iterator[_Place]:
    """Lines of all pieces of the runs up to `last`, backwards; those with the PE, if one is given."""
    for run in reversed(step.runs[: last + 1]):
        if pe is not None and not run.segment.window.has(*pe):
            continue
        for piece in reversed(run.effect.pieces):
            here = piece.members if pe is None else piece.members == _number(run, pe)
            lines = np.arange(len(here)) if pe is None else np.flatnonzero(here.any(axis=1))
            yield from (_Place(run, piece, int(line)) for line in lines)


def _number(run: SegmentRun, pe: tuple[int, int]) -> int:
    window = run.segment.window
    return (pe[1] - window.y) * window.columns + pe[0] - window.x
