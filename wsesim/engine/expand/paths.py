"""Paths: the messages of a transfer, which wait for no other, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.graph.taskgraph import Int64
from wsesim.jit import njit

compiled = njit(_nrt=False)


class Paths(NamedTuple):
    """Messages by source PE, in the order of its program. Arrays are [messages].

    Each message is sent by a task of its own, after `send_cycles`. Every PE that messages reach receives all of them
    in one more task, in `receive_cycles`.
    """

    source: Int64  # number of the PE
    wavelets: Int64
    direction1: Int64
    hops1: Int64
    direction2: Int64
    hops2: Int64
    first_drop: Int64  # a copy at each hop from here on
    passed: NDArray[np.bool_]  # [PEs] whether no copy is dropped on a PE: the target leaves it out
    send_cycles: int
    receive_cycles: int


@compiled
def reach(paths: Paths, step: Any, reached: Any) -> None:
    """Marks the PEs that messages are dropped on; `step` [4] is the distance of a hop in PE numbers."""
    for m in range(paths.source.size):
        for hop in range(paths.first_drop[m], paths.hops1[m] + paths.hops2[m] + 1):
            first = min(hop, paths.hops1[m])
            along = first * step[paths.direction1[m]] + (hop - first) * step[paths.direction2[m]]
            pe = paths.source[m] + along
            if not paths.passed[pe]:
                reached[pe] = True
