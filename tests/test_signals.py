"""Signals end a command with one word and status 130 or 143, at any moment."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wsesim import signals

Capsys = pytest.CaptureFixture[str]
SAVED = str(Path(__file__).parent / "golden" / "tiny" / "emit.txt")
ENDS = {signal.SIGINT: ("\ninterrupted\n", 130), signal.SIGTERM: ("\nterminated\n", 143)}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves the handlers as they were."""
    before = {number: signal.getsignal(number) for number in ENDS}
    yield
    assert {number: signal.getsignal(number) for number in ENDS} == before


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_cleans_up_and_is_said(number: signal.Signals, capsys: Capsys) -> None:
    cleaned = []

    def command() -> int:
        try:
            signal.raise_signal(number)
            return 0
        finally:
            cleaned.append(True)

    assert (signals.guarded(command), cleaned) == (ENDS[number][1], [True])
    assert capsys.readouterr().err == ENDS[number][0]


def turned_into_another_error() -> int:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError("no compiled object yet") from None
    return 0


def lost_in_a_callback_then_an_error() -> int:
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()
    raise RuntimeError("no compiled object yet")


def lost_in_a_callback_then_work() -> int:
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()
    while True:
        time.sleep(0.01)


def caught_and_finished() -> int:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    return 0


def interrupted_then_3() -> int:
    signal.raise_signal(signal.SIGINT)
    return 3


def ignores_from_now_on() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


def sent_twice() -> int:
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)
    return 0


@pytest.mark.parametrize(
    "command",
    [
        turned_into_another_error,
        lost_in_a_callback_then_an_error,
        lost_in_a_callback_then_work,
        caught_and_finished,
        sent_twice,
    ],
)
def test_what_counts_is_that_a_signal_came(command: Callable[[], int], capsys: Capsys) -> None:
    assert signals.guarded(command) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_without_a_signal_nothing_is_changed(capsys: Capsys) -> None:
    assert signals.guarded(caught_and_finished) == 130
    capsys.readouterr()
    assert signals.guarded(lambda: 7) == 7
    with pytest.raises(KeyError):
        signals.guarded(lambda: dict[str, int]()["absent"])
    assert capsys.readouterr().err == ""


def test_a_keyboard_interrupt_of_the_user_s_own_code_is_told_apart() -> None:
    seen = []

    def raises_itself() -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            seen.append(signals.interrupted())
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            seen.append(signals.interrupted())
        return 0

    signals.guarded(raises_itself)
    assert seen == [False, True]
    assert signals.interrupted()  # outside nobody knows


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert signals.guarded(interrupted_then_3) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_of_the_command_stay() -> None:
    """The server ignores signals once it has ended."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        signals.guarded(ignores_from_now_on)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_calls_plainly() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(signals.guarded(lambda: 5)))
    thread.start()
    thread.join()
    assert found == [5]


# commands

AT = """
import atexit, signal, sys

point, number = sys.argv[1], int(sys.argv[2])

class Finder:
    def find_spec(self, name, path, target=None):
        if name == point:
            signal.raise_signal(number)

if point == "the end":
    atexit.register(lambda: signal.raise_signal(number))
sys.meta_path.insert(0, Finder())
sys.argv[:] = ["wsesim", *sys.argv[3:]]

from wsesim.cli import script
script()
"""


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("point", ["argparse", "wsesim.cli.parser", "wsesim_models.config", "the end"])
def test_a_signal_while_python_imports_or_ends(point: str, number: signal.Signals) -> None:
    command = [sys.executable, "-c", AT, point, str(int(number)), "models"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ENDS[number]


def started(command: list[str], cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "print('started', flush=True)\nfrom wsesim.cli import script\nscript()", *command],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache), "WSESIM_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_while_kernels_are_compiled(tmp_path: Path, number: signal.Signals) -> None:
    with started(["simulate", SAVED], tmp_path) as process:
        end = time.monotonic() + 120
        while not [*tmp_path.rglob("*.nbc")]:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
    assert (err, process.returncode) == ENDS[number]
    assert [*tmp_path.rglob("*.partial")] == []


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", [*range(200, 3000, 100), *range(3000, 20_000, 1000)])
def test_a_signal_at_any_time(tmp_path: Path, delay_ms: int) -> None:
    """While it imports, compiles, simulates or prints; after the end it is too late."""
    with started(["simulate", SAVED], tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(delay_ms / 1000)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert (err, process.returncode) in (ENDS[signal.SIGINT], ("", 0))
