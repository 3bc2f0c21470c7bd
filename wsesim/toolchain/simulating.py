"""simulate(): one step of a model, simulated, as a Report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsesim.errors import InvalidInputError, UnknownNameError, keyword
from wsesim.machine import Machine
from wsesim.software.software import Software
from wsesim.toolchain.compiling import compile_model
from wsesim.toolchain.model_kinds import is_saved_program
from wsesim.toolchain.model_source import Say, silent
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    PHASES,
    Lowering,
    StepOptions,
    TraceOptions,
    chosen,
    public,
)
from wsesim.toolchain.step_timing import make_timing, say_if_long
from wsesim.toolchain.tracing import check_trace

if TYPE_CHECKING:
    from wsesim.engine.steps.effort import Effort
    from wsesim.engine.steps.pipeline import Flow
    from wsesim.engine.steps.timing import Step, Timing
    from wsesim.program import Program
    from wsesim.report.report import Report

DEFAULT_CACHED = 512
DEFAULT_PROMPT = 128


@public(StepOptions, TraceOptions, Lowering)
def simulate(
    model: str | Program = DEFAULT_MODEL,
    *,
    phase: str = "decode",
    context: int | None = None,
    tokens: int | None = None,
    in_flight: int = 1,
    congestion: bool = False,
    sensitivity: bool = False,
    trace: str | None = None,
    machine: str | Machine = DEFAULT_MACHINE,
    software: str | Software = DEFAULT_SOFTWARE,
    strategy: str = "auto",
    layers_per_block: int | None = None,
    block: tuple[int, int] | None = None,
    order: str = "serpentine",
    placement: str | None = None,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    batch: int = 1,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    say: Say = silent,
) -> Report:
    """The modelled cycles of one step of `model`, and where they went. No weights are needed.

    Args:
        model: as in `wsesim.compile`.
        phase: "decode" (one token over `context` cached ones) or "prefill" (a prompt of `tokens`).
        context: tokens in the KV cache before a decode step. None: 512, or as many as fit.
        tokens: tokens of a prefill. None: 128, or as many as fit.
        in_flight: decode steps of different sequences on the wafer at once; the report has their steady state.
        congestion: simulate also with free links; the report has the cost of waiting for links.
        sensitivity: simulate also with each constant of the machine 10 % higher; the report has the elasticities.
        trace: a file for the step's timeline, .pftrace or .json (docs/traces.md).
        batch: sequences whose tokens go through the decode step together. A Program must be compiled for as many.
        machine, ..., collective: as in `wsesim.compile`.
        say: called with a line before long work.
    """
    values = locals()
    return simulate_model(model, chosen(StepOptions, values), chosen(Lowering, values), trace=trace, say=say)


def simulate_model(
    model: str | Program, step: StepOptions, lowering: Lowering, *, trace: str | None = None, say: Say = silent
) -> Report:
    """As `simulate`, with the options as values."""
    check_step(step, lowering.batch)
    check_trace(trace)
    program = program_for(model, lowering, say, objective_of(step))
    return simulate_program(program, step, lowering.batch, trace=trace, say=say)


def simulate_program(
    program: Program, step: StepOptions, batch: int, *, trace: str | None = None, say: Say = silent
) -> Report:
    """The Report of a step of `program`, whose options `check_step` has passed. Raises InvalidInputError."""
    ran, made = answered(question_of(program, step, batch), step, say)
    if trace is not None:
        from wsesim.report.trace.simulated import write_step

        write_step(trace, program, ran, made.path, made.flow)
    return made


def question_of(program: Program, step: StepOptions, batch: int) -> Question:
    """The step that `step` asks for, whose options `check_step` has passed. Raises InvalidInputError."""
    from wsesim.engine.steps.timing import check_batch

    new, before = step_size(program.max_context, step)
    check_batch(program, batch, step.in_flight)
    return Question(program, step.phase, new, before, batch, step.in_flight)


def answered(question: Question, step: StepOptions, say: Say = silent) -> tuple[Step, Report]:
    """The step as it ran, with its timelines, and the Report of it."""
    say_if_long("simulating", _effort(question, step.congestion, step.sensitivity), say)
    ran = question.step(make_timing(question.program))
    return ran, _report(question, ran, step.congestion, step.sensitivity)


@dataclass(frozen=True, slots=True)
class Question:
    """One step of a Program, which is simulated under several conditions."""

    program: Program
    phase: str
    tokens: int
    context: int
    batch: int
    in_flight: int

    def step(self, timing: Timing) -> Step:
        return timing.decode(self.context, batch=self.batch) if self.phase == "decode" else timing.prefill(self.tokens)

    def cycles(self, machine: Machine, *, free_links: bool = False) -> int:
        """Cycles of the step on another machine, with the same placement."""
        changed = dataclasses.replace(self.program, machine=machine)
        return self.step(make_timing(changed, keep_timelines=False, free_links=free_links)).cycles

    def flow(self, *, free_links: bool = False) -> Flow | None:
        """The steady state of several steps in flight; None for one."""
        from wsesim.engine.steps.pipeline import pipeline

        if self.in_flight == 1:
            return None
        timing = make_timing(self.program, keep_timelines=False, free_links=free_links)
        return pipeline(timing, self.in_flight, self.context, batch=self.batch)


def _effort(question: Question, congestion: bool, sensitivity: bool) -> Effort:
    """The estimated time and memory of all runs."""
    from wsesim.engine.steps.effort import decode_effort, flow_effort, prefill_effort
    from wsesim.report.sensitivity import run_count

    timing, context, batch = make_timing(question.program), question.context, question.batch
    decode = question.phase == "decode"
    step = decode_effort(timing, context, batch) if decode else prefill_effort(timing, question.tokens)
    others = congestion + (run_count(question.program.machine) if sensitivity else 0)
    effort = step.then(step.repeated(others))
    if question.in_flight > 1:
        effort = effort.then(flow_effort(timing, question.in_flight, context, batch).repeated(1 + congestion))
    return effort


def _report(question: Question, ran: Step, congestion: bool, sensitivity: bool) -> Report:
    """All other runs, and the Report of them with the step that ran."""
    from wsesim.report.report import report
    from wsesim.report.sensitivity import sensitivity as elasticities

    program = question.program
    return report(
        program,
        ran,
        flow=question.flow(),
        free_cycles=question.cycles(program.machine, free_links=True) if congestion else None,
        free_flow=question.flow(free_links=True) if congestion else None,
        sensitivity=elasticities(program.machine, question.cycles) if sensitivity else (),
    )


def check_step(step: StepOptions, batch: int) -> None:
    """Raises UnknownNameError or InvalidInputError for wrong options of a step, before anything is compiled."""
    if step.phase not in PHASES:
        raise UnknownNameError("phase", step.phase, PHASES)
    for name, count in (("batch", batch), ("in_flight", step.in_flight)):
        if count != 1 and step.phase != "decode":
            raise InvalidInputError(f"{keyword(name, count)}: one prompt goes through at a time, so it is 1 in prefill")


def program_for(model: str | Program, lowering: Lowering, say: Say = silent, objective: str = "latency") -> Program:
    """The Program of `model`, compiled for the batch of the options. A Program, saved or not, stays as it is."""
    finished = not isinstance(model, str) or is_saved_program(model)
    own = dataclasses.replace(lowering, batch=1) if finished else lowering
    return compile_model(model, own, objective=objective, say=say)


def objective_of(step: StepOptions) -> str:
    """What strategy auto places for."""
    if step.phase != "decode":
        return "prompt"
    return "throughput" if step.in_flight > 1 else "latency"


def step_size(max_context: int, step: StepOptions) -> tuple[int, int]:
    """New and cached tokens of a step. Raises InvalidInputError."""
    decode = step.phase == "decode"
    other, own = ("tokens", "context") if decode else ("context", "tokens")
    if getattr(step, other) is not None:
        raise InvalidInputError(f"`{other}` is not an option of {step.phase}; give `{own}`")
    asked, least = getattr(step, own), 0 if decode else 1
    most = max_context - 1 if decode else max_context
    size = min(DEFAULT_CACHED if decode else DEFAULT_PROMPT, most) if asked is None else asked
    if size < least:
        raise InvalidInputError(f"{keyword(own, size)}: it is at least {least}")
    if size > most:
        why = "; one position is for the new token" if decode else ""
        raise InvalidInputError(
            f"{keyword(own, size)}: it is at most {most} with {keyword('max_context', max_context)}{why}"
        )
    return (1, size) if decode else (size, 0)
