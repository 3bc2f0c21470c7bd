"""Pair: a run beside another one. What differs in their inputs, and where the cycles went.

In every table the differences of the rows sum exactly to the difference of the totals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.report.compare.inputs import InputDifference, input_differences
from wsesim.report.compare.saved import RunFigures
from wsesim.report.compare.stages import Match, matched_blocks, matched_stages
from wsesim.report.kinds import KINDS

if TYPE_CHECKING:
    from wsesim.program.program import Program

TABLES = ("kind", "operator", "stage", "block")
"""What the cycles are grouped by. `frame(by=...)` takes one of them."""
MOVING = frozenset({"transfer", "feedback", "sample", "table"})
"""Operators of every model: they alone do not make two models comparable."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run: its letter, what it was called, its figures, and the Program where there is one (not of a report)."""

    letter: str
    label: str
    run: RunFigures
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Cycles of one operator, stage, block or kind in the first run (`a`) and in another (`b`), each by kind.

    `stages`, `a_blocks`, `b_blocks`: of a row by stage or by block, the stages of the model and what holds them.
    """

    name: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    stages: tuple[str, ...] = ()
    a_blocks: tuple[str, ...] = ()
    b_blocks: tuple[str, ...] = ()

    @property
    def a_cycles(self) -> int:
        return sum(self.a)

    @property
    def b_cycles(self) -> int:
        return sum(self.b)

    @property
    def difference_cycles(self) -> int:
        return self.b_cycles - self.a_cycles

    @property
    def differences(self) -> tuple[int, ...]:
        """The differences by kind."""
        return tuple(after - before for before, after in zip(self.a, self.b, strict=True))

    def to_json(self, by: str) -> dict[str, Any]:
        """Plain values, by field."""
        where = {"stages": self.stages, "a_blocks": self.a_blocks, "b_blocks": self.b_blocks} if self.stages else {}
        kinds = {"a": _kinds(self.a), "b": _kinds(self.b), "difference": _kinds(self.differences)}
        cycles = {
            "a_cycles": self.a_cycles,
            "b_cycles": self.b_cycles,
            "difference_cycles": self.difference_cycles,
        }
        return {
            by: self.name,
            **{name: list(value) for name, value in where.items()},
            **cycles,
            **({} if by == "kind" else kinds),
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """A run beside the first one. Rows come with the largest difference first.

    `by_stage` and `by_block` are None if a report of an older wsesim does not state its stages.
    """

    a: Side
    b: Side
    inputs: tuple[InputDifference, ...]
    by_kind: tuple[Row, ...]
    by_operator: tuple[Row, ...]
    by_stage: tuple[Row, ...] | None
    by_block: tuple[Row, ...] | None

    @property
    def difference_cycles(self) -> int:
        return self.b.run.cycles - self.a.run.cycles

    def rows(self, by: str) -> tuple[Row, ...]:
        """The rows of one table of TABLES; () if it is not known."""
        return getattr(self, f"by_{by}") or ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, by field; docs/compare.md defines them."""
        tables = {
            f"by_{by}": None if getattr(self, f"by_{by}") is None else [row.to_json(by) for row in self.rows(by)]
            for by in TABLES
        }
        return {
            "a": self.a.letter,
            "b": self.b.letter,
            "a_cycles": self.a.run.cycles,
            "b_cycles": self.b.run.cycles,
            "difference_cycles": self.difference_cycles,
            "inputs": [{"group": d.group, "what": d.what, "a": d.a, "b": d.b} for d in self.inputs],
            **tables,
        }


def pair_of(a: Side, b: Side) -> Pair:
    """`b` beside `a`. Raises InvalidInputError for models that share no operator."""
    by_operator = _by_operator(a.run, b.run)
    common = {o.operator for o in a.run.operators} & {o.operator for o in b.run.operators}
    if not common - MOVING:
        raise InvalidInputError(
            f"{a.label} and {b.label} share no operator ({_operators(a.run)}; {_operators(b.run)}): a comparison needs "
            "runs of alike models"
        )
    by_stage = by_block = None
    if a.run.stages is not None and b.run.stages is not None:
        matches, rows_a, rows_b = matched_stages(a.run, b.run)
        by_stage = _by_match(matches, a.run, b.run, rows_a, rows_b)
        blocks = matched_blocks(matches)
        block_of = {stage: match.name for match in blocks for stage in match.stages}
        blocks_a, blocks_b = ({stage: block_of[row] for stage, row in rows.items()} for rows in (rows_a, rows_b))
        by_block = _by_match(blocks, a.run, b.run, blocks_a, blocks_b)
    inputs = input_differences(a.run, b.run)
    return Pair(a, b, inputs, _by_kind(by_operator), by_operator, by_stage, by_block)


def _operators(run: RunFigures) -> str:
    names = [o.operator for o in run.operators if o.operator not in MOVING]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def _by_operator(a: RunFigures, b: RunFigures) -> tuple[Row, ...]:
    before, after = ({o.operator: o.by_kind for o in run.operators} for run in (a, b))
    names = dict.fromkeys((*before, *after))
    return _sorted(Row(name, before.get(name, _NOTHING), after.get(name, _NOTHING)) for name in names)


def _by_kind(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The sums over all rows, one kind a row; what is of other kinds is 0 in it."""
    listed = tuple(rows)
    found = []
    for number, kind in enumerate(KINDS):
        a, b = sum(row.a[number] for row in listed), sum(row.b[number] for row in listed)
        found.append(Row(kind, _only(number, a), _only(number, b)))
    return _sorted(found)


def _only(number: int, cycles: int) -> tuple[int, ...]:
    """`cycles` of the kind `number`, none of the others."""
    return tuple(cycles if i == number else 0 for i in range(len(KINDS)))


def _by_match(
    matches: Iterable[Match], a: RunFigures, b: RunFigures, rows_a: dict[str, str], rows_b: dict[str, str]
) -> tuple[Row, ...]:
    before, after = _summed(a, rows_a), _summed(b, rows_b)
    return _sorted(
        Row(m.name, before.get(m.name, _NOTHING), after.get(m.name, _NOTHING), m.stages, m.a_blocks, m.b_blocks)
        for m in matches
    )


def _summed(run: RunFigures, rows: dict[str, str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = defaultdict(lambda: _NOTHING)
    for stage in run.stages or ():
        so_far = found[rows[stage.stage]]
        found[rows[stage.stage]] = tuple(x + y for x, y in zip(so_far, stage.by_kind, strict=True))
    return dict(found)


_NOTHING = (0,) * len(KINDS)


def _sorted(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The largest difference first; equal ones in the order in which they come."""
    return tuple(sorted(rows, key=lambda row: -abs(row.difference_cycles)))


def _kinds(cycles: Iterable[int]) -> dict[str, int]:
    return dict(zip(KINDS, cycles, strict=True))
