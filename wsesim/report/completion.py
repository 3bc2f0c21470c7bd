"""The table under a completion's text."""

from __future__ import annotations

import numpy as np

from wsesim.program.program import Program
from wsesim.report.tables import aligned, si_bytes, si_seconds
from wsesim.runtime.run import Completion
from wsesim.runtime.times import Times


def completion_text(completion: Completion, program: Program, text_from: str | None) -> str:
    """Modelled times first; the last row is of this computer."""
    times, machine = completion.times, program.machine
    tokens = len(completion.token_ids)
    steps = times.token_s[1:] or times.token_s
    rate = tokens / times.completion_s if times.completion_s else 0.0
    title = (
        f"{program.model} on {machine.name} at {machine.clock_hz / 1e6:g} MHz, {program.strategy}, "
        f"timing in {program.timing_dtype}"
    )
    rows = [
        ("tokens", f"{completion.prompt_tokens} prompt", f"{tokens} completion", f"finish: {completion.finish_reason}"),
        ("time", *_named_times(times)),
        ("rate", f"{rate:,.1f} tokens/s", *_per_token(steps)),
        ("wafer", f"{program.pes:,} PEs", f"{si_bytes(program.sram_bytes)} of SRAM"),
        ("this computer", *_wall_times(completion)),
    ]
    stand_in = f"\n  the text and the token counts are {text_from}'s, the times {program.model}'s" if text_from else ""
    return f"{title}{stand_in}\n{aligned(rows)}"


def _named_times(times: Times) -> tuple[str, ...]:
    named = (("queue", times.queue_s), ("prompt", times.prompt_s), ("completion", times.completion_s))
    return tuple(f"{name} {si_seconds(seconds)}" for name, seconds in (*named, ("total", times.total_s)))


def _wall_times(completion: Completion) -> tuple[str, ...]:
    return f"execution {completion.execute_wall_s:.2f} s", f"simulation {completion.simulate_wall_s:.2f} s"


def _per_token(seconds: tuple[float, ...]) -> tuple[str, ...]:
    if not seconds:
        return ()
    return (
        f"mean {si_seconds(float(np.mean(seconds)))} a token",
        f"p99 {si_seconds(float(np.percentile(seconds, 99)))}",
    )
