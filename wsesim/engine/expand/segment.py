"""Segment: what is simulated at once: the TaskGraph of one stage or transfer, and where on the wafer it runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.taskgraph import TaskGraph
from wsesim.engine.verify import verify
from wsesim.machine import Machine, Rect
from wsesim.machine.machine import SlowPE


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A TaskGraph with the PEs that have tasks (`busy` [PEs]), and those whose first task waits for no message
    (numbers).
    """

    graph: TaskGraph
    busy: NDArray[np.bool_]
    starters: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Segment:
    """`plan` in coordinates of `window`. Segments that differ in nothing but place and name share one plan."""

    name: str
    window: Rect
    plan: Plan


def plan_of(graph: TaskGraph) -> Plan:
    """The plan of a verified graph."""
    verify(graph)
    pointers = graph.pe_ptr()
    busy = np.diff(pointers) > 0
    waits_for_none = graph.input_counts()[pointers[:-1][busy]] == 0
    return Plan(graph, busy, np.flatnonzero(busy)[waits_for_none])


def local_machine(machine: Machine, window: Rect) -> Machine:
    """The machine as `window` sees it: stragglers in its coordinates."""
    slow = tuple(SlowPE(s.x - window.x, s.y - window.y, s.factor) for s in machine.slow if window.has(s.x, s.y))
    return dataclasses.replace(machine, slow=slow, dead=frozenset())
