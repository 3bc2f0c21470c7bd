"""Meshes: PEs of a distributed matrix product that cannot be told apart are simulated once.

Lines. The lines of an alignment do not meet. There are two kinds: their tiles go forward, or back. One line of each
kind is simulated.

Meshes. On the interleaved ring, a PE receives in one run of a step only from its neighbours on both rings. They are at
most two positions away, and no link carries the tiles of two neighbourhoods. So after r runs from an idle block, a
position is influenced only by 2 r positions on either side: by whether its number is even, and by an end of the line
(two positions) within that distance. With K = 2 r + 2, the positions K to P - 1 - K of one parity cannot be told apart.
A mesh of 2 K + 2 positions (one more if P is odd) has every class of positions that P has. Its PEs are numbered in the
same order, which decides ties. If its runs repeat within r runs, all classes repeat, and so does the large mesh.

Neither holds if a PE of the block is slow, nor do meshes hold on another ring. Then all PEs are simulated.
"""

from __future__ import annotations

from collections.abc import Callable

from wsesim.engine.exact.loop import LoopRun, loop
from wsesim.engine.graph.taskgraph import TaskGraph
from wsesim.machine import Fabric

FIRST_RUNS = 2


def folded_side(side: int, runs: int) -> int:
    """Side of the smallest mesh that has every class of a side x side mesh for `runs` runs, at most `side`."""
    return min(side, 4 * runs + 6 + side % 2)


def loop_folded(body: Callable[[int], TaskGraph], side: int, runs: int, fabric: Fabric) -> LoopRun:
    """`runs` times the body on side x side PEs of an interleaved ring, from idle.

    `body(side)` is the TaskGraph of one run on side x side PEs. The cycles are those of the whole mesh; the State is
    that of the mesh that was simulated.
    """
    most = FIRST_RUNS
    while (folded := folded_side(side, most)) < side:
        run = loop(body(folded), runs, fabric, most=most)
        if run.period or run.runs == runs:
            return run
        most *= 2
    return loop(body(side), runs, fabric)
