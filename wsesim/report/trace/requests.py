"""The trace of a session: its requests, and their prompts and tokens on the wafer.

A RequestTrace observes the Scheduler. It writes a step when the step has left the wafer, and a request at its end.
"""

from __future__ import annotations

from itertools import pairwise

from wsesim.program.kernels import PREFILL
from wsesim.program.program import Program
from wsesim.report.trace.about import say_about
from wsesim.report.trace.drawings import Drawings
from wsesim.report.trace.events import ASYNC, COUNTER, Arguments, Count, Slice, Trace
from wsesim.report.trace.step import StepDrawing
from wsesim.report.trace.wafer import WaferTracks
from wsesim.runtime.job import Job


class RequestTrace:
    """Writes what happens to the jobs of one Scheduler into `trace`.

    A slot has a wafer's tracks of its own: the steps of a slot follow one another, those of two slots overlap. `name`
    stands before the names of the tracks if a trace has several wafers.
    """

    def __init__(self, trace: Trace, program: Program, drawings: Drawings, slots: int, name: str = "") -> None:
        say_about(trace, program, prefix=f"{name}." if name else "")
        self._trace = trace
        self._program = program
        self._drawings = drawings
        self._name = name
        self._slots = slots
        self._requests = trace.track(f"{name} requests".strip())
        self._kept = trace.track("KV occupancy", self._requests, kind=COUNTER, unit="tokens")
        trace.add(Count(self._kept, 0, 0))
        self._wafers: dict[int, WaferTracks] = {}
        self._jobs: dict[Job, _Traced] = {}
        self._count = 0

    def admitted(self, job: Job, now_cycles: int) -> None:
        del now_cycles
        taken = {traced.slot for traced in self._jobs.values()}
        self._count += 1
        slot = next(slot for slot in range(self._slots) if slot not in taken)
        self._jobs[job] = _Traced(self._count, slot)

    def stepped(self, job: Job, now_cycles: int) -> None:
        """A step has left the wafer. The job does not have its token yet."""
        traced, begin = self._jobs[job], job.enters_cycles
        drawing, missing = None, ""
        if job.phase == PREFILL:
            context, name = 0, _prompt_name(job)
            traced.cached = job.prompt_tokens
            drawing, missing = self._prompt(job, now_cycles - begin)
        else:
            context, name = job.context, f"token {len(job.token_cycles) + 1}"
            traced.cached = context + 1
            drawing = self._drawings.decode(context, job.candidates)
            assert begin + drawing.cycles == now_cycles, "the drawing is of another step"
        wafer = self._wafer(traced.slot)
        said: Arguments = {"request": traced.number, "context": context}
        if drawing is None:
            wafer.draw_whole(name, begin, now_cycles, {**said, "parts": f"left out: {missing}"})
        else:
            wafer.draw(drawing, name, begin, said)
        self._count_tokens(now_cycles)

    def _prompt(self, job: Job, cycles: int) -> tuple[StepDrawing | None, str]:
        """The drawing of a prompt that took `cycles`, or why there is none."""
        if not job.output_tokens:
            return None, "no token is drawn"
        drawing = self._drawings.prefill(job.prompt_tokens, job.candidates)
        if drawing is None:
            return None, "the prompt is long"
        if drawing.cycles != cycles:  # by a few cycles: `wsesim.engine.exact.repetition` says when
            return None, f"all chunks one by one take {drawing.cycles:,} cycles"
        return drawing, ""

    def ended(self, job: Job, now_cycles: int, outcome: str) -> None:
        """The job has left its slot, or never had one: `outcome` is finished, cancelled or unfinished."""
        traced = self._jobs.pop(job, None)
        if traced is None:  # it was still waiting
            return
        track = self._trace.track("requests", self._requests, kind=ASYNC)
        said: Arguments = {"prompt_tokens": job.prompt_tokens, "tokens": len(job.token_cycles), "outcome": outcome}
        name = f"request {traced.number}"
        self._trace.add(Slice(track, name, job.arrival_cycles, max(now_cycles, job.admitted_cycles), said))
        marks = [("queue", job.arrival_cycles, job.admitted_cycles)]
        marks.append(("prompt", job.admitted_cycles, min(job.logits_cycles, now_cycles)))
        if job.token_cycles:
            times = pairwise((job.logits_cycles, *job.token_cycles))
            marks += [(f"token {n}", begin, end) for n, (begin, end) in enumerate(times, 1)]
        for part, begin, end in marks:
            self._trace.add(Slice(track, part, begin, end))
        self._count_tokens(now_cycles)

    def close(self, now_cycles: int) -> None:
        """Writes the requests that have not ended."""
        for job in list(self._jobs):
            self.ended(job, now_cycles, "unfinished")

    def _wafer(self, slot: int) -> WaferTracks:
        if slot not in self._wafers:
            name = f"{self._name} wafer".strip() + (f", slot {slot + 1}" if self._slots > 1 else "")
            self._wafers[slot] = WaferTracks(self._trace, self._program, name)
        return self._wafers[slot]

    def _count_tokens(self, now_cycles: int) -> None:
        cached = sum(traced.cached for traced in self._jobs.values())
        self._trace.add(Count(self._kept, now_cycles, cached))


class _Traced:
    """A job in a slot: its number, and its tokens in the KV cache."""

    __slots__ = ("cached", "number", "slot")

    def __init__(self, number: int, slot: int) -> None:
        self.number = number
        self.slot = slot
        self.cached = 0


def _prompt_name(job: Job) -> str:
    tokens = "1 token" if job.prompt_tokens == 1 else f"{job.prompt_tokens:,} tokens"
    return f"prompt of {tokens}" + (", token 1" if job.output_tokens else "")
