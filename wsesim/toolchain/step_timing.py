"""The engine for one Program: the cycles of its steps, simulated or kept on disk, and the notice before a long run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsesim.toolchain.kept import kept_file
from wsesim.toolchain.model_source import Say

if TYPE_CHECKING:
    from wsesim.engine.steps.effort import Effort
    from wsesim.engine.steps.timing import Timing
    from wsesim.program import Program
    from wsesim.toolchain.kept_steps import KeptSteps

STEP_SOURCES = ("wsesim.toolchain.kept_steps", "wsesim.engine.exact.wafer")
LONG_S = 5.0
"""A run that is estimated to take longer is announced."""


def make_timing(program: Program, *, keep_timelines: bool = True, free_links: bool = False) -> Timing:
    """The engine for `program`. With `free_links` no message waits for a link."""
    from wsesim.engine.exact.wafer import EffectCache
    from wsesim.engine.steps.timing import Timing

    return Timing(program, EffectCache(keep_timelines=keep_timelines), free_links=free_links)


def make_steps(program: Program) -> KeptSteps:
    """The cycles of a Program's steps: from the disk, or simulated and then kept there."""
    from wsesim.toolchain.kept_steps import KeptSteps

    path = kept_file("steps", program.model, program.fingerprint(), STEP_SOURCES)
    return KeptSteps(make_timing(program, keep_timelines=False), path)


def say_if_long(what: str, effort: Effort, say: Say) -> None:
    """Announces `what` with its estimated time and memory, if it takes longer than LONG_S."""
    if effort.seconds > LONG_S:
        say(f"{what} takes {effort}")
