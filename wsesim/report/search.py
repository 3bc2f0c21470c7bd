"""SearchReport: the placements that a search found, beside the default and the bound, as text, HTML and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wsesim.machine import Machine
from wsesim.report.explanation import Explanation
from wsesim.report.placement_figures import PlacementFigures
from wsesim.report.schema import stamped
from wsesim.tables import Table, html_of, si_seconds, text_of

MEASURES = (
    ("cycles a token", "cycles", -1),
    ("time a token", "seconds_per_token", -1),
    ("tokens/s, all sequences", "tokens_per_second", 1),
    ("time to first token", "prompt_seconds", -1),
    ("longest context", "context", 1),
    ("SRAM of the fullest PE", "sram_bytes", 0),
    ("sequences", "sequences", 0),
)
"""Name, field, and which way is better; 0 where none is."""


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What a search found. `print(report)` prints the tables of `wsesim search`.

    found           the best placements that differ, the best first
    default         the placement without a search; None if it does not fit
    bound_cycles    no placement has a lower price
    bound_operators cycles of the bound by operator; they sum up to it, but for rounding
    whole_cycles    of the default on the same machine without dead PEs; None if no PE is dead
    period_bound_cycles  no placement has a shorter distance between steps, by prices, with all sequences on the wafer
    sequences       that the best placement holds: those of the options, or chosen by the search
    price_cycles    the price of the best placement, which the bound is to be compared with
    """

    model: str
    machine: Machine
    objective: str
    context: int
    prompt: int
    sequences: int
    command: str
    version: str
    bound_cycles: int
    bound_operators: tuple[tuple[str, float], ...]
    period_bound_cycles: int
    price_cycles: int
    default: PlacementFigures | None
    found: tuple[PlacementFigures, ...]
    candidates: int
    seconds: float
    interrupted: bool
    explanation: Explanation | None = None
    whole_cycles: int | None = None

    @property
    def best(self) -> PlacementFigures:
        return self.found[0]

    @property
    def gap(self) -> float:
        """How far the best placement's price is above the bound, as a fraction of it."""
        return self.price_cycles / self.bound_cycles - 1 if self.bound_cycles else 0.0

    def placement_text(self, number: int = 0) -> str:
        """A placement file of one of the found. Its head states command and version, and options that go with it."""
        own = self.found[number]
        lines = [
            f"# {self.model} on {self.machine.name}: {own.cycles:,} cycles a token over {self.context:,} cached tokens",
            f"# {self.command}",
            f"# wsesim {self.version}; place {number + 1} of {self.candidates:,} candidates: {own.origin}",
        ]
        if own.sequences > 1:
            lines.append(f"# with --sequences {own.sequences}: {own.tokens_per_second:,.0f} tokens/s of all sequences")
        return "\n".join(lines) + "\n" + own.text + "\n"

    def __repr__(self) -> str:
        best = f"{self.best.cycles:,} cycles a token ({self.best.origin})"
        return f"<SearchReport of {self.model} on {self.machine.name}, {self.objective}: {best}, gap {self.gap:.1%}>"

    def __str__(self) -> str:
        return text_of(self._tables())

    def _repr_html_(self) -> str:
        return html_of(self._tables())

    def to_json(self) -> dict[str, Any]:
        """Plain values; docs/search.md defines the fields."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        own = {
            "machine": self.machine.name,
            "gap": self.gap,
            "default": self.default and self.default.to_json(),
            "found": [one.to_json() for one in self.found],
            "bound_operators": {name: round(cycles, 1) for name, cycles in self.bound_operators},
            "explanation": self.explanation and self.explanation.to_json(),
        }
        return stamped(fields | own)

    def _tables(self) -> Iterator[Table]:
        title = f"{self.model} on {self.machine.name}: placements for {self.objective}"
        what = f"decode over {self.context:,} cached tokens, prompts of {self.prompt:,}, {self.sequences:,} sequences"
        ended = "interrupted after" if self.interrupted else "after"
        yield Table(title, notes=(what, f"{self.candidates:,} candidates, {ended} {self.seconds:.0f} s"))
        yield self._comparison()
        yield Table("", notes=(self._worse(), *self._bounds()))
        yield self._list()
        if self.default is not None and self.default.operators and self.best.operators:
            yield self._operators(self.default)
        if self.explanation is not None:
            yield from self.explanation.tables()

    def _comparison(self) -> Table:
        rows = [("", "default", "best", "change")]
        for name, field, _ in MEASURES:
            best = getattr(self.best, field)
            default = None if self.default is None else getattr(self.default, field)
            change = "" if not default else f"{100 * (best / default - 1):+.1f} %"
            rows.append(
                (name, "does not fit" if default is None else _shown(field, default), _shown(field, best), change)
            )
        return Table(f"best: {self.best.origin}", tuple(rows), heading=True)

    def _worse(self) -> str:
        """In what the best placement is worse than the default."""
        if self.default is None:
            return "The default does not fit."
        worse = []
        for name, field, sign in MEASURES[1:]:
            own, other = getattr(self.best, field), getattr(self.default, field)
            if other and sign * (own - other) < 0:
                worse.append(f"{name} ({100 * (own / other - 1):+.1f} %)")
        return f"Worse than the default: {', '.join(worse)}." if worse else "In nothing worse than the default."

    def _bounds(self) -> Iterator[str]:
        yield (
            f"No placement has a price below {self.bound_cycles:,} cycles a token; the best has {self.price_cycles:,}, "
            f"{100 * self.gap:.1f} % more."
        )
        if self.sequences > 1 and self.period_bound_cycles:
            most = self.machine.clock_hz / self.period_bound_cycles
            yield f"By prices, no placement makes more than {most:,.0f} tokens/s of {self.sequences:,} sequences."
        if self.whole_cycles is not None:
            yield self._defects(self.whole_cycles)
        if self.best.least_cycles:
            yield f"Whatever the software, a token takes {self.best.least_cycles:,} cycles on this machine, or more."

    def _defects(self, whole_cycles: int) -> str:
        """What the dead PEs cost: the default beside the default without them."""
        count = len(self.machine.dead)
        dead = f"{count:,} dead PE" + ("s" if count > 1 else "")
        without = f"without {'them' if count > 1 else 'it'}, the default takes {whole_cycles:,}"
        if self.default is None:
            return f"On the wafer with {dead} the default does not fit; {without}."
        more = self.default.cycles - whole_cycles
        return f"The default takes {more:,} cycles ({100 * more / whole_cycles:.1f} %) more for {dead}; {without}."

    def _list(self) -> Table:
        rows = [("placement", "cycles", "tokens/s", "first token", "context", "sequences")]
        for number, own in enumerate(self.found, start=1):
            rows.append(
                (
                    f"{number}. {own.origin}",
                    f"{own.cycles:,}",
                    f"{own.tokens_per_second:,.0f}",
                    si_seconds(own.prompt_seconds),
                    f"{own.context:,}",
                    f"{own.sequences:,}",
                )
            )
        return Table("found", tuple(rows), heading=True)

    def _operators(self, default: PlacementFigures) -> Table:
        """On the critical path, beside the bound. Changes of routes are part of the operators, but for the bound."""
        before, after, least = dict(default.operators), dict(self.best.operators), dict(self.bound_operators)
        rows: list[tuple[str, ...]] = [("operator", "default", "best", "change", "bound", "left to the bound")]

        def row(name: str, a: int, b: int, c: float) -> tuple[str, ...]:
            return name, f"{a:,}", f"{b:,}", f"{b - a:+,}", f"{c:,.0f}", f"{b - c:,.0f}"

        for name in sorted({*before, *after, *least}, key=lambda name: -before.get(name, 0)):
            rows.append(row(name, before.get(name, 0), after.get(name, 0), least.get(name, 0.0)))
        rows.append(row("all", sum(before.values()), sum(after.values()), sum(least.values())))
        return Table("cycles on the critical path, by operator", tuple(rows), heading=True)


def _shown(field: str, value: float) -> str:
    return si_seconds(value) if field.endswith("seconds") or field.startswith("seconds") else f"{value:,.0f}"
