"""Measurements of matrix products, as one would take them on the machine."""

from __future__ import annotations

import numpy as np

from wsesim.engine.expand.canvas import Canvas, Lines
from wsesim.engine.expand.gemm import Tiles, multiply, repeated_gemm
from wsesim.engine.loop import loop
from wsesim.engine.taskgraph import EAST, WEST
from wsesim.engine.verify import verify
from wsesim.machine import Machine, Rect
from wsesim.program.gemm import ring

WARMUP, REPEATS = 1, 5  # as the published benchmark


def tile_product_cycles(machine: Machine, tiles: Tiles) -> int:
    """One PE's product of two tiles: a loop over the inner dimension, a map over columns, vectors of rows."""
    canvas = Canvas(Rect(0, 0, 1, 1), machine, "fp16")
    multiply(canvas, Lines(np.zeros((1, 1), np.int64), EAST, WEST, "rows"), tiles, "product")
    return loop(canvas.builder.build(), 1, machine.fabric).end_cycles


def meshgemm_cycles(machine: Machine, side: int, tiles: Tiles, *, exchange: bool = True, loops: int = 1) -> float:
    """Cycles of one MeshGEMM on side x side PEs: the mean over the PEs, of five repetitions after one.

    Without `exchange` no tile moves in the steps; `loops` times each product.
    """
    canvas = Canvas(Rect(0, 0, side, side), machine, "fp16")
    rows = Lines(np.arange(side * side).reshape(side, side), EAST, WEST, "rows")
    repeated_gemm(canvas, rows, ring(side, "meshgemm"), tiles, "meshgemm", exchange=exchange, loops=loops)
    graph = canvas.builder.build()
    verify(graph)
    first, last = (loop(graph, runs, machine.fabric).state.pe_free for runs in (WARMUP, WARMUP + REPEATS))
    return float((last - first).mean()) / REPEATS
