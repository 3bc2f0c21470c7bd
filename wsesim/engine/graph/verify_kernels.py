"""All rules of a TaskGraph in one pass, compiled. The twin, `verify.RULES`, names the rule and who breaks it."""

from __future__ import annotations

from typing import Any

from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, STREAM
from wsesim.jit import njit

compiled = njit(_nrt=False)


@compiled
def tasks_obey(pe: Any, pes: int, launch: Any, work: Any, delay: Any, start: Any) -> bool:
    for t in range(pe.size):
        if not 0 <= pe[t] < pes or (t > 0 and pe[t] < pe[t - 1]):
            return False
        if launch[t] < 0 or work[t] < 0 or delay[t] < 0:
            return False
        if not 0 <= start[t] <= ACTIVATED:
            return False
    return True


@compiled
def messages_obey(
    columns: int, rows: int, pe: Any, source: Any, wavelets: Any, legs: Any, shares_ramp: Any, drop_ptr: Any
) -> bool:
    """Relies on `tasks_obey`. `legs`: direction1, hops1, direction2, hops2."""
    direction1, hops1, direction2, hops2 = legs
    for m in range(source.size):
        if not 0 <= source[m] < pe.size or wavelets[m] <= 0 or hops1[m] < 1 or hops2[m] < 0:
            return False
        if not (0 <= direction1[m] <= 3 and 0 <= direction2[m] <= 3):
            return False
        if hops2[m] > 0 and direction1[m] // 2 == direction2[m] // 2:
            return False
        place = _moved(pe[source[m]], columns, direction1[m], hops1[m], rows)
        if place < 0 or _moved(place, columns, direction2[m], hops2[m], rows) < 0:
            return False
        if drop_ptr[m + 1] <= drop_ptr[m]:
            return False
        if shares_ramp[m] and (m == 0 or source[m] != source[m - 1] or wavelets[m] != wavelets[m - 1]):
            return False
    return True


@compiled
def drops_obey(
    columns: int, rows: int, pe: Any, start: Any, source: Any, legs: Any, drop_ptr: Any, hop: Any, task: Any, sink: Any
) -> bool:
    """Relies on `messages_obey`."""
    direction1, hops1, direction2, hops2 = legs
    for m in range(source.size):
        if hop[drop_ptr[m + 1] - 1] != hops1[m] + hops2[m]:
            return False
        before = 0
        for d in range(drop_ptr[m], drop_ptr[m + 1]):
            if hop[d] <= before or not 0 <= task[d] < pe.size:
                return False
            before = hop[d]
            first = min(hop[d], hops1[m])
            place = _moved(pe[source[m]], columns, direction1[m], first, rows)
            if _moved(place, columns, direction2[m], hop[d] - first, rows) != pe[task[d]]:
                return False
            if not 0 <= sink[d] <= STREAM or (sink[d] == STREAM and start[task[d]] == BLOCKING):
                return False
    return True


@compiled
def _moved(pe: int, columns: int, direction: int, hops: int, rows: int) -> int:
    """The PE `hops` away; -1 outside the mesh."""
    row, column = pe // columns, pe % columns
    if direction < 2:
        column += hops if direction == 0 else -hops
    else:
        row += hops if direction == 3 else -hops
    if not (0 <= column < columns and 0 <= row < rows):
        return -1
    return row * columns + column
