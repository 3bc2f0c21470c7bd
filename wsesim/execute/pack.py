"""Weights as the kernels read them: tiles of the linear layers, rows of the embedding, laid-out norm weights.

Packed once and a tensor at a time: a bf16 model that its store offers raw never exists twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsesim.errors import UnknownNameError
from wsesim.execute.buffers import row_of
from wsesim.execute.errors import WeightShapeError
from wsesim.execute.memory import aligned_zeros
from wsesim.execute.merges import linear_schedule
from wsesim.execute.threads import prange
from wsesim.execute.tiles import PANEL
from wsesim.execute.vectors import narrow_bf16
from wsesim.jit import njit
from wsesim.program import Program
from wsesim.program.kernels import Embed, Linear, QKNorm, RMSNorm, WeightRef
from wsesim.program.layout import Heads, Layout, ceil_div
from wsesim.program.protocols import WeightStore

DTYPES = ("fp32", "bf16", "fp16", "int8")
_STORED: dict[str, type[np.generic]] = {
    "fp32": np.float32,
    "bf16": np.uint16,
    "fp16": np.int16,
    "int8": np.int8,
}
_RAW = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}

Floats = NDArray[np.float32]


@runtime_checkable
class RawStore(Protocol):
    """A WeightStore that can also hand a tensor over as it is stored: ("f32" | "f16" | "bf16", array)."""

    def raw(self, name: str) -> tuple[str, NDArray[Any]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Stored rows [out, in] of one WeightRef; `scales` of each row for int8, else empty."""

    values: NDArray[Any]
    scales: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """A linear layer's weights: values [panels, visits, k, PANEL] and scales [panels, PANEL] (or none), flat.

    Every output begins on a panel of its own: output o has `panels[o]` of them, in order. `biases`: of each output
    that has one, by its value, at the places of its elements, flat.
    """

    values: NDArray[Any]
    scales: Floats
    panels: tuple[int, ...]
    biases: dict[str, Floats]


def check_dtype(dtype: str) -> None:
    """Raises UnknownNameError."""
    if dtype not in DTYPES:
        raise UnknownNameError("weight dtype", dtype, DTYPES)


class Reader:
    """Reads tensors of `store` as `dtype`; one that several WeightRefs name is read once and kept until the
    last."""

    def __init__(self, store: WeightStore, dtype: str, refs: Iterable[WeightRef]) -> None:
        self.store, self.dtype = store, dtype
        self._uses = Counter(ref.name for ref in refs)
        self._kept: dict[str, NDArray[Any]] = {}

    def matrix(self, ref: WeightRef) -> Matrix:
        """The rows that `ref` names, rounded to nearest; int8 as round(row / scale), scale = max|row| /
        127."""
        values = self._tensor(ref.name)
        values = (values.T if ref.transpose else values)[ref.start : ref.stop]
        if self.dtype == "int8":
            return _quantised(values)
        return Matrix(values, np.empty(0, np.float32))

    def vector(self, ref: WeightRef) -> Floats:
        """The elements that `ref` names of a vector, float32 whatever the dtype."""
        return np.asarray(self.store.load(ref.name), np.float32)[ref.start : ref.stop]

    def _tensor(self, name: str) -> NDArray[Any]:
        values = self._kept.pop(name, None)
        values = _as_stored(self.store, name, self.dtype) if values is None else values
        self._uses[name] -= 1
        if self._uses[name] > 0:
            self._kept[name] = values
        return values


def _as_stored(store: WeightStore, name: str, dtype: str) -> NDArray[Any]:
    """The tensor in the stored type of `dtype`; for int8 still float32."""
    if isinstance(store, RawStore) and dtype in ("bf16", "fp16"):
        kind, raw = store.raw(name)
        if _RAW.get(kind) == dtype:
            return np.asarray(raw).view(_STORED[dtype])
    values = np.asarray(store.load(name), np.float32)
    if dtype == "bf16":
        bits = np.empty(values.shape, np.uint16)
        narrow_bf16(np.ascontiguousarray(values).reshape(-1), bits.reshape(-1))
        return bits
    return values.astype(np.float16).view(np.int16) if dtype == "fp16" else values


def _quantised(values: Floats) -> Matrix:
    highest = np.abs(values).max(axis=1)
    scales = np.where(highest > 0, highest / np.float32(127), np.float32(1)).astype(np.float32)
    return Matrix(np.rint(values / scales[:, None]).astype(np.int8), scales)


