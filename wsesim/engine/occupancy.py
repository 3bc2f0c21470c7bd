"""Occupancy: how long a step keeps others of its kind from following it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from wsesim.engine.wafer import SegmentRun
from wsesim.program import Program
from wsesim.program.layout import ceil_div


def busy_cycles(program: Program, runs: Sequence[SegmentRun]) -> int:
    """Cycles that the busiest block is held by a step's `runs`: its kernels and the transfers to and from it.

    In a line of blocks that each hold one step at a time, steps of other sequences follow one another at this
    distance; `wsesim.engine.pipeline` finds the distance itself, by simulating the loaded wafer. Where the line begins
    and ends with one block, one of the others stays vacant, so that so many steps less one share the wafer.
    """
    blocks: dict[str, tuple[str, ...]] = {kernel.name.partition(".")[0]: (kernel.block,) for kernel in program.kernels}
    blocks |= {f"{t.source}->{t.target}": (t.source, t.target) for t in program.transfers}
    held: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for run in runs:
        for block in blocks.get(run.segment.name, ()):
            held[block].append((run.base, run.end))
    busy = max(map(_covered, held.values()))
    if program.kernels[0].block != program.kernels[-1].block:
        return busy
    return max(busy, ceil_div(max(run.end for run in runs), max(1, len(held) - 1)))


def _covered(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of their union."""
    total, reached = 0, 0
    for begin, end in sorted(intervals):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total
