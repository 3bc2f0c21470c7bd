"""Comparison: several runs, each beside the first, as text, HTML, JSON and a pandas frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.files import check_page, write_whole
from wsesim.report.compare.pairs import TABLES, Pair, Side, pair_of
from wsesim.report.compare.tables import comparison_tables
from wsesim.report.kinds import KINDS
from wsesim.report.schema import stamped
from wsesim.tables import html_of, text_of

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs or more. `print(comparison)` prints the tables of `wsesim compare`.

    sides   the runs; the first is A
    pairs   every other run beside the first
    """

    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]

    def __repr__(self) -> str:
        parts = (f"{side.letter} {side.label}: {side.run.cycles:,} cycles" for side in self.sides)
        return f"<Comparison {'; '.join(parts)}>"

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return html_of(comparison_tables(self.sides, self.pairs, every_row=False))

    def text(self, *, every_row: bool = False) -> str:
        """The tables as text: the rows with the largest differences, or every row and every stage."""
        lines = text_of(comparison_tables(self.sides, self.pairs, every_row=every_row)).splitlines()
        return "\n".join(line.rstrip() for line in lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values; docs/compare.md defines the fields."""
        sides = [_side(side) for side in self.sides]
        return stamped({"sides": sides, "comparisons": [pair.to_json() for pair in self.pairs]})

    def write_html(self, path: str | Path, *, command: str = "") -> None:
        """Writes the tables and an explorer of each side's wafer to one HTML file that needs no other.

        The step of each side with a Program is simulated for its explorer; a saved report has none. `command` is shown
        as what makes the page again. Raises InvalidInputError before that if `path` cannot be written.
        """
        from wsesim.report.page.comparing import comparison_contents
        from wsesim.report.page.page import comparison_page

        path = Path(path)
        check_page(path, "the comparison")
        page = comparison_page(comparison_contents(self.sides, self.pairs, self.to_json(), command))
        try:
            write_whole(path, page)
        except OSError as error:
            raise InvalidInputError(f"{path}: {error.strerror}") from None

    def frame(self, by: str = "operator") -> pandas.DataFrame:
        """A pandas DataFrame with one line for each pair and row of the table `by`: kind, operator, stage or block.

        Columns: `side` (the letter of the second run), `label`, the name of the row, `a_cycles`, `b_cycles`,
        `difference_cycles`, and the differences by kind, such as `compute_difference_cycles`. Raises InvalidInputError
        if pandas is missing.
        """
        if by not in TABLES:
            raise InvalidInputError(f"by={by!r}: give one of {', '.join(TABLES)}")
        try:
            import pandas
        except ImportError:
            raise InvalidInputError("a frame needs pandas; pip install 'wsesim[report]' brings it") from None
        kinds = [f"{kind}_difference_cycles" for kind in KINDS]
        columns = ["side", "label", by, "a_cycles", "b_cycles", "difference_cycles", *kinds]
        lines = [
            (pair.b.letter, pair.b.label, row.name, row.a_cycles, row.b_cycles, row.difference_cycles, *row.differences)
            for pair in self.pairs
            for row in pair.rows(by)
        ]
        return pandas.DataFrame(lines, columns=columns)


def compare_runs(sides: Sequence[Side]) -> Comparison:
    """Every side beside the first. Raises InvalidInputError for fewer than two, and for models without a common
    operator.
    """
    if len(sides) < 2:
        raise InvalidInputError("one run is nothing to compare; give a second one")
    first, *others = sides
    return Comparison(tuple(sides), tuple(pair_of(first, other) for other in others))


def _side(side: Side) -> dict[str, Any]:
    run = side.run
    stated = {name: getattr(run, name) for name in ("model", "machine", "software", "strategy", "phase", "tokens")}
    return {
        "side": side.letter,
        "label": side.label,
        "program": run.program,
        **stated,
        "context": run.context,
        "cycles": run.cycles,
        "seconds": run.seconds,
        "tokens_per_second": run.tokens_per_second,
    }
