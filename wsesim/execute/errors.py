"""Errors of execution.

WsesimError
└── InvalidInputError
    ├── TokenIdError           a token id outside the vocabulary
    ├── ContextOverflowError   more tokens than the Program's context holds
    ├── WeightShapeError       a tensor that is not shaped as the Program's layouts say
    ├── SamplingRangeError     a sampling option outside its range
    └── KernelTypeError        a kernel that only the engine understands
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError


class TokenIdError(InvalidInputError):
    """A token id outside the vocabulary."""


class ContextOverflowError(InvalidInputError):
    """More tokens than the Program's context holds."""


class WeightShapeError(InvalidInputError):
    """A tensor that is not shaped as the Program's layouts say."""


class SamplingRangeError(InvalidInputError):
    """A sampling option outside its range."""


class KernelTypeError(InvalidInputError):
    """A kernel that only the engine understands."""
