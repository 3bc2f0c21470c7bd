"""A step as spans and counts, to be drawn wherever it runs: its critical path, and what each block does.

Steps repeat. So the drawing of a step is made once, and the effect of a segment, which many blocks share, is read once.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.exact.effect import Effect
from wsesim.engine.exact.wafer import SegmentRun
from wsesim.engine.observe.path import PathStep
from wsesim.engine.steps.timing import Step
from wsesim.program import Program
from wsesim.program.kernels import PREFILL
from wsesim.report.trace.activity import Activity, activity_of, binned
from wsesim.report.trace.events import Arguments
from wsesim.report.trace.path_spans import kinds_of, path_spans
from wsesim.report.trace.span import Span, in_rows

BINS, FINE_BINS = 256, 2048
"""Values of a counter in a step."""

STAGE, KERNELS, RECEIVE, SEND = ROWS = ("", "kernels", "receive", "send")
"""The rows of a block: its stages on the block's own track, and rows below it."""


@dataclass(frozen=True, slots=True)
class StepDrawing:
    """A step of `cycles`. All spans begin at its beginning.

    path        the stages of the critical path
    kinds       cycles of the path by kind
    blocks      for each block, in the order of the Program: for each of ROWS, rows of spans that do not overlap
    chunks      of a prompt; they overlap
    flows       how many transfers there are
    edges       where the values of the counters begin, and the end of the last
    busy_pes    mean number of PEs that work
    link_use    mean wavelets that cross links in a cycle
    """

    cycles: int
    path: tuple[Span, ...]
    kinds: Arguments
    blocks: dict[str, dict[str, list[list[Span]]]]
    chunks: tuple[Span, ...]
    flows: int
    edges: tuple[int, ...]
    busy_pes: tuple[float, ...]
    link_use: tuple[float, ...]


class StepArtist:
    """Makes the drawings of a Program's steps. It remembers the last `effects` of segments that it has read."""

    def __init__(self, program: Program, effects: int = 128) -> None:
        self._effects = effects
        self._program = program
        self._ends = {f"{t.source}->{t.target}": (t.source, t.target) for t in program.transfers}
        self._ends["feedback"] = (program.feedback.source, program.feedback.target)
        self._blocks = {stage.name: stage.block for stage in program.stages}
        self._seen: dict[Effect, _Seen] = {}

    def drawing(self, step: Step, path: Sequence[PathStep], *, fine: bool = False) -> StepDrawing:
        """The drawing of a step whose runs kept their timelines. `path` is its critical path (`step_path`).

        `fine`: with the stretches of the path, and counters at more cycles.
        """
        placed = [(run.base, self._of(run.effect).activity) for run in step.runs]
        bins = min(FINE_BINS if fine else BINS, step.cycles)
        edges = np.linspace(0, step.cycles, bins + 1).astype(np.int64)
        busy, moved = binned(placed, edges)
        return StepDrawing(
            step.cycles,
            path_spans(path, stretches=fine),
            kinds_of(path),
            self._rows(step),
            self._chunks(step),
            sum(run.segment.name in self._ends for run in step.runs),
            tuple(edges.tolist()),
            tuple(np.round(busy, 3).tolist()),
            tuple(np.round(moved, 3).tolist()),
        )

    def _of(self, effect: Effect) -> _Seen:
        if effect not in self._seen:
            self._seen[effect] = _see(effect)
            if len(self._seen) > self._effects:
                del self._seen[next(iter(self._seen))]
        return self._seen[effect]

    def _rows(self, step: Step) -> dict[str, dict[str, list[list[Span]]]]:
        found: dict[str, dict[str, list[Span]]] = {b.name: {row: [] for row in ROWS} for b in self._program.blocks}
        flow = 0
        for run in step.runs:
            seen, name = self._of(run.effect), run.segment.name
            if name in self._ends:
                source, target = self._ends[name]
                sent, received = (_moved(seen.kernels[label], run.base) for label in ("send", "receive"))
                sent = dataclasses.replace(sent, name=f"to {target}", sends=(flow,))
                received = dataclasses.replace(received, name=f"from {source}", receives=(flow,))
                found[source][SEND].append(sent)
                found[target][RECEIVE].append(received)
                flow += 1
                continue
            rows = found[self._blocks[name]]
            kernels = [_moved(span, run.base) for span in seen.kernels.values()]
            busy = sum(int(span.arguments["busy_pe_cycles"]) for span in kernels)
            rows[STAGE].append(Span(name, run.base, run.end, {"kernels": len(kernels), "busy_pe_cycles": busy}))
            rows[KERNELS] += kernels
        return {block: {row: in_rows(spans) for row, spans in rows.items()} for block, rows in found.items()}

    def _chunks(self, step: Step) -> tuple[Span, ...]:
        """The chunks of a prompt, each from the beginning of its first segment to the end of its last."""
        if step.phase != PREFILL:
            return ()
        seen: Counter[str] = Counter()
        runs: defaultdict[int, list[SegmentRun]] = defaultdict(list)
        body = {stage.name for stage in self._program.stages[:-2]}
        for run in (run for run in step.runs if run.segment.name in body):
            runs[seen[run.segment.name]].append(run)
            seen[run.segment.name] += 1
        size, tokens = self._program.prefill_chunk, step.tokens
        chunks = []
        for number, own in runs.items():
            first, last = number * size + 1, min((number + 1) * size, tokens)
            name = f"tokens {first} to {last}" if last > first else f"token {first}"
            chunks.append(Span(name, min(run.base for run in own), max(run.end for run in own), {"chunk": number + 1}))
        return tuple(chunks)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An effect: the spans of its kernels, from the segment's base on, and its activity."""

    kernels: dict[str, Span]
    activity: Activity


@dataclass(slots=True)
class _Kernel:
    """What a kernel does in a segment, summed over the pieces. `pes`: which PEs of the window run it."""

    pes: NDArray[np.bool_]
    begin: int | None = None
    end: int = 0
    tasks: int = 0
    busy_pe_cycles: int = 0


def _see(effect: Effect) -> _Seen:
    kernels: dict[str, _Kernel] = {}
    for piece in effect.pieces:
        graph, times, lines = piece.graph, piece.timeline, len(piece.members)
        assert times is not None, "the run kept no timelines"
        labels = graph.task_labels()
        low, high = int(piece.bases.min()), int(piece.bases.max())
        for number, label in enumerate(graph.labels):
            tasks = np.flatnonzero(labels == number)
            if not tasks.size:
                continue
            kernel = kernels.setdefault(label, _Kernel(np.zeros(effect.after.pe_free.size, np.bool_)))
            begin = int(times.task_start[tasks].min()) + low
            kernel.begin = begin if kernel.begin is None else min(kernel.begin, begin)
            kernel.end = max(kernel.end, int(times.task_end[tasks].max()) + high)
            kernel.tasks += lines * tasks.size
            kernel.busy_pe_cycles += lines * int((times.task_end[tasks] - times.task_start[tasks]).sum())
            own = np.zeros(graph.pes, np.bool_)
            own[graph.pe[tasks]] = True
            kernel.pes[piece.members[:, own]] = True
    spans = {
        label: Span(
            label,
            k.begin or 0,
            k.end,
            {"pes": int(k.pes.sum()), "tasks": k.tasks, "busy_pe_cycles": k.busy_pe_cycles},
        )
        for label, k in kernels.items()
    }
    return _Seen(spans, activity_of(effect))


def _moved(span: Span, cycles: int) -> Span:
    return dataclasses.replace(span, begin_cycles=span.begin_cycles + cycles, end_cycles=span.end_cycles + cycles)
