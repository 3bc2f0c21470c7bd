"""Progress: one line on a terminal about work that takes more than two seconds.

Any part of wsesim says what it is doing and, where it can count, how far it is:

    with working("simulating the prompt", total=800, unit="chunk") as work:
        for work.done, chunk in enumerate(chunks, 1):
            ...

The line is drawn inside of `shown()`, which every public call and every command enters, if standard error is a
terminal. Elsewhere (a pipe, a file, Jupyter) nothing is drawn. A thread draws; the work itself only sets a number.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

SILENT_S = 2.0
EVERY_S = 0.5
BYTES = "bytes"


class Work:
    """Something that takes a while: `done` of `total` units, None where nobody knows how many there are.

    The units of a `steady` work take about equally long, so that what is left can be told from what is done.
    """

    __slots__ = ("began_s", "done", "steady", "total", "unit", "what")

    def __init__(
        self, what: str, total: int | None = None, unit: str = "", began_s: float = 0.0, *, steady: bool = True
    ) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0
        self.began_s = began_s
        self.steady = steady

    def text(self, now_s: float) -> str:
        """As `simulating the prompt: chunk 120 of 800, 14 s, about 79 s left`."""
        elapsed_s, done, total = now_s - self.began_s, self.done, self.total
        parts = [f"{self.what}: {self._count()}" if done else self.what, duration(elapsed_s)]
        if self.steady and total and 0 < done <= total and elapsed_s >= 1:
            parts.append(f"about {duration(elapsed_s * (total - done) / done)} left")
        return ", ".join(parts)

    def _count(self) -> str:
        if self.unit == BYTES:
            return f"{self.done / 1e6:.1f} of {(self.total or 0) / 1e6:.1f} MB"
        return f"{self.unit} {self.done:,}" + (f" of {self.total:,}" if self.total else "")


class Line:
    """The line of a terminal, `columns` wide, and the works that it tells about, the outermost first."""

    def __init__(self, stream: TextIO, columns: int = 80, clock: Callable[[], float] = time.monotonic) -> None:
        self.works: list[Work] = []
        self.clock = clock
        self._stream = stream
        self._columns = columns
        self._began_s = clock()
        self._drawn = 0
        self._lock = threading.Lock()

    def draw(self) -> None:
        """Writes how far the work is, once SILENT_S have gone by."""
        with self._lock:
            now_s, work = self.clock(), _told(self.works)
            if work is None or now_s - self._began_s < SILENT_S:
                return
            text = work.text(now_s)[: self._columns - 1]
            self._write(text)

    def clear(self) -> None:
        """Leaves the line empty, so that others can write there."""
        with self._lock:
            if self._drawn:
                self._write("")

    def _write(self, text: str) -> None:
        padding = " " * (self._drawn - len(text))
        try:
            self._stream.write(f"\r{text}{padding}\r")
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone
            return
        self._drawn = len(text)


_line: ContextVar[Line | None] = ContextVar("wsesim_progress", default=None)


@contextmanager
def working(what: str, total: int | None = None, unit: str = "", *, steady: bool = True) -> Iterator[Work]:
    """A Work that lasts as long as the block. Where nobody looks, it costs nothing."""
    work = start(what, total, unit, steady=steady)
    try:
        yield work
    finally:
        finish(work)


def start(what: str, total: int | None = None, unit: str = "", *, steady: bool = True) -> Work:
    """As `working`, for work that is no block; `finish` ends it."""
    line = _line.get()
    work = Work(what, total, unit, line.clock() if line else 0.0, steady=steady)
    if line is not None:
        line.works.append(work)
    return work


def finish(work: Work) -> None:
    """Ends a work of `start`."""
    line = _line.get()
    if line is not None and work in line.works:
        line.works.remove(work)
        if not line.works:
            line.clear()


@contextmanager
def shown() -> Iterator[Line | None]:
    """Draws the line of what goes on inside of the block; None if that is drawn already, or there is no terminal."""
    stream = sys.stderr
    if _line.get() is not None or not _is_terminal(stream):
        yield None
        return
    line, ended = Line(stream, os.get_terminal_size(stream.fileno()).columns or 80), threading.Event()
    token = _line.set(line)
    drawing = threading.Thread(target=_draw_until, args=(line, ended), name="wsesim-progress", daemon=True)
    drawing.start()
    try:
        yield line
    finally:
        ended.set()
        _line.reset(token)
        drawing.join()
        line.clear()


def clear() -> None:
    """Empties the line, before something else is written to the terminal."""
    line = _line.get()
    if line is not None:
        line.clear()


def duration(seconds: float) -> str:
    """As 14 s or 3 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _told(works: list[Work]) -> Work | None:
    """The innermost work if it cannot count; otherwise the outermost one that can."""
    works = list(works)
    if not works or works[-1].total is None:
        return works[-1] if works else None
    return next(work for work in works if work.total is not None)


def _draw_until(line: Line, ended: threading.Event) -> None:
    while not ended.wait(EVERY_S):
        line.draw()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False
