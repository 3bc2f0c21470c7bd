"""Compiles the engine's kernel on a graph of two tasks, so that JIT time can be told from simulation time."""

from __future__ import annotations

import numpy as np

from wsesim.engine.flow.simulate import simulate
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST
from wsesim.machine import Fabric


def warm() -> None:
    """One PE sends one wavelet to the next."""
    builder = GraphBuilder(2, 1)
    sent = builder.tasks(np.array([0]), "send", 1, 1)
    received = builder.tasks(np.array([1]), "receive", 1, 1)
    builder.drops(builder.messages(sent, EAST, 1, 1), 1, received)
    simulate(builder.build(), Fabric(1, 1, 1, 1, 1, 1, 1))
