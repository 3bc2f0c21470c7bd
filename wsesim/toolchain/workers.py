"""Workers: processes that work beside this one.

    with Workers(jobs=2) as workers:
        square = workers.begin(pow, 7, 2)
        ...
        square.result()  # 49

A process that dies loses nothing: its work is done in this one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import active_children, get_context, parent_process
from types import TracebackType
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Task(Generic[Result]):
    """Work that was begun. Without a `future`, it is done in this process when its result is asked for."""

    def __init__(self, function: Callable[..., Result], arguments: tuple[Any, ...], future: Future[Result] | None):
        self._work = function, arguments
        self._future = future
        self._done: list[Result] = []

    @property
    def ready(self) -> bool:
        """Whether the result is there without waiting."""
        future = self._future
        return bool(self._done) or (future is not None and future.done() and future.exception() is None)

    def result(self) -> Result:
        """Waits for it. Raises what the work raises. If its process died, the work is done in this one."""
        if not self._done:
            self._done.append(self._awaited())
        return self._done[0]

    def _awaited(self) -> Result:
        function, arguments = self._work
        if self._future is not None:
            with suppress(BrokenProcessPool):
                return self._future.result()
        return function(*arguments)


class Workers:
    """Up to `jobs` processes. With one job there is no other process.

    A function and its arguments must be picklable. Ctrl-C reaches this process only. Work that nobody waited for ends
    with the `with` block.
    """

    def __init__(self, jobs: int) -> None:
        self._others = frozenset(active_children())
        self._pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin) if jobs > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for child in set(active_children()) - self._others:
                child.terminate()

    def begin(self, function: Callable[..., Result], *arguments: Any) -> Task[Result]:
        future = None
        if self._pool is not None:
            with suppress(BrokenProcessPool):
                future = self._pool.submit(function, *arguments)
        return Task(function, arguments, future)


def _begin() -> None:
    """In a worker. Ctrl-C reaches the whole group; the process that asks decides. If it ends, so does this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
