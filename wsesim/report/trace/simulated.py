"""The trace of one simulated step: a decode step or a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from wsesim.engine.observe.path import PathStep
from wsesim.engine.steps.pipeline import Flow
from wsesim.engine.steps.timing import Step
from wsesim.program import Program
from wsesim.program.kernels import DECODE
from wsesim.report.trace.about import say_about
from wsesim.report.trace.events import COUNTER, Arguments, Count, Slice, Trace
from wsesim.report.trace.file import trace_file
from wsesim.report.trace.span import Span, draw, in_rows
from wsesim.report.trace.step import StepArtist
from wsesim.report.trace.wafer import WaferTracks


def write_step(
    path: str, program: Program, step: Step, critical_path: Sequence[PathStep], flow: Flow | None = None
) -> None:
    """Writes the step, in all detail, and the steady state `flow` of several steps in flight.

    Raises InvalidInputError if the file cannot be written.
    """
    with trace_file(path) as trace:
        say_about(trace, program)
        decode = step.phase == DECODE
        name = "token" if decode and step.tokens == 1 else f"{step.tokens} tokens"
        wafer = WaferTracks(trace, program)
        cached = trace.track("KV occupancy", wafer.track, kind=COUNTER, unit="tokens")
        trace.add(Count(cached, 0, step.context * step.tokens if decode else 0))
        arguments: Arguments = {"phase": step.phase, "tokens": step.tokens, "context": step.context}
        wafer.draw(StepArtist(program).drawing(step, critical_path, fine=True), name, 0, arguments)
        trace.add(Count(cached, step.cycles, (step.context + 1) * step.tokens if decode else step.tokens))
        if flow is not None:
            _draw_flow(trace, program, flow)


def _draw_flow(trace: Trace, program: Program, flow: Flow) -> None:
    """A repetition of the steady state: which sequence's token is on which block. Some are there before it begins."""
    begin = -min(0, *(stay.begin for stay in flow.stays))
    period = trace.track(f"{flow.in_flight} in flight")
    said: Arguments = {"tokens": flow.tokens, "period_cycles": float(flow.period_cycles)}
    trace.add(Slice(period, "repetition", begin, begin + flow.cycles, said))
    for block in program.blocks:
        spans = [
            Span(f"sequence {stay.sequence + 1}", stay.begin, stay.end, {"busy_cycles": stay.busy_cycles})
            for stay in flow.stays
            if stay.block == block.name
        ]
        for row in in_rows(spans):
            draw(trace, trace.track(block.name, period), row, begin)
