"""Program -> Report: one step of a model simulated, and what else was asked about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.program.layout import ceil_div
from wsesim.toolchain.compiling import Say, compile, silent
from wsesim.toolchain.running import make_timing
from wsesim.toolchain.words import DEFAULT_MODEL, check_types, is_saved_program

if TYPE_CHECKING:
    from wsesim.engine.pipeline import Flow
    from wsesim.engine.timing import Step, Timing
    from wsesim.machine import Machine
    from wsesim.program import Program
    from wsesim.report.report import Report

PHASES = ("decode", "prefill")
DEFAULT_CACHED = 512
DEFAULT_PROMPT = 128
MANY_CHUNKS = 200


def simulate(
    model: str | Program = DEFAULT_MODEL,
    *,
    phase: str = "decode",
    context: int | None = None,
    tokens: int | None = None,
    batch: int = 1,
    in_flight: int = 1,
    congestion: bool = False,
    sensitivity: bool = False,
    say: Say = silent,
    **lowering: Any,
) -> Report:
    """The modelled cycles of one decode step over `context` cached tokens, or of the prefill of `tokens` tokens.

    None is 512 cached tokens, 128 of a prompt, or as many as the compiled context has room for. `batch` tokens, each
    of its own sequence, make the decode step together; a Program must have been compiled for as many. With `in_flight`
    the report has the steady state of as many steps in different blocks at once, with `congestion` what waiting for
    links costs (a second run), with `sensitivity` the elasticity of each of the machine's constants (a run for each).
    """
    check_types({"context": context, "tokens": tokens}, {"context": int | None, "tokens": int | None})
    check_step(phase, batch, in_flight)
    program = program_for(model, batch, say, **lowering)
    new, before = _step_size(program.max_context, phase, context, tokens)
    chunks = ceil_div(new, program.prefill_chunk) if phase == "prefill" else 1
    if chunks > MANY_CHUNKS:
        say(f"running each of the prompt's {chunks:,} chunks through the wafer, which may take minutes")
    return _report(_Question(program, phase, new, before, batch, in_flight), congestion, sensitivity)


@dataclass(frozen=True, slots=True)
class _Question:
    """A step of a Program, to be run under several conditions."""

    program: Program
    phase: str
    tokens: int
    context: int
    batch: int
    in_flight: int

    def step(self, timing: Timing) -> Step:
        return timing.decode(self.context, batch=self.batch) if self.phase == "decode" else timing.prefill(self.tokens)

    def cycles(self, machine: Machine, *, free_links: bool = False) -> int:
        """Of the step on a machine of other numbers, the placement unchanged."""
        return self.step(_timing(dataclasses.replace(self.program, machine=machine), free_links)).cycles

    def flow(self, *, free_links: bool = False) -> Flow | None:
        """The steady state; None of one step at a time."""
        from wsesim.engine.pipeline import pipeline

        if self.in_flight == 1:
            return None
        return pipeline(_timing(self.program, free_links), self.in_flight, self.context, batch=self.batch)


def _timing(program: Program, free_links: bool) -> Timing:
    from wsesim.engine.timing import Timing
    from wsesim.engine.wafer import Memory

    return Timing(program, Memory(keep_timelines=False), free_links=free_links)


def _report(question: _Question, congestion: bool, sensitivity: bool) -> Report:
    """Everything that was asked for. Raises SequencesError before anything is simulated."""
    from wsesim.engine.timing import check_batch
    from wsesim.report.report import report
    from wsesim.report.sensitivity import sensitivity as elasticities

    program = question.program
    check_batch(program, question.batch, question.in_flight)
    return report(
        program,
        question.step(make_timing(program)),
        flow=question.flow(),
        free_cycles=question.cycles(program.machine, free_links=True) if congestion else None,
        free_flow=question.flow(free_links=True) if congestion else None,
        sensitivity=elasticities(program.machine, question.cycles) if sensitivity else (),
    )


def check_step(phase: str, batch: int, in_flight: int = 1) -> None:
    """Raises what is wrong with the words of a step, before anything is compiled."""
    check_types(
        {"phase": phase, "batch": batch, "in_flight": in_flight}, {"phase": str, "batch": int, "in_flight": int}
    )
    if phase not in PHASES:
        raise UnknownNameError("phase", phase, PHASES)
    for word, count in (("batch", batch), ("in_flight", in_flight)):
        if count != 1 and phase != "decode":
            raise InvalidInputError(f"{word} {count} says nothing of a {phase}: one prompt goes through at a time")


def program_for(model: str | Program, batch: int, say: Say = silent, **lowering: Any) -> Program:
    """The Program of `model` with buffers for `batch` tokens; a finished one as it is."""
    finished = not isinstance(model, str) or is_saved_program(model)
    words: dict[str, Any] = lowering if finished else {**lowering, "batch": batch}
    return compile(model, say=say, **words)


def _step_size(max_context: int, phase: str, context: int | None, tokens: int | None) -> tuple[int, int]:
    """New and cached tokens of a step. Raises InvalidInputError."""
    if (tokens if phase == "decode" else context) is not None:
        other, own = ("--tokens", "--context") if phase == "decode" else ("--context", "--tokens")
        raise InvalidInputError(f"{other} says nothing of a {phase}; give {own}")
    if phase == "decode":
        new, before = 1, min(DEFAULT_CACHED, max_context - 1) if context is None else context
    else:
        new, before = min(DEFAULT_PROMPT, max_context) if tokens is None else tokens, 0
    if new < 1 or before < 0 or new + before > max_context:
        raise InvalidInputError(
            f"{new} new tokens over {before} cached do not fit the compiled context of {max_context}; "
            "at least one is new (--context, --tokens, --max-context)"
        )
    return new, before
