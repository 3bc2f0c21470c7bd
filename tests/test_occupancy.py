"""When the next step may follow: the time of the busiest block, compared with the loaded wafer."""

from __future__ import annotations

from typing import Any

import pytest

import wsesim
from wsesim.engine.exact.wafer import SegmentRun
from wsesim.engine.graph.taskgraph import SEND
from wsesim.engine.steps.occupancy import busy_cycles
from wsesim.engine.steps.pipeline import pipeline
from wsesim.engine.steps.timing import Step, StepCycles
from wsesim.runtime.job import Job
from wsesim.runtime.scheduler import Scheduler
from wsesim.toolchain import make_timing


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("tiny", {"sequences": 4}),
        ("smollm2-135m", {"sequences": 8}),
        ("smollm2-135m", {"sequences": 8, "strategy": "hybrid", "layers_per_block": 5}),
    ],
)
def test_steps_of_all_slots_follow_one_another_as_on_the_loaded_wafer(model: str, options: dict[str, Any]) -> None:
    """Each slot's next token waits for its last one, or for the busiest block; tiny's three blocks hold two steps.

    Eight tokens of smollm2-135m with `auto` also meet at the table, which embeds and makes logits: 1.5 % of the period.
    """
    timing = make_timing(wsesim.compile(model, machine="wse3", **options), keep_timelines=False)
    step = timing.decode(64)
    for in_flight in (2, options["sequences"]):
        expected = max(step.cycles / in_flight, step.busy_cycles)
        loaded = float(pipeline(timing, in_flight, 64).period_cycles)
        assert loaded == pytest.approx(expected, rel=0.02)
        assert scheduled_period(step, in_flight) == pytest.approx(expected, rel=0.001)


def scheduled_period(step: Step, in_flight: int) -> float:
    """Mean cycles between two tokens of the runtime's clock, of jobs whose steps are all alike."""
    jobs = [Job(prompt_tokens=1, output_tokens=40) for _ in range(in_flight)]
    scheduler = Scheduler(lambda job: StepCycles(step.cycles, step.logits_cycles, step.busy_cycles), slots=in_flight)
    for job in jobs:
        scheduler.submit(job)
    while scheduler.busy:
        scheduler.advance()
    first, last = 10, 30  # by the first job's tokens: all jobs run, none ends
    begin, end = jobs[0].token_cycles[first], jobs[0].token_cycles[last]
    return (end - begin) / sum(begin < cycle <= end for job in jobs for cycle in job.token_cycles)


def test_one_block_for_all_is_busy_for_the_whole_step_and_a_pipeline_is_not() -> None:
    busy = {}
    for strategy in ("shared", "pipelined"):
        step = make_timing(wsesim.compile("smollm2-135m", strategy=strategy), keep_timelines=False).decode(16)
        busy[strategy] = step.busy_cycles / step.cycles
    assert busy["shared"] > 0.9
    assert busy["pipelined"] < 0.1


def test_a_prompt_is_busy_for_longer_the_longer_it_is() -> None:
    timing = make_timing(wsesim.compile("smollm2-135m"), keep_timelines=False)
    short, long = timing.prefill(8), timing.prefill(64)
    assert timing.decode(8).busy_cycles < short.busy_cycles < long.busy_cycles < long.cycles


def sent_cycles(run: SegmentRun) -> int:
    """When the last PE has sent, after the run's base."""
    (piece,) = run.effect.pieces
    assert piece.timeline is not None
    sends = [piece.graph.operations[number].op == SEND for number in piece.graph.operation]
    return int(piece.timeline.task_end[sends].max())


def test_blocks_count_what_is_covered_not_what_overlaps() -> None:
    """By hand, from the runs of a step: each block's kernels, the transfers to it, and what it sends."""
    program = wsesim.compile("smollm2-135m", strategy="pipelined")  # 31 blocks: none has to stay vacant for long
    step = make_timing(program).decode(4)
    held: dict[str, set[int]] = {}
    for run in step.runs:
        source, arrow, target = run.segment.name.partition("->")
        block = target if arrow else next((s.block for s in program.stages if s.name == source), "")
        held.setdefault(block, set()).update(range(run.base, run.end))
        if arrow:
            held.setdefault(source, set()).update(range(run.base, run.base + sent_cycles(run)))
    held.pop("", None)  # the ids' way back
    assert step.busy_cycles == busy_cycles(program, step.runs) == max(map(len, held.values()))
