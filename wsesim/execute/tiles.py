"""Linear layers over tiles: every PE's partial sum, then the merges of the reduction, for many output lines at once.

The lines of a tile grid do not interact, so the outputs of neighbouring lines are stored side by side in panels of
PANEL columns: tiles [panel, visit, k, PANEL], read from first to last. How they are stored changes no bit:
each output is sum over k ascending within a position, in float32, multiplied then added, and then merged.
Indices are unsigned: numba would otherwise test each for wraparound, and vectorise nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from wsesim.execute.scalars import widen

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

PANEL = 64
_U = np.uint64
_N = np.uint64(PANEL)
_N2 = np.uint64(2 * PANEL)
_N3 = np.uint64(3 * PANEL)
_0, _1, _2, _3, _4 = (np.uint64(i) for i in range(5))


@njit(cache=True, forceinline=True)
def accumulate(x: Floats, xo: Any, w: Any, wo: Any, k: Any, sums: Floats, so: Any, to: Any) -> None:
    """The sum over i < k, ascending, of x[xo + i] * w[wo + i * PANEL + n]: written to sums[so:], or added to what is
    at sums[to:] if that is elsewhere. Four rows a pass, what is left over first."""
    i = (k - _1) % _4 + _1
    if i == k and to != so:
        _first_rows(x, xo, w, wo, i, sums, to, True)
        return
    _first_rows(x, xo, w, wo, i, sums, so, None)
    while i + _4 < k:
        _four_rows(x, xo + i, w, wo + i * _N, sums, so)
        i += _4
    if i < k and to != so:
        _last_rows(x, xo + i, w, wo + i * _N, sums, so, to)
    elif i < k:
        _four_rows(x, xo + i, w, wo + i * _N, sums, so)


@njit(cache=True, forceinline=True)
def _first_rows(x: Floats, xo: Any, w: Any, wo: Any, rows: Any, sums: Floats, to: Any, onto: Any) -> None:
    """One to four rows begin a sum."""
    x0 = x[xo]
    if rows == _1:
        for n in range(_N):
            s = x0 * widen(w[wo + n])
            sums[to + n] = s if onto is None else s + sums[to + n]
        return
    x1 = x[xo + _1]
    if rows == _2:
        for n in range(_N):
            s = x0 * widen(w[wo + n]) + x1 * widen(w[wo + _N + n])
            sums[to + n] = s if onto is None else s + sums[to + n]
        return
    x2 = x[xo + _2]
    if rows == _3:
        for n in range(_N):
            s = x0 * widen(w[wo + n]) + x1 * widen(w[wo + _N + n])
            s = s + x2 * widen(w[wo + _N2 + n])
            sums[to + n] = s if onto is None else s + sums[to + n]
        return
    x3 = x[xo + _3]
    for n in range(_N):
        s = x0 * widen(w[wo + n]) + x1 * widen(w[wo + _N + n])
        s = s + x2 * widen(w[wo + _N2 + n])
        s = s + x3 * widen(w[wo + _N3 + n])
        sums[to + n] = s if onto is None else s + sums[to + n]


@njit(cache=True, forceinline=True)
def _four_rows(x: Floats, xo: Any, w: Any, wo: Any, sums: Floats, so: Any) -> None:
    """Four more rows go on with a sum."""
    x0, x1, x2, x3 = x[xo], x[xo + _1], x[xo + _2], x[xo + _3]
    for n in range(_N):
        s = sums[so + n] + x0 * widen(w[wo + n])
        s = s + x1 * widen(w[wo + _N + n])
        s = s + x2 * widen(w[wo + _N2 + n])
        sums[so + n] = s + x3 * widen(w[wo + _N3 + n])


@njit(cache=True, forceinline=True)
def _last_rows(x: Floats, xo: Any, w: Any, wo: Any, sums: Floats, so: Any, to: Any) -> None:
    """Four rows end a sum, which is added to another."""
    x0, x1, x2, x3 = x[xo], x[xo + _1], x[xo + _2], x[xo + _3]
    for n in range(_N):
        s = sums[so + n] + x0 * widen(w[wo + n])
        s = s + x1 * widen(w[wo + _N + n])
        s = s + x2 * widen(w[wo + _N2 + n])
        s = s + x3 * widen(w[wo + _N3 + n])
        sums[to + n] = s + sums[to + n]


@njit(cache=True, forceinline=True)
def visit(x: Floats, xo: Any, w: Any, wo: Any, k: Any, stack: Floats, so: Any, height: Any, children: Any) -> None:
    """A position's partial sum and its last `children` stack entries, the deepest first, become one entry."""
    top, low = so + height * _N, so + (height - children) * _N
    accumulate(x, xo, w, wo, k, stack, top, low if children == _1 else top)
    if children > _1:
        for child in range(children):
            for n in range(_N):
                stack[top + n] = stack[top + n] + stack[low + child * _N + n]
        for n in range(_N):
            stack[low + n] = stack[top + n]


