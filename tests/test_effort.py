"""effort: the counts before a run are those of the run, and a long run is announced."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.programs import program
from wsesim.engine.exact.wafer import EffectCache, Wafer
from wsesim.engine.expand.segment import Segment
from wsesim.engine.observe.path import step_path
from wsesim.engine.steps import pipeline as flows
from wsesim.engine.steps.effort import (
    Effort,
    decode_effort,
    flow_effort,
    link_events,
    prefill_effort,
    prefill_times_effort,
)
from wsesim.engine.steps.timing import Timing
from wsesim.report.sensitivity import run_count, sensitivity
from wsesim.toolchain import simulating
from wsesim.toolchain.kept_steps import KeptSteps
from wsesim.toolchain.step_timing import LONG_S

STRATEGIES = ("pipelined", "shared")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("keep", [True, False])
def test_a_decode_step_runs_the_segments_that_were_counted(strategy: str, keep: bool) -> None:
    made = program("tiny", "wse3", strategy)
    counted, step = decode_effort(Timing(made), 16), Timing(made, EffectCache(keep_timelines=keep)).decode(16)
    assert counted.runs == len(step.runs)
    assert counted.visited_pes == sum(run.segment.window.pes for run in step.runs)
    assert [link_events(run.segment.plan) for run in step.runs] == [run.effect.link_events for run in step.runs]


@pytest.mark.parametrize(("machine", "strategy"), [("wse3", "pipelined"), ("wse3", "shared"), ("toy4x4", "shared")])
def test_a_prompt_takes_about_what_was_counted(machine: str, strategy: str) -> None:
    made = program("tiny", machine, strategy)
    tokens = 12 * made.prefill_chunk
    cache = EffectCache()
    counted, step = prefill_effort(Timing(made), tokens), Timing(made, cache).prefill(tokens)
    assert 0.7 * len(step.runs) < counted.runs <= len(step.runs)
    visited = sum(run.segment.window.pes for run in step.runs)
    assert 0.5 * visited < counted.visited_pes <= visited
    assert counted.link_events / 8 < cache.link_events < 8 * counted.link_events
    steps = len(step_path(step, made.machine))
    assert steps / 8 < counted.path_steps < 8 * steps


def test_chunks_that_repeat_are_not_counted_for_the_token_loop() -> None:
    timing = Timing(program("tiny", "wse3", "shared"))
    cache = EffectCache(keep_timelines=False)
    tokens = 64 * timing.program.prefill_chunk
    counted = prefill_times_effort(timing, tokens)
    assert counted.runs <= prefill_effort(timing, tokens).runs
    assert counted.path_steps == 0
    Timing(timing.program, cache).prefill_times(tokens)
    assert counted.runs / 8 < cache.simulations + cache.recalls < 8 * counted.runs


def test_tokens_in_flight_take_some_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program("tiny", "wse3", sequences=4)
    runs: list[object] = []
    run = Wafer.run

    def counting(self: Wafer, segment: Segment, credit: tuple[int, int] | None = None) -> object:
        runs.append(segment)
        return run(self, segment, credit)

    monkeypatch.setattr(Wafer, "run", counting)
    flows.pipeline(Timing(made, EffectCache(keep_timelines=False)), 4, 16)
    counted = flow_effort(Timing(made), 4, 16)
    assert counted.runs / 4 < len(runs) < 4 * counted.runs


def test_more_work_is_more_time_and_memory() -> None:
    made = program("smollm2-135m", "wse3", sequences=8)
    timing = Timing(made)
    rising = [
        [prefill_effort(timing, tokens) for tokens in (10, 100, 1000, 8000)],
        [prefill_times_effort(timing, tokens) for tokens in (10, 100, 1000, 8000)],
        [decode_effort(timing, 100), decode_effort(timing, 100).repeated(5), decode_effort(timing, 100).repeated(50)],
        [flow_effort(timing, in_flight, 100) for in_flight in (2, 4, 8)],
    ]
    for efforts in rising:
        seconds, memory = [e.seconds for e in efforts], [e.bytes for e in efforts]
        assert seconds == sorted(seconds)
        assert all(later > 0.99 * earlier for earlier, later in pairwise(memory)), "windows differ a little"
        assert seconds[-1] > 2 * seconds[0]
    assert prefill_times_effort(timing, 8000).runs < prefill_effort(timing, 8000).runs / 4
    assert prefill_effort(timing, 1600).seconds > 20 > LONG_S > decode_effort(timing, 512).seconds


def test_one_after_the_other_adds_time_but_not_memory() -> None:
    small, large = Effort(200, 10**9, 10**6, 10**4, 10, 5), Effort(300, 10**8, 10**7, 0, 10**6, 10**6)
    both = small.then(large)
    assert both.seconds == pytest.approx(small.seconds + large.seconds)
    assert (both.effect_pes, both.graph_entries) == (10**6, 10**6)


def test_sensitivity_runs_are_counted() -> None:
    machine = program("tiny", "toy4x4").machine
    asked: list[object] = []

    def one_cycle(changed: object) -> int:
        asked.append(changed)
        return 1

    sensitivity(machine, one_cycle)
    assert len(asked) == run_count(machine)


@pytest.mark.parametrize(
    ("question", "long"),
    [({}, False), ({"sensitivity": True}, True), ({"phase": "prefill", "tokens": 500}, True)],
)
def test_a_long_run_is_announced_before_it(
    question: dict[str, Any], long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    made = program("smollm2-135m", "wse3")
    monkeypatch.setattr(simulating, "_report", lambda *asked: len(said))
    done: object = wsesim.simulate(made, **question, say=said.append)
    assert done == len(said) == int(long), "it is said before the run"
    assert all("roughly" in line and "GB" in line and "segments on" in line for line in said)


def test_a_prompt_that_is_remembered_takes_nothing(tmp_path: Path) -> None:
    steps = KeptSteps(Timing(program("tiny", "toy4x4"), EffectCache(keep_timelines=False)), tmp_path / "steps.txt")
    assert steps.prefill_effort(9, 1).runs > 0
    steps.prefill(9, 1)
    assert steps.prefill_effort(9, 1) == Effort()
    assert steps.prefill_effort(9, 64) != Effort()


def test_a_completion_announces_a_long_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    session = wsesim.open_session("tiny", machine="toy4x4", max_context=64, say=said.append)
    said.clear()
    session.complete("Once upon", max_tokens=1)
    assert said == []
    hours = dataclasses.replace(Effort(), path_steps=10**9)
    monkeypatch.setattr(KeptSteps, "prefill_effort", lambda self, tokens, candidates: hours)
    session.complete("Once upon a", max_tokens=1)
    assert [line.partition(" takes ")[0] for line in said] == ["simulating the prompt's 11 tokens"]
