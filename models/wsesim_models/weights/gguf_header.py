"""The header of a GGUF file: its metadata, and where each tensor lies.

The reader of the `gguf` package takes seconds for a vocabulary, and does not say what a truncated file lacks. So the
header is read here. The package dequantises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np

from wsesim.errors import brief
from wsesim.files import shown
from wsesim_models.errors import InvalidFileError
from wsesim_models.reading import MappedFile

K = TypeVar("K")
T = TypeVar("T")

# The format's numbers of its value types; the gaps are strings and arrays.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), map("<{}".format, "BbHhIif?Qqd"), strict=True))
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_MOST_NESTED_ARRAYS = 4
_MOST_HEADER_BYTES = 32 << 20
"""Twice the largest vocabulary. A limit is needed: the Python objects of a header are many times larger."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """One tensor. `shape` has the outermost dimension first; `offset` counts from the beginning of the file."""

    name: str
    type_number: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata by key (numbers, strings, lists of them) and tensors by name.

    `integer`, `number`, `text`, ... return one metadatum, or the `default` if it is absent. They raise InvalidFileError
    if it has another type, or if it is absent and there is no default.
    """

    file: MappedFile
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    @property
    def path(self) -> Path:
        return self.file.path

    def integer(self, key: str, *default: T) -> int | T:
        return self._of(key, "an integer", _is_integer, default)

    def number(self, key: str, *default: T) -> float | T:
        """A finite number that float32 can hold."""
        return self._of(key, "a finite number", _is_number, default)

    def text(self, key: str, *default: T) -> str | T:
        return self._of(key, "a string", _is_text, default)

    def flag(self, key: str, default: bool) -> bool:
        return self._of(key, "a boolean", _is_flag, (default,))

    def texts(self, key: str) -> list[str]:
        return self._of(key, "a list of strings", _is_texts, ())

    def integers(self, key: str) -> list[int]:
        """A list of integers; empty if the file has none."""
        return self._of(key, "a list of integers", _is_integers, ([],))

    def _of(self, key: str, words: str, is_right: Callable[[object], TypeGuard[K]], default: tuple[T, ...]) -> K | T:
        if key not in self.metadata:
            if default:
                return default[0]
            raise InvalidFileError(f"{self.path.name} lacks the metadatum {key}")
        found: object = self.metadata[key]
        if not is_right(found):
            raise InvalidFileError(f"{self.path.name}: {key} is {brief(found)}, expected {words}")
        return found

    def check_architecture(self) -> None:
        """Raises InvalidFileError unless the file is a Llama."""
        architecture = self.text("general.architecture")
        if architecture != "llama":
            raise InvalidFileError(f"{self.path.name} is a {shown(architecture)}; only llama is read")


def _is_integer(value: object) -> TypeGuard[int]:
    return type(value) is int


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FLOAT32_MAX


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _is_flag(value: object) -> TypeGuard[bool]:
    return isinstance(value, bool)


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_integers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(map(_is_integer, value))


def read_header(path: str | Path) -> GGUFHeader:
    """The header. The model, its weights and its tokenizer share one reading of it.

    Raises InvalidFileError for another kind of file, an unread version, or a file that ends too early.
    """
    return _read(MappedFile.at(Path(path)))


@lru_cache(maxsize=4)
def _read(file: MappedFile) -> GGUFHeader:
    """The header of a file with this identity."""
    name = file.path.name
    cursor = _Cursor(name, file.array(np.uint8, 0, (min(file.size_bytes, _MOST_HEADER_BYTES),)).data)
    if bytes(cursor.take(4)) != b"GGUF":
        raise InvalidFileError(f"{name} is not a GGUF file: it does not begin with GGUF")
    version = cursor.scalar("<I")
    if version not in _VERSIONS:
        raise InvalidFileError(f"{name} is GGUF version {version}; versions 2 and 3 are read")
    tensor_count, metadata_count = cursor.scalar("<Q"), cursor.scalar("<Q")
    metadata: dict[str, Any] = {}
    for _ in cursor.times(metadata_count, "metadata"):
        key, value = cursor.metadatum()
        if key in metadata:
            raise InvalidFileError(f"{name} has the metadatum {shown(key)} twice")
        metadata[key] = value
    described = [cursor.tensor() for _ in cursor.times(tensor_count, "tensors")]
    header = GGUFHeader(file, metadata, {})
    alignment = header.integer("general.alignment", 32)
    if alignment < 1:
        raise InvalidFileError(f"{name}: general.alignment is {alignment}, expected 1 or more")
    data_start = -(-cursor.offset // alignment) * alignment
    for tensor, kind, shape, start in described:
        if tensor in header.tensors:
            raise InvalidFileError(f"{name} has the tensor {shown(tensor)} twice")
        header.tensors[tensor] = GGUFTensor(tensor, kind, shape, data_start + start)
    return header


class _Cursor:
    """Reads the file's bytes one after the other. Its InvalidFileErrors name the entry that was being read."""

    def __init__(self, file_name: str, data: memoryview) -> None:
        self._file_name = file_name
        self._data = data
        self._reading = "the header"
        self.offset = 0

    def metadatum(self) -> tuple[str, Any]:
        self._reading = "a metadatum's key"
        key = self._string()
        self._reading = f"the metadatum {shown(key)}"
        return key, self._value(self.scalar("<I"), 0)

    def tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        self._reading = "a tensor's name"
        name = self._string()
        self._reading = f"tensor {shown(name)}"
        rank = self.scalar("<I")
        if not 1 <= rank <= _MOST_DIMENSIONS:
            raise self._damaged(f"has {rank} dimensions, expected 1 to {_MOST_DIMENSIONS}")
        shape = tuple(self.scalar("<Q") for _ in range(rank))[::-1]
        if 0 in shape:
            raise self._damaged(f"has the shape {list(shape)}, expected no zero")
        return name, self.scalar("<I"), shape, self.scalar("<Q")

    def times(self, count: int, what: str) -> range:
        """range(count), after a check that the rest of the file can hold so many `what`."""
        if count > len(self._data) - self.offset:
            self._reading = f"{count} {what}"
            raise self._too_short()
        return range(count)

    def take(self, count: int) -> memoryview:
        if count > len(self._data) - self.offset:
            raise self._too_short()
        self.offset += count
        return self._data[self.offset - count : self.offset]

    def scalar(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def _string(self) -> str:
        data = self.take(self.scalar("<Q"))
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"is not UTF-8 at its byte {error.start}") from None

    def _value(self, kind: int, depth: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(self.scalar("<I"), self.scalar("<Q"), depth + 1)
        return self.scalar(self._layout(kind))

    def _array(self, kind: int, count: int, depth: int) -> list[Any]:
        if depth > _MOST_NESTED_ARRAYS:
            raise self._damaged(f"has arrays nested deeper than {_MOST_NESTED_ARRAYS}")
        if kind in (_STRING, _ARRAY):
            return [self._value(kind, depth) for _ in self.times(count, f"elements of {self._reading}")]
        dtype = np.dtype(self._layout(kind))
        values: list[Any] = np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return values

    def _layout(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise self._damaged(f"is of the unknown type {kind}")
        return _SCALARS[kind]

    def _damaged(self, how: str) -> InvalidFileError:
        return InvalidFileError(f"{self._file_name}: {self._reading} {how}")

    def _too_short(self) -> InvalidFileError:
        if len(self._data) == _MOST_HEADER_BYTES:
            return InvalidFileError(f"{self._file_name}: its header is larger than {_MOST_HEADER_BYTES} bytes")
        return InvalidFileError(f"{self._file_name} ends inside its header: {self._reading} cannot be read")
