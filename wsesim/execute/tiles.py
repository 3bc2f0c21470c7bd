"""Sums over tiles: every PE's partial sum, then the merges of the reduction, for many output lines at once.

The lines of a tile grid do not interact, so the outputs of neighbouring lines are stored side by side in panels of
PANEL columns: tiles [panel, visit, k, PANEL] in the order of a decode step's visits, which reads them from first to
last; `stored` says for another order which tile a visit reads. How they are stored changes no bit: each output is sum
over k ascending within a position, in float32, multiplied then added, and then merged. The K cache (`keys.py`) is
stored likewise.

Stored weights: float32 is fp32, uint16 the bits of bf16, int16 those of fp16, int8 a multiple of its row's
scale. Indices are unsigned: numba would otherwise test each for wraparound, and vectorise nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from wsesim.execute.threads import prange
from wsesim.jit import njit

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

PANEL = 64
_U = np.uint64
_N = np.uint64(PANEL)
_N2 = np.uint64(2 * PANEL)
_N3 = np.uint64(3 * PANEL)
_0, _1, _2, _3, _4 = (np.uint64(i) for i in range(5))
_LINE_BYTES = 64  # of a cache
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_HALF_TO_SINGLE = np.float32(2.0**112)  # between the exponent biases of fp16 and fp32


def widen(weight: Any) -> Any:
    """A stored weight as float32, exactly; int8 without its scale."""
    if isinstance(weight, np.uint16):
        return np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)
    if isinstance(weight, np.int16):
        return widen_fp16(weight)
    return np.float32(weight)


@njit(forceinline=True)
def widen_fp16(weight: Any) -> Any:
    """fp16 bits as float32; infinities and NaNs, which no weight is, are not kept."""
    bits = np.uint32(np.uint16(weight))
    magnitude = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32) * _HALF_TO_SINGLE
    sign = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16))
    return np.uint32(np.float32(magnitude).view(np.uint32) | sign).view(np.float32)


@overload(widen, strict=False)  # the lambdas carry no annotations
def _widen(weight: Any) -> Any:
    if weight == types.uint16:
        return lambda weight: np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)
    if weight == types.int16:
        return lambda weight: widen_fp16(weight)
    return lambda weight: np.float32(weight)


@njit(forceinline=True)
def accumulate(x: Floats, xo: Any, w: Any, wo: Any, k: Any, sums: Floats, so: Any, to: Any) -> None:
    """The sum over i < k, ascending, of x[xo + i] * w[wo + i * PANEL + n]: written to sums[so:], or added to
    what is at sums[to:] if that is elsewhere. Four rows a pass, what is left over first."""
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


@njit(forceinline=True)
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


@njit(forceinline=True)
def _four_rows(x: Floats, xo: Any, w: Any, wo: Any, sums: Floats, so: Any) -> None:
    """Four more rows go on with a sum."""
    x0, x1, x2, x3 = x[xo], x[xo + _1], x[xo + _2], x[xo + _3]
    for n in range(_N):
        s = sums[so + n] + x0 * widen(w[wo + n])
        s = s + x1 * widen(w[wo + _N + n])
        s = s + x2 * widen(w[wo + _N2 + n])
        sums[so + n] = s + x3 * widen(w[wo + _N3 + n])


@njit(forceinline=True)
def _last_rows(x: Floats, xo: Any, w: Any, wo: Any, sums: Floats, so: Any, to: Any) -> None:
    """Four rows end a sum, which is added to another."""
    x0, x1, x2, x3 = x[xo], x[xo + _1], x[xo + _2], x[xo + _3]
    for n in range(_N):
        s = sums[so + n] + x0 * widen(w[wo + n])
        s = s + x1 * widen(w[wo + _N + n])
        s = s + x2 * widen(w[wo + _N2 + n])
        s = s + x3 * widen(w[wo + _N3 + n])
        sums[to + n] = s + sums[to + n]


@njit(forceinline=True)
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


@njit(forceinline=True)
def around(stack: Floats, so: Any, positions: Any, place: Any) -> Any:
    """The sum of one column's `positions` entries, from the one at `place` on, around to the one before it."""
    total = stack[so + place * _N]
    for _ in range(_1, positions):
        place = place + _1 if place + _1 < positions else _0
        total = stack[so + place * _N] + total
    return total


@njit(forceinline=True)
def line_sum(
    x: Floats,
    xo: Any,
    x_stride: Any,
    w: Any,
    wo: Any,
    k: Any,
    order: Ints,
    children: Ints,
    stored: Ints,
    stack: Floats,
    so: Any,
) -> None:
    """stack[so:][:PANEL] = the reduced sum of one token over one panel.

    Position p reads x[xo + p * x_stride:][:k]; visit v the tile stored[v] of w.
    """
    height = _0
    for v in range(_U(len(order))):
        position, count = _U(order[v]), _U(children[v])
        visit(x, xo + position * x_stride, w, wo + _U(stored[v]) * k * _N, k, stack, so, height, count)
        height = height - count + _1


@njit(forceinline=True)
def _copied(w: Any, wo: Any, k: Any, scratch: Floats, co: Any) -> Any:
    for row in range(_0, k * _N, _N):
        for n in range(_N):
            scratch[co + row + n] = widen(w[wo + row + n])
    return scratch, co


def widened(w: Any, wo: Any, k: Any, scratch: Floats, co: Any) -> Any:
    """Where to read a tile as float32, and from which place on: where it lies if it is, else copied to scratch[co:]."""
    return (w, wo) if w.dtype == np.float32 else _copied(w, wo, k, scratch, co)


