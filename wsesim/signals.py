"""SIGINT (Ctrl-C) and SIGTERM of a command: it cleans up, says one word, and ends with status 130 or 143.

    exit_at_once()              # while the process starts, and after `guarded`
    status = guarded(command)   # while the command runs

Inside `guarded` a signal raises KeyboardInterrupt in the main thread, once, so that files and child processes are
cleaned up as after any other error. Code that runs in between can turn it into another error: numba does. So what
counts is that a signal came, not which error arrives.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

TYPE_CHECKING = False  # this is imported before Ctrl-C is caught
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

SAME_S = 1.0
"""Signals within so many seconds of the first are the same one, sent to a process and to its group."""

RETRY_S = 0.1
"""Seconds until a KeyboardInterrupt that was lost is raised again."""


class _State:
    guarding = False
    received: int | None = None
    received_s = 0.0
    retries = False


_state = _State()


def exit_at_once() -> None:
    """From now on a signal ends the process with its word and status, and cleans up nothing."""
    for number in WORDS:
        _handle(number, _leave)


def guarded(command: Callable[[], int]) -> int:
    """Runs `command`. Its status, or 128 + the number of the signal that came, whatever `command` raised then.

    Outside of the main thread, where no signals arrive, it is a plain call.
    """
    if threading.current_thread() is not threading.main_thread():
        return command()
    status = 0
    try:
        with _raising():
            status = command()
    except BaseException:
        if _state.received is None:
            raise
    if _state.received is None:
        return status
    print(f"\n{WORDS[signal.Signals(_state.received)]}", file=sys.stderr, flush=True)
    return 128 + _state.received


def interrupted() -> bool:
    """Whether a KeyboardInterrupt comes from a signal. Outside of `guarded` nobody knows: then it is taken as one."""
    return _state.received is not None or not _state.guarding


@contextmanager
def _raising() -> Iterator[None]:
    """Signals raise KeyboardInterrupt. Handlers that the command installed itself stay."""
    previous = {number: _handle(number, _raise) for number in WORDS}
    hook = sys.unraisablehook
    _state.guarding, _state.received, _state.retries = True, None, False
    sys.unraisablehook = lambda lost: _raise_again(lost, hook)
    try:
        yield
    finally:
        _state.guarding = False
        sys.unraisablehook = hook
        for number, handler in previous.items():
            if signal.getsignal(number) is _raise:
                signal.signal(number, handler)


def _handle(number: int, handler: Callable[[int, FrameType | None], None]) -> Any:
    """Installs a handler, unless the signal is ignored (as by nohup); the one before."""
    before = signal.getsignal(number)
    if before is not signal.SIG_IGN and before is not None:
        signal.signal(number, handler)
    return before


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    if _state.received is None:
        _state.received, _state.received_s = number, time.monotonic()
        raise KeyboardInterrupt
    if _state.retries:
        _state.retries = False
        raise KeyboardInterrupt
    if time.monotonic() - _state.received_s > SAME_S:
        _leave(number, None)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os.write(2, f"\n{WORDS[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def _raise_again(lost: Any, hook: Callable[[Any], Any]) -> None:
    """A KeyboardInterrupt in a finalizer or in a callback from C goes no further: it is raised once more, later."""
    if _state.received is None or not issubclass(lost.exc_type, KeyboardInterrupt):
        hook(lost)
        return
    timer = threading.Timer(RETRY_S, _send_again)
    timer.daemon = True
    timer.start()


def _send_again() -> None:
    if _state.guarding and _state.received is not None:
        _state.retries = True
        os.kill(os.getpid(), _state.received)
