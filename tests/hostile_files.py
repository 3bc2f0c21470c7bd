"""What tests of hostile files share: the refusal of a reader, and GGUF files made byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from wsesim_models.errors import InvalidFileError

DEEP = "[" * 200_000
DIGITS = "9" * 5000
MOST_CHARACTERS = 500


def refusal(read: Callable[[Path], object], path: Path, named: str = "") -> str:
    """The one line with which `read` refuses the file; it has the file's name in it."""
    with pytest.raises(InvalidFileError) as caught:
        read(path)
    said = str(caught.value)
    assert said.isprintable()
    assert (named or path.name) in said
    assert len(said) - len(str(path)) < MOST_CHARACTERS
    return said.replace(str(path), path.name)


U8, I8, U32, F32, BOOL, TEXT, ARRAY, U64, F64 = 0, 1, 4, 6, 7, 8, 9, 10, 12


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def number(kind: int, value: float) -> bytes:
    return struct.pack("<I", kind) + struct.pack({U32: "<I", F32: "<f", BOOL: "<?", F64: "<d", U64: "<Q"}[kind], value)


def string(value: str | bytes) -> bytes:
    return struct.pack("<I", TEXT) + text(value)


def array(kind: int, *elements: bytes, count: int | None = None) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(elements) if count is None else count) + b"".join(elements)


def texts(*values: str) -> bytes:
    return array(TEXT, *map(text, values))


def gguf(path: Path, metadata: dict[str, bytes], tensors: bytes = b"", tensor_count: int = 0, more: int = 0) -> Path:
    pairs = b"".join(text(key) + value for key, value in metadata.items())
    counts = struct.pack("<IQQ", 3, tensor_count, len(metadata) + more)
    path.write_bytes(b"GGUF" + counts + pairs + tensors + bytes(256))
    return path


def tensor(name: str, *shape: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, offset)
