"""Validation: published figures beside the engine's figures for the same workload, in groups with bands."""

from __future__ import annotations

import csv
import dataclasses
import io
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from wsesim.progress import working
from wsesim.report.published import Measurement
from wsesim.report.schema import stamped
from wsesim.tables import Table, aligned

MARKDOWN_COLUMNS = 100


@dataclass(frozen=True, slots=True)
class Band:
    """The largest median and the largest worst error of a group, in per cent."""

    median: float
    worst: float


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that test one thing. `tests` says what, `constants` says which machine and what differs from it.

    A group without a band is only reported. A group of more than `shown` rows prints a summary by metric, and the
    `shown` rows with the largest errors.
    """

    name: str
    title: str
    band: Band | None
    tests: str
    constants: str
    shown: int = 100


@dataclass(frozen=True, slots=True)
class Case:
    """A published figure, and the function that simulates it. A formula has one case for each point, in `at`.

    `machine` and `software` are the presets that it runs with. `calibrates` names the constant that comes from this
    figure; a figure that calibrates nothing is predicted.
    """

    group: str
    measurement: Measurement
    measured: float
    model: Callable[[], float]
    at: tuple[tuple[str, Any], ...] = ()
    machine: str = ""
    software: str = ""
    calibrates: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A case that was simulated."""

    group: str
    measurement: Measurement
    measured: float
    modelled: float
    at: tuple[tuple[str, Any], ...] = ()
    machine: str = ""
    software: str = ""
    calibrates: str = ""

    def says(self) -> str:
        """The workload in words."""
        return dataclasses.replace(self.measurement, workload=(*self.measurement.workload, *self.at)).says()

    @property
    def error(self) -> float:
        """Per cent of the measured figure; positive if the modelled figure is larger."""
        return 100 * (self.modelled / self.measured - 1)


@dataclass(frozen=True, slots=True)
class Validation:
    """Groups, their rows, and the published rows that are not simulated, each with the reason."""

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    left_out: tuple[tuple[Measurement, str], ...]

    def __repr__(self) -> str:
        shown = [group for group in self.groups if self.rows_of(group)]
        outside = sum(not self.holds(group) for group in shown)
        return (
            f"<Validation: {len(self.rows):,} rows in {len(shown)} groups, {outside} outside their bands, "
            f"{len(self.left_out):,} rows not simulated>"
        )

    def __str__(self) -> str:
        return validation_text(self)

    def _repr_html_(self) -> str:
        return Table("validation", tuple(_summaries(self)), heading=True).html()

    def rows_of(self, group: Group) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.group == group.name)

    def predicted(self, group: Group) -> tuple[Row, ...]:
        """The rows that the group is judged by: those that no constant comes from."""
        return tuple(row for row in self.rows_of(group) if not row.calibrates)

    def holds(self, group: Group) -> bool:
        """Whether median and worst error lie inside the group's band; true for a group without one."""
        if group.band is None or not self.predicted(group):
            return True
        middle, worst = self.errors(group)
        return middle <= group.band.median and worst <= group.band.worst

    def errors(self, group: Group) -> tuple[float, float]:
        """Median and largest absolute error of the predicted rows, per cent; of all rows, if none is predicted."""
        return _median_and_worst(self.predicted(group) or self.rows_of(group))

    @property
    def ok(self) -> bool:
        return all(map(self.holds, self.groups))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        left_out = [
            {"table": m.table, "workload": dict(m.workload), "metric": m.metric, "reason": reason}
            for m, reason in self.left_out
        ]
        groups = [self._group_json(group) for group in self.groups if self.rows_of(group)]
        return stamped({"ok": self.ok, "groups": groups, "left_out": left_out})

    def _group_json(self, group: Group) -> dict[str, Any]:
        middle, worst = self.errors(group)
        return {
            "group": group.name,
            "median_error_percent": middle,
            "worst_error_percent": worst,
            "holds": self.holds(group),
            "rows": [
                {
                    "id": row.measurement.id,
                    "table": row.measurement.table,
                    "workload": dict((*row.measurement.workload, *row.at)),
                    "metric": row.measurement.metric,
                    "unit": row.measurement.unit,
                    "measured": row.measured,
                    "modelled": row.modelled,
                    "error_percent": row.error,
                    "machine": row.machine,
                    "software": row.software,
                    "calibrates": row.calibrates or None,
                }
                for row in self.rows_of(group)
            ],
        }


def validate(groups: Iterable[Group], cases: Iterable[Case], left_out: Iterable[tuple[Measurement, str]]) -> Validation:
    """Simulates every case."""
    rows, chosen = [], tuple(cases)
    with working("simulating measurements", len(chosen), "row") as work:
        for work.done, c in enumerate(chosen):
            modelled = float(c.model())
            rows.append(Row(c.group, c.measurement, c.measured, modelled, c.at, c.machine, c.software, c.calibrates))
    return Validation(tuple(groups), tuple(rows), tuple(left_out))


