"""Stretches of the critical path, grouped by operator and kind: where a step's time goes.

A stretch is a sequence of neighbouring steps of one segment, operator and kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from wsesim.engine.observe.path import PathStep


@dataclass(frozen=True, slots=True)
class Stretches:
    """All stretches of one operator and kind: `count` of them, `cycles` in all.

    The longest took `longest_cycles` from `start_cycle` on, in `segment`, from `pe` to `to_pe` (wafer coordinates).
    """

    operator: str
    kind: str
    count: int
    cycles: int
    longest_cycles: int
    start_cycle: int
    segment: str
    pe: tuple[int, int]
    to_pe: tuple[int, int]


def operator_of(step: PathStep) -> str:
    """The operator of a step of the critical path."""
    return operator_named(step.segment, step.label)


def operator_named(segment: str, label: str) -> str:
    """The operator of the tasks that `segment` labels so. `transfer` covers sending and receiving; `feedback` is the
    way of the id back.
    """
    if segment == "feedback":
        return "feedback"
    return "transfer" if label in ("send", "receive") else label


def stretches(path: tuple[PathStep, ...]) -> tuple[Stretches, ...]:
    """The groups, most cycles first. Of equally long stretches, a group names the first."""
    found: dict[tuple[str, str], Stretches] = {}
    for (segment, operator, kind), group in groupby(path, key=lambda s: (s.segment, operator_of(s), s.kind)):
        steps = list(group)
        cycles = sum(s.cycles for s in steps)
        one = Stretches(operator, kind, 1, cycles, cycles, steps[0].start_cycle, segment, steps[0].pe, steps[-1].to_pe)
        found[operator, kind] = _joined(found[operator, kind], one) if (operator, kind) in found else one
    return tuple(sorted(found.values(), key=lambda s: (-s.cycles, s.operator, s.kind)))


def _joined(so_far: Stretches, one: Stretches) -> Stretches:
    longer = one if one.longest_cycles > so_far.longest_cycles else so_far
    return Stretches(
        so_far.operator,
        so_far.kind,
        so_far.count + one.count,
        so_far.cycles + one.cycles,
        longer.longest_cycles,
        longer.start_cycle,
        longer.segment,
        longer.pe,
        longer.to_pe,
    )
