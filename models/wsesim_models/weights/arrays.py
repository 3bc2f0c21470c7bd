"""Weights in memory, and functions that all stores share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

RawArray = NDArray[Any]
"""float32, float16, or bfloat16 as its uint16 bits."""

_SAMPLE_BYTES = 1024


class ArrayWeights:
    """A store over arrays by name; any floating type, read as float32."""

    def __init__(self, arrays: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        self._arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}

    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].shape

    def raw(self, name: str) -> tuple[str, RawArray]:
        return "f32", self._arrays[name]

    def load(self, name: str) -> NDArray[np.float32]:
        return self._arrays[name]

    def fingerprint(self) -> str:
        return fingerprint((name, "f32", array.shape, array) for name, array in self._arrays.items())


def widen(dtype: str, values: RawArray) -> NDArray[np.float32]:
    """A raw array as float32, exactly. A float32 array is returned itself."""
    if dtype != "bf16":
        return values.astype(np.float32, copy=False)
    wide = values.astype(np.uint32)
    return np.left_shift(wide, 16, out=wide).view(np.float32)


def fingerprint(tensors: Iterable[tuple[str, str, tuple[int, ...], RawArray]]) -> str:
    """Hex hash over (name, type, shape, stored array) in the order of the names.

    Of each array, a kilobyte at the start, in the middle and at the end is read.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, values in sorted(tensors, key=lambda tensor: tensor[0]):
        digest.update(f"{name} {dtype} {shape}\n".encode())
        for piece in _sample(np.ascontiguousarray(values).reshape(-1).view(np.uint8)):
            digest.update(piece.tobytes())
    return digest.hexdigest()


def _sample(stored: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    middle = stored.size // 2
    return stored[:_SAMPLE_BYTES], stored[middle : middle + _SAMPLE_BYTES], stored[-_SAMPLE_BYTES:]