def validation_text(validation: Validation) -> str:
    """A table for each group, then the number of rows that are not simulated, by reason."""
    parts = []
    for group in validation.groups:
        if validation.rows_of(group):
            tables = "\n\n".join(map(aligned, _tables(validation, group)))
            parts.append(f"{group.name}: {group.title}\n{tables}\n  {summary(validation, group)}")
    if validation.left_out:
        parts.append("not simulated\n" + aligned(_reasons(validation)))
    return "\n\n".join(parts)


def _summaries(validation: Validation) -> list[tuple[str, ...]]:
    """One row a group."""
    rows: list[tuple[str, ...]] = [("group", "rows", "median error", "worst error", "band")]
    for group in validation.groups:
        if own := validation.rows_of(group):
            middle, worst = validation.errors(group)
            band = "none" if group.band is None else "inside" if validation.holds(group) else "OUTSIDE"
            rows.append((group.name, str(len(own)), f"{middle:.1f} %", f"{worst:.1f} %", band))
    return rows


def _median_and_worst(rows: Sequence[Row]) -> tuple[float, float]:
    sizes = [abs(row.error) for row in rows]
    return median(sizes), max(sizes)


def _tables(validation: Validation, group: Group) -> list[list[tuple[str, ...]]]:
    """All rows of a group, or the summary by metric and the rows with the largest errors."""
    rows = validation.rows_of(group)
    if len(rows) <= group.shown:
        return [_cells(rows)]
    worst = sorted(rows, key=lambda row: -abs(row.error))[: group.shown]
    return [_by_metric(rows), _cells(worst)]


def _by_metric(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = [("metric", "formula or figure", "rows", "median", "worst")]
    for metric in dict.fromkeys(row.measurement.metric for row in rows):
        own = [row for row in rows if row.measurement.metric == metric]
        middle, worst = _median_and_worst(own)
        cells.append((metric, str(own[0].measurement.value), str(len(own)), f"{middle:.1f} %", f"{worst:.1f} %"))
    return cells


def _cells(found: Sequence[Row]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("row", "workload", "metric", "measured", "modelled", "error", "calibrates")]
    rows += [
        (
            row.measurement.id,
            row.says(),
            row.measurement.metric,
            f"{row.measured:,.6g}",
            f"{row.modelled:,.6g}",
            f"{row.error:+.1f} %",
            row.calibrates,
        )
        for row in found
    ]
    return rows if any(row.calibrates for row in found) else [cells[:-1] for cells in rows]


def summary(validation: Validation, group: Group) -> str:
    """Median and worst error, and whether they lie inside the band."""
    middle, worst = validation.errors(group)
    calibrating = len(validation.rows_of(group)) - len(validation.predicted(group))
    of = f" of the {len(validation.predicted(group))} predicted rows" if calibrating else ""
    said = f"median {middle:.1f} %, worst {worst:.1f} %{of}"
    if group.band is None:
        return f"{said}; reported, no band"
    verdict = "inside" if validation.holds(group) else "OUTSIDE"
    return f"{said}; {verdict} the band of {group.band.median:g} % and {group.band.worst:g} %"


def validation_markdown(validation: Validation) -> str:
    """The page docs/validation.md."""
    parts = [HEAD]
    for group in validation.groups:
        if validation.rows_of(group):
            parts.append(f"## {group.name}: {group.title}\n\n{_paragraph(group.tests)}\n{_paragraph(group.constants)}")
            parts.append("\n".join(map(_markdown_table, _tables(validation, group))))
            parts.append(f"\n{summary(validation, group)}.\n")
    parts.append("## Not simulated\n\n" + _markdown_table([("reason", "rows"), *_reasons(validation)]))
    return "\n".join(parts)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, MARKDOWN_COLUMNS, break_on_hyphens=False) + "\n"


def _markdown_table(rows: list[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *body)]
    return "\n".join(lines) + "\n"


def validation_csv(validation: Validation) -> str:
    """One line for each simulated row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("group", "row", "workload", "metric", "unit", "measured", "modelled", "error_percent")
    writer.writerow((*names, "machine", "software", "calibrates"))
    for row in validation.rows:
        m = row.measurement
        figures = (row.measured, row.modelled, round(row.error, 3))
        writer.writerow(
            (row.group, m.id, row.says(), m.metric, m.unit, *figures, row.machine, row.software, row.calibrates)
        )
    return text.getvalue()


def _reasons(validation: Validation) -> list[tuple[str, ...]]:
    """Each reason to leave rows out, and their number."""
    return [(reason, str(count)) for reason, count in Counter(why for _, why in validation.left_out).items()]


HEAD = """# Validation

This page compares published measurements of wafers with the figures of the engine for the same
workload. `wsesim validate --markdown docs/validation.md` writes it, and a test checks it.

- An error is in per cent of the measured figure. It is positive if the modelled figure is larger.
- Each row runs with the machine that it was measured on and the software that was measured
  ([docs/software.md](software.md)).
- The constants of the machines come from measurements of single PEs, links and relays. These are
  the rows of the group `parts`.
- A constant that no such row gives comes from rows of layers. These rows name it in the column
  `calibrates`. All other rows are predicted.
- Below each table stand the median and the worst error of the predicted rows, and whether they lie
  inside the group's band.
- `wsesim validate --row ID` simulates one row.
"""
