"""Row: one measured figure beside its limit."""

from __future__ import annotations

from dataclasses import dataclass

HEADING = ("what", "figure", "limit", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """`value` in `unit`. It may be `limit` at most, or at least if `at_most` is false; None: no limit."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = True
    note: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        """The cells below HEADING."""
        return self.name, f"{self.value:.3g} {self.unit}", self._limit(), self.note

    def _limit(self) -> str:
        if self.limit is None:
            return ""
        met = self.value <= self.limit if self.at_most else self.value >= self.limit
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g}{'' if met else ', NOT MET'}"
