"""safetensors: one file, a folder, or shards with an index. Tensors are mapped, never copied whole.

The files are read here, because the `safetensors` package has no bfloat16 for NumPy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsesim.files import shown
from wsesim_models.errors import InvalidFileError, MissingWeightsError
from wsesim_models.reading import MOST_JSON_BYTES, MappedFile, checked, parsed, read
from wsesim_models.weights.arrays import RawArray, fingerprint, widen

if TYPE_CHECKING:
    from wsesim_models.schemas import TensorEntry

_TYPES: dict[str, tuple[str, Any]] = {
    "F32": ("f32", np.dtype("<f4")),
    "F16": ("f16", np.dtype("<f2")),
    "BF16": ("bf16", np.dtype("<u2")),
}
_MOST_HEADER_BYTES = 16 << 20
"""The format allows 100 MB. The largest Llama in one file needs 0.2 MB."""
_LISTED = 4


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor. `start` is its first byte, counted from the beginning of the file."""

    file: MappedFile
    dtype: str
    shape: tuple[int, ...]
    start: int

    def array(self) -> RawArray:
        return self.file.array(_TYPES[self.dtype][1], self.start, self.shape)


class SafetensorsWeights:
    """The tensors of a .safetensors file, of an index's shards, or of a folder of either.

    Raises InvalidFileError for a damaged or truncated file and for element types other than F32, F16, BF16;
    MissingWeightsError for a folder without safetensors and for an absent shard.
    """

    def __init__(self, path: str | Path) -> None:
        self._tensors: dict[str, _Tensor] = {}
        for file in _files(Path(path)):
            for name, tensor in _tensors(file):
                if name in self._tensors:
                    other = self._tensors[name].file.path.name
                    raise InvalidFileError(f"tensor {shown(name)} is both in {other} and in {file.name}")
                self._tensors[name] = tensor

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def raw(self, name: str) -> tuple[str, RawArray]:
        tensor = self._tensors[name]
        return _TYPES[tensor.dtype][0], tensor.array()

    def load(self, name: str) -> NDArray[np.float32]:
        return widen(*self.raw(name))

    def fingerprint(self) -> str:
        tensors = self._tensors.items()
        return fingerprint((name, tensor.dtype, tensor.shape, tensor.array()) for name, tensor in tensors)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return _shards(path) if path.suffix == ".json" else [path]
    indices = sorted(path.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise InvalidFileError(f"{path} holds {len(indices)} indices of shards, name one of them")
    found = _shards(indices[0]) if indices else sorted(path.glob("*.safetensors"))
    if not found:
        raise MissingWeightsError(f"{path} holds no *.safetensors and no .gguf")
    return found


def _shards(index: Path) -> list[Path]:
    from wsesim_models.schemas import ShardIndex

    entries = parsed(read(index, "an index of shards", MOST_JSON_BYTES), index.name)
    names = sorted(set(checked(index.name, ShardIndex, entries).weight_map.values()))
    missing = [shown(name) for name in names if not os.path.exists(index.parent / name)]
    if missing:
        rest = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        listed = ", ".join(missing[:_LISTED])
        raise MissingWeightsError(f"{index.name} names shards that are not beside it: {listed}{rest}")
    return [index.parent / name for name in names]


def _tensors(path: Path) -> Iterable[tuple[str, _Tensor]]:
    from wsesim_models.schemas import TensorEntry

    file = MappedFile.at(path)
    header, data_start = _header(file)
    for name, found in header.items():
        if name != "__metadata__":
            entry = checked(f"{path.name}: tensor {shown(name)}", TensorEntry, found)
            yield name, _tensor(file, name, entry, data_start)


def _header(file: MappedFile) -> tuple[dict[str, Any], int]:
    name = file.path.name
    size = int.from_bytes(file.array(np.uint8, 0, (min(8, file.size_bytes),)).tobytes(), "little")
    if file.size_bytes < 8 or size < 2:
        raise InvalidFileError(f"{name} is not a safetensors file: it does not begin with a header")
    if size > _MOST_HEADER_BYTES:
        raise InvalidFileError(
            f"{name} is not a safetensors file: its header of {size} bytes is larger than {_MOST_HEADER_BYTES}"
        )
    if size > file.size_bytes - 8:
        raise InvalidFileError(f"{name} ends inside its header of {size} bytes, {file.size_bytes - 8} are there")
    header = parsed(file.array(np.uint8, 8, (size,)).tobytes(), f"{name}: the header")
    return checked(f"{name}: the header", dict[str, Any], header), 8 + size


def _tensor(file: MappedFile, name: str, entry: TensorEntry, data_start: int) -> _Tensor:
    where, shape, (start, end) = f"{file.path.name}: tensor {shown(name)}", tuple(entry.shape), entry.data_offsets
    if entry.dtype not in _TYPES:
        raise InvalidFileError(f"{where} is {shown(entry.dtype)}; supported element types are {', '.join(_TYPES)}")
    needed = math.prod(shape) * _TYPES[entry.dtype][1].itemsize
    if end - start != needed:
        raise InvalidFileError(
            f"{where} of shape {list(shape)} in {entry.dtype} needs {needed} bytes, its header gives it {end - start}"
        )
    there = file.size_bytes - data_start - start
    if there < needed:
        raise InvalidFileError(
            f"{file.path.name} is truncated: tensor {shown(name)} needs {needed} bytes, {max(there, 0)} are there"
        )
    return _Tensor(file, entry.dtype, shape, data_start + start)
