"""Stages of a step by their cycles on the critical path: where on the wafer a step's time goes."""

from __future__ import annotations

from collections.abc import Iterator

from wsesim.engine.observe.path import PathStep
from wsesim.program.program import Program
from wsesim.report.figures import KINDS, StageShare

FEEDBACK = "feedback"


def stage_shares(program: Program, path: tuple[PathStep, ...]) -> tuple[StageShare, ...]:
    """All stages in the Program's order, then the feedback. Their cycles sum to those of the path."""
    cycles = {name: dict.fromkeys(KINDS, 0) for name in (*(s.name for s in program.stages), FEEDBACK)}
    for step, stage in zip(path, _stages_of(program, path), strict=True):
        cycles[stage][step.kind] += step.cycles
    shares = [StageShare(s.name, s.kind, s.layer, s.block, tuple(cycles[s.name].values())) for s in program.stages]
    return (*shares, StageShare(FEEDBACK, FEEDBACK, None, None, tuple(cycles[FEEDBACK].values())))


def _stages_of(program: Program, path: tuple[PathStep, ...]) -> Iterator[str]:
    """The stage of each step of the path. A transfer belongs to the stage that the path enters after it.

    Two transfers can join the same blocks, so the name of a transfer's segment does not name the stage.
    """
    entering = {s.name: f"{t.source}->{t.target}" for s in program.stages if (t := program.entering(s))}
    known = {*(s.name for s in program.stages), FEEDBACK}
    entered: dict[str, str] = {segment: stage for stage, segment in reversed(entering.items())}
    found: list[str] = []
    for step in reversed(path):
        if step.segment in known:
            found.append(step.segment)
            if step.segment in entering:
                entered[entering[step.segment]] = step.segment
        else:
            found.append(entered[step.segment])
    return reversed(found)
