"""Traces of steps and sessions: what was written is read back, and the times in it are the engine's."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wsesim
from tests.programs import program
from tests.traces import ReadSlice, ReadTrace, check_flows, check_nesting, read_json, read_perfetto
from wsesim.engine.observe.path import step_path
from wsesim.engine.observe.traffic import pieces_of, wafer_busy_cycles, wafer_link_wavelets
from wsesim.engine.steps.timing import Step, StepCycles, Timing
from wsesim.report.figures import KINDS
from wsesim.report.trace import perfetto
from wsesim.report.trace.drawings import Drawings
from wsesim.report.trace.events import Slice, Trace
from wsesim.report.trace.file import trace_file
from wsesim.report.trace.nest import Nest
from wsesim.report.trace.path_spans import SHORT_CYCLES
from wsesim.report.trace.requests import RequestTrace
from wsesim.report.trace.simulated import write_step
from wsesim.report.trace.span import Span, in_rows
from wsesim.runtime.job import Job
from wsesim.runtime.protocols import Cycles
from wsesim.runtime.scheduler import Scheduler
from wsesim.toolchain.step_timing import make_timing

STEPS: list[tuple[dict[str, Any], str, int]] = [
    ({"strategy": "pipelined"}, "decode", 9),
    ({"strategy": "pipelined"}, "prefill", 7),
    ({"strategy": "shared"}, "decode", 100),
    ({"strategy": "shared"}, "prefill", 1),
    ({"strategy": "pipelined", "batch": 2, "sequences": 2}, "decode", 30),
    ({"strategy": "pipelined", "machine": "wse3"}, "prefill", 5),
    ({"strategy": "pipelined", "machine": "wse3", "kv": "shift"}, "decode", 64),
]
READERS = {".pftrace": read_perfetto, ".json": read_json}


def timed(options: dict[str, Any], phase: str, size: int) -> tuple[Timing, Step]:
    made = wsesim.compile("tiny", **{"machine": "toy4x4", **options})
    timing = make_timing(made)
    if phase == "prefill":
        return timing, timing.prefill(size)
    return timing, timing.decode(size, batch=options.get("batch", 1))


def written(path: Path, timing: Timing, step: Step) -> ReadTrace:
    """The trace of a step, read back."""
    write_step(str(path), timing.program, step, step_path(step, timing.program.machine))
    return READERS[path.suffix](path)


def tokens_of(trace: ReadTrace) -> list[ReadSlice]:
    """The outermost slices of the wafers' rows."""
    return [s for s in trace.slices if s.depth == 0 and len(s.names) == 1 and "wafer" in s.names[0]]


def check_tokens(trace: ReadTrace) -> None:
    """Asserts that every cycle of a token is in one stage, one operator and one part of one kind."""
    for token in tokens_of(trace):
        assert token.arguments["cycles"] == token.cycles
        if "parts" in token.arguments:
            assert trace.inside(token) == []
            continue
        assert sum(token.arguments.get(kind, 0) for kind in KINDS) == token.cycles
        for depth in (1, 2, 3):
            inner = trace.inside(token, depth)
            assert sum(s.cycles for s in inner) == token.cycles
            assert all(s.arguments.keys() & set(KINDS) for s in inner if depth < 3)
        found: Counter[str] = Counter()
        for part in trace.inside(token, 3):
            kinds = {part.name: part.cycles} if part.name in KINDS else part.arguments
            assert sum(kinds.values()) == part.cycles and set(kinds) <= set(KINDS)
            assert part.name == " + ".join(kinds) or set(part.name.split(" + ")) == set(kinds)
            found.update(kinds)
        assert found == {kind: token.arguments[kind] for kind in KINDS if kind in token.arguments}


def as_events(trace: ReadTrace) -> list[tuple[Any, ...]]:
    """All that both formats hold. The numbers of rows and flows are equal, too."""
    slices = [
        (s.place, s.names[-1], s.name, s.begin, s.end, s.depth, sorted(s.arguments.items()), s.sends, s.receives)
        for s in trace.slices
    ]
    counters = [(*key, *values) for key, values in trace.counters.items()]
    about = tuple(sorted(trace.about.items()))
    return [*sorted(slices, key=str), *sorted(counters, key=str), *trace.instants, about]


