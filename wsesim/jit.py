"""`njit` that keeps what it compiles in files of our own.

numba's own cache does not notice edits in other files, and one damaged file of it breaks every later run. Here the
name of a kernel's file holds a digest of its module's source and of all that this imports (without `wsesim.jit`). The
file begins with a checksum, so that damaged machine code is never run. Damaged or absent, the kernel is compiled again.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from wsesim import progress
from wsesim.cache import keep, kernels_dir, read_kept
from wsesim.digests import sources_digest

VERSION = 1
"""To be raised when this module changes what is compiled or kept: no digest covers it."""

_CHECKSUM_BYTES = 32


class _Compiling(event.Listener):  # type: ignore[misc]
    """Tells `wsesim.progress` when numba compiles."""

    def __init__(self) -> None:
        self._depth = 0  # a kernel's callees are compiled while it is
        self._work = progress.Work("compiling kernels")

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._work = progress.start("compiling kernels")
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            progress.finish(self._work)


event.register("numba:compile", _Compiling())


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's `njit` with these options, and with a KernelCache in place of numba's."""

    def compiled(function: Callable[..., Any]) -> Any:
        kernel: Any = numba.njit(**options)(function)
        if kernel is not function:  # as with NUMBA_DISABLE_JIT
            kernel._cache = KernelCache(function)
        return kernel

    return compiled


class KernelCache:
    """The compiled code of one function, a file for each signature. A numba Dispatcher calls it as its cache."""

    def __init__(self, function: Callable[..., Any]) -> None:
        assert function.__closure__ is None, f"{function.__qualname__}: values of a closure are in no digest"
        self._function = function

    @property
    def cache_path(self) -> str:
        return str(kernels_dir())

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The CompileResult for a signature, None if it is not kept."""
        target_context.refresh()
        return read_kept(
            self._file(signature, target_context.codegen()),
            lambda data: CompileResult._rebuild(target_context, *pickle.loads(_checked(data))),
        )

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keeps a CompileResult, if that can be."""
        assert not result.lifted and not result.library.has_dynamic_globals, "addresses of this process are not kept"
        code = dumps(result._reduce())
        keep(self._file(signature, result.codegen), hashlib.sha256(code).digest() + code)

    def flush(self) -> None:
        """Nothing is forgotten: a file with the same name holds the same code."""

    def _file(self, signature: Any, codegen: Any) -> Path:
        kernel, line = self._function, self._function.__code__.co_firstlineno
        compiler = (VERSION, numba.__version__, sys.implementation.cache_tag, *codegen.magic_tuple())
        stated = f"{line} {normalize_signature(signature)} {compiler}"
        digest = hashlib.sha256(stated.encode()).hexdigest()
        return kernels_dir() / f"{_stem(kernel.__module__, kernel.__qualname__)}-{digest[:16]}.nbc"


def is_compiled(module: str, kernel: str) -> bool:
    """Whether a kernel, such as `run` of wsesim.engine.flow.event_loop, is kept as its sources are now."""
    return any(kernels_dir().glob(f"{_stem(module, kernel)}-*.nbc"))


def _stem(module: str, kernel: str) -> str:
    readable = re.sub(r"[^\w.]+", "_", f"{module}.{kernel}")
    return f"{readable}-{sources_digest(module, without=__name__)[:16]}"


def _checked(data: bytes) -> bytes:
    code = data[_CHECKSUM_BYTES:]
    if hashlib.sha256(code).digest() != data[:_CHECKSUM_BYTES]:
        raise ValueError("the checksum is another")
    return code
