"""What is remembered on disk: by everything that decides it, the code that made it included."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from wsesim.cache import cache_dir
from wsesim.digests import sources_digest
from wsesim.errors import InvalidInputError
from wsesim.files import open_file


def kept_file(kind: str, model: str, stated: object, sources: tuple[str, ...]) -> Path:
    """Where a thing of this kind is kept, whether it is there or not.

    `stated` decides it and has a full repr. `sources` are the modules that make it, with all that they import.
    """
    digest = hashlib.sha256(f"{stated!r}\n{sources_digest(*sources)}".encode()).hexdigest()
    readable = re.sub(r"[^\w.-]+", "_", model)
    return cache_dir() / kind / f"{readable}-{digest[:16]}.txt"


def file_state(path: Path) -> tuple[object, ...] | None:
    """What a model's file holds, and the names, sizes and times of the files beside it, which may be its weights.

    None for a file that cannot be read.
    """
    try:
        with open_file(path, "a model") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with os.scandir(path.parent) as entries:
            beside = [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file()]
    except (OSError, InvalidInputError):
        return None
    return (str(path.resolve()), digest, *sorted(beside))
