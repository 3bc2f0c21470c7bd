"""Damage to a zip archive: to its members, to its own tables, and members that unpack to a GiB."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from functools import cache
from random import Random

from tests.fuzz.damage import damage_bytes, damage_json, number_bytes, overwritten

_BOMB_BYTES = 1 << 30
_FIELDS = {  # of a local header and of a directory's entry: offset and width of versions, sizes, checksums, lengths
    b"PK\x03\x04": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\x01\x02": ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)),
    b"PK\x05\x06": ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}


def damage_zip(rng: Random, data: bytes) -> bytes:
    """One or two damages, the last of which may be one of bytes."""
    kind = rng.random()
    if kind < 0.02:
        return _bomb(data, rng.randrange(len(_members(data))))
    if kind < 0.15:
        return _damage_table(rng, data)
    if kind < 0.25:
        return damage_bytes(rng, data)
    members = _members(data)
    for _ in range(rng.choice((1, 1, 2))):
        members = _damage_member(rng, members)
    return _packed(members)


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _packed(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return made.getvalue()


def _damage_member(rng: Random, members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    if not members:
        return members
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.random()
    if kind < 0.1:
        return members[:at] + members[at + 1 :]
    if kind < 0.2:
        other = rng.choice(("", "../x", "/x", "a/b", "x" * 300, name.upper(), rng.choice(members)[0]))
        return [*members[:at], (other, content), *members[at + 1 :]]
    if kind < 0.3:
        return [*members[:at], (name, rng.choice(members)[1]), *members[at + 1 :]]
    is_json = _is_json(content)
    new = damage_json(rng, content) if is_json and rng.random() < 0.9 else damage_bytes(rng, content)
    return [*members[:at], (name, new), *members[at + 1 :]]


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict | list)
    except ValueError:
        return False


def _damage_table(rng: Random, data: bytes) -> bytes:
    """A field of a header overwritten."""
    magic = rng.choice(list(_FIELDS))
    places = [at for at in range(len(data)) if data.startswith(magic, at)]
    if not places:
        return damage_bytes(rng, data)
    offset, width = rng.choice(_FIELDS[magic])
    return overwritten(data, rng.choice(places) + offset, number_bytes(rng, width))


def _bomb(data: bytes, at: int) -> bytes:
    """The archive with a member in whose place a GiB of zeros is packed."""
    members = _members(data)
    name = members[at][0]
    packed, checksum = zeros()
    archive = _packed([*members[:at], (name, packed), *members[at + 1 :]])
    real = struct.pack("<I", checksum), struct.pack("<II", len(packed), _BOMB_BYTES)
    for magic, length_at, name_at, method_at in ((b"PK\x03\x04", 26, 30, 8), (b"PK\x01\x02", 28, 46, 10)):
        for start in (place for place in range(len(archive)) if archive.startswith(magic, place)):
            length = int.from_bytes(archive[start + length_at : start + length_at + 2], "little")
            if archive[start + name_at : start + name_at + length] == name.encode():
                archive = overwritten(archive, start + method_at, struct.pack("<H", zipfile.ZIP_DEFLATED))
                archive = overwritten(archive, start + method_at + 6, b"".join(real))
    return archive


@cache
def zeros() -> tuple[bytes, int]:
    """A GiB of zeros: deflated, and its CRC-32."""
    block, blocks, checksum = bytes(1 << 24), _BOMB_BYTES >> 24, 0
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # after which a block depends on none before
    for _ in range(blocks):
        checksum = zlib.crc32(block, checksum)
    return packed * blocks + packer.flush(), checksum
