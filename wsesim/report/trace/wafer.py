"""The tracks of one wafer, and the drawings of steps on them."""

from __future__ import annotations

from collections.abc import Mapping

from wsesim.program import Program
from wsesim.report.trace.events import ASYNC, COUNTER, Arguments, Count, Slice, Trace, Track
from wsesim.report.trace.span import draw
from wsesim.report.trace.step import STAGE, StepDrawing


class WaferTracks:
    """A wafer's track with the tokens, in it counters, prompt chunks and blocks, in a block its kernels and transfers.

    A track is made when something is first drawn on it, but the blocks are in the Program's order.
    """

    def __init__(self, trace: Trace, program: Program, name: str = "wafer") -> None:
        self.track = trace.track(name)
        self._trace = trace
        self._busy = trace.track("busy PEs", self.track, kind=COUNTER, unit="PEs")
        self._links = trace.track("link use", self.track, kind=COUNTER, unit="wavelets/cycle")
        self._blocks: Mapping[str, Track] = {b.name: trace.track(b.name, self.track) for b in program.blocks}
        self._rows: dict[tuple[str, str], list[Track]] = {}

    def draw(self, step: StepDrawing, name: str, at_cycles: int, arguments: Arguments) -> None:
        """Adds a step that began at `at_cycles`, as the slice `name` of the wafer and all that lies below."""
        trace, end_cycles = self._trace, at_cycles + step.cycles
        trace.add(Slice(self.track, name, at_cycles, end_cycles, {**arguments, "cycles": step.cycles, **step.kinds}))
        draw(trace, self.track, step.path, at_cycles)
        for chunk in step.chunks:
            draw(trace, trace.track("prompt chunks", self.track, kind=ASYNC), (chunk,), at_cycles)
        flows = [trace.flow() for _ in range(step.flows)]
        for block, rows in step.blocks.items():
            for row, lanes in rows.items():
                for lane, spans in enumerate(lanes):
                    draw(trace, self._row(block, row, lane), spans, at_cycles, flows)
        for track, values in ((self._busy, step.busy_pes), (self._links, step.link_use)):
            last: float | None = None
            for cycle, value in zip(step.edges, (*values, 0), strict=True):
                if value != last:
                    trace.add(Count(track, at_cycles + cycle, value))
                last = value

    def draw_whole(self, name: str, begin_cycles: int, end_cycles: int, arguments: Arguments) -> None:
        """Adds a step as one slice of the wafer, without what lies below."""
        cycles = {"cycles": end_cycles - begin_cycles}
        self._trace.add(Slice(self.track, name, begin_cycles, end_cycles, {**arguments, **cycles}))

    def _row(self, block: str, row: str, lane: int) -> Track:
        """The track of a block's row. What overlaps is on several of the same name."""
        if row == STAGE and lane == 0:
            return self._blocks[block]
        lanes = self._rows.setdefault((block, row), [])
        while len(lanes) <= lane - (row == STAGE):
            lanes.append(self._trace.track(row or "stages", self._blocks[block]))
        return lanes[lane - (row == STAGE)]
