"""`trace`: a step or a session, written into a file for Perfetto while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wsesim.toolchain.model_source import Say

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.report.trace.events import Trace
    from wsesim.report.trace.requests import RequestTrace
    from wsesim.runtime.job import Job
    from wsesim.runtime.token_loop import TokenLoop


def check_trace(path: str | None) -> None:
    """Raises InvalidInputError for a file that no trace can be written to, before the work begins."""
    if path is not None:
        from wsesim.report.trace.file import check_trace_path

        check_trace_path(path)


@contextmanager
def traced(path: str | None, runs: Sequence[tuple[Program, TokenLoop]], *, say: Say | None = None) -> Iterator[None]:
    """Writes what the token loops do within the block to `path`: Programs and their loops, one for each wafer.

    Nothing is written if the block raises. None: no trace. With `say`, a file that cannot be written to, as on a full
    disk, does not stop the loops: it is said, and raised at the end of the block.
    """
    if path is None:
        yield
        return
    from wsesim.report.trace.file import trace_file

    with trace_file(path) as trace:
        observers = [_Observer(_requests(trace, program, loop, len(runs)), say) for program, loop in runs]
        for (_, loop), observer in zip(runs, observers, strict=True):
            loop.scheduler.observer = observer
        try:
            yield
        finally:
            for _, loop in runs:
                loop.scheduler.observer = None
        for (_, loop), observer in zip(runs, observers, strict=True):
            observer.close(loop.scheduler.now_cycles)


class _Observer:
    """Hands on what a Scheduler says, until the file cannot be written to any more."""

    def __init__(self, requests: RequestTrace, say: Say | None) -> None:
        self._requests = requests
        self._say = say
        self._failed: OSError | None = None

    def admitted(self, job: Job, now_cycles: int) -> None:
        if self._failed is None:
            self._requests.admitted(job, now_cycles)

    def stepped(self, job: Job, now_cycles: int) -> None:
        self._write(lambda: self._requests.stepped(job, now_cycles))

    def ended(self, job: Job, now_cycles: int, outcome: str) -> None:
        self._write(lambda: self._requests.ended(job, now_cycles, outcome))

    def close(self, now_cycles: int) -> None:
        if self._failed is not None:
            raise self._failed
        self._requests.close(now_cycles)

    def _write(self, write: Callable[[], None]) -> None:
        if self._failed is not None:
            return
        try:
            write()
        except OSError as error:
            self._failed = error
            if self._say is None:
                raise
            self._say(f"the trace ends here: {error.filename}: {error.strerror}")


def _requests(trace: Trace, program: Program, loop: TokenLoop, wafers: int) -> RequestTrace:
    from wsesim.report.trace.drawings import Drawings
    from wsesim.report.trace.requests import RequestTrace

    name = program.model if wafers > 1 else ""
    return RequestTrace(trace, program, Drawings(program), loop.slots, name)
