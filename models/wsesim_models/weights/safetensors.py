"""safetensors: one file, a folder, or shards behind an index; mapped, never copied whole.

Read here rather than by the `safetensors` package because its NumPy side has no bfloat16.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim_models.errors import InvalidFileError, MissingWeightsError
from wsesim_models.weights.arrays import RawArray, fingerprint, widen

_TYPES: dict[str, tuple[str, Any]] = {
    "F32": ("f32", np.dtype("<f4")),
    "F16": ("f16", np.dtype("<f2")),
    "BF16": ("bf16", np.dtype("<u2")),
}
_HEADER_LIMIT_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor lies: `start` counts from the beginning of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def array(self) -> RawArray:
        stored = _TYPES[self.dtype][1]
        return np.memmap(self.path, stored, "r", self.start, self.shape)


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
                    other = self._tensors[name].path.name
                    raise InvalidFileError(f"tensor {name} is both in {other} and in {file.name}")
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
    if path.is_file():
        return _shards(path) if path.suffix == ".json" else [path]
    indices = sorted(path.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise InvalidFileError(f"{path} holds {len(indices)} indices of shards, name one of them")
    found = _shards(indices[0]) if indices else sorted(path.glob("*.safetensors"))
    if not found:
        raise MissingWeightsError(f"{path} holds no *.safetensors and no .gguf")
    return found


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise InvalidFileError(f"{index.name} is not an index of shards: it needs a weight_map") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise MissingWeightsError(f"{index.name} names shards that are not beside it: {', '.join(missing)}")
    return [index.parent / name for name in names]


def _tensors(path: Path) -> Iterable[tuple[str, _Tensor]]:
    header, data_start = _header(path)
    data_bytes = path.stat().st_size - data_start
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, _tensor(path, name, entry, data_start, data_bytes)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size) if 2 <= size <= _HEADER_LIMIT_BYTES else b""
    if not text:
        raise InvalidFileError(f"{path.name} is not a safetensors file: it does not begin with a header")
    if len(text) < size:
        raise InvalidFileError(f"{path.name} ends inside its header of {size} bytes, {len(text)} are there")
    try:
        return dict(json.loads(text)), 8 + size
    except (ValueError, TypeError) as error:
        raise InvalidFileError(f"{path.name} is not a safetensors file: its header is not JSON") from error


def _tensor(path: Path, name: str, entry: dict[str, Any], data_start: int, data_bytes: int) -> _Tensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(map(int, entry["shape"])), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFileError(f"{path.name}: the header's entry of {name} is damaged") from error
    if dtype not in _TYPES:
        raise InvalidFileError(
            f"{path.name}: tensor {name} is {dtype}; supported element types are {', '.join(_TYPES)}"
        )
    needed = math.prod(shape) * _TYPES[dtype][1].itemsize
    if end - start != needed or start < 0:
        raise InvalidFileError(
            f"{path.name}: tensor {name} of shape {list(shape)} in {dtype} needs {needed} bytes, "
            f"its header gives it {end - start}"
        )
    if end > data_bytes:
        there = max(data_bytes - start, 0)
        raise InvalidFileError(f"{path.name} is truncated: tensor {name} needs {needed} bytes, {there} are there")
    return _Tensor(path, dtype, shape, data_start + start)
