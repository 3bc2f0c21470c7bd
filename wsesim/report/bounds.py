"""Lower bounds: closed forms that no run can beat, printed beside every simulated figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wsesim.engine.taskgraph import COMPUTE, TaskGraph
from wsesim.engine.timing import Step
from wsesim.engine.wafer import SegmentRun
from wsesim.program.kernels import Linear
from wsesim.program.program import Program


@dataclass(frozen=True, slots=True)
class Bounds:
    """Cycles of one step.

    `arithmetic`: the weights' multiply-adds, spread over all PEs of the blocks at the FMA rate, nothing else.
    `dependent`: the vector operations of each kernel, one kernel after the other, without any network.
    `distance`: hops from block to block and back, without any vector operation.
    """

    arithmetic_cycles: int
    dependent_cycles: int
    distance_cycles: int


def lower_bounds(program: Program, step: Step) -> Bounds:
    """Bounds of a decode step, or of a whole prefill, whose last chunk has to make the way of any token."""
    last = _last_pass(step)
    hop_cycles = program.machine.fabric.hop_cycles
    return Bounds(
        _arithmetic_cycles(program, step),
        sum(_dependent_cycles(_graphs(run)) for run in last),
        sum(min(map(_shortest_way, _graphs(run))) for run in last) * hop_cycles,
    )


def _graphs(run: SegmentRun) -> list[TaskGraph]:
    """What the segment consists of; where nothing was kept of its way, its whole graph."""
    return [piece.graph for piece in run.effect.pieces] or [run.segment.plan.graph]


def _last_pass(step: Step) -> tuple[SegmentRun, ...]:
    """The segments of the last chunk."""
    names = [run.segment.name for run in step.runs]
    return step.runs[len(names) - 1 - names[::-1].index("embed") :]


def multiply_adds(program: Program) -> int:
    """Multiply-adds of the weights for one token (attention's own grow with the context and are left out)."""
    return _products(program, head=True) + _products(program, head=False)


def _products(program: Program, *, head: bool) -> int:
    """Those of the head, whose sums stay on one line, or those of the layers."""
    linears = (k for k in program.kernels if isinstance(k, Linear) and k.broadcast != head)
    return sum(k.layout.size * output.layout.size for k in linears for output in k.outputs)


def _arithmetic_cycles(program: Program, step: Step) -> int:
    """Of a prompt only the last token visits the head."""
    fma = program.machine.op("fma")
    rate = fma.rate_fp32 if program.timing_dtype == "fp32" else fma.rate_fp16
    logits = step.tokens if step.phase == "decode" else 1
    products = step.tokens * _products(program, head=False) + logits * _products(program, head=True)
    return int(products / (program.pes * rate))


def _dependent_cycles(graphs: Iterable[TaskGraph]) -> int:
    """Each kernel's vector operations on the PE that does the least of them: every way through the kernel does as
    much. The graphs are those of one segment.
    """
    least: dict[str, float] = {}
    for graph in graphs:
        own = graph.kind == COMPUTE
        place = graph.label[own].astype(np.int64) * graph.pes + graph.pe[own]
        cycles = (graph.launch + graph.work + graph.delay)[own].astype(np.float64)
        work = np.bincount(place, cycles, len(graph.labels) * graph.pes)
        per_kernel = np.where(work > 0, work, np.inf).reshape(len(graph.labels), graph.pes).min(axis=1)
        for label, fewest in zip(graph.labels, per_kernel, strict=True):
            least[label] = min(least.get(label, np.inf), float(fewest))
    return int(sum(cycles for cycles in least.values() if np.isfinite(cycles)))


def _shortest_way(graph: TaskGraph) -> int:
    """Hops that every message of a transfer takes at least; kernels' own messages are not counted."""
    return int(graph.drop_hop[graph.drop_ptr[:-1]].min()) if set(graph.labels) == {"send", "receive"} else 0
