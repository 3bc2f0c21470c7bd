"""Machine: the frozen numbers of one wafer. The preset that states a figure also states its source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from wsesim.machine.numbers import Numbers
from wsesim.machine.settings import changed
from wsesim.machine.text import canonical_text, machine_text


@dataclass(frozen=True, slots=True, repr=False)
class Machine(Numbers):
    """One wafer. docs/machines.md defines every field.

    `base` is the machine that this one was derived from, by a file's `base`, `with_` or `--set`. Reports print the
    differences. `base` is no part of the value: two machines with equal numbers are equal.
    """

    base: Machine | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Machine({self.name}, {self.columns} x {self.rows} PEs, {self.clock_hz / 1e6:g} MHz)"

    def __str__(self) -> str:
        return machine_text(self)

    def with_(self, changes: Mapping[str, object], *, name: str | None = None) -> Machine:
        """This machine with other values of some fields, spelt as in TOML.

            load_machine("wse3").with_({"fabric.hop_cycles": 1, "op.fma.fp16": 4})

        Its name is `name`, or the old one with a `+` behind it. Raises MachineFileError for a field that is unknown,
        of another type, or out of range.
        """
        made = changed(self, changes, name)
        assert isinstance(made, Machine)
        return made

    def cycles(self, seconds: float) -> int:
        """The nearest whole number of cycles."""
        return round(seconds * self.clock_hz)

    def fingerprint(self) -> str:
        """Twelve hex digits over the name and every number of the machine."""
        return hashlib.sha256(canonical_text(self).encode()).hexdigest()[:12]
