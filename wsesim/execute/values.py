"""The V side of attention: values are cached [position, group, segment position, feature], a place a feature.

Each line sums over its own positions, then the lines are merged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.threads import prange
from wsesim.jit import njit

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Spans = NDArray[np.int64]

_U = np.uint64
_0, _1 = np.uint64(0), np.uint64(1)
_ZERO = np.float32(0.0)


@njit(nogil=True)
def append_values(tokens: int, context: int, value: Floats, row: int, places: Ints, values: Floats) -> None:
    """Writes `tokens` values as positions context, context + 1, ...; places as for the keys."""
    size = len(places)
    for t in range(tokens):
        for i in range(size):
            values[(context + t) * size + i] = value[t * row + places[i]]


@njit(forceinline=True)
def _line_of_values(probabilities: Floats, values: Floats, at: Any, sums: Floats, so: Any) -> None:
    """sums[so:][:size] = the line's positions, ascending, of probability * value; zero where it has none."""
    po, first, end, step, vo, row, size = at
    if first >= end:
        for n in range(size):
            sums[so + n] = _ZERO
        return
    p, at = probabilities[po + first], vo + first * row
    for n in range(size):
        sums[so + n] = p * values[at + n]
    for c in range(first + step, end, step):
        p, at = probabilities[po + c], vo + c * row
        for n in range(size):
            sums[so + n] = sums[so + n] + p * values[at + n]


@njit(forceinline=True)
def _merge_lines(stack: Floats, base: Any, children: Any, size: Any) -> None:
    """`tiles.merge` for entries of `size`; base: where the deepest child lies."""
    top, low = base + children * size, base
    if children == _1:
        for n in range(size):
            stack[low + n] = stack[top + n] + stack[low + n]
    elif children > _1:
        for child in range(children):
            for n in range(size):
                stack[top + n] = stack[top + n] + stack[low + child * size + n]
        for n in range(size):
            stack[low + n] = stack[top + n]


@njit(forceinline=True)
def _around(stack: Floats, so: Any, positions: Any, size: Any, place: Any) -> Any:
    """`tiles.around` for entries of `size`."""
    total = stack[so + place * size]
    for _ in range(_1, positions):
        place = place + _1 if place + _1 < positions else _0
        total = stack[so + place * size] + total
    return total


class _Sums(NamedTuple):
    """What the rows of a sum over the values share. Sizes are np.uint64."""

    weights: Floats  # probabilities or exponentials
    heads: Any
    capacity: Any
    spans: Spans
    step: Any
    values: Floats
    repeat: Any
    row: Any
    places: Ints
    order: Ints
    children: Ints
    starts: Ints
    stack: Floats
    target: Floats


@njit()
def _weighted_rows(first: Any, last: Any, so: Any, s: _Sums) -> None:
    heads, spans, stack = s.heads, s.spans, s.stack
    size = _U(len(s.places)) // heads
    for r in range(first, last):
        t, head = r // heads, r % heads
        vo, height = head // s.repeat * size, _0
        for v in range(_U(len(s.order))):
            line, count, top = _U(s.order[v]), _U(s.children[v]), so + height * size
            po = (t * _U(len(s.order)) + line) * _U(2)
            at = (r * s.capacity, _U(spans[po]), _U(spans[po + _1]), s.step, vo, heads // s.repeat * size, size)
            _line_of_values(s.weights, s.values, at, stack, top)
            _merge_lines(stack, so + (height - count) * size, count, size)
            height = height - count + _1
        for n in range(size if s.starts.size else _0):
            stack[so + n] = _around(stack, so + n, _U(len(s.order)), size, _U(s.starts[head * size + n]))
        for n in range(size):
            s.target[t * s.row + _U(s.places[head * size + n])] = stack[so + n]


@njit(parallel=True, nogil=True)
def weighted_sum(
    tokens: int,
    probabilities: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    values: Floats,
    repeat: int,
    row: int,
    places: Ints,
    order: Ints,
    children: Ints,
    starts: Ints,
    workers: int,
    depth: int,
    stack: Floats,
    target: Floats,
) -> None:
    """target = sum over the positions seen of probability * value, local to each line, then merged along.

    probabilities [tokens, heads, capacity] flat; spans [tokens, along, 2] flat: a token's first position of each line
    and where they end, `step` apart; places [heads, size] flat: where a head's features go in
    target's row; its other places are left as they are. starts [heads, size] flat: the entry at which a place's sum
    begins where the merges leave them all, or empty. stack [workers, depth, size].
    """
    rows, H = tokens * heads, _U(heads)
    c, s, R, y = _U(capacity), _U(step), _U(repeat), _U(row)
    own = _Sums(probabilities, H, c, spans, s, values, R, y, places, order, children, starts, stack, target)
    if workers == 1:
        _weighted_rows(_0, _U(rows), _0, own)
    else:
        for worker in prange(workers):
            first, last = _U(rows * worker // workers), _U(rows * (worker + 1) // workers)
            _weighted_rows(first, last, _U(worker * depth * (len(places) // heads)), own)


@njit()
def _flash_rows(first: Any, last: Any, so: Any, factors: Floats, s: _Sums) -> None:
    heads, spans, stack = s.heads, s.spans, s.stack
    size, along = _U(len(s.places)) // heads, _U(len(s.order))
    entry = size + _1
    for r in range(first, last):
        t, head = r // heads, r % heads
        vo, height = head // s.repeat * size, _0
        for v in range(along):
            line, count, top = _U(s.order[v]), _U(s.children[v]), so + height * entry
            po = (t * along + line) * _U(2)
            begin, end = _U(spans[po]), _U(spans[po + _1])
            at = (r * s.capacity, begin, end, s.step, vo, heads // s.repeat * size, size)
            _line_of_values(s.weights, s.values, at, stack, top)
            total = _ZERO
            for c in range(begin, end, s.step):
                total += s.weights[r * s.capacity + c]
            stack[top + size] = total
            factor = factors[r * along + line]
            for n in range(entry):
                stack[top + n] = stack[top + n] * factor
            _merge_lines(stack, so + (height - count) * entry, count, entry)
            height = height - count + _1
        for n in range(entry if s.starts.size else _0):
            stack[so + n] = _around(stack, so + n, along, entry, _U(s.starts[head * entry + n]))
        for n in range(size):
            s.target[t * s.row + _U(s.places[head * size + n])] = stack[so + n] / stack[so + size]


@njit(parallel=True, error_model="numpy", nogil=True)
def flash_sum(
    tokens: int,
    exponentials: Floats,
    factors: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    values: Floats,
    repeat: int,
    row: int,
    places: Ints,
    order: Ints,
    children: Ints,
    starts: Ints,
    workers: int,
    depth: int,
    stack: Floats,
    target: Floats,
) -> None:
    """target = the sum of exponential * value over that of the exponentials, both times the line's factor and merged
    along as one entry.

    exponentials and factors as `vectors.line_exponentials` makes them, the rest as for `weighted_sum`, but starts
    [heads, size + 1], the sum of the exponentials last, and stack [workers, depth, size + 1].
    """
    rows, H = tokens * heads, _U(heads)
    c, s, R, y = _U(capacity), _U(step), _U(repeat), _U(row)
    own = _Sums(exponentials, H, c, spans, s, values, R, y, places, order, children, starts, stack, target)
    if workers == 1:
        _flash_rows(_0, _U(rows), _0, factors, own)
    else:
        for worker in prange(workers):
            first, last = _U(rows * worker // workers), _U(rows * (worker + 1) // workers)
            _flash_rows(first, last, _U(worker * depth * (len(places) // heads + 1)), factors, own)
