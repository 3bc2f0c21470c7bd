"""The whole lowering as one list of named steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsesim.machine import Machine
from wsesim.program import Program, verify_program
from wsesim.program.protocols import CostOracle
from wsesim_compiler.errors import GraphVerificationError
from wsesim_compiler.ir import Graph
from wsesim_compiler.options import Options
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.choose import choose
from wsesim_compiler.passes.chunk import chunk
from wsesim_compiler.passes.emit import emit
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.passes.place import place
from wsesim_compiler.passes.plan_memory import plan_memory
from wsesim_compiler.passes.recognize import recognize
from wsesim_compiler.passes.route import route
from wsesim_compiler.text import parse_graph
from wsesim_compiler.verify import verify

Observe = Callable[[str, Any], None]
"""Called with a stage's name and its result, after the stage."""


def understand(graph: Graph, observe: Observe = lambda stage, value: None) -> Graph:
    """Raw graph -> recognised graph, verified at both ends."""
    verify(graph, "raw")
    observe("graph", graph)
    observe("canonicalize", graph := canonicalize(graph))
    verify(graph, "canonical")
    observe("recognize", graph := recognize(graph))
    verify(graph, "recognized")
    return graph


def from_text(text: str, observe: Observe = lambda stage, value: None) -> Graph:
    """The recognised graph of a Graph's text, which may be raw, canonical or recognised already.

    Raises GraphSyntaxError, and the raw stage's errors for a text that is none of the three.
    """
    graph = parse_graph(text)
    try:
        verify(graph, "recognized")
    except GraphVerificationError:
        return understand(graph, observe)
    observe("recognize", graph)
    return graph


def lower(
    graph: Graph,
    machine: Machine,
    options: Options,
    cost: CostOracle,
    observe: Observe = lambda stage, value: None,
) -> Program:
    """Recognised graph -> Program, verified at both ends. `cost` is asked for what a choice would cost."""
    options.check()
    verify(graph, "recognized")
    observe("partition", split := partition(graph))
    observe("place", placement := chunk(place(split, machine, options)))
    observe("choose", placement := choose(placement, cost))
    observe("route", placement := route(placement))
    observe("plan_memory", placement := plan_memory(placement))
    observe("emit", program := emit(placement))
    verify_program(program)
    return program
