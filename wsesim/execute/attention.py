"""Attention over the KV cache in the wafer's order: position t lives on line t mod along.

Keys are cached [block of PANEL positions, group, segment position, feature, PANEL], so that a query's dot products
with a block are `tiles.line_sum`, as a linear layer's; values [position, group, segment position, feature], a place a
feature. How they are stored changes no bit. For the i-th of `tokens` the cache reaches to context + i, itself included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from wsesim.execute.kernels import merge_scalar
from wsesim.execute.scalars import exp32
from wsesim.execute.tiles import PANEL, line_sum

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_U = np.uint64
_N = np.uint64(PANEL)
_0, _1 = np.uint64(0), np.uint64(1)
_ZERO = np.float32(0.0)


@njit(cache=True)
def append_keys(tokens: int, context: int, key: Floats, row: int, places: Ints, keys: Floats) -> None:
    """Writes `tokens` keys as positions context, context + 1, ...; places: where each cached feature lies in a row."""
    size = len(places)
    for t in range(tokens):
        block, column = (context + t) // PANEL, (context + t) % PANEL
        for i in range(size):
            keys[(block * size + i) * PANEL + column] = key[t * row + places[i]]


@njit(cache=True)
def append_values(tokens: int, context: int, value: Floats, row: int, places: Ints, values: Floats) -> None:
    """Writes `tokens` values as positions context, context + 1, ...; places as for the keys."""
    size = len(places)
    for t in range(tokens):
        for i in range(size):
            values[(context + t) * size + i] = value[t * row + places[i]]


@njit(cache=True)
def _score_blocks(
    first: Any,
    last: Any,
    tokens: Any,
    context: Any,
    query: Floats,
    starts: Ints,
    repeat: Any,
    row: Any,
    width: Any,
    features: Any,
    keys: Floats,
    scale: Any,
    order: Ints,
    children: Ints,
    stack: Floats,
    so: Any,
    capacity: Any,
    target: Floats,
) -> None:
    heads = _U(len(starts))
    tile = _U(len(order)) * features * _N
    for block in range(first, last):
        for t in range(tokens):
            seen = context + t + _1
            count = min(seen - min(seen, block * _N), _N)
            for head in range(heads if count else _0):
                wo = (block * (heads // repeat) + head // repeat) * tile
                xo = t * row + _U(starts[head])
                line_sum(query, xo, width, keys, wo, features, order, children, stack, so)
                to = (t * heads + head) * capacity + block * _N
                for n in range(count):
                    target[to + n] = stack[so + n] * scale


@njit(cache=True, parallel=True)
def score(
    tokens: int,
    context: int,
    query: Floats,
    starts: Ints,
    repeat: int,
    row: int,
    width: int,
    features: int,
    keys: Floats,
    scale: float,
    order: Ints,
    children: Ints,
    workers: int,
    depth: int,
    stack: Floats,
    capacity: int,
    target: Floats,
) -> None:
    """target [tokens, heads, capacity] flat: scale * query . key of each position seen; nothing is written beyond.

    query [tokens, row] flat; starts: where a head's first features lie in its row, those of the next segment position
    `width` further; `features` a position; order and children merge the segment; stack [workers, depth, PANEL].
    """
    blocks = (context + tokens - 1) // PANEL + 1
    T, C, factor = _U(tokens), _U(context), np.float32(scale)
    R, row_, width_, features_, capacity_ = _U(repeat), _U(row), _U(width), _U(features), _U(capacity)
    if workers == 1:
        _score_blocks(
            _0, _U(blocks), T, C, query, starts, R, row_, width_, features_, keys, factor, order, children, stack, _0,
            capacity_, target,
        )  # fmt: skip
    else:
        for worker in prange(workers):
            first, last = _U(blocks * worker // workers), _U(blocks * (worker + 1) // workers)
            so = _U(worker) * _U(depth) * _N
            _score_blocks(
                first, last, T, C, query, starts, R, row_, width_, features_, keys, factor, order, children, stack, so,
                capacity_, target,
            )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _softmax_row(
    source: Floats,
    so: Any,
    seen: Any,
    along: Any,
    order: Ints,
    children: Ints,
    sums: Floats,
    target: Floats,
) -> None:
    highest = source[so]
    for c in range(_1, seen):
        highest = max(highest, source[so + c])
    for line in range(along):
        sums[line] = _ZERO
    for first in range(_0, seen, along):
        for line in range(min(along, seen - first)):
            e = exp32(source[so + first + line] - highest)
            target[so + first + line] = e
            sums[line] = sums[line] + e
    stack = sums[along:]
    height = 0
    for v in range(len(order)):
        height = merge_scalar(stack, height, sums[order[v]], children[v])
    total = stack[0]
    for c in range(seen):
        target[so + c] = target[so + c] / total


@njit(cache=True)
def softmax(
    tokens: int,
    context: int,
    source: Floats,
    heads: int,
    capacity: int,
    along: int,
    order: Ints,
    children: Ints,
    sums: Floats,
    target: Floats,
) -> None:
    """Softmax over the positions seen of each [tokens, heads, capacity] row. `target` may be `source`.

    Each line sums exp(score - max) over its own positions, ascending; the sums are merged along. Scratch:
    sums [along + depth].
    """
    for r in range(tokens * heads):
        seen = _U(context + r // heads + 1)
        _softmax_row(source, _U(r * capacity), seen, _U(along), order, children, sums, target)


@njit(cache=True)
def _line_of_values(
    probabilities: Floats,
    po: Any,
    line: Any,
    seen: Any,
    along: Any,
    values: Floats,
    vo: Any,
    row: Any,
    size: Any,
    sums: Floats,
    so: Any,
) -> None:
    """sums[so:][:size] = sum over the line's positions, ascending, of probability * value; zero where it has none."""
    if line >= seen:
        for n in range(size):
            sums[so + n] = _ZERO
        return
    p, at = probabilities[po + line], vo + line * row
    for n in range(size):
        sums[so + n] = p * values[at + n]
    for c in range(line + along, seen, along):
        p, at = probabilities[po + c], vo + c * row
        for n in range(size):
            sums[so + n] = sums[so + n] + p * values[at + n]


