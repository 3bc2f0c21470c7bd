"""RememberedSteps: the cycles of a Program's steps, kept on disk, so that a second run of a model starts at once.

Only three numbers of a step are kept; who wants to know why (a Report) simulates. The file is keyed by the Program's
fingerprint and by the engine's own source, so that a change of either forgets it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from wsesim.engine.timing import Step, StepCycles, Timing
from wsesim.files import write_whole


class RememberedSteps:
    """`timing`'s steps, from the file at `path` where they are there; new ones are added. None keeps no file."""

    def __init__(self, timing: Timing, path: Path | None) -> None:
        self._timing = timing
        self._path = path
        self._steps = _read(path)

    def prefill(self, tokens: int, candidates: int) -> StepCycles:
        return self._step(("prefill", candidates, tokens), lambda: self._timing.prefill_times(tokens, candidates))

    def decode(self, context: int, candidates: int) -> StepCycles:
        key = self._timing.decode_key(context, candidates)
        return self._step(key, lambda: self._timing.decode(context, candidates))

    def _step(self, key: tuple[object, ...], simulate: Callable[[], Step | StepCycles]) -> StepCycles:
        name = " ".join(map(str, key))
        if name not in self._steps:
            step = simulate()
            self._timing.forget_steps()
            self._steps[name] = StepCycles(step.cycles, step.logits_cycles, step.busy_cycles)
            self._write()
        return self._steps[name]

    def _write(self) -> None:
        """A disk that takes nothing costs only that nothing is remembered."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps({name: dataclasses.asdict(s) for name, s in self._steps.items()}))


def _read(path: Path | None) -> dict[str, StepCycles]:
    """What the file holds; a file that is not ours, or from another version, holds nothing."""
    if path is None or not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        fields = [field.name for field in dataclasses.fields(StepCycles)]
        return {name: StepCycles(*(int(step[field]) for field in fields)) for name, step in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}
