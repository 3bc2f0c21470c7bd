"""The K side of attention: the cache is stored as the tiles of `tiles.py`, PANEL positions a panel, so that a query
meets it as a linear layer's input meets its weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.threads import prange
from wsesim.execute.tiles import PANEL, around, line_sum
from wsesim.jit import njit

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Spans = NDArray[np.int64]

_U = np.uint64
_N = np.uint64(PANEL)
_0, _1 = np.uint64(0), np.uint64(1)


@njit(nogil=True)
def append_keys(tokens: int, context: int, key: Floats, row: int, places: Ints, keys: Floats) -> None:
    """Writes `tokens` keys as positions context, context + 1, ...; places: where each cached feature lies in
    a row."""
    size = len(places)
    for t in range(tokens):
        block, column = (context + t) // PANEL, (context + t) % PANEL
        for i in range(size):
            keys[(block * size + i) * PANEL + column] = key[t * row + places[i]]


@njit(forceinline=True)
def _around_line(stack: Floats, so: Any, positions: Any, held: Any, head: Any, together: Any) -> None:
    """`around` for the columns of a block that a line holds; each is an element of the line's vector."""
    begin, first, rank, end, step = held
    for c in range(first + rank * step, end, step):
        element = rank * together + head
        column = so + c - begin
        stack[column] = around(stack, column, positions, (element + _1) % positions)
        rank = rank + _1


class _Scores(NamedTuple):
    """What the blocks of a `score` share. Sizes are np.uint64."""

    tokens: Any
    context: Any
    window: Any
    query: Floats
    starts: Ints
    repeat: Any
    row: Any
    width: Any
    features: Any
    keys: Floats
    scale: Any
    order: Ints
    children: Ints
    stored: Ints
    spans: Spans
    step: Any
    along: Any
    together: Any
    stack: Floats
    capacity: Any
    target: Floats


@njit()
def _score_blocks(first: Any, last: Any, so: Any, s: _Scores) -> None:
    spans, stack, step, along = s.spans, s.stack, s.step, s.along
    heads, positions = _U(len(s.starts)), _U(len(s.order))
    tile = positions * s.features * _N
    for block in range(first, last):
        for t in range(s.tokens):
            seen = s.context + t + _1
            count = min(seen - min(seen, block * _N), _N)
            low = seen - min(seen, s.window) if s.window else _0
            hidden = low - min(low, block * _N)
            for head in range(heads if count > hidden else _0):
                wo = (block * (heads // s.repeat) + head // s.repeat) * tile
                xo = t * s.row + _U(s.starts[head])
                line_sum(s.query, xo, s.width, s.keys, wo, s.features, s.order, s.children, s.stored, stack, so)
                for line in range(along):
                    po = (t * along + line) * _U(2)
                    first, end = _U(spans[po]), min(_U(spans[po + _1]), block * _N + count)
                    before = (max(first, block * _N) - first + step - _1) // step  # those in earlier blocks
                    held = (block * _N, first, before, end, step)
                    _around_line(stack, so, positions, held, head % s.together, s.together)
                to = (t * heads + head) * s.capacity + block * _N
                for n in range(hidden, count):
                    s.target[to + n] = stack[so + n] * s.scale


@njit(parallel=True, nogil=True)
def score(
    tokens: int,
    context: int,
    window: int,
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
    stored: Ints,
    spans: Spans,
    step: int,
    along: int,
    together: int,
    workers: int,
    depth: int,
    stack: Floats,
    capacity: int,
    target: Floats,
) -> None:
    """target [tokens, heads, capacity] flat: scale * query . key of each position seen, the last `window` if that is
    not 0; nothing else is written.

    query [tokens, row] flat; starts: where a head's first features lie in its row, those of the next segment
    position `width` further; `features` a position; order and children merge the segment. along > 0: they leave all
    its partials, and those of `together` heads lie together on one of `along` lines, position by position, as the
    vector whose elements begin one entry after the other; spans and step say which positions a line holds, as for
    `vectors.softmax`. stack [workers, depth, PANEL].
    """
    begin, end = max(context + 1 - window, 0) // PANEL if window else 0, (context + tokens - 1) // PANEL + 1
    T, C, W, R, y, w, f = _U(tokens), _U(context), _U(window), _U(repeat), _U(row), _U(width), _U(features)
    s, a, g, c, factor = _U(step), _U(along), _U(together), _U(capacity), np.float32(scale)
    own = _Scores(
        T, C, W, query, starts, R, y, w, f, keys, factor, order, children, stored, spans, s, a, g, stack, c, target
    )
    if workers == 1:
        _score_blocks(_U(begin), _U(end), _0, own)
    else:
        blocks = end - begin
        for worker in prange(workers):
            low, high = blocks * worker // workers, blocks * (worker + 1) // workers
            _score_blocks(_U(begin + low), _U(begin + high), _U(worker) * _U(depth) * _N, own)