@njit(cache=True)
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


@njit(cache=True)
def _weighted_rows(
    first: Any,
    last: Any,
    context: Any,
    probabilities: Floats,
    heads: Any,
    capacity: Any,
    along: Any,
    values: Floats,
    repeat: Any,
    row: Any,
    places: Ints,
    order: Ints,
    children: Ints,
    stack: Floats,
    so: Any,
    target: Floats,
) -> None:
    size = _U(len(places)) // heads
    for r in range(first, last):
        t, head = r // heads, r % heads
        vo, height = head // repeat * size, _0
        for v in range(_U(len(order))):
            line, count, top = _U(order[v]), _U(children[v]), so + height * size
            _line_of_values(
                probabilities, r * capacity, line, context + t + _1, along, values, vo, heads // repeat * size, size,
                stack, top,
            )  # fmt: skip
            _merge_lines(stack, so + (height - count) * size, count, size)
            height = height - count + _1
        for n in range(size):
            target[t * row + _U(places[head * size + n])] = stack[so + n]


@njit(cache=True, parallel=True)
def weighted_sum(
    tokens: int,
    context: int,
    probabilities: Floats,
    heads: int,
    capacity: int,
    along: int,
    values: Floats,
    repeat: int,
    row: int,
    places: Ints,
    order: Ints,
    children: Ints,
    workers: int,
    depth: int,
    stack: Floats,
    target: Floats,
) -> None:
    """target = sum over the positions seen of probability * value, local to each line, then merged along.

    probabilities [tokens, heads, capacity] flat; places [heads, size] flat: where a head's features go in target's
    row; its other places are left as they are. stack [workers, depth, size].
    """
    T, C, H, P = _U(tokens), _U(context), _U(heads), _U(along)
    capacity_, R, row_ = _U(capacity), _U(repeat), _U(row)
    if workers == 1:
        _weighted_rows(
            _0, T * H, C, probabilities, H, capacity_, P, values, R, row_, places, order, children, stack, _0, target
        )
    else:
        for worker in prange(workers):
            rows = tokens * heads
            first, last = _U(rows * worker // workers), _U(rows * (worker + 1) // workers)
            so = _U(worker * depth * (len(places) // heads))
            _weighted_rows(
                first, last, C, probabilities, H, capacity_, P, values, R, row_, places, order, children, stack, so, target
            )  # fmt: skip
