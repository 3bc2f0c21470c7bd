"""Weights and constants of a .pt2 file, as far as the compiler reads them: small tables, not pickled.

torch gets a new archive with these tensors' bytes. All others stand in it by shape alone, on the meta device: no
weight is read, and a file of 16 GB costs no more than its graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from wsesim.errors import brief
from wsesim.files import parse_json
from wsesim_compiler.frontends.exported.archive import Archive

_MOST_CONFIG_BYTES = 64 << 20
_MOST_TABLE_BYTES = 8 << 20
_MOST_KEPT_BYTES = 256 << 20
_MOST_ELEMENTS = 1 << 60

_ELEMENT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""By torch.export's number of a dtype: those that the compiler makes constants of."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a configuration: a name of the module's, and the view of a member that it is."""

    name: str
    member: str
    is_parameter: bool
    dtype: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    on_meta: bool


@dataclass(slots=True)
class Payload:
    """What torch is given: the entries of a configuration, and the members that these name."""

    entries: dict[str, Any] = field(default_factory=dict)
    members: dict[str, bytes] = field(default_factory=dict)


def read_tensors(archive: Archive, folder: str, prefix: str) -> Payload:
    """The tensors of `folder`, data/weights/ or data/constants/; `prefix` is what torch calls its members.

    Raises ValueError for tensors and objects that are pickled, and for entries that contradict their members.
    """
    payload = Payload()
    paths: dict[object, str] = {}
    kept_bytes = 0
    for tensor in _entries(archive, folder):
        read = _is_read(tensor, archive)
        kept_bytes += _bytes_of(tensor) if read else 0
        if kept_bytes > _MOST_KEPT_BYTES:
            raise ValueError(f"its buffers have more than {_MOST_KEPT_BYTES:,} bytes")
        key = tensor.member if read else (tensor.member, tensor.offset, tensor.sizes)
        if key not in paths:
            paths[key] = f"{prefix}{len(paths)}"
            payload.members[paths[key]] = archive.read(tensor.member, _MOST_TABLE_BYTES) if read else b""
        payload.entries[tensor.name] = _entry(tensor, paths[key], read)
    return payload


def _entries(archive: Archive, folder: str) -> Iterator[Tensor]:
    kind = folder.rstrip("/").rpartition("/")[2]
    name = f"{folder}model_{kind}_config.json"
    if f"{folder}model.pt" in archive:
        raise ValueError(f"{folder}model.pt is pickled; save the program again, with the torch that is installed here")
    table = parse_json(archive.read(name, _MOST_CONFIG_BYTES), name)
    entries = table.get("config") if isinstance(table, dict) else None
    if not isinstance(entries, dict):
        raise ValueError(f"{name} is no table of tensors")
    for tensor, entry in entries.items():
        try:
            yield _tensor(tensor, entry, folder)
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"{name}: {brief(tensor)} is no tensor") from None


def _tensor(name: str, entry: dict[str, Any], folder: str) -> Tensor:
    if entry["use_pickle"] is not False:
        raise ValueError(f"{brief(name)} is pickled, and a pickle may run code; save plain tensors")
    meta = entry["tensor_meta"]
    sizes, strides = (tuple(_number(size["as_int"]) for size in meta[key]) for key in ("sizes", "strides"))
    if len(sizes) != len(strides) or prod(sizes) > _MOST_ELEMENTS:
        raise ValueError(f"{brief(name)} has sizes and strides that contradict each other")
    offset = _number(meta["storage_offset"]["as_int"])
    member = folder + str(entry["path_name"])
    on_meta = meta["device"]["type"] == "meta"
    return Tensor(name, member, entry["is_param"] is True, _number(meta["dtype"]), sizes, strides, offset, on_meta)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_ELEMENTS:
        raise TypeError
    return value


def _bytes_of(tensor: Tensor) -> int:
    return prod(tensor.sizes) * _ELEMENT_BYTES[tensor.dtype]


def _is_read(tensor: Tensor, archive: Archive) -> bool:
    """Whether torch gets the values: those of buffers and constants that are small and lie in the file."""
    size_bytes = archive.size_bytes(tensor.member)
    if tensor.is_parameter or tensor.on_meta or tensor.dtype not in _ELEMENT_BYTES or not size_bytes:
        return False
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.sizes, tensor.strides, strict=True))
    if prod(tensor.sizes) and (last + 1) * _ELEMENT_BYTES[tensor.dtype] > size_bytes:
        raise ValueError(f"{brief(tensor.name)} goes beyond the {size_bytes:,} bytes of {brief(tensor.member)}")
    return max(size_bytes, _bytes_of(tensor)) <= _MOST_TABLE_BYTES


def _entry(tensor: Tensor, path: str, read: bool) -> dict[str, Any]:
    strides = tensor.strides if read else _contiguous(tensor.sizes)
    meta = {
        "dtype": tensor.dtype,
        "sizes": [{"as_int": size} for size in tensor.sizes],
        "requires_grad": False,
        "device": {"type": "cpu" if read else "meta", "index": None},
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": tensor.offset if read else 0},
        "layout": 7,  # strided
    }
    return {"path_name": path, "is_param": tensor.is_parameter, "use_pickle": False, "tensor_meta": meta}


def _contiguous(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(sizes[index + 1 :]) for index in range(len(sizes)))