@overload(widened, strict=False)
def _widened(w: Any, wo: Any, k: Any, scratch: Any, co: Any) -> Any:
    if w.dtype == types.float32:
        return lambda w, wo, k, scratch, co: (w, wo)
    return lambda w, wo, k, scratch, co: _copied(w, wo, k, scratch, co)


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Asks for the cache line of array[index], wherever that is, and goes on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        line = builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(ir.IntType(8)))
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [line.type], kind)
        builder.call(function, [line, flag(0), flag(3), flag(1)])  # to read, into every level, data
        return context.get_dummy_value()

    return types.void(array, index), codegen


@njit(forceinline=True)
def _prefetch_rows(w: Any, wo: Any, first: Any, last: Any) -> None:
    for i in range(first * _N, last * _N, _U(_LINE_BYTES // w.itemsize)):
        prefetch(w, wo + i)


@njit(forceinline=True)
def _panel_of_tokens(
    tokens: Any,
    x: Floats,
    w: Any,
    wo: Any,
    k: Any,
    order: Ints,
    children: Ints,
    stored: Ints,
    stack: Floats,
    so: Any,
    entry: Any,
    scratch: Floats,
    co: Any,
) -> None:
    """`line_sum` for several tokens: each tile is read and widened once, and each token asks for a share of the next
    one, which comes while this one is multiplied. Token t's stack begins at so + t * entry.
    """
    height = _0
    positions = _U(len(order))
    for v in range(positions):
        position, count = _U(order[v]), _U(children[v])
        tile, at = widened(w, wo + _U(stored[v]) * k * _N, k, scratch, co)
        coming = wo + (_U(stored[v + _1]) if v + _1 < positions else positions) * k * _N
        for t in range(tokens):
            _prefetch_rows(w, coming, k * t // tokens, k * (t + _1) // tokens)
            xo = (t * positions + position) * k
            visit(x, xo, tile, at, k, stack, so + t * entry, height, count)
        height = height - count + _1


class _Product(NamedTuple):
    """What the panels of a `linear` share. Sizes are np.uint64; `entry` is the length of a token's stack."""

    tokens: Any
    x: Floats
    w: Any
    scales: Floats
    k: Any
    order: Ints
    children: Ints
    stored: Ints
    starts: Ints
    places: NDArray[np.int64]
    stack: Floats
    entry: Any
    scratch: Floats
    out: Floats


@njit()
def _panels(first: Any, last: Any, so: Any, co: Any, p: _Product) -> None:
    tokens, k, entry, stack = p.tokens, p.k, p.entry, p.stack
    positions = _U(len(p.order))
    for panel in range(first, last):
        wo = panel * positions * k * _N
        if tokens == _1:
            line_sum(p.x, _0, k, p.w, wo, k, p.order, p.children, p.stored, stack, so)
        else:
            _panel_of_tokens(tokens, p.x, p.w, wo, k, p.order, p.children, p.stored, stack, so, entry, p.scratch, co)
        start, stride, valid = _U(p.places[panel, 0]), _U(p.places[panel, 1]), _U(p.places[panel, 2])
        for t in range(tokens if p.starts.size else _0):
            for n in range(valid):
                column = so + t * entry + n
                stack[column] = around(stack, column, positions, _U(p.starts[panel * _N + n]))
        for t in range(tokens):
            for n in range(valid):
                y = stack[so + t * entry + n]
                p.out[start + t * stride + n] = y * p.scales[panel * _N + n] if p.scales.size else y


@njit(parallel=True, nogil=True)
def linear(
    tokens: int,
    x: Floats,
    tiles: Any,
    scales: Floats,
    k: int,
    order: Ints,
    children: Ints,
    stored: Ints,
    starts: Ints,
    places: NDArray[np.int64],
    workers: int,
    depth: int,
    stack: Floats,
    scratch: Floats,
    out: Floats,
) -> None:
    """out = tiles . x for each of `tokens`, whose bits do not depend on how many there are or on `workers`.

    x [tokens, positions, k] flat; tiles [panels, visits, k, PANEL] flat, fp32, bf16, fp16 or int8; scales
    [panels, PANEL] flat, or empty; places [panels, 3]: where in `out` a panel's first column of token 0 goes,
    the distance of two tokens, and how many columns count. starts [panels, PANEL] flat: the entry at which a column's
    sum begins where the merges leave them all, or empty. Scratch: stack [workers, tokens, depth, PANEL], scratch
    [workers, k, PANEL].
    """
    panels, entry, T, K = len(places), _U(depth) * _N, _U(tokens), _U(k)
    product = _Product(T, x, tiles, scales, K, order, children, stored, starts, places, stack, entry, scratch, out)
    if workers == 1:
        _panels(_0, _U(panels), _0, _0, product)
    else:
        for worker in prange(workers):
            first, last = _U(panels * worker // workers), _U(panels * (worker + 1) // workers)
            _panels(first, last, _U(worker) * T * entry, _U(worker) * K * _N, product)


@njit(nogil=True)
def embed(tokens: int, ids: NDArray[np.int64], table: Any, scales: Floats, places: Ints, target: Floats) -> None:
    """Row t of target = row ids[t] of `table` [vocabulary, features]; places: the feature of each place, -1
    padding."""
    row = len(places)
    for t in range(tokens):
        scale = scales[ids[t]] if scales.size else _ONE
        for i in range(row):
            feature = places[i]
            target[t * row + i] = widen(table[ids[t], feature]) * scale if feature >= 0 else _ZERO
