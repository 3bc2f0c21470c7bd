"""The members of a .pt2 file, a zip archive, within limits that its own size sets.

torch.export.save stores every member as it is. So a member that is packed, or members that hold more than the file
does, are a sign of a crafted file; they are refused before anything is unpacked.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from wsesim.errors import brief
from wsesim.files import open_file

_MOST_MEMBERS = 100_000
_MOST_BYTES_AT_ONCE = 8 << 20
"""Limit of one read: the table of contents is one, members are read in pieces."""
_PIECE_BYTES = 1 << 20


class Archive:
    """Read access by member name, without the folder that stands before every name."""

    def __init__(self, archive: zipfile.ZipFile, file_bytes: int) -> None:
        """Raises ValueError for members that torch.export.save does not write."""
        infos = archive.infolist()
        claimed_bytes = sum(info.file_size for info in infos)
        if claimed_bytes > file_bytes:
            raise ValueError(f"its members claim {claimed_bytes:,} bytes, the file has {file_bytes:,}")
        if len(infos) > _MOST_MEMBERS:
            raise ValueError(f"it has {len(infos):,} members; the limit is {_MOST_MEMBERS:,}")
        packed = next((info for info in infos if info.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise ValueError(f"member {brief(packed.filename)} is packed; torch.export.save packs nothing")
        self._archive = archive
        self._infos = {info.filename.partition("/")[2]: info for info in infos}

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def size_bytes(self, name: str) -> int:
        """Declared size of a member. Raises ValueError if it is not there."""
        return self._info(name).file_size

    def read(self, name: str, most_bytes: int) -> bytes:
        """A member's bytes. Raises ValueError if it is not there, is longer than `most_bytes` or damaged."""
        with self._archive.open(self._info(name)) as member:
            pieces, total_bytes = [], 0
            while piece := member.read(_PIECE_BYTES):
                pieces.append(piece)
                total_bytes += len(piece)
                if total_bytes > most_bytes:
                    raise ValueError(f"member {brief(name)} is longer than {most_bytes:,} bytes")
        return b"".join(pieces)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._infos:
            raise ValueError(f"it has no member {brief(name)}")
        return self._infos[name]


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The archive in a regular file, open for reading only.

    Raises InvalidInputError for what is no regular file; ValueError or what zipfile raises for what is no such archive.
    """
    what = "a file of torch.export.save"
    with open_file(path, what) as file, zipfile.ZipFile(_Bounded(file)) as archive:  # type: ignore[call-overload]
        yield Archive(archive, os.fstat(file.fileno()).st_size)


class _Bounded:
    """A file that refuses to read much at once: the table of contents of a crafted archive may be of any size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_BYTES_AT_ONCE:
            raise ValueError(f"its table of contents is longer than {_MOST_BYTES_AT_ONCE:,} bytes")
        return self._file.read(size if size >= 0 else _MOST_BYTES_AT_ONCE)