@pytest.mark.parametrize(("options", "phase", "size"), STEPS)
def test_a_step_is_accounted_for(options: dict[str, Any], phase: str, size: int, tmp_path: Path) -> None:
    timing, step = timed(options, phase, size)
    trace = written(tmp_path / "step.pftrace", timing, step)
    check_nesting(trace)
    check_tokens(trace)
    (token,) = tokens_of(trace)
    assert (token.begin, token.end, token.arguments["phase"]) == (0, step.cycles, phase)
    report = wsesim.simulate(timing.program, **step_options(phase, size), batch=options.get("batch", 1))
    assert {kind: token.arguments.get(kind, 0) for kind in KINDS} == report.by_kind()
    stages = {stage.name for stage in timing.program.stages}
    assert check_flows(trace) == sum(run.segment.name not in stages for run in step.runs)


@pytest.mark.parametrize(("options", "phase", "size"), STEPS)
def test_short_stretches_that_follow_one_another_are_one_part(
    options: dict[str, Any], phase: str, size: int, tmp_path: Path
) -> None:
    timing, step = timed(options, phase, size)
    trace = written(tmp_path / "step.pftrace", timing, step)
    (token,) = tokens_of(trace)
    for operator in trace.inside(token, 2):
        parts = [(part, trace.inside(part)) for part in trace.inside(operator)]
        for part, stretches in parts:
            assert bool(stretches) == (part.name not in KINDS)
            assert all(s.name in KINDS and s.cycles < SHORT_CYCLES for s in stretches)
            assert sum(s.cycles for s in stretches) in (0, part.cycles)
        for (one, _), (other, _) in pairwise(parts):
            assert max(one.cycles, other.cycles) >= SHORT_CYCLES and one.name != other.name


def step_options(phase: str, size: int) -> dict[str, Any]:
    return {"phase": phase, "tokens" if phase == "prefill" else "context": size}


@pytest.mark.parametrize(("options", "phase", "size"), STEPS)
def test_blocks_and_counters_hold_what_the_engine_counts(
    options: dict[str, Any], phase: str, size: int, tmp_path: Path
) -> None:
    timing, step = timed(options, phase, size)
    machine = timing.program.machine
    trace = written(tmp_path / "step.pftrace", timing, step)
    stages = Counter(run.segment.name for run in step.runs)
    names = {stage.name: stage.block for stage in timing.program.stages}
    blocks = [s for s in trace.slices if "kernels" in s.arguments]
    assert Counter(s.name for s in blocks) == Counter({name: n for name, n in stages.items() if name in names})
    assert all(names[s.name] in s.names for s in blocks)
    kernels = trace.named("kernels")
    for stage in blocks:
        own = [k for k in kernels if k.names[-2] == names[stage.name]]
        assert stage.end in {k.end for k in own} and stage.begin <= min(k.begin for k in own if k.end == stage.end)
    assert len(kernels) == sum(stage.arguments["kernels"] for stage in blocks)
    busy = int(wafer_busy_cycles(pieces_of(step.runs), machine.columns, machine.rows).sum())
    moves = [*trace.named("send"), *trace.named("receive")]
    assert sum(k.arguments["busy_pe_cycles"] for k in (*kernels, *moves)) == busy
    wavelets = int(wafer_link_wavelets(pieces_of(step.runs), machine.columns, machine.rows).sum())
    counted = {name: area(values) for (_, name), values in trace.counters.items()}
    assert counted["busy PEs"] == pytest.approx(busy, rel=1e-3)
    assert counted["link use"] == pytest.approx(wavelets, rel=1e-3)
    most = max(value for _, value in next(v for (_, name), v in trace.counters.items() if name == "busy PEs"))
    assert 0 < most <= timing.program.pes


def area(values: list[tuple[int, float]]) -> float:
    """A counter's value, summed over the cycles."""
    cycles, counts = np.array(values).T
    return float((np.diff(cycles) * counts[:-1]).sum())


