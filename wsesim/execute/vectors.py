"""The kernels without a matrix: norms, rotations, softmax, elementwise operations and roundings.

Values are flat float32, one row a token, in the order of their layout. Padding is zero.

Each kernel fills an array of the caller's. `reference` has its NumPy twin, with the same name and arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim.jit import njit

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Spans = NDArray[np.int64]

_U = np.uint64
_0, _1 = np.uint64(0), np.uint64(1)
_ZERO = np.float32(0.0)
_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP = (
    np.float32(1.9875691500e-4),
    np.float32(1.3981999507e-3),
    np.float32(8.3334519073e-3),
    np.float32(4.1665795894e-2),
    np.float32(1.6666665459e-1),
    np.float32(5.0000001201e-1),
)
_P0, _P1, _P2, _P3, _P4, _P5 = _EXP
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_LOWEST = np.float32(-1e38)  # below every score
_EXP_LOWEST = np.float32(-87.0)
_EXP_HIGHEST = np.float32(88.0)
_FP16_NORMAL = np.float32(2.0**-14)
_FP16_OVERFLOW = np.float32(65520.0)  # rounds to the first number beyond the largest fp16


@njit(forceinline=True)
def exp32(x: Any) -> Any:
    """exp in float32 (Cephes' polynomial, 1e-7 relative): multiplications and additions in a fixed order, no
    libm."""
    x = min(max(x, _EXP_LOWEST), _EXP_HIGHEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.uint32(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23)).view(np.float32)
    return (p * (r * r) + r + _ONE) * power


@njit(forceinline=True)
def bf16_bits(x: Any) -> Any:
    """The bits of the nearest bf16, ties to even."""
    bits = np.float32(x).view(np.uint32)
    odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@njit(forceinline=True)
def nearest_bf16(x: Any) -> Any:
    """x rounded to the nearest bf16, ties to even."""
    return np.uint32(np.uint32(bf16_bits(x)) << np.uint32(16)).view(np.float32)


@njit(forceinline=True)
def nearest_fp16(x: Any) -> Any:
    """x rounded to the nearest fp16, ties to even; beyond 65504 it is infinite."""
    magnitude = abs(x)
    if magnitude < _FP16_NORMAL:
        rounded = (magnitude + _HALF) - _HALF  # the spacing at 0.5 is that of subnormal fp16
    elif magnitude >= _FP16_OVERFLOW:
        rounded = np.float32(np.inf)
    else:
        bits = np.float32(magnitude).view(np.uint32)
        odd = np.uint32((bits >> np.uint32(13)) & np.uint32(1))
        bits = np.uint32(np.uint32(bits + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000))
        rounded = bits.view(np.float32)
    return rounded if x >= 0 else -rounded


@njit(forceinline=True)
def merge_scalar(stack: Floats, height: int, own: Any, children: int) -> int:
    """Pushes own + the last `children` entries, the deepest first, in their place; returns the new height."""
    base = height - children
    for child in range(base, height):
        own += stack[child]
    stack[base] = own
    return base + 1


@njit(forceinline=True)
def around_scalar(stack: Floats, positions: int, place: int) -> Any:
    """The sum of `positions` entries, from the one at `place` on, around to the one before it."""
    total = stack[place]
    for step in range(1, positions):
        total = stack[(place + step) % positions] + total
    return total


@njit(error_model="numpy", nogil=True)
def rmsnorm(
    tokens: int,
    source: Floats,
    weight: Floats,
    width: int,
    size: int,
    eps: float,
    order: Ints,
    children: Ints,
    stack: Floats,
    target: Floats,
) -> None:
    """target = source / sqrt(mean(source^2) + eps) * weight; squares summed per position of `width`, then
    merged."""
    row = len(order) * width
    for t in range(tokens):
        height = 0
        for v in range(len(order)):
            begin = t * row + order[v] * width
            total = _ZERO
            for i in range(begin, begin + width):
                total += source[i] * source[i]
            height = merge_scalar(stack, height, total, children[v])
        scale = _ONE / np.sqrt(stack[0] / np.float32(size) + np.float32(eps))
        for i in range(row):
            target[t * row + i] = source[t * row + i] * scale * weight[i]


@njit(error_model="numpy", nogil=True)
def folded_norm(
    tokens: int,
    source: Floats,
    weight: Floats,
    width: int,
    size: int,
    eps: float,
    order: Ints,
    children: Ints,
    stack: Floats,
    scales: Floats,
    target: Floats,
) -> None:
    """target = source * weight; scales [tokens] = 1 / sqrt(mean(source^2) + eps), merged as the product after it."""
    row = len(order) * width
    for t in range(tokens):
        height = 0
        for v in range(len(order)):
            begin = t * row + order[v] * width
            total = _ZERO
            for i in range(begin, begin + width):
                total += source[i] * source[i]
            height = merge_scalar(stack, height, total, children[v])
        scales[t] = _ONE / np.sqrt(stack[0] / np.float32(size) + np.float32(eps))
        for i in range(row):
            target[t * row + i] = source[t * row + i] * weight[i]


@njit(error_model="numpy", nogil=True)
def scale_rows(tokens: int, scales: Floats, row: int, values: Floats) -> None:
    """values [tokens, row] *= scales [tokens]"""
    for t in range(tokens):
        for i in range(row):
            values[t * row + i] *= scales[t]


@njit(error_model="numpy", nogil=True)
def qk_norm(
    tokens: int,
    source: Floats,
    weight: Floats,
    starts: Ints,
    row: int,
    width: int,
    features: int,
    head_dim: int,
    eps: float,
    order: Ints,
    children: Ints,
    entries: Ints,
    stack: Floats,
    target: Floats,
) -> None:
    """Each head = head / sqrt(mean(head^2) + eps) * weight; squares summed per segment position, then merged.

    starts: where a head's first `features` lie in its row, those of the next segment position `width` further. weight
    [segment, features] flat, zero where there is padding; places of no head become zero. entries [heads]: the entry at
    which a head's sum begins where the merges leave them all, or empty.
    """
    for i in range(tokens * row):
        target[i] = _ZERO
    for t in range(tokens):
        for head in range(len(starts)):
            first, height = t * row + starts[head], 0
            for v in range(len(order)):
                begin, total = first + order[v] * width, _ZERO
                for i in range(begin, begin + features):
                    total += source[i] * source[i]
                height = merge_scalar(stack, height, total, children[v])
            whole = around_scalar(stack, len(order), entries[head]) if entries.size else stack[0]
            scale = _ONE / np.sqrt(whole / np.float32(head_dim) + np.float32(eps))
            for p in range(len(order)):
                for i in range(features):
                    at = first + p * width + i
                    target[at] = source[at] * scale * weight[p * features + i]


@njit(nogil=True)
def rope(tokens: int, source: Floats, pairs: Ints, cos: Floats, sin: Floats, half: int, target: Floats) -> None:
    """Turns places (2i, 2i + 1) by the angle of rotation pairs[i] < half of each token; -1 is padding.

    cos and sin [tokens, half] flat.
    """
    row = 2 * len(pairs)
    for t in range(tokens):
        for i in range(len(pairs)):
            at = t * row + 2 * i
            if pairs[i] < 0:
                target[at] = target[at + 1] = _ZERO
            else:
                c, s = cos[t * half + pairs[i]], sin[t * half + pairs[i]]
                a, b = source[at], source[at + 1]
                target[at] = a * c - b * s
                target[at + 1] = b * c + a * s


@njit(error_model="numpy", nogil=True)
def swiglu(tokens: int, gate: Floats, up: Floats, row: int, target: Floats) -> None:
    """target = gate / (1 + exp(-gate)) * up."""
    for i in range(tokens * row):
        target[i] = gate[i] / (_ONE + exp32(-gate[i])) * up[i]


@njit(nogil=True)
def add(tokens: int, left: Floats, right: Floats, row: int, target: Floats) -> None:
    """target = left + right."""
    for i in range(tokens * row):
        target[i] = left[i] + right[i]


@njit(forceinline=True, error_model="numpy")
def _softmax_row(
    source: Floats,
    so: Any,
    low: Any,
    seen: Any,
    spans: Spans,
    po: Any,
    step: Any,
    order: Ints,
    children: Ints,
    start: int,
    sums: Floats,
    target: Floats,
) -> None:
    highest = source[so + low]
    for c in range(low + _1, seen):
        highest = max(highest, source[so + c])
    for c in range(low, seen):
        target[so + c] = exp32(source[so + c] - highest)
    for line in range(len(order)):
        total = _ZERO
        for c in range(_U(spans[po + 2 * line]), _U(spans[po + 2 * line + 1]), step):
            total += target[so + c]
        sums[line] = total
    stack = sums[len(order) :]
    height = 0
    for v in range(len(order)):
        height = merge_scalar(stack, height, sums[order[v]], children[v])
    total = stack[0] if start < 0 else around_scalar(stack, len(order), start)
    for c in range(low, seen):
        target[so + c] = target[so + c] / total


@njit(nogil=True)
def softmax(
    tokens: int,
    context: int,
    window: int,
    source: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    order: Ints,
    children: Ints,
    starts: Ints,
    sums: Floats,
    target: Floats,
) -> None:
    """Softmax over the positions seen, the last `window` if that is not 0, of each [tokens, heads, capacity] row.
    `target` may be `source`.

    Each line sums exp(score - max) over its own positions, ascending; the sums are merged along. spans [tokens, along,
    2] flat: a token's first position of each line and where they end, `step` apart. starts [heads]: the entry at which
    a head's sum begins where the merges leave them all, or empty. Scratch: sums [along + depth].
    """
    for r in range(tokens * heads):
        seen, po = _U(context + r // heads + 1), r // heads * len(order) * 2
        low = seen - min(seen, _U(window)) if window else _0
        start = starts[r % heads] if starts.size else -1
        _softmax_row(source, _U(r * capacity), low, seen, spans, po, _U(step), order, children, start, sums, target)


@njit(nogil=True)
def line_exponentials(
    tokens: int,
    source: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    along: int,
    factors: Floats,
    target: Floats,
) -> None:
    """target = exp(score - its line's maximum) at each position of a line, for [tokens, heads, capacity] rows.

    factors [tokens, heads, along] flat = exp(the line's maximum - the row's), next to nothing for an empty line. spans
    as for `softmax`.
    """
    for r in range(tokens * heads):
        so, fo, po = _U(r * capacity), r * along, r // heads * along * 2
        highest = _LOWEST
        for line in range(along):
            most = _LOWEST
            first, end = _U(spans[po + 2 * line]), _U(spans[po + 2 * line + 1])
            for c in range(first, end, _U(step)):
                most = max(most, source[so + c])
            for c in range(first, end, _U(step)):
                target[so + c] = exp32(source[so + c] - most)
            factors[fo + line] = most
            highest = max(highest, most)
        for line in range(along):
            factors[fo + line] = exp32(factors[fo + line] - highest)


@njit(nogil=True)
def add_bias(tokens: int, bias: Floats, target: Floats) -> None:
    """Adds `bias` [row], zero where there is padding, to each token's row of `target`, in place."""
    row = len(bias)
    for t in range(tokens):
        for i in range(row):
            target[t * row + i] = target[t * row + i] + bias[i]


@njit(nogil=True)
def reslice(tokens: int, source: Floats, row: int, places: Ints, target: Floats) -> None:
    """target's places take those of source's row that `places` names, -1 padding: a change of layout."""
    width = len(places)
    for t in range(tokens):
        for i in range(width):
            target[t * width + i] = source[t * row + places[i]] if places[i] >= 0 else _ZERO


@njit(nogil=True)
def round_bf16(tokens: int, values: Floats, row: int) -> None:
    """Each value to the nearest bf16, in place."""
    for i in range(tokens * row):
        values[i] = nearest_bf16(values[i])


@njit(nogil=True)
def round_fp16(tokens: int, values: Floats, row: int) -> None:
    """Each value to the nearest fp16, in place."""
    for i in range(tokens * row):
        values[i] = nearest_fp16(values[i])


@njit(nogil=True)
def narrow_bf16(source: Floats, target: NDArray[np.uint16]) -> None:
    """target = the bf16 bits nearest to source."""
    for i in range(len(source)):
        target[i] = bf16_bits(source[i])