class TileMemory:
    """One array for the tiles of all linear layers: the system maps it in large pages, which a small one would not
    get.
    """

    def __init__(self, layers: Iterable[Linear], dtype: str) -> None:
        sizes = [sum(_panels(layer)) * PANEL * row_of(layer.layout) for layer in layers]
        self._left = aligned_zeros(sum(sizes), _STORED[dtype])

    def take(self, size: int) -> NDArray[Any]:
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def pack_weights(program: Program, store: WeightStore, dtype: str) -> dict[str, Any]:
    """What each kernel that has weights reads, by its name, in the order of the kernels: Matrix of an Embed, Tiles of a
    Linear in the order of a decode step's visits, the norms' weights. Raises WeightShapeError.
    """
    refs = [ref for kernel in program.kernels for ref, _, _ in kernel.tiles]
    reader = Reader(store, dtype, refs)
    memory = TileMemory((k for k in program.kernels if isinstance(k, Linear)), dtype)
    packed: dict[str, Any] = {}
    for kernel in program.kernels:
        match kernel:
            case Embed():
                packed[kernel.name] = pack_embed(kernel, reader)
            case RMSNorm():
                packed[kernel.name] = pack_norm(kernel, reader)
            case Linear():
                packed[kernel.name] = pack_linear(kernel, reader, memory)
            case QKNorm():
                packed[kernel.name] = pack_head_norms(kernel, reader)
            case _:
                pass
    return packed


def pack_linear(kernel: Linear, reader: Reader, memory: TileMemory) -> Tiles:
    """The tiles of every output of `kernel`. Raises WeightShapeError."""
    panels = _panels(kernel)
    columns = kernel.layout.indices()[linear_schedule(kernel).order].reshape(-1)
    size = len(columns) * PANEL
    values = memory.take(sum(panels) * size)
    scales = np.zeros(sum(panels) * PANEL if reader.dtype == "int8" else 0, np.float32)
    first = 0
    for output, count in zip(kernel.outputs, panels, strict=True):
        matrix = reader.matrix(output.weight)
        _check_shape(matrix, output.weight, (output.layout.size, kernel.layout.size))
        rows = np.full(count * PANEL, -1, np.int32)
        rows[: row_of(output.layout)] = output.layout.indices().reshape(-1)
        _pack(matrix.values, rows, columns, values[first * size : (first + count) * size])
        if len(scales):
            scales[first * PANEL : (first + count) * PANEL] = np.where(rows >= 0, matrix.scales[rows], 0)
        first += count
    given = ((output, output.bias) for output in kernel.outputs)
    biases = {output.value: _laid_out(bias, output.layout, reader) for output, bias in given if bias is not None}
    return Tiles(values, scales, panels, biases)


def _panels(kernel: Linear) -> tuple[int, ...]:
    return tuple(ceil_div(row_of(output.layout), PANEL) for output in kernel.outputs)


@njit(parallel=True)
def _pack(matrix: Any, rows: NDArray[np.int32], columns: NDArray[np.int32], out: Any) -> None:
    """out [panel, column, PANEL] flat = matrix[row, column] of each place, zero where either is padding."""
    inputs = len(columns)
    for panel in prange(len(rows) // PANEL):
        for i in range(inputs):
            at = (panel * inputs + i) * PANEL
            for n in range(PANEL):
                row = rows[panel * PANEL + n]
                there = row >= 0 and columns[i] >= 0
                out[at + n] = matrix[row, columns[i]] if there else out.dtype.type(0)


def pack_norm(kernel: RMSNorm, reader: Reader) -> Floats:
    """The norm's weight at its places, flat."""
    return _laid_out(kernel.weight, kernel.layout, reader)


def _laid_out(ref: WeightRef, layout: Layout, reader: Reader) -> Floats:
    values = reader.vector(ref)
    if values.shape != (layout.size,):
        raise WeightShapeError(f"{ref.name} gives {values.shape} weights, ({layout.size},) needed")
    places = layout.indices().reshape(-1)
    return np.where(places >= 0, values[places], np.float32(0))


def pack_head_norms(kernel: QKNorm, reader: Reader) -> tuple[Floats, ...]:
    """Of each source the weight [segment, features] flat, zero where there is padding; all heads share it."""
    return tuple(_head_norm(ref, layout, reader) for ref, layout in zip(kernel.weights, kernel.layouts, strict=True))


def _head_norm(ref: WeightRef, layout: Heads, reader: Reader) -> Floats:
    values = reader.vector(ref)
    if values.shape != (layout.head_dim,):
        raise WeightShapeError(f"{ref.name} gives {values.shape} weights, ({layout.head_dim},) needed")
    places = layout.indices()[: layout.segment, : layout.features].reshape(-1)  # those of the first head
    return np.where(places >= 0, values[places], np.float32(0))


def pack_embed(kernel: Embed, reader: Reader) -> Matrix:
    """The table [vocabulary, features], a view of the store's own tensor where that has the dtype."""
    matrix = reader.matrix(kernel.weight)
    _check_shape(matrix, kernel.weight, (kernel.vocabulary.size, kernel.layout.size))
    return Matrix(np.ascontiguousarray(matrix.values), matrix.scales)


def _check_shape(matrix: Matrix, ref: WeightRef, shape: tuple[int, int]) -> None:
    if matrix.values.shape != shape:
        raise WeightShapeError(f"{ref.name} gives {matrix.values.shape} weights, {shape} needed")
