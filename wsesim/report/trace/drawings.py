"""Drawings of a Program's steps, made when they are first needed and then remembered, as the engine does with steps."""

from __future__ import annotations

from wsesim.engine.observe.path import step_path
from wsesim.engine.steps.timing import Step, Timing
from wsesim.program.layout import ceil_div
from wsesim.report.trace.step import StepArtist, StepDrawing

MOST_SEGMENTS = 4096
"""Of a prompt that is drawn in detail: its chunks times the stages. A segment takes about 5 ms."""
KEPT = 64


class Drawings:
    """The drawings of the steps of `timing`, which keeps timelines."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._artist = StepArtist(timing.program)
        self._kept: dict[tuple[object, ...], StepDrawing] = {}

    def decode(self, context: int, candidates: int) -> StepDrawing:
        """Of a decode step. Contexts that cost the same share one."""
        key = self._timing.decode_key(context, candidates)
        return self._kept.get(key) or self._draw(key, self._timing.decode(context, candidates))

    def prefill(self, tokens: int, candidates: int) -> StepDrawing | None:
        """Of a prompt; None if it has more than MOST_SEGMENTS segments."""
        program = self._timing.program
        if ceil_div(tokens, program.prefill_chunk) * len(program.stages) > MOST_SEGMENTS:
            return None
        key = ("prefill", tokens, candidates)
        return self._kept.get(key) or self._draw(key, self._timing.prefill(tokens, candidates))

    def _draw(self, key: tuple[object, ...], step: Step) -> StepDrawing:
        drawing = self._artist.drawing(step, step_path(step, self._timing.program.machine))
        self._timing.forget_steps()
        self._kept[key] = drawing
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return drawing
