"""The rules of a Partition, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from wsesim.program.kernels import ALONG, other_axis
from wsesim.program.parts import EMBED, HEAD, LAYER
from wsesim_compiler.errors import PartitionError
from wsesim_compiler.ir import Node
from wsesim_compiler.partition import Partition

TURNING = ("linear", "head")
TOGETHER = ("linear", "qk_norm", "rope")


def verify_partition(partition: Partition) -> None:
    """Raises PartitionError for the first rule that does not hold, with where it does not."""
    for rule, check in RULES:
        for offender in check(partition):
            raise PartitionError(f"partition of {partition.graph.name}: {rule}; not so: {offender}")


def _chain(partition: Partition) -> Iterator[str]:
    kinds = [stage.kind for stage in partition.stages]
    layers = len(kinds) - 2
    if layers < 1 or kinds != [EMBED, *[LAYER] * layers, HEAD]:
        yield ", ".join(kinds) or "no stage"
    names = Counter(stage.name for stage in partition.stages)
    yield from (f"{name} is there {count} times" for name, count in names.items() if count > 1)


def _nodes_once(partition: Partition) -> Iterator[str]:
    placed = Counter(node.name for stage in partition.stages for fused in stage.fused for node in fused.nodes)
    for node in partition.graph.nodes:
        if placed[node.name] != 1:
            yield f"{node.name} (from {node.source}) is in {placed[node.name]} of them"


def _in_order(partition: Partition) -> Iterator[str]:
    made: set[str] = {value.name for value in partition.graph.inputs}
    made |= {p.name for p in partition.graph.parameters} | {c.name for c in partition.graph.constants}
    for stage in partition.stages:
        for fused in stage.fused:
            for node in fused.nodes:
                yield from (f"{node.name} in {stage.name} reads {name}" for name in node.inputs if name not in made)
            made.update(node.name for node in fused.nodes)


def _handed_over(partition: Partition) -> Iterator[str]:
    for before, after in pairwise(partition.stages):
        if after.source != before.target:
            yield f"{after.name} takes {after.source or 'tokens'}, {before.name} leaves {before.target}"
        own = {node.name for fused in before.fused for node in fused.nodes}
        if before.target not in own:
            yield f"{before.name} does not make {before.target}"
        rest = {node.name for fused in after.fused for node in fused.nodes}
        read = {name for fused in after.fused for node in fused.nodes for name in node.inputs}
        made = {node.name for node in partition.graph.nodes}
        yield from (f"{after.name} reads {name}" for name in sorted((read & made) - rest - {after.source}))


def _fused_alike(partition: Partition) -> Iterator[str]:
    for stage in partition.stages:
        for fused in stage.fused:
            first = fused.nodes[0]
            if not all(_belong(first, node) for node in fused.nodes):
                yield f"{fused.role} of {stage.name}"


def _belong(first: Node, other: Node) -> bool:
    if first is other:
        return True
    same = first.op == other.op and first.op in TOGETHER
    return same and (first.op != "linear" or first.inputs[0] == other.inputs[0])


def _axes(partition: Partition) -> Iterator[str]:
    for node in partition.graph.nodes:
        operands = {partition.axes[name] for name in node.inputs if name in partition.axes}
        axis = next(iter(operands), ALONG)
        wanted = other_axis(axis) if node.op in TURNING else axis
        if len(operands) > 1 or partition.axes[node.name] != wanted:
            yield f"{node.name} (from {node.source}) is {partition.axes[node.name]}, its operands {', '.join(operands)}"


Rule = tuple[str, Callable[[Partition], Iterator[str]]]
RULES: tuple[Rule, ...] = (
    ("stages are embed, at least one layer, and head, each with a name of its own", _chain),
    ("every node is in one stage, once", _nodes_once),
    ("a kernel is one node, linears of one source, or norms or rotations of heads", _fused_alike),
    ("a node comes after what it reads", _in_order),
    ("a stage takes the value that the one before leaves, and no other", _handed_over),
    ("a linear moves its result to the other axis, everything else keeps its operands', the embedding is along", _axes),
)
