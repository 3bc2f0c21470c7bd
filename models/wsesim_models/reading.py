"""Opens, maps and parses a model's files. Every error is an InvalidFileError that names the file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wsesim.errors import InvalidInputError, WsesimError
from wsesim.files import open_file, parse_json, read_bytes, validated
from wsesim_models.errors import InvalidFileError

MOST_JSON_BYTES = 4 << 20
"""Limit for JSON files other than tokenizer.json. The index of the largest Llama has 0.2 MB."""

T = TypeVar("T")


def read(path: Path, what: str, most_bytes: int) -> bytes:
    """The contents of a regular file. Raises InvalidFileError for other files, and for more than `most_bytes`."""
    with invalid_file():
        return read_bytes(path, what, most_bytes)


def parsed(text: bytes, name: str) -> Any:
    """The value of a JSON text from the file `name`. Raises InvalidFileError."""
    with invalid_file():
        return parse_json(text, name)


def checked(name: str, schema: type[T], value: object) -> T:
    """`value`, from the file `name`, as the pydantic model `schema`. Raises InvalidFileError."""
    with invalid_file():
        return validated(name, schema, value)


@contextmanager
def invalid_file() -> Iterator[None]:
    """Turns the InvalidInputErrors of `wsesim.files` into InvalidFileErrors."""
    try:
        yield
    except InvalidFileError:
        raise
    except InvalidInputError as error:
        raise InvalidFileError(str(error)) from None


@contextmanager
def refused_by(package: str, path: Path) -> Iterator[None]:
    """Turns every exception that a package in Rust raises over `path` into an InvalidFileError.

    These packages raise bare Exceptions. Their panics are BaseExceptions of a class that cannot be imported.
    """
    try:
        yield
    except WsesimError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # KeyboardInterrupt, SystemExit
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InvalidFileError(f"{path}: {package} refuses it: {reason}") from None


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file of weights: its size in bytes and its identity when it was first opened."""

    path: Path
    size_bytes: int
    state: tuple[int, ...]

    @classmethod
    def at(cls, path: Path) -> MappedFile:
        """The regular file at `path`. Raises InvalidFileError for other files."""
        with _opened(path) as file:
            return cls(path, *_identity(file))

    def array(self, dtype: DTypeLike, start_byte: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """A read-only, mapped view of the file as an array of `shape`.

        Raises InvalidFileError if the file has changed since it was first opened, or is too short for the array.
        """
        needed_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if start_byte + needed_bytes > self.size_bytes:
            there = max(self.size_bytes - start_byte, 0)
            raise InvalidFileError(f"{self.path.name} is truncated: {needed_bytes} bytes are needed, {there} are there")
        with _opened(self.path) as file:
            if _identity(file) != (self.size_bytes, self.state):
                raise InvalidFileError(f"{self.path}: changed while it was read; start again")
            return np.memmap(file, dtype, "r", start_byte, shape) if needed_bytes else np.empty(shape, dtype)


def _opened(path: Path) -> BinaryIO:
    with invalid_file():
        return open_file(path, "a file of weights")


def _identity(file: BinaryIO) -> tuple[int, tuple[int, ...]]:
    state = os.fstat(file.fileno())
    return state.st_size, (state.st_dev, state.st_ino, state.st_mtime_ns)
