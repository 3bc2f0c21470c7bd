"""Meshes: PEs of a distributed matrix product that cannot be told apart are simulated once.

Lines   In an alignment the lines do not meet, and there are two kinds: those whose tiles go ahead and those whose tiles
        go back. One of each is simulated.
Meshes  On the interleaved ring a PE hears, in one run of a step, of its neighbours on both rings only, which are at
        most two positions away, and no link carries the tiles of two neighbourhoods. So after r runs from an idle block
        a position knows nothing beyond 2 r positions on either side: whether its number is even, and whether an end
        (two positions that differ from the others) lies within. With K = 2 r + 2, positions K to P - 1 - K of one
        parity cannot be told apart, and a mesh of 2 K + 2 positions (one more if P is odd) has every class that P has,
        its PEs numbered in the same order, which decides ties. If its runs repeat within r, then all classes repeat,
        and so does the large mesh.
Neither holds where a PE of the block is slow, nor meshes on another ring: then all PEs are simulated.
"""

from __future__ import annotations

from collections.abc import Callable

from wsesim.engine.exact.loop import LoopRun, loop
from wsesim.engine.graph.taskgraph import TaskGraph
from wsesim.machine import Fabric

FIRST_RUNS = 2


def folded_side(side: int, runs: int) -> int:
    """Side of the smallest mesh that has every class of a side x side mesh for so many runs; `side` if none is less."""
    return min(side, 4 * runs + 6 + side % 2)


def loop_folded(body: Callable[[int], TaskGraph], side: int, runs: int, fabric: Fabric) -> LoopRun:
    """`runs` times the body of side x side PEs of an interleaved ring, from idle; its State is that of the mesh that
    was simulated, its cycles are those of the whole one.

    body(side): the TaskGraph of one run on side x side PEs.
    """
    most = FIRST_RUNS
    while (folded := folded_side(side, most)) < side:
        run = loop(body(folded), runs, fabric, most=most)
        if run.period or run.runs == runs:
            return run
        most *= 2
    return loop(body(side), runs, fabric)
