"""Sensitivity: how the cycles of a run change with each constant of the machine. Each constant takes another run.

The Program stays the same. One number of its machine is raised by 10 %; an integer is raised by at least 1. The
elasticity is the change of the cycles in per cent, over the change of the constant in per cent. It is 1 if the constant
accounts for all of the time. It is 0 if the run does not use the constant, or only while it waits for something else.
It is negative for rates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wsesim.machine import Machine
from wsesim.machine.values import fields_from, values_of
from wsesim.progress import working

STEP = Fraction(11, 10)

Number = Any  # an int or a Fraction; raising keeps the type


@dataclass(frozen=True, slots=True)
class Elasticity:
    """The cycles before and after `constant` was raised from `value` to `raised`."""

    constant: str
    value: Fraction
    raised: Fraction
    cycles: int
    raised_cycles: int

    @property
    def elasticity(self) -> Fraction | None:
        """Per cent of the cycles per per cent of the constant; None for a constant of 0."""
        if not self.value:
            return None
        return Fraction(self.raised_cycles - self.cycles, self.cycles) / (self.raised / self.value - 1)

    def to_json(self) -> dict[str, str | float | int | None]:
        return {
            "constant": self.constant,
            "value": float(self.value),
            "raised": float(self.raised),
            "change_cycles": self.raised_cycles - self.cycles,
            "elasticity": None if self.elasticity is None else float(self.elasticity),
        }


def run_count(machine: Machine) -> int:
    """The number of runs of `sensitivity`."""
    return 1 + sum(1 for _ in _changes(machine))


def sensitivity(machine: Machine, cycles_of: Callable[[Machine], int]) -> tuple[Elasticity, ...]:
    """The elasticity of every constant of timing, the largest first.

    `cycles_of` runs the step on a machine and returns its cycles.
    """
    changes, found = tuple(_changes(machine)), []
    with working("sensitivity", len(changes) + 1, "run") as work:
        cycles = cycles_of(machine)
        for work.done, (name, value, raised, changed) in enumerate(changes, 1):
            found.append(Elasticity(name, Fraction(value), Fraction(raised), cycles, cycles_of(changed)))
    return tuple(sorted(found, key=lambda e: (-abs(e.elasticity or 0), -abs(e.raised_cycles - e.cycles), e.constant)))


def _changes(machine: Machine) -> Iterator[tuple[str, Number, Number, Machine]]:
    """Field, value and raised value of each constant, and the machine with the raised value."""
    values = values_of(machine)
    for path, value in values.items():
        if path.endswith("_cycles") or path.startswith(("fabric.", "op.")):
            raised = _raised(value)
            yield path, value, raised, dataclasses.replace(machine, **fields_from({**values, path: raised}))


def _raised(value: Number) -> Number:
    """The value plus 10 %; an integer rises by at least 1."""
    if isinstance(value, Fraction):
        return value * STEP if value else Fraction(1)
    return value + max(1, value // 10)