@njit(cache=True)
def line_sum(
    x: Floats,
    xo: Any,
    x_stride: Any,
    w: Any,
    wo: Any,
    k: Any,
    order: Ints,
    children: Ints,
    stack: Floats,
    so: Any,
) -> None:
    """stack[so:][:PANEL] = the reduced sum of one token over one panel.

    Position p reads x[xo + p * x_stride:][:k]; w holds the tiles in the order of the visits.
    """
    height = _0
    for v in range(_U(len(order))):
        position, count = _U(order[v]), _U(children[v])
        visit(x, xo + position * x_stride, w, wo + v * k * _N, k, stack, so, height, count)
        height = height - count + _1


@njit(cache=True)
def _panel_of_tokens(
    tokens: Any,
    x: Floats,
    w: Any,
    wo: Any,
    k: Any,
    order: Ints,
    children: Ints,
    stack: Floats,
    so: Any,
    entry: Any,
    scratch: Floats,
    co: Any,
) -> None:
    """`line_sum` for several tokens: each tile is read and widened once. Token t's stack begins at so + t * entry."""
    height = _0
    positions = _U(len(order))
    for v in range(positions):
        position, count = _U(order[v]), _U(children[v])
        tile = wo + v * k * _N
        for i in range(k * _N):
            scratch[co + i] = widen(w[tile + i])
        for t in range(tokens):
            xo = (t * positions + position) * k
            visit(x, xo, scratch, co, k, stack, so + t * entry, height, count)
        height = height - count + _1


@njit(cache=True)
def _panels(
    tokens: Any,
    first: Any,
    last: Any,
    x: Floats,
    w: Any,
    scales: Floats,
    k: Any,
    order: Ints,
    children: Ints,
    places: Any,
    stack: Floats,
    so: Any,
    entry: Any,
    scratch: Floats,
    co: Any,
    out: Floats,
) -> None:
    positions = _U(len(order))
    for panel in range(first, last):
        wo = panel * positions * k * _N
        if tokens == _1:
            line_sum(x, _0, k, w, wo, k, order, children, stack, so)
        else:
            _panel_of_tokens(tokens, x, w, wo, k, order, children, stack, so, entry, scratch, co)
        start, stride, valid = _U(places[panel, 0]), _U(places[panel, 1]), _U(places[panel, 2])
        for t in range(tokens):
            for n in range(valid):
                y = stack[so + t * entry + n]
                out[start + t * stride + n] = y * scales[panel * _N + n] if scales.size else y


@njit(cache=True, parallel=True)
def linear(
    tokens: int,
    x: Floats,
    tiles: Any,
    scales: Floats,
    k: int,
    order: Ints,
    children: Ints,
    places: NDArray[np.int64],
    workers: int,
    depth: int,
    stack: Floats,
    scratch: Floats,
    out: Floats,
) -> None:
    """out = tiles . x for each of `tokens`, whose bits do not depend on how many there are or on `workers`.

    x [tokens, positions, k] flat; tiles [panels, visits, k, PANEL] flat, fp32, bf16, fp16 or int8; scales
    [panels, PANEL] flat, or empty; places [panels, 3]: where in `out` a panel's first column of token 0 goes, the
    distance of two tokens, and how many columns count. Scratch: stack [workers, tokens, depth, PANEL], scratch
    [workers, k, PANEL].
    """
    panels = len(places)
    entry = _U(depth) * _N
    if workers == 1:
        _panels(
            _U(tokens), _0, _U(panels), x, tiles, scales, _U(k), order, children, places, stack, _0, entry, scratch, _0, out
        )  # fmt: skip
    else:
        for worker in prange(workers):
            so = _U(worker) * _U(tokens) * entry
            co = _U(worker) * _U(k) * _N
            first, last = _U(panels * worker // workers), _U(panels * (worker + 1) // workers)
            _panels(
                _U(tokens), first, last, x, tiles, scales, _U(k), order, children, places, stack, so, entry, scratch, co, out
            )  # fmt: skip
