"""progress: one line on a terminal during long work; nothing elsewhere."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import wsesim
from tests.programs import program
from wsesim import progress
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import Timing
from wsesim.progress import BYTES, Line, Work, finish, shown, start, working

WIDTH = 60


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Terminal:
    """The master's side of a pseudo-terminal; `stream` is what a process has as its standard error."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w")

    def read(self) -> str:
        """What was written since the last time. The system may deliver it late, so a last byte marks its end."""
        self.stream.write("\0")
        self.stream.flush()
        text = b""
        while not text.endswith(b"\0"):
            text += os.read(self._master, 1 << 16)
        return text[:-1].decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@contextmanager
def drawn_on(line: Line) -> Iterator[Line]:
    token = progress._line.set(line)
    try:
        yield line
    finally:
        progress._line.reset(token)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(terminal: Terminal, clock: Clock) -> Iterator[Line]:
    with drawn_on(Line(terminal.stream, WIDTH, clock)) as made:
        yield made


def test_nothing_is_drawn_in_the_first_two_seconds(line: Line, terminal: Terminal, clock: Clock) -> None:
    with working("compiling"):
        clock.now_s = 1.9
        line.draw()
        assert terminal.read() == ""
        clock.now_s = 2.0
        line.draw()
        assert terminal.read() == "\rcompiling, 2 s\r"
    assert terminal.read() == "\r" + " " * len("compiling, 2 s") + "\r", "it is cleared at the end"


def test_a_count_says_how_much_is_left(line: Line, terminal: Terminal, clock: Clock) -> None:
    with working("simulating the prompt", 800, "chunk") as work:
        clock.now_s, work.done = 15.0, 120
        line.draw()
        assert (
            terminal.read()
            == "\r" + "simulating the prompt: chunk 120 of 800, 15 s, about 85 s left"[: WIDTH - 1] + "\r"
        )
        assert work.text(15.0) == "simulating the prompt: chunk 120 of 800, 15 s, about 85 s left"
        assert work.text(1500.0) == "simulating the prompt: chunk 120 of 800, 25 min, about 142 min left"


def test_texts_without_a_total_and_in_bytes() -> None:
    rounds, pulled = Work("in flight", unit="round"), Work("pulling tiny", 92_900_000, BYTES)
    stages = Work("simulating the step", 33, "stage", steady=False)
    rounds.done, pulled.done, stages.done = 7, 46_450_000, 4
    assert stages.text(41.0) == "simulating the step: stage 4 of 33, 41 s", "what is remembered takes no time"
    assert rounds.text(3.0) == "in flight: round 7, 3 s"
    assert pulled.text(4.0) == "pulling tiny: 46.5 of 92.9 MB, 4 s, about 4 s left"


def test_a_shorter_text_covers_the_longer_one_before(line: Line, terminal: Terminal, clock: Clock) -> None:
    clock.now_s = 5.0
    with working("a long text"):
        line.draw()
    terminal.read()
    with working("a long text") as outer:
        line.draw()
        outer.what = "short"
        line.draw()
        assert terminal.read() == "\ra long text, 0 s\r\rshort, 0 s      \r"


@pytest.mark.parametrize(
    ("works", "told"),
    [
        ([("runs", 20), ("chunks", 8)], "runs"),
        ([("compiling", None), ("chunks", 8), ("stages", 3)], "chunks"),
        ([("runs", 20), ("compiling kernels", None)], "compiling kernels"),
    ],
)
def test_the_outermost_that_counts_is_told_or_what_cannot_count(
    works: list[tuple[str, int | None]], told: str, line: Line, terminal: Terminal, clock: Clock
) -> None:
    made = [start(what, total) for what, total in works]
    clock.now_s = 3.0
    line.draw()
    assert terminal.read() == f"\r{told}, 3 s\r"
    for work in made:
        finish(work)
    assert line.works == []


def test_an_error_ends_the_work_and_clears_the_line(line: Line, terminal: Terminal, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), working("placing"):
        clock.now_s = 3.0
        line.draw()
        raise KeyboardInterrupt
    assert terminal.read() == "\rplacing, 3 s\r\r            \r"


def test_shown_draws_on_a_terminal_only(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe, os.fdopen(reading) as piped:
        for stream in (pipe, io.StringIO(), None):
            monkeypatch.setattr(sys, "stderr", stream)
            with shown() as nothing, working("placing"):
                assert nothing is None
        pipe.close()
        assert piped.read() == ""
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    with shown() as line:
        assert line is not None
        with shown() as inner:
            assert inner is None, "one line for all"
        line.clock = lambda: 1e9
        with working("placing"):
            line.draw()
            assert "placing" in terminal.read()
    assert progress._line.get() is None


def test_a_terminal_that_is_gone_ends_nothing(terminal: Terminal, clock: Clock) -> None:
    line = Line(terminal.stream, WIDTH, clock)
    terminal.stream.close()
    clock.now_s = 3.0
    with drawn_on(line), working("placing"):
        line.draw()


class Noted(Line):
    """Every work that was begun."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.begun: list[Work] = []

    @property
    def works(self) -> list[Work]:
        return _Noting(self.begun)

    @works.setter
    def works(self, value: list[Work]) -> None:
        del value


class _Noting(list[Work]):
    def __init__(self, begun: list[Work]) -> None:
        super().__init__(begun)
        self._begun = begun

    def append(self, work: Work) -> None:
        self._begun.append(work)


def begun(line: Noted) -> dict[str, Work]:
    return {work.what: work for work in line.begun}


def test_long_parts_say_what_they_do() -> None:
    with drawn_on(Noted()) as line:
        made = wsesim.compile("tiny", machine="toy4x4", max_context=64, sequences=2, observe=lambda stage, value: None)
        wsesim.simulate(made, sensitivity=True, in_flight=2)
        wsesim.simulate(made, phase="prefill", tokens=20)
        Timing(made, EffectCache(keep_timelines=False)).prefill_times(30)
    assert isinstance(line, Noted)
    works = begun(line)
    assert {"reading the torch graph of tiny", "placing tiny", "following the critical path"} <= set(works)
    assert {"choosing collectives", "simulating the step", "simulating the prompt", "sensitivity"} <= set(works)
    assert works["simulating 2 tokens in flight"].done > 0
    for counted in ("choosing collectives", "simulating the prompt", "sensitivity"):
        total = works[counted].total
        assert total is not None
        assert works[counted].done in (total - 1, total)


def test_a_completion_counts_its_tokens() -> None:
    with drawn_on(Noted()) as line:
        wsesim.complete("Once", "tiny", machine="toy4x4", max_tokens=5, max_context=64)
    assert isinstance(line, Noted)
    works = begun(line)
    assert (works["generating"].total, works["generating"].done) == (5, 5)
    assert any(what.startswith("loading the weights") for what in works)


def test_nobody_looking_costs_no_more_than_a_number() -> None:
    with working("placing", 3) as work:
        work.done = 2
    assert progress._line.get() is None
    assert program("tiny", "toy4x4").model == "tiny"


def test_compiling_a_kernel_is_told_once_for_all_that_it_calls() -> None:
    import numba

    import wsesim.jit

    assert wsesim.jit.VERSION, "it listens to numba"

    @numba.njit
    def inner(x: int) -> int:
        return x + 1

    @numba.njit
    def outer(x: int) -> int:
        return int(inner(x))

    with drawn_on(Noted()) as line:
        assert outer(1) == 2
        assert outer(2) == 3
    assert isinstance(line, Noted)
    assert [work.what for work in line.begun] == ["compiling kernels"]
