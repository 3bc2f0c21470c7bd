"""Dead PEs of a wafer: single ones, whole rows and whole columns, in a machine's TOML or in a file of their own.

dead = [[3, 7], [4, 7]]     single PEs (x, y)
dead_rows = [12]            every usable PE of these rows
dead_columns = [0, 1]       and of these columns

Neither the PE nor its router works: nothing is placed on it, and no route crosses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsesim.errors import brief
from wsesim.machine.parts import MOST_PES, Rect

DEFECTS = ("dead", "dead_rows", "dead_columns")
"""The fields of a file of defects, and as many of a machine's."""


def dead_pes(table: dict[str, Any], usable: Rect) -> frozenset[tuple[int, int]]:
    """All dead PEs that a table states. Raises ValueError for a place outside the usable rectangle."""
    if usable.pes > MOST_PES:  # the rules are asked later, and a dead row is a PE for each column
        raise ValueError(f"the usable rectangle {usable} has more than {MOST_PES:,} PEs")
    pes = {(x, y) for x, y in rows_of(table, "dead", 2)}
    columns = range(usable.x, usable.x + usable.columns)
    rows = range(usable.y, usable.y + usable.rows)
    pes |= {(x, y) for y in _places(table, "dead_rows", rows) for x in columns}
    pes |= {(x, y) for x in _places(table, "dead_columns", columns) for y in rows}
    outside = sorted(pe for pe in pes if not usable.has(*pe))
    if outside:
        raise ValueError(f"dead PEs lie inside the usable rectangle, {usable}; {outside[0]} does not")
    return frozenset(pes)


def rows_of(table: dict[str, Any], field: str, length: int) -> Iterator[tuple[Any, ...]]:
    """Lists of `length` numbers that begin with a column and a row, no PE twice. Raises ValueError."""
    rows = table.get(field, [])
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != length for row in rows):
        raise ValueError(f"field {field!r} is not a list of lists of {length} numbers")
    for row in rows:
        if any(type(place) is not int for place in row[:2]):
            raise ValueError(f"field {field!r}: {brief(row)} does not begin with a column and a row")
    if len({tuple(row[:2]) for row in rows}) < len(rows):
        raise ValueError(f"field {field!r} names a PE twice")
    return map(tuple, rows)


def _places(table: dict[str, Any], field: str, there: range) -> list[int]:
    places = table.get(field, [])
    if not isinstance(places, list) or any(type(place) is not int for place in places):
        raise ValueError(f"field {field!r} is {brief(places)}, not a list of numbers")
    for place in places:
        if place not in there:
            raise ValueError(f"field {field!r}: {place} is not usable; {there.start} to {there.stop - 1} are")
    return places
