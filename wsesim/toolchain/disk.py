"""What is remembered on disk: by everything that decides it, the code that made it included."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from wsesim.errors import WsesimError

T = TypeVar("T")


def kept_file(kind: str, model: str, stated: object, sources: tuple[str, ...]) -> Path:
    """Where a thing of this kind is kept, whether it is there or not. `stated` decides it and has a full repr."""
    from wsesim.cache import cache_dir

    digest = hashlib.sha256(f"{stated!r}\n{_sources_digest(sources)}".encode()).hexdigest()
    readable = re.sub(r"[^\w.-]+", "_", model)
    return cache_dir() / kind / f"{readable}-{digest[:16]}.txt"


def file_state(path: Path) -> tuple[object, ...] | None:
    """What a model's file holds, and the names, sizes and times of the files beside it, which may be its weights.

    None for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with os.scandir(path.parent) as entries:
            beside = [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file()]
    except OSError:
        return None
    return (str(path.resolve()), digest, *sorted(beside))


def say_if_compiling(say: Callable[[str], None]) -> None:
    """What the first run of all waits for."""
    from wsesim.jit import is_compiled

    if not is_compiled("wsesim.engine.kernels.run"):
        say("compiling the simulator's kernels, once: about half a minute")


def read_kept(path: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` makes of a kept file; None where there is none, or what a crash has left of one."""
    try:
        return read(path) if path.is_file() else None
    except (WsesimError, ValueError):
        return None


@lru_cache(maxsize=8)
def _sources_digest(modules: tuple[str, ...]) -> str:
    """Hash of the modules' files, so that a change of the code forgets what it once made."""
    digest = hashlib.sha256()
    for name in modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None, name
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for file in files:
            digest.update(file.read_bytes())
    return digest.hexdigest()
