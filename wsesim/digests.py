"""Digests of source code: what was made by code that has changed since is not used again."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

OURS = ("wsesim", "wsesim_compiler", "wsesim_models")
"""Packages whose imports are followed."""

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[\w.]+)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n]*)"
    r"|import[ \t]+(?P<whole>[\w.]+))",
    re.MULTILINE,
)


@lru_cache(maxsize=64)
def sources_digest(*modules: str, without: str = "") -> str:
    """SHA-256 of the files of `sources`. Takes some milliseconds at the first call, for a few hundred files."""
    digest = hashlib.sha256()
    for module, file in sorted(sources(*modules, without=without).items()):
        digest.update(f"{module}\n".encode() + hashlib.sha256(_text(file).encode()).digest())
    return digest.hexdigest()


def sources(*modules: str, without: str = "") -> dict[str, Path]:
    """The files of the modules and of every module of ours that they import, at the top or in a function.

    Imports are followed without end, but not to the module `without`. A package stands for its `__init__.py`.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        file = _file(module)
        assert file is not None or module not in modules, f"{module} has no source file"
        if module not in (without, *found) and file is not None:
            found[module] = file
            waiting += _imports(file)
    return found


@lru_cache(maxsize=512)
def _imports(file: Path) -> tuple[str, ...]:
    """Modules of ours that a file imports; names that are no modules are among them."""
    found: list[str] = []
    for match in _IMPORT.finditer(_text(file)):
        module = match["source"] or match["whole"]
        if module.split(".")[0] in OURS:
            names = re.findall(r"\w+", match["names"] or "")
            found += [module, *(f"{module}.{name}" for name in names)]
    return tuple(found)


@lru_cache(maxsize=512)
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=1024)
def _file(module: str) -> Path | None:
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)  # of a package at the top: nothing is imported for it
    if spec is None:
        return None
    if not inner:
        return Path(spec.origin) if spec.origin else None
    paths = [Path(folder).joinpath(*inner) for folder in spec.submodule_search_locations or ()]
    files = [file for path in paths for file in (path.parent / f"{path.name}.py", path / "__init__.py")]
    return next((file for file in files if file.is_file()), None)
