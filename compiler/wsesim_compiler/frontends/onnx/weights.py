"""The tensors of an ONNX file as a WeightStore: what the graph calls a weight, made of what the file stores.

A weight may be an initialiser's transpose (the optimised export folds `W^T`), rows of a packed one (queries, keys and
values in one), or quantised in blocks (MatMulNBits). Nothing is read before it is asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim_compiler.frontends.onnx.tensors import Tensor
from wsesim_compiler.operators.operator import Array

_SAMPLE_BYTES = 1024
_RAW = ("f32", "f16", "bf16")


@dataclass(frozen=True, slots=True)
class Blocks:
    """Whole numbers of `bits` in blocks of `block_size` along a row of `columns`: value = (q - zero point) * scale.

    `scales` has one a block, row by row; `zero_points` too, packed as the values are, or as floats; without it they are
    half the range.
    """

    bits: int
    block_size: int
    columns: int
    scales: Tensor
    zero_points: Tensor | None


@dataclass(frozen=True, slots=True)
class WeightView:
    """`tensor`, dequantised if it has `blocks`, transposed if it says so, then its `rows` [start, stop)."""

    tensor: Tensor
    transposed: bool = False
    rows: tuple[int, int] | None = None
    blocks: Blocks | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the graph sees."""
        stored = self.tensor.shape
        whole = (stored[0], self.blocks.columns) if self.blocks else stored[::-1] if self.transposed else stored
        return whole if self.rows is None else (self.rows[1] - self.rows[0], *whole[1:])

    @property
    def dtype(self) -> str:
        """Type of the values, not of their quantised form."""
        return self.blocks.scales.dtype if self.blocks else self.tensor.dtype

    def tensors(self) -> tuple[Tensor, ...]:
        """The initialisers that it is made of."""
        parts = (self.blocks.scales, self.blocks.zero_points) if self.blocks else ()
        return (self.tensor, *(part for part in parts if part is not None))

    def available(self) -> bool:
        """Whether all of its data is at hand."""
        return all(tensor.available() for tensor in self.tensors())

    def transpose(self) -> WeightView:
        """The view of the transpose; not of a quantised weight or of some rows."""
        assert self.blocks is None and self.rows is None
        return dataclasses.replace(self, transposed=not self.transposed)

    def part(self, start: int, stop: int) -> WeightView:
        """The view of some of these rows."""
        first = self.rows[0] if self.rows else 0
        return dataclasses.replace(self, rows=(first + start, first + stop))

    def stored(self) -> Array:
        """The values as stored, bf16 as bits, or float32 if they are quantised; a view of the file where it can be."""
        start, stop = self.rows or (0, self.tensor.shape[-1 if self.transposed else 0] if self.tensor.shape else 1)
        if self.blocks:
            return _dequantised(self.tensor.array(), self.blocks, start, stop)
        array = self.tensor.array()
        array = array.T if self.transposed else array
        return array if self.rows is None else array[start:stop]

    def load(self) -> NDArray[np.float32]:
        """The values as float32."""
        with np.errstate(all="ignore"):  # float64 beyond float32's range is infinite
            return _widened(self.dtype if self.blocks is None else "f32", self.stored())


class OnnxWeights:
    """A WeightStore over views of a file's tensors, by the names that the graph gives them."""

    def __init__(self, views: Mapping[str, WeightView]) -> None:
        self._views = dict(views)

    def names(self) -> tuple[str, ...]:
        """Every weight's name."""
        return tuple(self._views)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight, without reading it."""
        return self._views[name].shape

    def load(self, name: str) -> NDArray[np.float32]:
        """One weight as float32. Raises OnnxFileError if its data is not at hand or cut off."""
        return self._views[name].load()

    def raw(self, name: str) -> tuple[str, NDArray[Any]]:
        """One weight as it is stored: ("f32" | "f16" | "bf16", its float32, float16 or uint16 array)."""
        view = self._views[name]
        if view.blocks is not None or view.dtype not in _RAW:
            return "f32", view.load()
        return view.dtype, view.stored()

    def missing(self) -> tuple[str, ...]:
        """Weights whose external data is not there."""
        return tuple(n for n, view in self._views.items() if not view.available())

    def renamed(self, names: Mapping[str, str]) -> OnnxWeights:
        """The same weights by other names, those of `names` alone: new name -> name here."""
        return OnnxWeights({new: self._views[old] for new, old in names.items()})

    def fingerprint(self) -> str:
        """Hex hash of every weight's name, form and a few of its bytes."""
        digest = hashlib.sha256()
        for name in sorted(self._views):
            view = self._views[name]
            digest.update(f"{name} {view.shape} {view.transposed} {view.rows}\n".encode())
            for tensor in view.tensors():
                stored = np.ascontiguousarray(_ends(tensor.array())).view(np.uint8)
                digest.update(f"{tensor.dtype} {tensor.shape}\n".encode() + stored.tobytes())
        return digest.hexdigest()


def equal_values(one: WeightView, other: WeightView) -> bool:
    """Whether two weights hold the same values; False where one is not at hand. A few rows are read first, then all."""
    if one.shape != other.shape or one.dtype != other.dtype or one.blocks or other.blocks:
        return False
    if not (one.available() and other.available()):
        return False
    mine, theirs = one.stored(), other.stored()
    sample = np.linspace(0, len(mine) - 1, 16).astype(int)
    pieces: list[Any] = [sample, *(slice(i, i + 4096) for i in range(0, len(mine), 4096))]
    return all(np.array_equal(mine[piece], theirs[piece]) for piece in pieces)


def _dequantised(stored: Array, blocks: Blocks, start: int, stop: int) -> NDArray[np.float32]:
    """Rows of a tensor [rows, blocks, bytes a block], the first value of a byte in its lowest bits."""
    values = _unpacked(stored[start:stop].reshape(stop - start, -1), blocks.bits).reshape(
        stop - start, -1, blocks.block_size
    )
    count = values.shape[1]
    scales = _widened(blocks.scales.dtype, blocks.scales.array().reshape(-1, count)[start:stop])
    zero: Any = np.float32(1 << (blocks.bits - 1))
    if blocks.zero_points is not None:
        points = blocks.zero_points.array().reshape(len(stored), -1)[start:stop]
        packed = blocks.zero_points.dtype == "u8"
        zero = (_unpacked(points, blocks.bits)[:, :count] if packed else _widened(blocks.zero_points.dtype, points))[
            ..., None
        ]
    wide = (values.astype(np.float32) - zero) * scales[..., None]
    result: NDArray[np.float32] = wide.reshape(stop - start, -1)[:, : blocks.columns].astype(np.float32)
    return result


def _unpacked(stored: Array, bits: int) -> Array:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (stored[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return np.asarray(parts.reshape(*stored.shape[:-1], -1))


def _widened(dtype: str, stored: Array) -> NDArray[np.float32]:
    if dtype != "bf16":
        return stored.astype(np.float32, copy=False)
    wide: NDArray[np.float32] = (stored.astype(np.uint32) << 16).view(np.float32)
    return wide


def _ends(array: Array) -> Array:
    flat = array.reshape(-1)
    count = max(1, _SAMPLE_BYTES // max(1, flat.itemsize))
    middle = flat.size // 2
    return np.concatenate([flat[:count], flat[middle : middle + count], flat[-count:]])
