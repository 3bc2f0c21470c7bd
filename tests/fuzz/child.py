"""A forked child. It runs cases one by one and reports each outcome to its parent through a pipe."""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.fuzz.area import Area, damaged, write
from tests.fuzz.judge import judged, place
from tests.fuzz.sandbox import fence

TRACES = "traces"
"""The file for the stack of a child that dies or is about to be killed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Cases of one area, in their order."""

    area: Area
    numbers: range


def fork(batch: Batch, seeds: Sequence[bytes], seed: int, folder: Path, writable: Sequence[Path]) -> tuple[int, int]:
    """Starts a child that runs `batch` in the empty `folder`. Returns its process id and the pipe of its reports."""
    assert threads() == 1, f"{threads()} threads: a fork of this process might hang"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    try:
        _work(batch, seeds, seed, folder, writable, writing)
    finally:
        os._exit(1)  # the child must never run the parent's code


def threads() -> int:
    """Threads of this process, those of native libraries included."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 1


def _work(
    batch: Batch, seeds: Sequence[bytes], seed: int, folder: Path, writable: Sequence[Path], pipe: int
) -> NoReturn:
    _settle(batch.area, folder, writable)
    for number in batch.numbers:
        _tell(pipe, {"started": number})
        path = write(folder, batch.area, damaged(batch.area, seeds, seed, number), number)
        began = time.perf_counter()
        verdict = judged(batch.area.read, path)
        _tell(pipe, {"seconds": time.perf_counter() - began, **dataclasses.asdict(verdict)})
    os._exit(0)


def _tell(pipe: int, what: dict[str, object]) -> None:
    os.write(pipe, json.dumps(what).encode() + b"\n")


def _settle(area: Area, folder: Path, writable: Sequence[Path]) -> None:
    """Sets limits and redirects the streams to nowhere. The parent handles signals of the keyboard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    traces = (folder / TRACES).open("w")
    faulthandler.enable(traces, all_threads=False)
    faulthandler.register(signal.SIGUSR1, traces, all_threads=False)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - kept for good
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    os.chdir(folder)
    area.prepare(folder)
    fence(folder, *writable)
    limit_memory(area.room_bytes)


def limit_memory(room_bytes: int) -> None:
    """No more address space than `room_bytes` beyond what this process has; on Linux only."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sizes = Path("/proc/self/statm")
    if sizes.is_file():
        most = int(sizes.read_text().split()[0]) * resource.getpagesize() + room_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)


def last_place(folder: Path) -> str:
    """The stack of the folder's child when it died, "" if it left none."""
    traces = folder / TRACES
    text = traces.read_text(errors="replace") if traces.is_file() else ""
    return place([(name, int(line)) for name, line in reversed(_FRAME.findall(text))])
