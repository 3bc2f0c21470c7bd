"""`trace`: a step or a session, written into a file for Perfetto while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wsesim.toolchain.step_timing import make_timing

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.report.trace.events import Trace
    from wsesim.report.trace.requests import RequestTrace
    from wsesim.runtime.token_loop import TokenLoop


def check_trace(path: str | None) -> None:
    """Raises InvalidInputError for a file that no trace can be written to, before the work begins."""
    if path is not None:
        from wsesim.report.trace.file import check_trace_path

        check_trace_path(path)


@contextmanager
def traced(path: str | None, runs: Sequence[tuple[Program, TokenLoop]]) -> Iterator[None]:
    """Writes what the token loops do within the block to `path`: Programs and their loops, one for each wafer.

    Nothing is written if the block raises. None: no trace.
    """
    if path is None:
        yield
        return
    from wsesim.report.trace.file import trace_file

    with trace_file(path) as trace:
        observers = [(loop, _observe(trace, program, loop, len(runs))) for program, loop in runs]
        try:
            yield
        finally:
            for loop, _ in observers:
                loop.scheduler.observer = None
        for loop, observer in observers:
            observer.close(loop.scheduler.now_cycles)


def _observe(trace: Trace, program: Program, loop: TokenLoop, wafers: int) -> RequestTrace:
    from wsesim.report.trace.drawings import Drawings
    from wsesim.report.trace.requests import RequestTrace

    name = program.model if wafers > 1 else ""
    observer = RequestTrace(trace, program, Drawings(make_timing(program)), loop.slots, name)
    loop.scheduler.observer = observer
    return observer
