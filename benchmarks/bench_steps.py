"""A decode step of llama3.1-8b on wse3 with nothing cached: as whole graphs, and with the exact shortcuts.

CPU seconds are of one core and leave out JIT compilation and the compiler. Both runs must give the same cycles.
"""

from __future__ import annotations

from statistics import median
from time import process_time

import wsesim
from benchmarks.row import Row
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import Step, Timing
from wsesim.program import Program
from wsesim.toolchain import warm_up

CONTEXT = 512
REPEATS = 200


def rows() -> list[Row]:
    """The step without and with shortcuts, at another context, and at a context seen before."""
    program = wsesim.compile("llama3.1-8b", strategy="pipelined")
    warm_up()
    Timing(wsesim.compile("tiny", strategy="pipelined"), EffectCache(keep_timelines=False)).decode(
        1
    )  # the same code, once
    timing, short_s, short = _timed(program, EffectCache(keep_timelines=False), CONTEXT)
    began = process_time()
    other = timing.decode(8 * CONTEXT)
    other_s = process_time() - began
    again_s = _again_s(timing)
    _, whole_s, whole = _timed(program, EffectCache(keep_timelines=False, remember=False, fold=False), CONTEXT)
    assert (short.cycles, short.link_events, short.late_requests) == (
        *(whole.cycles, whole.link_events),
        whole.late_requests,
    )
    assert other.cycles > short.cycles
    links = f"{whole.link_events / 1e6:.1f} million link events"
    return [
        Row("decode step of llama3.1-8b without shortcuts (whole graphs)", whole_s, "CPU s", 10, note=links),
        Row("the same step with shortcuts, cold", 1e3 * short_s, "CPU ms", 50),
        Row("time with shortcuts over time without", short_s / whole_s, "x"),
        Row("simulate this step at another context, for the first time", 1e3 * other_s, "CPU ms"),
        Row("simulate this step again, at a context seen before", 1e3 * again_s, "CPU ms", 0.2),
    ]


def _timed(program: Program, cache: EffectCache, context: int) -> tuple[Timing, float, Step]:
    timing = Timing(program, cache)
    began = process_time()
    step = timing.decode(context)
    return timing, process_time() - began, step


def _again_s(timing: Timing) -> float:
    cycles = timing.decode(CONTEXT).cycles
    taken = []
    for _ in range(REPEATS):
        began = process_time()
        assert timing.decode(CONTEXT).cycles == cycles
        taken.append(process_time() - began)
    return median(taken)
