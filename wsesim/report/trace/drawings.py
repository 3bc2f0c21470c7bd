"""Drawings of a Program's steps, made when they are first needed and then remembered, as the engine does with steps."""

from __future__ import annotations

from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.observe.path import step_path
from wsesim.engine.steps.timing import Step, Timing
from wsesim.program import Program
from wsesim.program.layout import ceil_div
from wsesim.report.trace.step import StepArtist, StepDrawing

MOST_SEGMENTS = 4096
"""Of a prompt that is drawn in detail: its chunks times the stages. A segment takes about 7 ms."""
KEPT = 64
EFFECTS = 32
"""Effects of decode steps that are kept. With its times, one of llama3.1-8b takes about 7 MB."""


class Drawings:
    """The drawings of the steps of `program`. `timing` runs the decode steps."""

    def __init__(self, program: Program) -> None:
        self.timing = Timing(program, EffectCache(capacity=EFFECTS))
        self._artist = StepArtist(program, EFFECTS)
        self._kept: dict[tuple[object, ...], StepDrawing] = {}

    def decode(self, context: int, candidates: int) -> StepDrawing:
        """Of a decode step. Contexts that cost the same share one."""
        key = self.timing.decode_key(context, candidates)
        return self._kept.get(key) or self._keep(key, self.timing.decode(context, candidates), self._artist)

    def prefill(self, tokens: int, candidates: int) -> StepDrawing | None:
        """Of a prompt; None if it has more than MOST_SEGMENTS segments."""
        program = self.timing.program
        if ceil_div(tokens, program.prefill_chunk) * len(program.stages) > MOST_SEGMENTS:
            return None
        key = ("prefill", tokens, candidates)
        if key in self._kept:
            return self._kept[key]
        own = Timing(program)  # its many effects go with it
        return self._keep(key, own.prefill(tokens, candidates), StepArtist(program))

    def _keep(self, key: tuple[object, ...], step: Step, artist: StepArtist) -> StepDrawing:
        drawing = artist.drawing(step, step_path(step, self.timing.program.machine))
        self.timing.forget_steps()
        self._kept[key] = drawing
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return drawing
