"""The tables of a comparison, as `wsesim compare` and `print(comparison)` show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from wsesim.report.compare.inputs import folded, layer_shapes
from wsesim.report.compare.pairs import Pair, Row, Side
from wsesim.report.compare.saved import RunFigures
from wsesim.report.kinds import KINDS
from wsesim.tables import Table, si_seconds

ROWS_SHOWN = 10
INPUTS_SHOWN = 12
"""Lines of one group of input differences."""
REASONS_SHOWN = 4


def comparison_tables(sides: Sequence[Side], pairs: Sequence[Pair], *, every_row: bool) -> Iterator[Table]:
    """The sides, then for each pair the inputs that differ and the cycles by kind, operator and block.

    With `every_row` also those by stage, and no row is left out.
    """
    yield _sides(sides)
    for pair in pairs:
        yield _inputs(pair, every_row)
        yield _by_kind(pair)
        yield _by_operator(pair, every_row)
        yield from _by_block(pair, every_row)


def _sides(sides: Sequence[Side]) -> Table:
    first = sides[0].run
    what = f"over {first.context:,} cached" if first.phase == "decode" else f"of {first.tokens:,} tokens"
    rows = [("", "", "cycles", "time", "tokens/s", "against A")]
    for side in sides:
        run = side.run
        against = "" if side is sides[0] else _share(run.cycles - first.cycles, first.cycles)
        rows.append(
            (
                f"{side.letter}  {side.label}",
                "",
                f"{run.cycles:,}",
                si_seconds(run.seconds),
                f"{run.tokens_per_second:,.1f}",
                against,
            )
        )
    title = f"{first.model} on {first.machine}, {first.phase} {what}, batch {first.batch}, timing in"
    return Table(f"{title} {first.timing_dtype}", tuple(rows), heading=True)


def _inputs(pair: Pair, every_row: bool) -> Table:
    folds = [(each.group, each.what, f"{each.a} -> {each.b}") for each in folded(pair.inputs)]
    lines = folds if every_row else _first_of_each_group(folds)
    width = max((len(what) for _, what, _ in lines), default=0)
    said = tuple(f"{what.ljust(width)}  {change}".rstrip() for _, what, change in lines)
    return Table(
        f"\n{pair.b.letter} against {pair.a.letter}: {way(pair)}\nwhat differs ({pair.a.letter} -> {pair.b.letter})",
        notes=said or ("nothing of the inputs",),
    )


def way(pair: Pair) -> str:
    """How the totals differ; in time too, if the clocks differ."""
    cycles, a, b = pair.difference_cycles, pair.a.run, pair.b.run
    if not cycles:
        said = "as many cycles"
    else:
        said = f"{abs(cycles):,} cycles {'fewer' if cycles < 0 else 'more'} ({_share(cycles, a.cycles)})"
    if a.clock_hz == b.clock_hz or not a.cycles:
        return said
    return f"{said}; in time {si_seconds(a.seconds)} -> {si_seconds(b.seconds)}"


Line = tuple[str, str, str]  # group, what, change


def _first_of_each_group(lines: Sequence[Line]) -> list[Line]:
    counts, shown = Counter(group for group, _, _ in lines), Counter[str]()
    found = []
    for group, what, change in lines:
        shown[group] += 1
        if group == "placement" or shown[group] <= INPUTS_SHOWN:
            found.append((group, what, change))
        elif shown[group] == INPUTS_SHOWN + 1:
            found.append((group, f"{counts[group] - INPUTS_SHOWN} more of {_OF[group]}: --all lists them", ""))
    return found


_OF = {"run": "the run", "machine": "the machine", "software": "the software", "kernels": "the kernels"}


def _by_kind(pair: Pair) -> Table:
    rows = [("kind", *_letters(pair), "difference", "")]
    rows += [(row.name, *_cycles(row), _share(row.difference_cycles, row.a_cycles)) for row in pair.by_kind]
    rows.append(_sum(pair))
    notes = tuple(reasons(pair))
    return Table("critical path by kind (cycles), and where it changes most", tuple(rows), True, notes)


def reasons(pair: Pair) -> Iterator[str]:
    """For each kind that changes, the operators that change most; below it, indented, what the placements state."""
    for row in pair.by_kind:
        if row.difference_cycles:
            yield _reason(pair, row)
            yield from _facts(pair, row)


def _reason(pair: Pair, row: Row) -> str:
    """The operators that change most within one kind; all that is left out stands as one number."""
    number = KINDS.index(row.name)
    parts = sorted(((r.differences[number], r.name) for r in pair.by_operator), key=lambda p: -abs(p[0]))
    changed = [(cycles, name) for cycles, name in parts if cycles]
    shown = REASONS_SHOWN + (len(changed) == REASONS_SHOWN + 1)
    said = [f"{name} {cycles:+,}" for cycles, name in changed[:shown]]
    if others := changed[shown:]:
        said.append(f"{len(others)} others {sum(cycles for cycles, _ in others):+,}")
    return f"{row.name} {row.difference_cycles:+,}: {', '.join(said)}"


def _facts(pair: Pair, row: Row) -> Iterator[str]:
    """What the placements state that bears on a kind: PEs for compute, the ways of messages for network."""
    a, b = layer_shapes(pair.a.run), layer_shapes(pair.b.run)
    before, after = pair.a.letter, pair.b.letter
    if len(a) == len(b) == 1 and a != b:
        (old,), (new,) = a, b
        pes, others = new[0] * new[1], old[0] * old[1]
        if row.name == "compute":
            yield f"  a layer lies on {pes:,} PEs in {after}, on {others:,} in {before} ({pes / others:.3g} times)"
        if row.name == "network":
            lines = (f"{columns} and {rows}" for columns, rows in (new, old))
            yield f"  its collectives run along lines of {next(lines)} PEs in {after}, of {next(lines)} in {before}"
    if row.name == "network" and pair.a.run.transfers is not None and pair.b.run.transfers is not None:
        moves = [sum(run.transfers.values()) for run in (pair.a.run, pair.b.run) if run.transfers is not None]
        if moves[0] != moves[1]:
            yield f"  {moves[1]} transfers between blocks in {after}, {moves[0]} in {before}"


def _by_operator(pair: Pair, every_row: bool) -> Table:
    rows: list[tuple[str, ...]] = [("operator", *_letters(pair), "difference", "", *KINDS)]
    shown = _shown(pair.by_operator, every_row)
    rows += [_line(row, row.name) for row in shown]
    rows += _others(pair.by_operator, shown)
    rows.append((*_sum(pair), *_differences(pair.by_operator)))
    return Table("critical path by operator (cycles; the kinds are differences)", tuple(rows), heading=True)


def _by_block(pair: Pair, every_row: bool) -> Iterator[Table]:
    """The blocks; with `every_row` also the stages on them."""
    if pair.by_block is None or pair.by_stage is None:
        older = [side for side in (pair.a, pair.b) if side.run.stages is None]
        names = " and ".join(side.label for side in older)
        said = f"no table by block: {names} does not state the stages; simulate again with this wsesim"
        yield Table("", notes=(said,))
        return
    yield _placed(pair, pair.by_block, "block", every_row)
    if every_row:
        yield _placed(pair, pair.by_stage, "stage", every_row)


def _placed(pair: Pair, rows: tuple[Row, ...], by: str, every_row: bool) -> Table:
    on = tuple(f"PEs in {side.letter}" for side in (pair.a, pair.b))
    lines: list[tuple[str, ...]] = [("stages" if by == "block" else by, *on, *_letters(pair), "difference", *KINDS)]
    shown = _shown(rows, every_row)
    for row in shown:
        places = shapes(row.a_blocks, pair.a.run), shapes(row.b_blocks, pair.b.run)
        lines.append((row.name, *places, *_cycles(row), *_differences([row])))
    lines += [(line[0], "", "", *line[1:4], *line[5:]) for line in _others(rows, shown)]
    total = _sum(pair)
    lines.append((total[0], "", "", *total[1:4], *_differences(rows)))
    notes = ("the transfer into a block counts with its stages",)
    return Table(f"critical path by {by} (cycles; the kinds are differences)", tuple(lines), True, notes)


def _shown(rows: tuple[Row, ...], every_row: bool) -> tuple[Row, ...]:
    """Every row with cycles; or the first of those that differ. A single row more is shown too."""
    if every_row:
        return tuple(row for row in rows if any(row.a) or any(row.b))
    changed = tuple(row for row in rows if any(row.differences))
    return changed if len(changed) <= ROWS_SHOWN + 1 else changed[:ROWS_SHOWN]


def shapes(names: tuple[str, ...], run: RunFigures) -> str:
    """As `4 of 190 x 128`; blocks of several shapes only by their number."""
    shapes = Counter(block.shape for block in run.blocks or () if block.block in names)
    if not shapes:
        return "-"
    if len(shapes) > 1:
        return f"{sum(shapes.values())} blocks"
    (shape, count), *_ = shapes.items()
    return shape if count == 1 else f"{count} of {shape}"


def _letters(pair: Pair) -> tuple[str, str]:
    return pair.a.letter, pair.b.letter


def _line(row: Row, name: str) -> tuple[str, ...]:
    return name, *_cycles(row), _share(row.difference_cycles, row.a_cycles), *_differences([row])


def _cycles(row: Row) -> tuple[str, str, str]:
    return f"{row.a_cycles:,}", f"{row.b_cycles:,}", _signed(row.difference_cycles)


def _differences(rows: Iterable[Row]) -> tuple[str, ...]:
    columns = zip(*(row.differences for row in rows), strict=True)
    return tuple(_signed(total) for total in map(sum, columns))


def _others(all_rows: Sequence[Row], shown: Sequence[Row]) -> list[tuple[str, ...]]:
    """The rows with cycles that are not shown, as one."""
    rows = [row for row in all_rows if row not in shown and (any(row.a) or any(row.b))]
    if not rows:
        return []
    total = Row(
        f"{len(rows)} others",
        tuple(map(sum, zip(*(row.a for row in rows), strict=True))),
        tuple(map(sum, zip(*(row.b for row in rows), strict=True))),
    )
    return [_line(total, total.name)]


def _sum(pair: Pair) -> tuple[str, str, str, str, str]:
    a, b = pair.a.run.cycles, pair.b.run.cycles
    return "sum", f"{a:,}", f"{b:,}", _signed(b - a), _share(b - a, a)


def _signed(cycles: int) -> str:
    return f"{cycles:+,}" if cycles else "0"


def _share(cycles: int, of: int) -> str:
    """A difference in relation to what it was: per cent, or beyond ten times as many cycles, how many times."""
    if not cycles:
        return ""
    if not of:
        return "new"
    return f"{100 * cycles / of:+.1f} %" if cycles < 9 * of else f"{1 + cycles / of:,.0f} times"
