"""Occupancy: how long a step keeps others of its kind from following it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from wsesim.engine.exact.wafer import SegmentRun
from wsesim.program import Program
from wsesim.program.layout import ceil_div


class Occupancy:
    """For how long each block is held by a step's runs: its kernels and the transfers to and from it."""

    def __init__(self, program: Program) -> None:
        self._blocks: dict[str, tuple[str, ...]] = {stage.name: (stage.block,) for stage in program.stages}
        self._blocks |= {f"{t.source}->{t.target}": (t.source, t.target) for t in program.transfers}
        self._ring = program.kernels[0].block == program.kernels[-1].block
        self._held: defaultdict[str, int] = defaultdict(int)
        self._reached: defaultdict[str, int] = defaultdict(int)

    def add(self, runs: Iterable[SegmentRun]) -> dict[str, int]:
        """The next runs, those of a block in the order of their beginnings; by how much each block's time grew."""
        grown: defaultdict[str, int] = defaultdict(int)
        for run in runs:
            for block in self._blocks.get(run.segment.name, ()):
                grown[block] += max(0, run.end - max(run.base, self._reached[block]))
                self._reached[block] = max(self._reached[block], run.end)
        for block, cycles in grown.items():
            self._held[block] += cycles
        return grown

    def repeat(self, grown: Mapping[str, int], times: int, moved: Iterable[tuple[SegmentRun, int]]) -> None:
        """As many times more, after which each run is later by its cycles times as often."""
        for block, cycles in grown.items():
            self._held[block] += times * cycles
        for run, cycles in moved:
            for block in self._blocks.get(run.segment.name, ()):
                self._reached[block] = max(self._reached[block], run.end + times * cycles)

    def busy_cycles(self, end_cycle: int, grown: Mapping[str, int] | None = None, times: int = 0) -> int:
        """Cycles that the busiest block is held, of a step that is over at `end_cycle`, each by `times` `grown` longer.

        In a line of blocks that each hold one step at a time, steps of other sequences follow one another at this
        distance; `engine/steps/pipeline.py` finds the distance itself, by simulating the loaded wafer. Where the line
        begins and ends with one block, one of the others stays vacant, so that so many steps less one share the wafer.
        """
        busy = max(held + times * (grown or {}).get(block, 0) for block, held in self._held.items())
        return max(busy, ceil_div(end_cycle, max(1, len(self._held) - 1))) if self._ring else busy


def busy_cycles(program: Program, runs: Sequence[SegmentRun]) -> int:
    """`Occupancy` of all runs of a step."""
    occupancy = Occupancy(program)
    occupancy.add(sorted(runs, key=lambda run: run.base))
    return occupancy.busy_cycles(max(run.end for run in runs))
