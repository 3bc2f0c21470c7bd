"""Exponential, sigmoid, reciprocal and reciprocal square root as vector operations: what the forms of `wsesim` count.

A vector unit has no such instruction. It multiplies, adds, shifts and compares vectors, and it multiplies a vector by a
scalar and adds another vector in one operation. Each function here is a list of such operations. `VectorUnit` runs
them in NumPy, rounds after each one as fp16 does, and counts them. `tests/test_vector_functions.py` compares the counts
with those in `presets/wsesim.toml` and the results with float64, over every fp16 number.

    function            operations  largest error, over fp16
    exponential         12          0.0007 relative down to -9.7; 0 below -10.05
    sigmoid             21          0.0013 absolute
    reciprocal           7          0.0010 relative
    reciprocal_root      8          0.0011 relative

The simulator only counts cycles with them. The texts are computed by `execute` in its own data type, with its own
exponential.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Half = NDArray[np.float16]
Bits = NDArray[np.int16]

MAGIC = 1536.0  # between 1,024 and 2,048 the fp16 numbers are the integers: adding it rounds
BIAS = 15  # of an exponent
CUBIC = (0.165955, 0.503771, 1.000362)  # exp(r) - 1 = r (c1 + r (c2 + r c3)) for |r| <= ln(2) / 2
LN2_HIGH = 0.6875  # n times it is exact; the rest of ln(2) comes after
LOWEST, HIGHEST = -BIAS * math.log(2), 10.0
RECIPROCAL_GUESS, ROOT_GUESS = 0x7770, 0x5A1D
ROOT = (0.267116, -1.020978, 1.753365)  # 1 / sqrt(t) = c0 + t (c1 + t c2) for t from 1.056 to 1.238


class VectorUnit:
    """Vector operations on fp16 numbers. `operations` counts them."""

    def __init__(self) -> None:
        self.operations = 0

    def multiply(self, a: Half, b: Half | float) -> Half:
        return self._rounded(_wide(a) * _wide(b))

    def add(self, a: Half, b: Half | float) -> Half:
        return self._rounded(_wide(a) + _wide(b))

    def multiply_add(self, a: Half, scalar: float, b: Half | float) -> Half:
        """a * scalar + b, rounded once. A number for `b` is an operand of stride 0."""
        return self._rounded(_wide(a) * _wide(scalar) + _wide(b))

    def at_least(self, a: Half, least: float) -> Half:
        return self._rounded(np.maximum(_wide(a), least))

    def at_most(self, a: Half, most: float) -> Half:
        return self._rounded(np.minimum(_wide(a), most))

    def shift_left(self, a: Half, places: int) -> Half:
        """The bits of `a`, shifted."""
        return self._of_bits(a.view(np.int16) << places)

    def shift_right(self, a: Half, places: int) -> Half:
        return self._of_bits(a.view(np.int16) >> places)

    def bits_from(self, constant: int, a: Half) -> Half:
        """`constant` minus the bits of `a`, as integers."""
        return self._of_bits(np.int16(constant) - a.view(np.int16))

    def _rounded(self, exact: NDArray[np.float64]) -> Half:
        self.operations += 1
        with np.errstate(over="ignore", invalid="ignore"):
            return exact.astype(np.float16)

    def _of_bits(self, bits: Bits) -> Half:
        self.operations += 1
        return bits.astype(np.int16).view(np.float16)


def exponential(unit: VectorUnit, x: Half) -> Half:
    """exp(x) for x <= 10."""
    return _power(unit, unit.at_least(x, LOWEST), 1.0)


def _power(unit: VectorUnit, x: Half, sign: float) -> Half:
    """exp(sign x) = 2^n times a cubic in r, with sign x = n ln(2) + r, between LOWEST and HIGHEST.

    At LOWEST the exponent is 0, and so is the result. The cubic is taken in sign r, which saves an operation.
    """
    shifted = unit.multiply_add(x, sign / math.log(2), MAGIC + BIAS)
    n = unit.add(shifted, -(MAGIC + BIAS))
    r = unit.multiply_add(n, -sign * LN2_HIGH, x)
    r = unit.multiply_add(n, sign * (LN2_HIGH - math.log(2)), r)
    third, second, first = CUBIC
    p = unit.multiply_add(r, sign * third, second)
    p = unit.add(unit.multiply(p, r), sign * first)
    p = unit.add(unit.multiply(p, r), 1.0)
    power = unit.shift_left(shifted, 10)  # n + 15 becomes the exponent
    return unit.multiply(p, power)


def sigmoid(unit: VectorUnit, x: Half) -> Half:
    """1 / (1 + exp(-x))"""
    near = unit.at_most(unit.at_least(x, -HIGHEST), -LOWEST)
    return reciprocal(unit, unit.add(_power(unit, near, -1.0), 1.0))


def reciprocal(unit: VectorUnit, x: Half) -> Half:
    """1 / x for positive normal x up to 16,384: a guess from the bits, and two Newton steps."""
    y = unit.bits_from(RECIPROCAL_GUESS, x)
    for _ in range(2):
        y = unit.multiply(y, unit.multiply_add(unit.multiply(x, y), -1.0, 2.0))
    return y


def reciprocal_root(unit: VectorUnit, x: Half) -> Half:
    """1 / sqrt(x) for positive normal x: a guess y from the bits, times a polynomial in t = x y y, which is near 1."""
    y = unit.bits_from(ROOT_GUESS, unit.shift_right(x, 1))
    t = unit.multiply(unit.multiply(x, y), y)  # y y overflows where x is small
    second, first, constant = ROOT
    p = unit.multiply_add(t, second, first)
    p = unit.add(unit.multiply(p, t), constant)
    return unit.multiply(y, p)


def _wide(a: Half | float) -> NDArray[np.float64]:
    """Operands in fp64; scalars are fp16 numbers too."""
    return np.asarray(a, np.float16).astype(np.float64)
