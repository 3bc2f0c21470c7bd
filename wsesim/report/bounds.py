"""Lower bounds of the cycles of a step: for one placement, and for any placement on the machine.

A bound of a placement holds for every schedule of that Program on the same blocks. A bound of the machine holds for
every placement of the model on it. Reports print both beside the simulated cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from wsesim.engine.exact.wafer import SegmentRun
from wsesim.engine.graph.taskgraph import TaskGraph
from wsesim.engine.steps.timing import Step
from wsesim.machine import Machine
from wsesim.program.kernels import RMSNorm
from wsesim.program.program import Program
from wsesim.report.padding import multiply_adds_done


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least cycles of one step with this placement.

    `arithmetic`: the weights' multiply-adds, spread over all PEs of the blocks at the FMA rate, nothing else.
    `dependent`: the vector operations of each kernel, one kernel after the other, without any network.
    `distance`: hops from block to block and back, without any vector operation.
    """

    arithmetic_cycles: int
    dependent_cycles: int
    distance_cycles: int


@dataclass(frozen=True, slots=True)
class MachineBounds:
    """The least cycles of one step with any placement of this model on this machine.

    `arithmetic`: the multiply-adds of weights and attention, spread over all `pes` at the FMA rate, nothing else.
    `spread`: the halves of the layers and the head, one after the other, each spreading from one PE.

    Both assume one wafer and the timing dtype's FMA rate. They assume nothing about SRAM, launches, ramps, links or
    blocks. `pes` counts the usable PEs that are not dead.

    Why `spread` holds: each part begins with an RMSNorm. Its scale needs all values of the part before, and all
    multiply-adds of the part need this scale. So a multiply-add cannot begin before the last one of the part before has
    ended and its result has crossed the hops between the two PEs. Within T cycles, a PE at d hops has time for
    rate * (T - d * hop_cycles) multiply-adds. At each distance there are the most PEs around the middle of the usable
    rectangle. The part takes at least the T in which these PEs can do all of its multiply-adds. One token passes all
    parts; in a prompt, the last one.
    """

    pes: int
    arithmetic_cycles: int
    spread_cycles: int


def lower_bounds(program: Program, step: Step) -> Bounds:
    """Bounds of a decode step, or of a whole prefill: its last chunk passes all blocks as a token does."""
    last = _last_pass(program, step)
    hop_cycles = program.machine.fabric.hop_cycles
    return Bounds(
        _arithmetic_cycles(program, step),
        sum(_dependent_cycles(_graphs(run)) for run in last),
        sum(min(map(_shortest_way, _graphs(run))) for run in last) * hop_cycles,
    )


def machine_bounds(program: Program, step: Step) -> MachineBounds:
    """Bounds of the same step for every placement of the Program's model on its machine."""
    machine, rate = program.machine, fma_rate(program)
    pes = machine.usable.pes - sum(machine.usable.has(x, y) for x, y in machine.dead)
    positions = step.context + 1 if step.phase == "decode" else step.tokens
    spread = sum(spread_cycles(machine, products / rate) for products in _parts(program, positions))
    return MachineBounds(pes, int(multiply_adds_done(program, step).needed / (pes * rate)), int(spread))


def _parts(program: Program, positions: int) -> Iterator[int]:
    """Multiply-adds between one RMSNorm and the next, of a token that is the last of `positions`."""
    products = 0
    for kernel in program.kernels:
        if isinstance(kernel, RMSNorm):
            yield products
            products = 0
        products += kernel.multiply_adds(positions)
    yield products


def spread_cycles(machine: Machine, busy_cycles: float) -> float:
    """Cycles until a PE and those around it have done work of `busy_cycles`. Each begins when hops have reached it."""
    usable = machine.usable
    at_distance = np.convolve(_distances(usable.columns), _distances(usable.rows))
    reached = np.arange(len(at_distance)) * machine.fabric.hop_cycles
    pes, delay = np.cumsum(at_distance), np.cumsum(at_distance * reached)
    done = pes * reached - delay  # work of all nearer PEs when each distance is reached
    last = int(np.searchsorted(done, busy_cycles, side="right")) - 1
    return float((busy_cycles + delay[last]) / pes[last])


def _distances(length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Number of places of a line at each distance from its middle."""
    return np.bincount(np.abs(np.arange(length) - length // 2))


def _graphs(run: SegmentRun) -> list[TaskGraph]:
    """The graphs of the segment's pieces, or its whole graph if no pieces were kept."""
    return [piece.graph for piece in run.effect.pieces] or [run.segment.plan.graph]


def _last_pass(program: Program, step: Step) -> tuple[SegmentRun, ...]:
    """The segments of the last chunk."""
    names = [run.segment.name for run in step.runs]
    return step.runs[len(names) - 1 - names[::-1].index(program.stages[0].name) :]


def multiply_adds(program: Program) -> int:
    """Multiply-adds of the weights for one token (attention's own grow with the context and are left out)."""
    return _products(program, head=True) + _products(program, head=False)


def _products(program: Program, *, head: bool) -> int:
    """Multiply-adds of the head, whose sums stay on one line, or of the layers."""
    return sum(kernel.multiply_adds(0) for kernel in program.kernels if kernel.last_token_only == head)


def fma_rate(program: Program) -> float:
    """Multiply-adds of one PE in a cycle."""
    fma = program.machine.op("fma")
    return float(fma.rate_fp32 if program.timing_dtype == "fp32" else fma.rate_fp16)


def _arithmetic_cycles(program: Program, step: Step) -> int:
    """In a prompt, only the last token visits the head."""
    logits = step.tokens if step.phase == "decode" else 1
    products = step.tokens * _products(program, head=False) + logits * _products(program, head=True)
    return int(products / (program.pes * fma_rate(program)))


def _dependent_cycles(graphs: Iterable[TaskGraph]) -> int:
    """For each kernel, the vector operations of the PE with the least of them: each path through the kernel has as
    many. The graphs are those of one segment.
    """
    least: dict[str, float] = {}
    for graph in graphs:
        own = graph.of_operations(np.array([operation.computes for operation in graph.operations], np.bool_))
        place = graph.task_labels()[own].astype(np.int64) * graph.pes + graph.pe[own]
        cycles = (graph.launch + graph.work + graph.delay)[own].astype(np.float64)
        work = np.bincount(place, cycles, len(graph.labels) * graph.pes)
        per_kernel = np.where(work > 0, work, np.inf).reshape(len(graph.labels), graph.pes).min(axis=1)
        for label, fewest in zip(graph.labels, per_kernel, strict=True):
            least[label] = min(least.get(label, np.inf), float(fewest))
    return int(sum(cycles for cycles in least.values() if np.isfinite(cycles)))


def _shortest_way(graph: TaskGraph) -> int:
    """The fewest hops of a message of a transfer; 0 for a stage."""
    return int(graph.drop_hop[graph.drop_ptr[:-1]].min()) if set(graph.labels) == {"send", "receive"} else 0
