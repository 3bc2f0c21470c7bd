"""The roofline of a wafer: what a kernel's work could take at least, and what it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wsesim.program.program import Program
from wsesim.report.bounds import fma_rate, spread_cycles
from wsesim.report.kernel_figures import KernelFigures

__all__ = ["fma_rate", "operator_points", "spread_rates"]


def operator_points(kernels: Iterable[KernelFigures]) -> list[tuple[str, float, float]]:
    """For each operator with multiply-adds: its name, multiply-adds of one kernel, and multiply-adds a cycle.

    Both are means over the operator's kernels; the cycles are those on the critical path.
    """
    own: dict[str, list[KernelFigures]] = defaultdict(list)
    for kernel in kernels:
        if kernel.multiply_adds and sum(kernel.cycles):
            own[kernel.operator].append(kernel)
    points = []
    for name, several in own.items():
        work = sum(kernel.multiply_adds for kernel in several)
        cycles = sum(sum(kernel.cycles) for kernel in several)
        points.append((name, work / len(several), work / cycles))
    return points


def spread_rates(program: Program, multiply_adds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply-adds a cycle that work of each size could reach if it begins on one PE: the bound `spread`."""
    rate = fma_rate(program)
    return np.array([work / spread_cycles(program.machine, work / rate) for work in multiply_adds])
