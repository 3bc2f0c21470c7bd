"""The kernels between the linear layers. Values are flat float32, a token a row, laid out; padding is zero.

Each fills an array of the caller's; `reference` has its NumPy twin of the same name and arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wsesim.execute.scalars import bf16_bits, exp32, nearest_bf16, nearest_fp16, widen

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit(cache=True)
def embed(tokens: int, ids: NDArray[np.int64], table: Any, scales: Floats, places: Ints, target: Floats) -> None:
    """Row t of target = row ids[t] of `table` [vocabulary, features]; places: the feature of each place, -1 padding."""
    row = len(places)
    for t in range(tokens):
        scale = scales[ids[t]] if scales.size else _ONE
        for i in range(row):
            feature = places[i]
            target[t * row + i] = widen(table[ids[t], feature]) * scale if feature >= 0 else _ZERO


@njit(cache=True, error_model="numpy")
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
    """target = source / sqrt(mean(source^2) + eps) * weight; squares summed per position of `width`, then merged."""
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


@njit(cache=True)
def merge_scalar(stack: Floats, height: int, own: Any, children: int) -> int:
    """Pushes own + the last `children` entries, the deepest first, in their place; returns the new height."""
    base = height - children
    for child in range(base, height):
        own += stack[child]
    stack[base] = own
    return base + 1


@njit(cache=True)
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


@njit(cache=True, error_model="numpy")
def swiglu(tokens: int, gate: Floats, up: Floats, row: int, target: Floats) -> None:
    """target = gate / (1 + exp(-gate)) * up."""
    for i in range(tokens * row):
        target[i] = gate[i] / (_ONE + exp32(-gate[i])) * up[i]


@njit(cache=True)
def add(tokens: int, left: Floats, right: Floats, row: int, target: Floats) -> None:
    """target = left + right."""
    for i in range(tokens * row):
        target[i] = left[i] + right[i]


@njit(cache=True)
def reslice(tokens: int, source: Floats, row: int, places: Ints, target: Floats) -> None:
    """target's places take those of source's row that `places` names, -1 padding: a change of layout."""
    width = len(places)
    for t in range(tokens):
        for i in range(width):
            target[t * width + i] = source[t * row + places[i]] if places[i] >= 0 else _ZERO


@njit(cache=True)
def round_bf16(tokens: int, values: Floats, row: int) -> None:
    """Each value to the nearest bf16, in place."""
    for i in range(tokens * row):
        values[i] = nearest_bf16(values[i])


@njit(cache=True)
def round_fp16(tokens: int, values: Floats, row: int) -> None:
    """Each value to the nearest fp16, in place."""
    for i in range(tokens * row):
        values[i] = nearest_fp16(values[i])


@njit(cache=True)
def narrow_bf16(source: Floats, target: NDArray[np.uint16]) -> None:
    """target = the bf16 bits nearest to source."""
    for i in range(len(source)):
        target[i] = bf16_bits(source[i])
