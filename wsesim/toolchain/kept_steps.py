"""KeptSteps: the cycles of a Program's steps, kept on disk, so that a second run of a model starts at once.

Three numbers of each step are kept. A Report needs more, so it simulates. The file's name depends on the Program's
fingerprint and on the engine's source code.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from wsesim.cache import keep, read_kept
from wsesim.engine.steps.effort import Effort, prefill_times_effort
from wsesim.engine.steps.timing import Step, StepCycles, Timing


class KeptSteps:
    """The steps of `timing`. Those in the file at `path` are not simulated; new ones are added to it.

    Without a path they are kept in memory only.
    """

    def __init__(self, timing: Timing, path: Path | None) -> None:
        self._timing = timing
        self._path = path
        self._steps = (path and read_kept(path, _parse)) or {}

    def prefill(self, tokens: int, candidates: int) -> StepCycles:
        return self._step(("prefill", candidates, tokens), lambda: self._timing.prefill_times(tokens, candidates))

    def prefill_effort(self, tokens: int, candidates: int) -> Effort:
        """The estimated time and memory of `prefill`: none if its cycles are kept."""
        known = _name(("prefill", candidates, tokens)) in self._steps
        return Effort() if known else prefill_times_effort(self._timing, tokens)

    def decode(self, context: int, candidates: int) -> StepCycles:
        key = self._timing.decode_key(context, candidates)
        return self._step(key, lambda: self._timing.decode(context, candidates))

    def _step(self, key: tuple[object, ...], simulate: Callable[[], Step | StepCycles]) -> StepCycles:
        name = _name(key)
        if name not in self._steps:
            step = simulate()
            self._timing.forget_steps()
            self._steps[name] = StepCycles(step.cycles, step.logits_cycles, step.busy_cycles)
            self._write()
        return self._steps[name]

    def _write(self) -> None:
        if self._path is not None:
            keep(self._path, json.dumps({name: dataclasses.asdict(s) for name, s in self._steps.items()}))


def _name(key: tuple[object, ...]) -> str:
    return " ".join(map(str, key))


def _parse(data: bytes) -> dict[str, StepCycles]:
    fields = [field.name for field in dataclasses.fields(StepCycles)]
    steps = json.loads(data)
    return {name: StepCycles(*(int(step[field]) for field in fields)) for name, step in steps.items()}
