"""Occupancy: for how long a step keeps the next one, of another sequence, from following it.

Three places model steps that follow one another:

- `pipeline` simulates the loaded wafer until its tokens repeat. It is the reference.
- `Occupancy.busy_cycles` is the time of the busiest block, taken from a single step on an idle wafer.
- The runtime's Scheduler lets a step enter `busy_cycles` after the step before, and never makes it slower.

The last two share one error. They take a step for a fixed series of block visits. They know no queue within the wafer,
no contention between steps, and no wait for a block that two stages use, as a tied table. So with S steps in flight
their period is max(step / S, busy). It is within 2 % of the period of `pipeline` for the models of
`tests/test_occupancy.py`. Where many requests are late, `pipeline` waits longer: 28 tokens of llama3.2-3b make 530,516
late requests, and the period is 27 % above.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from wsesim.engine.exact.wafer import SegmentRun
from wsesim.program import Program
from wsesim.program.layout import ceil_div


class Occupancy:
    """The cycles for which the runs of a step hold each block.

    A block is held by its kernels, by a transfer to it, which waits until the block is free, and by a transfer from it
    until the block's PEs have sent.
    """

    def __init__(self, program: Program) -> None:
        self._blocks = {stage.name: stage.block for stage in program.stages}
        self._ends = {f"{t.source}->{t.target}": (t.source, t.target) for t in program.transfers}
        self._ring = program.kernels[0].block == program.kernels[-1].block
        self._held: defaultdict[str, int] = defaultdict(int)
        self._reached: defaultdict[str, int] = defaultdict(int)

    def add(self, runs: Iterable[SegmentRun]) -> dict[str, int]:
        """Adds the next runs, those of a block by their beginnings; returns the cycles added to each block."""
        grown: defaultdict[str, int] = defaultdict(int)
        for run in runs:
            for block, end in self._held_until(run):
                grown[block] += max(0, end - max(run.base, self._reached[block]))
                self._reached[block] = max(self._reached[block], end)
        for block, cycles in grown.items():
            self._held[block] += cycles
        return grown

    def repeat(self, grown: Mapping[str, int], times: int, moved: Iterable[tuple[SegmentRun, int]]) -> None:
        """Account for `times` more identical chunks without running them.

        `grown` are the cycles that a chunk adds to each block. `moved` are its runs, each with the cycles from one
        chunk to the next.
        """
        for block, cycles in grown.items():
            self._held[block] += times * cycles
        for run, cycles in moved:
            for block, end in self._held_until(run):
                self._reached[block] = max(self._reached[block], end + times * cycles)

    def _held_until(self, run: SegmentRun) -> tuple[tuple[str, int], ...]:
        """The blocks that a run holds from its base on, and until which cycle."""
        name = run.segment.name
        if name in self._blocks:
            return ((self._blocks[name], run.end),)
        if name in self._ends:
            source, target = self._ends[name]
            sent = run.base + int(run.effect.after.pe_free[run.segment.plan.starters].max())
            return (source, sent), (target, run.end)
        return ()

    def busy_cycles(self, end_cycle: int, grown: Mapping[str, int] | None = None, times: int = 0) -> int:
        """Cycles for which the step, which ends at `end_cycle`, holds the busiest block.

        Every block is held `times` `grown` cycles longer. Steps of other sequences follow at this distance if each
        block holds one step at a time. If the first block is also the last one, one of the B blocks has to stay vacant.
        Then at most B - 1 steps share the wafer, and the distance is at least `end_cycle` over B - 1.
        """
        busy = max(held + times * (grown or {}).get(block, 0) for block, held in self._held.items())
        return max(busy, ceil_div(end_cycle, max(1, len(self._held) - 1))) if self._ring else busy


def busy_cycles(program: Program, runs: Sequence[SegmentRun]) -> int:
    """`Occupancy.busy_cycles` of all runs of a step."""
    occupancy = Occupancy(program)
    occupancy.add(sorted(runs, key=lambda run: run.base))
    return occupancy.busy_cycles(max(run.end for run in runs))
