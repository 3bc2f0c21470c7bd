"""The whole lowering as one list of named steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from wsesim.machine import Machine
from wsesim.program import Program, verify_program
from wsesim.program.protocols import StageOracle
from wsesim.progress import working
from wsesim_compiler.errors import GraphVerificationError
from wsesim_compiler.ir import Graph
from wsesim_compiler.options import AUTOMATIC, Options
from wsesim_compiler.partition import Partition
from wsesim_compiler.partition_rules import verify_partition
from wsesim_compiler.partition_text import is_partition, parse_partition
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.choose import choose
from wsesim_compiler.passes.emit import emit
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.passes.place import place
from wsesim_compiler.passes.plan_memory import plan_memory
from wsesim_compiler.passes.recognize import recognize
from wsesim_compiler.passes.route import route
from wsesim_compiler.search.automatic import automatic_blocks
from wsesim_compiler.text import parse_graph
from wsesim_compiler.verify import verify

Observe = Callable[[str, Any], None]
"""Called with a stage's name and its result, after the stage."""


def unobserved(stage: str, value: Any) -> None:
    """Looks away."""


def understand(graph: Graph, observe: Observe = unobserved) -> Graph:
    """Raw graph, verified by the front end -> recognised graph. Each pass verifies its result."""
    observe("graph", graph)
    observe("canonicalize", graph := canonicalize(graph))
    observe("recognize", graph := recognize(graph))
    return graph


def from_text(text: str, observe: Observe = unobserved) -> Partition:
    """The partition of a Partition's text, or of a Graph's, which may be raw, canonical or recognised already.

    Raises GraphSyntaxError, PartitionError, and the raw stage's errors for a graph that is none of the three.
    """
    if is_partition(text):
        split = parse_partition(text)
        verify(split.graph, "recognized")
        return split
    graph = parse_graph(text)
    try:
        verify(graph, "recognized")
    except GraphVerificationError:
        verify(graph, "raw")
        return partition(understand(graph, observe))
    observe("recognize", graph)
    return partition(graph)


def lower(
    graph: Graph, machine: Machine, options: Options, cost: StageOracle, observe: Observe = unobserved
) -> Program:
    """Recognised graph, verified by `recognize` or when it was read -> verified Program.

    `cost` tells the cycles of forms, collectives and stages.
    """
    return lower_partition(partition(graph), machine, options, cost, observe)


def lower_partition(
    split: Partition, machine: Machine, options: Options, cost: StageOracle, observe: Observe = unobserved
) -> Program:
    """Partition -> Program, verified at both ends; the rest of `lower`."""
    options.check()
    verify_partition(split)
    observe("partition", split)
    if options.strategy == AUTOMATIC and not options.blocks:
        blocks, chunk = automatic_blocks(split, machine, options, cost)
        options = dataclasses.replace(options, blocks=blocks, prefill_chunk=options.prefill_chunk or chunk)
    with working(f"placing {split.graph.name}"):
        placement = place(split, machine, options, cost)
    observe("place", placement)
    observe("choose", placement := choose(placement, cost))
    observe("route", placement := route(placement))
    observe("plan_memory", placement := plan_memory(placement))
    observe("emit", program := emit(placement))
    verify_program(program)
    return program
