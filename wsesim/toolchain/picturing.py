"""The further runs that the figures of a report need: other contexts, and several sequences in flight."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wsesim.progress import working
from wsesim.toolchain.simulating import Question
from wsesim.toolchain.step_timing import make_timing

if TYPE_CHECKING:
    from wsesim.engine.steps.pipeline import Flow
    from wsesim.engine.steps.timing import Step
    from wsesim.program import Program
    from wsesim.report.pictures import Runs
    from wsesim.report.report import Report

CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
MOST_IN_FLIGHT = 8


def runs_for_pictures(question: Question, ran: Step, report: Report) -> Runs:
    """The runs of all figures: those of `question`, which ran as `ran`, and others of its Program."""
    from wsesim.report.pictures import Runs

    flows = _flows(question) if question.phase == "decode" else ()
    return Runs(question.program, ran, report, _reports(question, report), flows)


def _reports(question: Question, own: Report) -> tuple[Report, ...]:
    """Reports of the step over other contexts, or of prompts of other lengths, in ascending order."""
    from wsesim.report.report import report

    decode = question.phase == "decode"
    size = question.context if decode else question.tokens
    sizes = sorted({size, *(_contexts(question.program) if decode else _prompts(size))})
    found = []
    timing = make_timing(question.program)
    with working("simulating other contexts" if decode else "simulating other prompts", len(sizes)) as work:
        for work.done, one in enumerate(sizes):
            asked = dataclasses.replace(question, context=one) if decode else dataclasses.replace(question, tokens=one)
            found.append(own if one == size else report(question.program, asked.step(timing)))
            timing.forget_steps()
    return tuple(found)


def _contexts(program: Program) -> set[int]:
    """Round numbers up to the longest context of the Program."""
    return {min(context, program.max_context - 1) for context in CONTEXTS}


def _prompts(tokens: int) -> set[int]:
    """Shorter prompts, which take less time to simulate than the one that was asked for."""
    return {max(1, tokens // 4), max(1, tokens // 2)}


def _flows(question: Question) -> tuple[Flow, ...]:
    """Steady states of 1, 2, 4, ... sequences, as many as share the KV cache and find blocks."""
    from wsesim.engine.steps.pipeline import pipeline

    program = question.program
    most = 1
    while 2 * most <= MOST_IN_FLIGHT and _shared(program, 2 * most * question.batch, question.context) is not None:
        most *= 2
    shared = _shared(program, most * question.batch, question.context)
    if shared is None:
        return ()
    timing = make_timing(shared, keep_timelines=False)
    found: list[Flow] = []
    numbers = [1 << n for n in range(most.bit_length())]
    with working("simulating sequences in flight", len(numbers)) as work:
        for work.done, number in enumerate(numbers):
            if not found or number <= found[0].most_at_once:
                found.append(pipeline(timing, number, question.context, batch=question.batch))
    return tuple(found)


def _shared(program: Program, sequences: int, context: int) -> Program | None:
    """The Program with the room of its KV cache shared by `sequences`; None if `context` tokens of each do not fit.

    The blocks and the bytes of every PE stay as they are.
    """
    each = program.max_context * program.sequences // sequences
    if each <= context:
        return None
    for kernel in program.kernels:
        if kernel.cache is not None:
            along, chunk = program.block(kernel.block).along, program.prefill_chunk
            there = kernel.cache.stored_positions(program.max_context, along, chunk) * program.sequences
            if kernel.cache.stored_positions(each, along, chunk) * sequences > there:
                return None
    return dataclasses.replace(program, sequences=sequences, max_context=each)
