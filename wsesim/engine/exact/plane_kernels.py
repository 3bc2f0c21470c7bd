"""Single passes over an array of a window, compiled. The twins are in `reference_planes.py`."""

from __future__ import annotations

from typing import Any, Final

from wsesim.engine.flow.state import NEVER
from wsesim.jit import njit

compiled = njit(_nrt=False)
inlined = njit(_nrt=False, inline="always")

ODD1: Final = -7046029254386353131
ODD2: Final = -4658895280553007687
ODD3: Final = -7723592293110705685


@compiled
def add_to_digest(values: Any, seed: int, digest: Any) -> None:
    """Adds to both words of `digest` a number for each value that is not 0, and its place."""
    first, second = digest[0], digest[1]
    for i in range(values.size):
        if values[i] != 0:
            mixed = _mixed(values[i] * ODD1 + i * ODD2 + seed)
            first += mixed
            second += _mixed(mixed ^ ODD1)
    digest[0] = first
    digest[1] = second


@inlined
def _mixed(word: int) -> int:
    """A bijection of words that spreads every bit over all."""
    word = (word ^ (word >> 30)) * ODD2
    word = (word ^ (word >> 27)) * ODD3
    return word ^ (word >> 31)


@compiled
def keep_changes(before: Any, after: Any) -> int:
    """Writes NEVER into `after` where nothing changed; the largest of the rest, at least 0."""
    largest = 0
    for i in range(after.size):
        if after[i] == before[i]:
            after[i] = NEVER
        elif after[i] > largest:
            largest = after[i]
    return int(largest)


@compiled
def keep_busy(busy: Any, after: Any) -> tuple[int, int]:
    """Writes NEVER into `after` [PEs] where none is busy; the smallest and the largest of the rest."""
    smallest, largest = -NEVER, 0
    for i in range(after.size):
        if not busy[i]:
            after[i] = NEVER
        else:
            smallest = min(smallest, after[i])
            largest = max(largest, after[i])
    return smallest, largest


@compiled
def span(first: Any, last: Any) -> tuple[int, int]:
    """The first and the last request; -NEVER and 0 if there are none."""
    begin, end = -NEVER, 0
    for i in range(first.size):
        if first[i] != NEVER:
            begin = min(begin, first[i])
            end = max(end, last[i])
    return begin, end
