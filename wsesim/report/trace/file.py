"""The file of a trace: its format by the ending of its name, and writing that leaves nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from wsesim.errors import InvalidInputError, keyword
from wsesim.files import writing_whole
from wsesim.report.trace.chrome import ChromeWriter
from wsesim.report.trace.events import Trace, Writer

PERFETTO, JSON = ".pftrace", ".json"


def check_trace_path(path: str) -> None:
    """Raises InvalidInputError for another ending, for a file that cannot be written, and if a package is missing."""
    _writer_for(path)
    place = Path(path)
    if "\0" in path or place.is_dir() or not place.parent.is_dir():
        raise InvalidInputError(f"{keyword('trace', path)}: a file in a folder that exists is needed")
    if not os.access(place.parent, os.W_OK):
        raise InvalidInputError(f"{keyword('trace', path)}: its folder may not be written")


@contextmanager
def trace_file(path: str) -> Iterator[Trace]:
    """A Trace whose events go to `path`. The file is there once the block has ended, and only if it raises nothing.

    Raises InvalidInputError as `check_trace_path` does, and if the file cannot be written.
    """
    check_trace_path(path)
    make = _writer_for(path)
    try:
        with writing_whole(Path(path)) as file:
            writer = make(file)
            yield Trace(writer)
            writer.close()
    except OSError as error:
        if error.filename != str(Path(path)):  # of something else in the block
            raise
        raise InvalidInputError(f"{keyword('trace', path)}: {error.strerror}") from None


def _writer_for(path: str) -> Callable[[IO[bytes]], Writer]:
    """The writer for the ending of a name."""
    if path.endswith(JSON):
        return ChromeWriter
    if path.endswith(PERFETTO):
        return _perfetto()
    raise InvalidInputError(
        f"{keyword('trace', path)}: the name ends in {PERFETTO} (Perfetto) or in {JSON} (Chrome's JSON)"
    )


def _perfetto() -> Callable[[IO[bytes]], Writer]:
    try:
        from wsesim.report.trace.perfetto import PerfettoWriter
    except ImportError:
        raise InvalidInputError(
            f"a {PERFETTO} file needs the package perfetto: pip install 'wsesim[report]', or name the file *{JSON}"
        ) from None
    return PerfettoWriter
