"""Sessions: every input of a run is read and checked once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import wsesim
from wsesim import machine
from wsesim.program import files
from wsesim.toolchain import compiling

TOY: dict[str, Any] = {"machine": "toy4x4", "max_context": 64}


def counted(module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The first argument of each call of a module's function from now on."""
    original: Callable[..., Any] = getattr(module, name)
    calls: list[object] = []

    def counting(first: object, *rest: object) -> object:
        calls.append(first)
        return original(first, *rest)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_a_completion_checks_machine_and_options_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = counted(machine, "load_machine", monkeypatch)
    options = counted(compiling, "options_of", monkeypatch)
    assert wsesim.complete("abc", model="tiny", max_tokens=2, **TOY).completion.prompt_tokens == 3
    assert (machines, options) == (["toy4x4"], ["tiny"])


def test_a_saved_program_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "tiny.txt")
    program = wsesim.compile("tiny", **TOY)
    files.save_program(program, path)
    loaded = counted(files, "load_program", monkeypatch)
    assert wsesim.complete("abc", model=path, max_tokens=2).program == program
    assert wsesim.simulate(path, context=5).fingerprint == program.fingerprint()
    assert loaded == [path, path]


def test_a_request_may_arrive_at_the_end_of_another_on_any_clock() -> None:
    """`finished_s` is a float; the cycle that it stands for is not earlier than the clock's now."""
    session = wsesim.open_session("tiny", machine="wse3", max_context=64)
    for _ in range(20):
        end_s = session.complete("abc", max_tokens=2).completion.times.finished_s
        times = session.complete("abc", max_tokens=2, arrival_s=end_s).completion.times
        assert times.queue_s == session.program.machine.host.send_call_s
