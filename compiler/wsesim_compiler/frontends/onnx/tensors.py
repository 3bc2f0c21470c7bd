"""A file's tensors: type and shape at once, the data when it is asked for, from the file or mapped from one beside it.

External data is read from files in the model's own folder only: no absolute path, no `..`, no link that leads out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim.errors import brief
from wsesim.files import open_file
from wsesim_compiler.errors import OnnxFileError
from wsesim_compiler.operators.operator import Array

if TYPE_CHECKING:
    from onnx import TensorProto

DTYPES: dict[int, tuple[str, Any]] = {
    1: ("f32", np.dtype("<f4")),
    2: ("u8", np.dtype("u1")),
    3: ("i8", np.dtype("i1")),
    5: ("i16", np.dtype("<i2")),
    6: ("i32", np.dtype("<i4")),
    7: ("i64", np.dtype("<i8")),
    9: ("bool", np.dtype("?")),
    10: ("f16", np.dtype("<f2")),
    11: ("f64", np.dtype("<f8")),
    16: ("bf16", np.dtype("<u2")),  # its bits
}
"""ONNX element types that are read: our name, and NumPy's type of what is stored."""

_LARGEST_BYTES = 1 << 42
_FIELDS = {1: "float_data", 7: "int64_data", 11: "double_data"}  # int32_data holds all others


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One initialiser: `dtype` is ours, `location` names a file beside the model's, or is empty for data inside it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    model: Path
    proto: TensorProto
    location: str = ""
    offset: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the data by type and shape."""
        return prod(self.shape) * int(DTYPES[self.proto.data_type][1].itemsize)

    @property
    def size(self) -> int:
        """Elements."""
        return prod(self.shape)

    def available(self) -> bool:
        """Whether the data is at hand: a model may be timed without."""
        return not self.location or (self.model.parent / self.location).is_file()

    def array(self) -> Array:
        """The data in its shape as it is stored, bf16 as its uint16 bits; external data is a map of its file.

        Raises OnnxFileError if it is not there, or not as long as it should be.
        """
        stored = DTYPES[self.proto.data_type][1]
        if self.location:
            return self._mapped(stored)
        if self.proto.HasField("raw_data"):
            self._require_length(len(self.proto.raw_data))
            return np.asarray(np.frombuffer(self.proto.raw_data, stored).reshape(self.shape))
        field = getattr(self.proto, _FIELDS.get(self.proto.data_type, "int32_data"))
        if len(field) != prod(self.shape):
            raise self._wrong(f"holds {len(field)} values")
        values: Array = np.array(field, stored if self.proto.data_type in _FIELDS else np.int64)
        if self.dtype == "f16":  # its bits are there
            values = values.astype(np.uint16).view(stored)
        return values.astype(stored, copy=False).reshape(self.shape)

    def _mapped(self, stored: Any) -> Array:
        file = external_file(self.model, self.name, self.location)
        there = file.stat().st_size
        if self.offset + self.size_bytes > there:
            raise self._wrong(f"has {self.location!r} hold {self.offset + self.size_bytes:,} bytes, it holds {there:,}")
        if not self.size_bytes:
            return np.zeros(self.shape, stored)
        with open_file(file, "external data") as opened:
            mapped: Array = np.memmap(opened, stored, "r", self.offset, self.shape)
        return mapped

    def _require_length(self, length: int) -> None:
        if length != self.size_bytes:
            raise self._wrong(f"holds {length:,} bytes")

    def _wrong(self, found: str) -> OnnxFileError:
        return OnnxFileError(self.model, f"initialiser {self.name!r} {self.dtype} {list(self.shape)} {found}")


def tensor_of(model: Path, proto: TensorProto) -> Tensor:
    """The tensor that a TensorProto declares. Raises OnnxFileError for a type, shape or place that is not read."""
    if proto.data_type not in DTYPES:
        raise OnnxFileError(
            model, f"initialiser {proto.name!r} has the element type {proto.data_type}, which is not read"
        )
    dtype, stored = DTYPES[proto.data_type]
    shape = tuple(int(dim) for dim in proto.dims)
    if any(dim < 0 for dim in shape) or prod(shape) * stored.itemsize > _LARGEST_BYTES:
        raise OnnxFileError(model, f"initialiser {proto.name!r} has the shape {list(shape)}")
    if proto.data_location != proto.EXTERNAL:
        return Tensor(proto.name, dtype, shape, model, proto)
    given = {entry.key: entry.value for entry in proto.external_data}
    _require_inside(model, proto.name, given.get("location", ""))
    offset = _whole(model, proto.name, given.get("offset", "0"))
    tensor = Tensor(proto.name, dtype, shape, model, proto, given["location"], offset)
    length = _whole(model, proto.name, given.get("length", str(tensor.size_bytes)))
    if length != tensor.size_bytes:
        what = f"initialiser {proto.name!r} {dtype} {list(shape)}"
        raise OnnxFileError(
            model, f"{what} has {length:,} bytes of external data, it should have {tensor.size_bytes:,}"
        )
    return tensor


def external_file(model: Path, name: str, location: str) -> Path:
    """The file of external data, which must be a plain one in the model's folder."""
    _require_inside(model, name, location)
    folder = model.parent.resolve()
    file = model.parent / location
    if not file.exists():
        raise OnnxFileError(model, f"the data of {name!r} is in {location!r}, which is not there")
    if not file.resolve().is_relative_to(folder) or not file.is_file():
        raise OnnxFileError(
            model, f"the data of {name!r} is in {location!r}, which is no file of the model's own folder"
        )
    return file.resolve()


def _require_inside(model: Path, name: str, location: str) -> None:
    for path in (PurePosixPath(location), PureWindowsPath(location)):
        if not location or "\0" in location or path.is_absolute() or path.anchor or ".." in path.parts:
            raise OnnxFileError(
                model,
                f"the data of {name!r} is in {location!r}; it must be a file of the model's folder, by a relative name",
            )


def _whole(model: Path, name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise OnnxFileError(model, f"the data of {name!r} has an offset or length of {brief(text)}")
    return int(text)
