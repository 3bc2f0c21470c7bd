"""Collectives on one line of a WSE-2 against the formulas of HPDC'24, over a fixed grid of lengths and wavelets.

The formulas count the cycles from the first wavelet that is ready to leave to the last result. They include links,
ramps and one cycle in each PE that a sum passes, but no software. So the machine here launches in 0 cycles and
activates a stored sum after one cycle. As in the paper, reductions are streamed and end at the same PE. Its ring counts
B / P wavelets in each of 2 (P - 1) rounds, so the ring stores and forwards. An element is a wavelet (fp32).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from math import log2, sqrt

from wsesim.machine import Machine, load_machine
from wsesim.program.protocols import LineUse
from wsesim.report.published import Measurement
from wsesim.report.validation import Case

LENGTHS = (4, 8, 16, 32, 64, 100, 128, 256, 512)
WAVELETS = (1, 4, 16, 64, 100, 256, 1024)
T_R = 2  # cycles of a ramp, the wse2 preset's
DEPTH = 2 * T_R + 1  # two ramps and a cycle in the PE

STRAIGHT, ROUNDS = "collectives", "collectives-rounds"

Formula = Callable[[int, int], float]


def _tree(p: int, b: int) -> float:
    rounds = log2(p)
    return max(b * rounds, b * p / (2 * (p - 1)) * rounds + p - 1) + DEPTH * rounds


def _two_phase(p: int, b: int) -> float:
    """max(C, E / N + L) + (2 T_R + 1) D for sqrt(P) groups of sqrt(P) PEs.

    Each group reduces to its first PE, and these first PEs then reduce to the first of all.
    """
    group = sqrt(p)
    contention = 2 * b  # a root receives its group's sum and the sum of the roots behind it
    energy = b * group * (group - 1) + b * group * (group - 1)  # links in the groups, and sqrt(P) links a root
    return max(contention, energy / (p - 1) + p - 1) + DEPTH * (2 * group - 2)


FORMULAS: dict[str, tuple[str, str, Formula]] = {
    "reduce_star_1D": (STRAIGHT, "streamed_star", lambda p, b: b * (p - 1) + DEPTH),
    "reduce_chain_1D": (STRAIGHT, "streamed_chain", lambda p, b: b + (DEPTH + 1) * (p - 1)),
    "broadcast_1D": (STRAIGHT, "broadcast", lambda p, b: b + p + 2 * T_R),
    "reduce_tree_1D": (ROUNDS, "streamed_tree", _tree),
    "model": (ROUNDS, "streamed_two_phase_end", _two_phase),
    "allreduce_ring_1D": (ROUNDS, "ring", lambda p, b: 2 * (p - 1) * b / p + 4 * p - 6 + 2 * (p - 1) * DEPTH),
}
"""By the table's metric: the group, the simulated collective, and the formula of P PEs and B wavelets."""


def cases(measurement: Measurement) -> Iterator[Case]:
    """A case for every point of the grid; none for the rows that are not simulated."""
    if measurement.table != "hpdc24_model" or measurement.metric not in FORMULAS:
        return
    group, collective, formula = FORMULAS[measurement.metric]
    for length in LENGTHS:
        for wavelets in WAVELETS:
            at = (("collective", collective), ("P", length), ("B", wavelets))
            yield Case(group, measurement, formula(length, wavelets), _cycles(collective, length, wavelets), at)


def _cycles(collective: str, length: int, wavelets: int) -> Callable[[], float]:
    def model() -> float:
        from wsesim.engine.observe.measure import broadcast_cycles, line_cycles

        machine = _without_software(load_machine("wse2"))
        if collective == "broadcast":
            return broadcast_cycles(machine, length, wavelets, "fp32")
        use = LineUse(length, length, wavelets, "fp32", everybody=collective == "ring")
        return line_cycles(machine, use, collective)

    return model


def _without_software(machine: Machine) -> Machine:
    """A machine whose operations launch in 0 cycles, and whose stored sums activate as fast as streamed ones."""
    ops = tuple((name, dataclasses.replace(cost, launch=0)) for name, cost in machine.ops)
    return dataclasses.replace(machine, ops=ops, activate_cycles=machine.stream_cycles)
