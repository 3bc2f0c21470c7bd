"""Kernels of a whole prompt on one block: matrices of tokens x features, in P x P tiles.

The engine alone understands them; they are not in the vocabulary that a Program is executed with (`kernels.py`). Tokens
are split over the rows of the block and features over its columns; weights lie as B of a product, in the places where
its first step wants them, so that they need no alignment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Align:
    """Moves each line's tiles of a [rows, columns] matrix to where a product begins, or back from where it ended.

    `across`: the tiles of a row of PEs go along it (A, and the sums of a transposed product); else those of a column do
    (B).
    """

    name: str
    block: str
    value: str
    rows: int
    columns: int
    across: bool
    algorithm: str


@dataclass(frozen=True, slots=True)
class Gemm:
    """target [rows, columns] = left [rows, inner] right [inner, columns], by one of `program.gemm.ALGORITHMS`.

    `transposed`: right is [columns, inner]; it stays in its rows' order, and the sums move.
    """

    name: str
    block: str
    left: str
    right: str
    target: str
    rows: int
    inner: int
    columns: int
    transposed: bool
    algorithm: str


@dataclass(frozen=True, slots=True)
class TokenNorm:
    """RMSNorm of each token; the sums of squares are an AllReduce along the rows of PEs."""

    name: str
    block: str
    source: str
    target: str
    tokens: int
    features: int
    reduce: str


@dataclass(frozen=True, slots=True)
class TokenRope:
    """Rotates the pairs of each token's features by angles that are stored."""

    name: str
    block: str
    source: str
    target: str
    tokens: int
    features: int


@dataclass(frozen=True, slots=True)
class TokenSoftmax:
    """Softmax of each row of scores, none masked; maximum and sum are AllReduces along the rows of PEs."""

    name: str
    block: str
    source: str
    target: str
    tokens: int
    reduce: str


@dataclass(frozen=True, slots=True)
class TokenSwiGLU:
    """target = silu(gate) * up, elementwise."""

    name: str
    block: str
    gate: str
    up: str
    target: str
    tokens: int
    features: int


@dataclass(frozen=True, slots=True)
class TokenAdd:
    """target = left + right, elementwise."""

    name: str
    block: str
    left: str
    right: str
    target: str
    tokens: int
    features: int


PromptKernel = Align | Gemm | TokenNorm | TokenRope | TokenSoftmax | TokenSwiGLU | TokenAdd
