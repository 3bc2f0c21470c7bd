"""Row: one measured figure beside the limit that it is held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`value` in `unit`; `limit` with `at_most` (or at least); no limit where the figure is only reported."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = True
    note: str = ""

    def text(self) -> tuple[str, str, str, str]:
        """Cells of a table."""
        if self.limit is None:
            return self.name, f"{self.value:.4g} {self.unit}", "", self.note
        met = self.value <= self.limit if self.at_most else self.value >= self.limit
        sign = "<=" if self.at_most else ">="
        verdict = "met" if met else "NOT MET"
        return self.name, f"{self.value:.4g} {self.unit}", f"{sign} {self.limit:g}: {verdict}", self.note
