"""Runs cases in forked children, several at a time. A child that crashes or hangs does not stop the run."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.area import Area
from tests.fuzz.child import Batch, fork, last_place
from tests.fuzz.judge import CRASH, HANG, Verdict

BATCH_CASES = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """`work` is where children have their folders; they may write in `writable` too."""

    seed: int
    jobs: int
    hang_s: float
    work: Path
    writable: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one case."""

    area: Area
    number: int
    verdict: Verdict
    seconds: float


def run(counts: Mapping[Area, int], seeds: Mapping[Area, Sequence[bytes]], settings: Settings) -> Iterator[Outcome]:
    """The outcome of cases 0, 1, .. of each area, as they come."""
    waiting = deque(
        Batch(area, range(first, min(first + BATCH_CASES, count)))
        for area, count in counts.items()
        for first in range(0, count, BATCH_CASES)
    )
    children: dict[int, _Child] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or children:
                while waiting and len(children) < settings.jobs:
                    child = _Child(batch := waiting.popleft(), seeds[batch.area], settings)
                    children[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                ready = {key.fd for key, _ in selector.select(timeout=0.2)}
                for child in list(children.values()):
                    yield from child.outcomes(child.pipe in ready)
                    if child.ended:
                        selector.unregister(child.pipe)
                        del children[child.pipe]
                        child.bury()
                        waiting.extendleft([child.rest] if child.rest.numbers else [])
        finally:
            for child in children.values():
                child.kill()
                child.bury()


class _Child:
    """A child process as its parent sees it."""

    _made = 0

    def __init__(self, batch: Batch, seeds: Sequence[bytes], settings: Settings) -> None:
        _Child._made += 1
        self._folder = settings.work / str(_Child._made)
        self._folder.mkdir()
        self._hang_s = settings.hang_s
        self._hung = False
        self._running: int | None = None
        self._since = time.monotonic()
        self._unread = b""
        self.rest = batch
        self.ended = False
        self.pid, self.pipe = fork(batch, seeds, settings.seed, self._folder, settings.writable)

    def outcomes(self, ready: bool) -> Iterator[Outcome]:
        """Its reports since the last call. If it died, the case that killed it is reported too."""
        if ready:
            told = os.read(self.pipe, 1 << 16)
            *lines, self._unread = (self._unread + told).split(b"\n")
            for line in lines:
                yield from self._heard(json.loads(line))
            if not told:
                yield from self._died()
        elif self._running is not None and time.monotonic() - self._since > self._hang_s and not self._hung:
            self._hung = True
            self.kill()

    def _heard(self, told: dict[str, object]) -> Iterator[Outcome]:
        self._since = time.monotonic()
        if "started" in told:
            self._running = int(str(told["started"]))
            return
        verdict = Verdict(str(told["kind"]), str(told["what"]), str(told["place"]))
        yield self._finished(verdict, float(str(told["seconds"])))

    def _finished(self, verdict: Verdict, seconds: float) -> Outcome:
        assert self._running is not None
        number, self._running = self._running, None
        area, numbers = self.rest.area, self.rest.numbers
        self.rest = Batch(area, range(number + 1, numbers.stop))
        return Outcome(area, number, verdict, seconds)

    def _died(self) -> Iterator[Outcome]:
        self.ended = True
        _, status = os.waitpid(self.pid, 0)
        if not self.rest.numbers:
            return
        self._running = self.rest.numbers.start if self._running is None else self._running
        seconds = time.monotonic() - self._since
        where = last_place(self._folder)
        code = os.waitstatus_to_exitcode(status)
        if self._hung:
            yield self._finished(Verdict(HANG, f"more than {self._hang_s:g} s", where), seconds)
        else:
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            yield self._finished(Verdict(CRASH, how, where), seconds)

    def kill(self) -> None:
        """Its stack first, then itself. It may be in native code, which takes no other signal."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.2)
        os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> None:
        os.close(self.pipe)
        if not self.ended:
            os.waitpid(self.pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)