def test_steps_in_flight_are_on_their_blocks(tmp_path: Path) -> None:
    options: dict[str, Any] = {"machine": "wse3", "strategy": "pipelined", "sequences": 3, "context": 20}
    report = wsesim.simulate("tiny", **options, in_flight=3, trace=str(tmp_path / "f.pftrace"))
    trace, flow = read_perfetto(tmp_path / "f.pftrace"), report.flow
    assert flow is not None
    check_nesting(trace)
    (whole,) = trace.named("3 in flight")
    assert whole.begin == -min(0, *(stay.begin for stay in flow.stays))
    assert (whole.cycles, whole.arguments["tokens"]) == (flow.cycles, flow.tokens)
    assert whole.arguments["period_cycles"] == float(flow.period_cycles)
    stays = [s for s in trace.slices if s.names[0] == "3 in flight" and len(s.names) == 2]
    assert {s.name for s in stays} == {"sequence 1", "sequence 2", "sequence 3"}
    for use in flow.blocks:
        own = [s for s in stays if s.names[1] == use.block]
        assert sum(s.arguments["busy_cycles"] for s in own) == use.busy_cycles * flow.tokens
        assert all(0 < s.arguments["busy_cycles"] <= s.cycles for s in own)
    assert tokens_of(trace)[0].cycles == report.cycles


@pytest.mark.parametrize(("options", "phase", "size"), STEPS[:3])
def test_both_formats_hold_the_same_events(options: dict[str, Any], phase: str, size: int, tmp_path: Path) -> None:
    timing, step = timed(options, phase, size)
    traces = [written(tmp_path / f"step{ending}", timing, step) for ending in READERS]
    assert as_events(traces[0]) == as_events(traces[1])
    assert len(traces[0].slices) > 50


def test_a_trace_states_its_unit_its_clock_and_its_program(tmp_path: Path) -> None:
    timing, step = timed(*STEPS[0])
    made = timing.program
    for ending in READERS:
        trace = written(tmp_path / f"step{ending}", timing, step)
        assert trace.about["unit"] == "1 ns of this trace is 1 cycle"
        assert trace.about["clock_hz"] == 1_000_000
        assert (trace.about["model"], trace.about["machine"]) == ("tiny", "toy4x4")
        assert trace.about["program"] == made.fingerprint()
        ((name, at, said),) = trace.instants
        assert (name, at, said) == ("1 ns of this trace is 1 cycle, at 1 MHz", 0, trace.about)


def test_a_prompt_has_its_chunks(tmp_path: Path) -> None:
    timing, step = timed({"strategy": "pipelined"}, "prefill", 7)
    trace = written(tmp_path / "step.pftrace", timing, step)
    chunks = trace.named("prompt chunks")
    size = timing.program.prefill_chunk
    assert size == 2 and [c.name for c in chunks] == ["tokens 1 to 2", "tokens 3 to 4", "tokens 5 to 6", "token 7"]
    first, last = timing.program.stages[0].name, timing.program.stages[-3].name
    assert [c.begin for c in chunks] == [run.base for run in step.runs if run.segment.name == first]
    assert [c.end for c in chunks] == [run.end for run in step.runs if run.segment.name == last]


# sessions


@cache
def toy_timing() -> Timing:
    """Steps that all examples share."""
    return make_timing(program("tiny", "toy4x4"))


def session(
    path: Path,
    jobs: list[Job],
    slots: int,
    cancelled: dict[int, int] | None = None,
    name: str = "",
    timing: Cycles | None = None,
) -> Scheduler:
    """Runs the jobs and traces them. Before advance number n, job `cancelled[n]` is dropped."""
    cycles, cancelled = timing or toy_timing(), cancelled or {}
    scheduler = Scheduler(lambda job: job.next_step(cycles), slots)
    made = timing.program if isinstance(timing, Timing) else toy_timing().program
    with trace_file(str(path)) as trace:
        observer = RequestTrace(trace, made, Drawings(made), slots, name)
        scheduler.observer = observer
        for job in jobs:
            scheduler.submit(job)
        number = 0
        while scheduler.busy:
            if number in cancelled:
                scheduler.cancel(jobs[cancelled[number] % len(jobs)])
            scheduler.advance()
            number += 1
        observer.close(scheduler.now_cycles)
    return scheduler


