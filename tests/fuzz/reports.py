"""Area of saved reports, which `wsesim compare` reads."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tests.fuzz.area import Area
from tests.fuzz.damage import damage_bytes, damage_json, one_to_three


@cache
def _seeds() -> tuple[bytes, ...]:
    """Reports of a small model in two placements, as `wsesim simulate --json` prints them."""
    import wsesim
    from tests.fuzz.graphs import stages
    from wsesim.program import parse_program

    made = parse_program(stages()["emit"])
    reports = (wsesim.simulate(made, context=3), wsesim.simulate(made, phase="prefill", tokens=3))
    return tuple(json.dumps(one.to_json()).encode() for one in reports)


def _read(path: Path) -> None:
    """Compares the report with one that is whole, both ways. What is accepted can be printed, with exact sums."""
    from wsesim.report.compare.comparison import compare_runs
    from wsesim.report.compare.pairs import Side
    from wsesim.report.compare.saved import read_run, run_of

    run = read_run(path)
    whole = run_of(json.loads(_seeds()[0]), "whole")
    for sides in ((whole, run), (run, whole)):
        found = compare_runs([Side(letter, letter, side) for letter, side in zip("AB", sides, strict=True)])
        (pair,) = found.pairs
        for by in ("kind", "operator", *(("stage", "block") if pair.by_stage is not None else ())):
            assert sum(row.difference_cycles for row in pair.rows(by)) == pair.difference_cycles
        assert found.text(every_row=True) and json.dumps(found.to_json(), allow_nan=False) and found._repr_html_()


AREAS = (Area("report", "report.json", _seeds, one_to_three(*[damage_json] * 5, damage_bytes), _read),)
