"""Damage to a GGUF file that knows its fields: counts, lengths, types, dimensions, offsets, whole entries."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tests.fuzz.damage import damage_bytes, number_bytes, overwritten

_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_FRONT_BYTES = 24  # magic, version, number of tensors, number of metadata


@dataclass(frozen=True, slots=True)
class Parts:
    """The front, each metadatum, each tensor's entry, and the rest. `fields` are (offset, bytes) in the front three."""

    front: bytes
    metadata: tuple[bytes, ...]
    tensors: tuple[bytes, ...]
    rest: bytes
    fields: tuple[tuple[int, int], ...]

    def joined(self) -> bytes:
        """The whole file; the counts are those of the entries."""
        counts = struct.pack("<QQ", len(self.tensors), len(self.metadata))
        return self.front[:8] + counts + b"".join((*self.metadata, *self.tensors)) + self.rest


class _Walk:
    """Reads forward and notes each field."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.fields: list[tuple[int, int]] = []

    def number(self, width: int) -> int:
        self.fields.append((self.at, width))
        self.at += width
        if self.at > len(self.data):
            raise IndexError(self.at)
        return int.from_bytes(self.data[self.at - width : self.at], "little")

    def string(self) -> None:
        length = self.number(8)
        self.fields += [(self.at, min(length, 8))] if length else []
        self.at += length

    def value(self, kind: int) -> None:
        if kind == _STRING:
            self.string()
        elif kind == _ARRAY:
            inner, count = self.number(4), self.number(8)
            if inner in _SCALAR_BYTES:
                self.fields += [(self.at, _SCALAR_BYTES[inner])] if count else []
                self.at += count * _SCALAR_BYTES[inner]
            else:
                for _ in range(count):
                    self.value(inner)
        else:
            self.number(_SCALAR_BYTES[kind])

    def metadatum(self) -> None:
        self.string()
        self.value(self.number(4))

    def tensor(self) -> None:
        self.string()
        for _ in range(self.number(4)):
            self.number(8)
        self.number(4)
        self.number(8)

    def entries(self, count: int, entry: Callable[[], None]) -> tuple[bytes, ...]:
        found = []
        for _ in range(count):
            start = self.at
            entry()
            found.append(self.data[start : self.at])
        return tuple(found)


def parts_of(data: bytes) -> Parts:
    """Raises IndexError or KeyError if the damage leaves nothing to read."""
    walk = _Walk(data)
    walk.at = 4
    walk.number(4)
    tensors, metadata = walk.number(8), walk.number(8)
    read = walk.entries(metadata, walk.metadatum), walk.entries(tensors, walk.tensor)
    return Parts(data[:_FRONT_BYTES], *read, data[walk.at :], tuple(walk.fields))


def damage_gguf(rng: Random, data: bytes) -> bytes:
    """A field overwritten, a value of another type, or an entry dropped, doubled or moved."""
    try:
        parts = parts_of(data)
    except (IndexError, KeyError, RecursionError):
        return damage_bytes(rng, data)
    kind = rng.random()
    if kind < 0.4:
        at, width = rng.choice(parts.fields)
        return overwritten(data, at, number_bytes(rng, width))
    if kind < 0.65:
        at = rng.randrange(len(parts.metadata)) if parts.metadata else 0
        return replace(parts, metadata=_retyped(rng, parts.metadata, at)).joined()
    if kind < 0.8 and parts.tensors:
        return replace(parts, tensors=_retold(rng, parts.tensors)).joined()
    if rng.random() < 0.7:
        return replace(parts, metadata=_shuffled(rng, parts.metadata)).joined()
    return replace(parts, tensors=_shuffled(rng, parts.tensors)).joined()


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _name(entry: bytes) -> bytes:
    """The string that an entry begins with, its length included."""
    return entry[: 8 + int.from_bytes(entry[:8], "little")]


def _array(kind: int, count: int, items: bytes) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, count) + items


def _values(rng: Random) -> bytes:
    """A metadatum's type and value that its reader did not expect."""
    return rng.choice(
        (
            struct.pack("<Id", 12, rng.choice((float("nan"), float("inf"), -1.0, 1e308, 0.5))),
            struct.pack("<If", 6, rng.choice((float("nan"), float("-inf"), 0.0, 1e30))),
            struct.pack("<IB", 7, rng.choice((0, 1, 2, 255))),
            struct.pack("<Iq", 11, rng.choice((-1, 0, 1, -(2**63), 2**63 - 1))),
            struct.pack("<IQ", 10, rng.choice((0, 1, 2**31, 2**64 - 1))),
            struct.pack("<I", _STRING) + _string(rng.choice((b"", b"llama", b"\xff", b"\0", b"a\nb", b"x" * 5000))),
            _array(4, 0, b""),
            _array(4, 2, struct.pack("<II", 1, 2**32 - 1)),
            _array(6, 1, struct.pack("<f", float("nan"))),
            _array(_STRING, 2, _string(b"a") + _string(b"a b c")),
            _array(_STRING, 2**40, b""),
            _array(_ARRAY, 1, struct.pack("<IQ", 4, 0)),
            struct.pack("<I", _ARRAY)
            + struct.pack("<IQ", _ARRAY, 1) * rng.choice((20, 5_000))
            + struct.pack("<IQ", 4, 0),
        )
    )


def _retyped(rng: Random, entries: tuple[bytes, ...], at: int) -> tuple[bytes, ...]:
    if not entries:
        return (_string(b"general.alignment") + _values(rng),)
    name = rng.choice((_name(entries[at]), _name(entries[at]), _string(b"general.alignment"), _string(b"split.count")))
    return (*entries[:at], name + _values(rng), *entries[at + 1 :])


def _retold(rng: Random, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """A tensor's entry with another rank, shape, type or place."""
    at = rng.randrange(len(entries))
    rank = rng.choice((0, 1, 2, 3, 4, 5, 2**32 - 1))
    shape = [rng.choice((0, 1, 8, 32, 64, 2**31, 2**63, 2**64 - 1)) for _ in range(min(rank, 8))]
    where = struct.pack("<IQ", rng.choice((*range(32), 2**32 - 1)), rng.choice((0, 1, 32, 2**20, 2**63, 2**64 - 1)))
    told = _name(entries[at]) + struct.pack(f"<I{len(shape)}Q", rank, *shape) + where
    return (*entries[:at], told, *entries[at + 1 :])


def _shuffled(rng: Random, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
    items = list(entries)
    if not items:
        return entries
    at = rng.randrange(len(items))
    entry, kind = items.pop(at), rng.randrange(4)
    if kind == 1:
        items[at:at] = [entry] * rng.choice((2, 100))
    elif kind == 2:
        items.insert(rng.randrange(len(items) + 1), entry)
    elif kind == 3:
        name = _name(rng.choice(entries))
        items.insert(at, name + entry[len(_name(entry)) :])
    return tuple(items)
