"""The results of a run: a table by area, and the distinct failures with one case each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.judge import CLEAN, FAILURES, KINDS
from tests.fuzz.run import Outcome


@dataclass(slots=True)
class Row:
    """One area's cases."""

    area: str
    kinds: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest_case: int = 0


@dataclass(slots=True)
class Failure:
    """Cases of one area that fail at the same place, and the first of them."""

    area: str
    kind: str
    place: str
    what: str
    case: int
    count: int = 1


class Summary:
    """Counts outcomes as they come."""

    def __init__(self, areas: Iterable[str]) -> None:
        self.rows = {area: Row(area) for area in areas}
        self._failures: dict[tuple[str, ...], Failure] = {}

    def add(self, outcome: Outcome) -> bool:
        """Whether it is the first failure of its kind at its place."""
        row, verdict = self.rows[outcome.area.name], outcome.verdict
        row.kinds[verdict.kind] += 1
        row.errors[verdict.what] += verdict.kind == CLEAN
        if outcome.seconds > row.slowest_s:
            row.slowest_s, row.slowest_case = outcome.seconds, outcome.number
        if verdict.kind not in FAILURES:
            return False
        key = (row.area, verdict.kind, verdict.place, verdict.what.split(":")[0])
        if key in self._failures:
            self._failures[key].count += 1
            return False
        self._failures[key] = Failure(row.area, verdict.kind, verdict.place, verdict.what, outcome.number)
        return True

    def failures(self) -> list[Failure]:
        """The most frequent first."""
        return sorted(self._failures.values(), key=lambda failure: -failure.count)

    def to_json(self) -> dict[str, Any]:
        rows = {
            row.area: {
                **{kind: row.kinds[kind] for kind in KINDS},
                "errors": dict(row.errors),
                "slowest_s": row.slowest_s,
            }
            for row in self.rows.values()
        }
        names = Failure.__slots__
        return {"areas": rows, "failures": [{name: getattr(f, name) for name in names} for f in self.failures()]}

    def text(self) -> str:
        from wsesim.tables import aligned

        rows = [
            _cells(row.area, row.kinds, f"{row.slowest_s:.2f} (case {row.slowest_case})") for row in self.rows.values()
        ]
        total: Counter[str] = sum((row.kinds for row in self.rows.values()), Counter())
        table = aligned([("area", "cases", *KINDS, "slowest, s"), *rows, _cells("all", total, "")])
        return "\n".join([table, *_failures_text(self.failures())])


def _cells(area: str, kinds: Counter[str], slowest: str) -> tuple[str, ...]:
    return (area, f"{kinds.total():,}", *(f"{kinds[kind]:,}" for kind in KINDS), slowest)


def _failures_text(failures: Sequence[Failure]) -> list[str]:
    from wsesim.tables import aligned

    if not failures:
        return []
    rows = [(f"{f.count:,}", f.area, str(f.case), f.kind, f.place, f.what[:100]) for f in failures]
    return ["", aligned([("count", "area", "case", "kind", "place", "what"), *rows])]
