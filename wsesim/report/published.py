"""Published measurements, read from `measurements.json` beside this file, which states their sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """One published figure. `workload` describes it in the source's terms; `value` is a number or a table."""

    table: str
    source: str
    machine: str
    workload: tuple[tuple[str, Any], ...]
    metric: str
    value: Any
    unit: str
    id: str  # `table:number`, counted from 1

    def of(self, key: str) -> Any:
        """One entry of the workload; None if the source does not state it."""
        return dict(self.workload).get(key)

    def says(self) -> str:
        """The workload in words."""
        return ", ".join(f"{key} {value}" for key, value in self.workload if value is not None) or "-"


@cache
def measurements() -> tuple[Measurement, ...]:
    """Every row of every table, in the file's order."""
    text = (resources.files("wsesim.report") / "measurements.json").read_text(encoding="utf-8")
    return tuple(
        Measurement(
            table["table_id"],
            table["source"],
            table["machine"],
            tuple(sorted(row["workload"].items())),
            row["metric"],
            row["value"],
            row["unit"],
            f"{table['table_id']}:{number}",
        )
        for table in json.loads(text)["tables"]
        for number, row in enumerate(table["rows"], start=1)
    )