LENGTHS = st.tuples(st.integers(1, 5), st.integers(0, 4), st.integers(0, 60_000))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=5),
    slots=st.integers(1, 3),
    cancelled=st.dictionaries(st.integers(0, 20), st.integers(0, 4), max_size=3),
)
def test_any_session_nests_and_is_accounted_for(
    lengths: list[tuple[int, int, int]], slots: int, cancelled: dict[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("traces")
    traces = []
    for ending, read in READERS.items():
        jobs = [Job(prompt, output, arrival_cycles=arrival) for prompt, output, arrival in lengths]
        session(folder / f"s{ending}", jobs, slots, cancelled)
        traces.append(read(folder / f"s{ending}"))
    assert as_events(traces[0]) == as_events(traces[1])
    trace = traces[0]
    check_nesting(trace)
    check_tokens(trace)
    check_flows(trace)
    drawn = [token for token in tokens_of(trace) if token.name.startswith("token ")]
    firsts = [token for token in tokens_of(trace) if token.name.startswith("prompt ")]
    done = sum(len(job.token_cycles) for job in jobs)
    assert len(drawn) + len([token for token in firsts if token.name.endswith(", token 1")]) == done
    ends = sorted(cycle for job in jobs for cycle in job.token_cycles)
    assert sorted(t.end for t in tokens_of(trace) if "parts" not in t.arguments) == ends
    values = next(values for (_, name), values in trace.counters.items() if name == "KV occupancy")
    assert values[0] == (0, 0) and (not firsts or values[-1][1] == 0)


def test_a_request_has_the_times_of_its_job(tmp_path: Path) -> None:
    jobs = [Job(3, 3), Job(2, 2, arrival_cycles=1000), Job(1, 0, arrival_cycles=2000)]
    session(tmp_path / "s.pftrace", jobs, 1)
    trace = read_perfetto(tmp_path / "s.pftrace")
    requests = [s for s in trace.named("requests") if s.depth == 0]
    assert [r.name for r in requests] == ["request 1", "request 2", "request 3"]
    for job, request in zip(jobs, requests, strict=True):
        times = [job.arrival_cycles, job.admitted_cycles, job.logits_cycles, *job.token_cycles]
        inner = trace.inside(request)
        assert [s.name for s in inner] == ["queue", "prompt", *(f"token {n + 1}" for n in range(job.output_tokens))]
        assert [s.begin for s in inner] == times[:-1] and [s.end for s in inner] == times[1:]
        assert (request.begin, request.end) == (times[0], times[-1])
        assert request.arguments == {
            "prompt_tokens": job.prompt_tokens, "tokens": job.output_tokens, "outcome": "finished"
        }  # fmt: skip


def test_the_kv_cache_fills_and_empties(tmp_path: Path) -> None:
    jobs = [Job(3, 3), Job(2, 2)]
    session(tmp_path / "s.pftrace", jobs, 2)
    trace = read_perfetto(tmp_path / "s.pftrace")
    ((_, values),) = ((k, v) for k, v in trace.counters.items() if k[1] == "KV occupancy")
    events = sorted([(c, j, n) for j, job in enumerate(jobs) for n, c in enumerate(job.token_cycles)])
    assert max(value for _, value in values) <= 3 + 2 + 2 + 1
    for cycle, number, token in events[:2]:
        seen = dict(values)[cycle]
        assert seen >= jobs[number].prompt_tokens + token
    assert values[-1] == (max(job.token_cycles[-1] for job in jobs), 0)


def test_a_step_that_repeats_is_neither_simulated_nor_read_again() -> None:
    drawings = Drawings(program("tiny", "toy4x4"))
    timing = drawings.timing
    first = drawings.decode(9, 1)
    simulations = timing.cache.simulations
    assert timing.decode_key(9, 1) == timing.decode_key(10, 1) != timing.decode_key(12, 1)
    assert drawings.decode(10, 1) is first
    assert timing.cache.simulations == simulations
    assert drawings.decode(12, 1) is not first
    assert timing.cache.simulations > simulations


def test_a_prompt_of_many_chunks_is_one_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsesim.report.trace import drawings

    monkeypatch.setattr(drawings, "MOST_SEGMENTS", 8)
    session(tmp_path / "s.pftrace", [Job(5, 2)], 1)
    trace = read_perfetto(tmp_path / "s.pftrace")
    prompt, token = tokens_of(trace)
    assert prompt.arguments["parts"] == "left out: the prompt is long" and trace.inside(prompt) == []
    assert prompt.end == token.begin and trace.inside(token)


class Later:
    """Steps whose prompts take 3 cycles longer than simulated chunk by chunk, as those that skip chunks may."""

    def prefill(self, tokens: int, candidates: int) -> StepCycles:
        step = toy_timing().prefill(tokens, candidates)
        return StepCycles(step.cycles + 3, step.logits_cycles + 3, step.busy_cycles)

    def decode(self, context: int, candidates: int) -> Step:
        return toy_timing().decode(context, candidates)


def test_a_prompt_of_other_cycles_is_one_slice(tmp_path: Path) -> None:
    session(tmp_path / "s.pftrace", [Job(3, 2)], 1, timing=Later())
    trace = read_perfetto(tmp_path / "s.pftrace")
    prompt, token = tokens_of(trace)
    alone = toy_timing().prefill(3, 1).cycles
    assert prompt.cycles == alone + 3 == token.begin
    assert prompt.arguments["parts"] == f"left out: all chunks one by one take {alone:,} cycles"
    check_tokens(trace)


def test_several_wafers_in_one_trace_have_names(tmp_path: Path) -> None:
    session(tmp_path / "s.pftrace", [Job(2, 1)], 2, name="tiny")
    trace = read_perfetto(tmp_path / "s.pftrace")
    assert {s.names[0] for s in trace.slices} == {"tiny wafer, slot 1", "tiny requests"}
    assert trace.about["tiny.clock_hz"] == 1_000_000


def test_100_tokens_of_llama_8b_stay_small(tmp_path: Path) -> None:
    timing = make_timing(program("llama3.1-8b", "wse3"), keep_timelines=False)
    path = tmp_path / "s.pftrace"
    session(path, [Job(1, 100)], 1, timing=timing)
    assert path.stat().st_size < 20e6
    trace = read_perfetto(path)
    tokens = tokens_of(trace)
    assert len(tokens) == 100 and [t.cycles for t in tokens[1:]] == [timing.decode(n, 1).cycles for n in range(1, 100)]
    check_tokens(trace)
    check_nesting(trace)
    assert check_flows(trace) == 100 * (len(timing.program.transfers) + 1)
    parts = [part for token in tokens for part in trace.inside(token, 3)]
    assert len(parts) > 100_000


# the writers


def test_names_are_written_once(tmp_path: Path) -> None:
    session(tmp_path / "s.pftrace", [Job(2, 20)], 1)
    data = (tmp_path / "s.pftrace").read_bytes()
    trace = read_perfetto(tmp_path / "s.pftrace")
    assert sum(s.name == "gate_up" for s in trace.slices) > 40
    assert data.count(b"gate_up") == data.count(b"busy_pe_cycles") == 1


def test_the_table_of_names_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session(tmp_path / "a.pftrace", [Job(2, 6)], 1)
    monkeypatch.setattr(perfetto, "MOST_NAMES", 10)
    session(tmp_path / "b.pftrace", [Job(2, 6)], 1)
    assert (tmp_path / "b.pftrace").read_bytes().count(b"gate_up") > 10
    assert as_events(read_perfetto(tmp_path / "a.pftrace")) == as_events(read_perfetto(tmp_path / "b.pftrace"))


class Flushed(io.BytesIO):
    """Notes how many bytes were written at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[int] = []

    def flush(self) -> None:
        self.at.append(self.tell())


def test_the_file_is_flushed_every_few_thousand_slices() -> None:
    file = Flushed()
    writer = perfetto.PerfettoWriter(file)
    trace = Trace(writer)
    track = trace.track("wafer")
    for number in range(3 * perfetto.FLUSH_SLICES):
        trace.add(Slice(track, "token", number, number + 1))
    assert len(file.at) == 3 and len(set(file.at)) == 3


def test_what_overlaps_without_nesting_is_refused() -> None:
    trace = Trace(perfetto.PerfettoWriter(io.BytesIO()))
    nest, track = Nest(), trace.track("wafer")
    assert nest.begin(Slice(track, "a", 0, 10)) == []
    assert nest.begin(Slice(track, "b", 2, 10)) == []
    assert [s.name for s in nest.begin(Slice(track, "c", 10, 12))] == ["b", "a"]
    with pytest.raises(AssertionError, match="is not inside of"):
        nest.begin(Slice(track, "d", 11, 13))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=20))
def test_rows_hold_all_spans_without_overlap(drawn: list[tuple[int, int]]) -> None:
    spans = [Span(str(n), begin, begin + length) for n, (begin, length) in enumerate(drawn)]
    rows = in_rows(spans)
    assert sorted(span.name for row in rows for span in row) == sorted(span.name for span in spans)
    assert all(a.end_cycles <= b.begin_cycles for row in rows for a, b in pairwise(row))
    deepest = max(sum(span.begin_cycles <= cycle < span.end_cycles for span in spans) for cycle in range(40))
    assert len(rows) == max(deepest, bool(spans))
