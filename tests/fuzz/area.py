"""Area: one kind of file, its valid contents, how they are damaged, and what reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from wsesim.errors import WsesimError

ROOM_BYTES = 2 << 30
"""Bytes that a case may use beyond the memory of the process that it was forked from."""

Read = Callable[[Path], object]


def nothing(folder: Path) -> None:
    """Writes no other file."""


@dataclass(frozen=True, slots=True)
class Area:
    """`read` returns if it accepts a content, and raises a WsesimError if it does not.

    `make_seeds` returns valid contents of `file`. `prepare` writes what lies beside it into an empty folder. `mutate`
    damages a content; the result depends on its arguments alone. `share` is the number of cases in relation to other
    areas, less than 1 where a case is slow. `warm` says which seeds are read before anything is forked: none that
    starts threads.
    """

    name: str
    file: str
    make_seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, bytes], bytes]
    read: Read
    prepare: Callable[[Path], None] = nothing
    share: float = 1.0
    room_bytes: int = ROOM_BYTES
    warm: Callable[[bytes], bool] = bool


def damaged(area: Area, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """The content of one case, a function of the area, the seed and the case's number."""
    rng = Random(f"{seed} {area.name} {number}")
    return area.mutate(rng, rng.choice(seeds))


def write(folder: Path, area: Area, content: bytes, number: int) -> Path:
    """The area's file in `folder`. Its time of change is its own, so that no cache takes it for the one before."""
    path = folder / area.file
    path.write_bytes(content)
    os.utime(path, ns=(number, number))
    return path


def all_of(*steps: Callable[[], object]) -> None:
    """Takes every step, so that a refusal by the first does not hide the second. Raises the first WsesimError."""
    refusals: list[WsesimError] = []
    for step in steps:
        try:
            step()
        except WsesimError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
