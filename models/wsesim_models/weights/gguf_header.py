"""The front of a GGUF file: its metadata, and where each tensor lies.

Read here rather than by the `gguf` package's reader because that takes seconds over a vocabulary and does not
say what a truncated file lacks; the quantised formats themselves stay the package's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from wsesim_models.errors import InvalidFileError

# The format's numbers of its value types; the gaps are strings and arrays.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), map("<{}".format, "BbHhIif?Qqd"), strict=True))
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_DIMENSIONS_LIMIT = 4


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """A tensor as the file describes it: `shape` outermost first, `offset` from the beginning of the file."""

    name: str
    type_number: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata by key (numbers, strings, lists of them) and tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    def get(self, key: str, default: Any = None) -> Any:
        """One metadatum, or `default`."""
        return self.metadata.get(key, default)

    def need(self, key: str) -> Any:
        """One metadatum that the file must have. Raises InvalidFileError without it."""
        if key not in self.metadata:
            raise InvalidFileError(f"{self.path.name} lacks the metadatum {key}")
        return self.metadata[key]

    def check_architecture(self) -> None:
        """Raises InvalidFileError unless the file is a Llama."""
        architecture = self.need("general.architecture")
        if architecture != "llama":
            raise InvalidFileError(f"{self.path.name} is a {architecture}; only llama is read")


def read_header(path: str | Path) -> GGUFHeader:
    """Everything before the tensors' data, read once for the model, its weights and its tokenizer.

    Raises InvalidFileError for another kind of file, an unread version, or a file that ends too early.
    """
    path = Path(path)
    state = path.stat()
    return _read_file(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read_file(path: Path, modified_ns: int, size: int) -> GGUFHeader:
    """The header of the file as it is at that time."""
    try:
        return _read(path, _Cursor(np.memmap(path, np.uint8, "r").data))
    except (struct.error, LookupError, ValueError, TypeError, ZeroDivisionError) as error:
        raise InvalidFileError(f"{path.name} ends inside its header, or its header is damaged") from error


def _read(path: Path, cursor: _Cursor) -> GGUFHeader:
    if bytes(cursor.take(4)) != b"GGUF":
        raise InvalidFileError(f"{path.name} is not a GGUF file: it does not begin with GGUF")
    version = cursor.scalar("<I")
    if version not in _VERSIONS:
        raise InvalidFileError(f"{path.name} is GGUF version {version}; versions 2 and 3 are read")
    tensor_count, metadata_count = cursor.scalar("<Q"), cursor.scalar("<Q")
    metadata = {cursor.string(): cursor.value(cursor.scalar("<I")) for _ in range(metadata_count)}
    described = [cursor.tensor() for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    data_start = -(-cursor.offset // alignment) * alignment
    tensors = [GGUFTensor(name, kind, shape, data_start + start) for name, kind, shape, start in described]
    return GGUFHeader(path, metadata, {tensor.name: tensor for tensor in tensors})


class _Cursor:
    """Reads forward through the file's bytes."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.offset = 0

    def take(self, count: int) -> memoryview:
        if count > len(self._data) - self.offset:
            raise IndexError(count)
        self.offset += count
        return self._data[self.offset - count : self.offset]

    def scalar(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def string(self) -> str:
        return str(self.take(self.scalar("<Q")), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array(self.scalar("<I"), self.scalar("<Q"))
        return self.scalar(_SCALARS[kind])

    def _array(self, kind: int, count: int) -> list[Any]:
        if kind in (_STRING, _ARRAY):
            return [self.value(kind) for _ in range(count)]
        dtype = np.dtype(_SCALARS[kind])
        values: list[Any] = np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return values

    def tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        name, rank = self.string(), self.scalar("<I")
        if rank > _DIMENSIONS_LIMIT:
            raise ValueError(rank)
        shape = tuple(self.scalar("<Q") for _ in range(rank))[::-1]
        return name, self.scalar("<I"), shape, self.scalar("<Q")
