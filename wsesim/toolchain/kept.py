"""Files that a run keeps on disk for the next one. Their names are digests of everything that they depend on."""

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
    """The path of a kept file, which need not exist.

    Its name has a digest of the repr of `stated`, and of the source code of the modules `sources` and of all that they
    import. So a change of the inputs or of the code leads to another file.
    """
    digest = hashlib.sha256(f"{stated!r}\n{sources_digest(*sources)}".encode()).hexdigest()
    readable = re.sub(r"[^\w.-]+", "_", model)
    return cache_dir() / kind / f"{readable}-{digest[:16]}.txt"


def file_state(path: Path) -> tuple[object, ...] | None:
    """The digest of a model's file, and the names, sizes and times of the files beside it: they may be its weights.

    None if the file cannot be read.
    """
    try:
        with open_file(path, "a model") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with os.scandir(path.parent) as entries:
            beside = [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file()]
    except (OSError, InvalidInputError):
        return None
    return (str(path.resolve()), digest, *sorted(beside))
