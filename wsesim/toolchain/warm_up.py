"""The engine's compiled kernels: warm_up() compiles them, say_if_compiling() announces that."""

from __future__ import annotations

import time
from collections.abc import Callable


def say_if_compiling(say: Callable[[str], None]) -> None:
    """Says that the kernels will be compiled, unless they are kept on disk."""
    from wsesim.jit import is_compiled

    if not is_compiled("wsesim.engine.flow.event_loop", "run"):
        say("compiling the simulator's kernels, once: about half a minute")


def warm_up() -> float:
    """Compiles the engine's kernels, or loads them from the disk. Returns the wall seconds that it took."""
    began = time.perf_counter()
    from wsesim.engine.flow.warm import warm

    warm()
    return time.perf_counter() - began
