"""Scalar arithmetic that is the same on every machine: widening of stored weights, exp, rounding of activations.

Stored types: float32 is fp32, uint16 the bits of bf16, int16 the bits of fp16, int8 a multiple of its row's scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

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
_EXP_LOWEST = np.float32(-87.0)
_EXP_HIGHEST = np.float32(88.0)
_HALF_TO_SINGLE = np.float32(2.0**112)  # between the exponent biases of fp16 and fp32
_FP16_NORMAL = np.float32(2.0**-14)
_FP16_OVERFLOW = np.float32(65520.0)  # rounds to the first number beyond the largest fp16


def widen(weight: Any) -> np.float32:
    """A stored weight as float32, exactly; int8 without its scale."""
    if isinstance(weight, np.uint16):
        return np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)
    if isinstance(weight, np.int16):
        return widen_fp16(weight)
    return np.float32(weight)


@njit(cache=True)
def widen_fp16(weight: Any) -> Any:
    """fp16 bits as float32; infinities and NaNs, which no weight is, are not kept."""
    bits = np.uint32(np.uint16(weight))
    magnitude = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32) * _HALF_TO_SINGLE
    sign = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16))
    return np.uint32(magnitude.view(np.uint32) | sign).view(np.float32)


@overload(widen, strict=False)  # the lambdas carry no annotations
def _widen(weight: Any) -> Any:
    if weight == types.uint16:
        return lambda weight: np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)
    if weight == types.int16:
        return lambda weight: widen_fp16(weight)
    return lambda weight: np.float32(weight)


@njit(cache=True)
def exp32(x: Any) -> Any:
    """exp in float32 (Cephes' polynomial, 1e-7 relative): multiplications and additions in a fixed order, no libm."""
    x = min(max(x, _EXP_LOWEST), _EXP_HIGHEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.uint32(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23)).view(np.float32)
    return (p * (r * r) + r + _ONE) * power


@njit(cache=True)
def bf16_bits(x: Any) -> Any:
    """The bits of the nearest bf16, ties to even."""
    bits = x.view(np.uint32)
    odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@njit(cache=True)
def nearest_bf16(x: Any) -> Any:
    """x rounded to the nearest bf16, ties to even."""
    return np.uint32(np.uint32(bf16_bits(x)) << np.uint32(16)).view(np.float32)


@njit(cache=True)
def nearest_fp16(x: Any) -> Any:
    """x rounded to the nearest fp16, ties to even; beyond 65504 it is infinite."""
    magnitude = abs(x)
    if magnitude < _FP16_NORMAL:
        rounded = (magnitude + _HALF) - _HALF  # the spacing at 0.5 is that of subnormal fp16
    elif magnitude >= _FP16_OVERFLOW:
        rounded = np.float32(np.inf)
    else:
        bits = magnitude.view(np.uint32)
        odd = np.uint32((bits >> np.uint32(13)) & np.uint32(1))
        bits = np.uint32(np.uint32(bits + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000))
        rounded = bits.view(np.float32)
    return rounded if x >= 0 else -rounded
