"""partition: recognised Graph -> Partition.

Contract: the residual stream is split `along`; every linear moves its result to the other axis, everything else keeps
the axis of its operands. A layer begins at the norm that feeds an attention. Raises PartitionError, naming the node,
for a graph whose operands of one node would lie on different axes, or that is no chain embedding - layers - head.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from wsesim.program.kernels import ALONG, other_axis
from wsesim.program.parts import EMBED, HEAD, LAYER
from wsesim_compiler.errors import PartitionError
from wsesim_compiler.ir import Graph, Node
from wsesim_compiler.partition import Fused, Partition, Stage

_OF_HEADS = ("qk_norm", "rope")
_ATTENTION = {*_OF_HEADS, "attention"}


def partition(graph: Graph) -> Partition:
    """Stages and axes of a recognised graph."""
    for node, op in ((graph.nodes[0], "embedding"), (graph.nodes[-1], "head")):
        if node.op != op:
            raise PartitionError(f"{node.name} (from {node.source}): a model has {op} here, not {node.op}")
    axes = _axes(graph)
    residuals = _residuals(graph)
    if len(residuals) < 2:
        raise PartitionError(f"{graph.name}: no layer between {graph.nodes[0].name} and {graph.nodes[-1].name}")
    widths = {node.name: int(node.shape[-1]) for node in graph.nodes}
    return Partition(graph, _stages(graph, residuals), axes, widths)


def _axes(graph: Graph) -> dict[str, str]:
    axes: dict[str, str] = {}
    for node in graph.nodes:
        operands = {axes[name] for name in node.inputs if name in axes}
        if len(operands) > 1:
            raise PartitionError(f"{node.name} (from {node.source}): its operands are split over different axes")
        axis = operands.pop() if operands else ALONG
        if node.op == "rmsnorm" and axis != ALONG:
            raise PartitionError(
                f"{node.name} (from {node.source}): a norm over all heads of a projection is not supported, "
                "one over each head is"
            )
        axes[node.name] = other_axis(axis) if node.op in ("linear", "head") else axis
    return axes


def _residuals(graph: Graph) -> tuple[str, ...]:
    """The values of the residual stream in order: the embedding's, then every add's."""
    stream = [graph.nodes[0].name]
    for node in graph.nodes:
        if node.op == "add":
            if stream[-1] not in node.inputs:
                raise PartitionError(f"{node.name} (from {node.source}): an add that is not to the residual stream")
            stream.append(node.name)
    return tuple(stream)


def _stages(graph: Graph, residuals: tuple[str, ...]) -> tuple[Stage, ...]:
    """Cuts before each half that holds an attention, and before the final norm."""
    halves = _halves(graph, residuals)
    stages = [Stage("embed", EMBED, _fused(halves[0]), "", halves[0][-1].name)]
    layers: list[list[Node]] = []
    for half in halves[1:-1]:
        if any(n.op == "attention" for n in half) or not layers:
            layers.append([])
        layers[-1].extend(half)
    for number, nodes in enumerate(layers):
        stages.append(Stage(f"layer{number}", LAYER, _fused(nodes), stages[-1].target, nodes[-1].name, number))
    head = halves[-1]
    return (*stages, Stage("head", HEAD, _fused(head), stages[-1].target, head[-1].name))


def _halves(graph: Graph, residuals: tuple[str, ...]) -> list[list[Node]]:
    """Nodes up to and including each value of the residual stream; the last half ends with the head."""
    ends = {*residuals, graph.nodes[-1].name}
    halves: list[list[Node]] = [[]]
    for node in graph.nodes:
        halves[-1].append(node)
        if node.name in ends:
            halves.append([])
    return halves[:-1]


def _fused(nodes: list[Node]) -> tuple[Fused, ...]:
    """Linears of one source become one kernel, as do norms and rotations of q and k; roles say what a kernel is for."""
    users = {name: [n for n in nodes if name in n.inputs] for name in (n.name for n in nodes)}
    made = {n.name: n for n in nodes}

    def key(node: Node) -> tuple[str, str]:
        if node.op == "linear":
            return ("linear", node.inputs[0])
        return (node.op, "") if node.op in _OF_HEADS else (node.op, node.name)

    ordered = _siblings_together(nodes, key)
    return tuple(
        Fused(_role(group, users, made), tuple(group)) for group in (list(g) for _, g in groupby(ordered, key=key))
    )


def _siblings_together(nodes: list[Node], key: Callable[[Node], tuple[str, str]]) -> list[Node]:
    """A linear moves up to its first sibling (same source), what turns or norms heads waits for its last
    sibling; others keep their order.
    """
    first: dict[tuple[str, str], int] = {}
    last = {key(node): number for number, node in enumerate(nodes)}
    for number, node in enumerate(nodes):
        first.setdefault(key(node), number)
    position = {n.name: last[key(n)] if n.op in _OF_HEADS else first[key(n)] for n in nodes}
    return sorted(nodes, key=lambda n: position[n.name])  # stable


def _role(group: list[Node], users: dict[str, list[Node]], made: dict[str, Node]) -> str:
    node = group[0]
    following = {u.op for n in group for u in users[n.name]}
    source = made.get(node.inputs[0])
    if node.op == "rmsnorm":
        after = {u.op for n in users[node.name] for u in users[n.name]}
        return "attn_norm" if after & _ATTENTION else "ffn_norm" if after else "norm"
    if node.op == "linear":
        if following & _ATTENTION:
            return "qkv"
        if "swiglu" in following:
            return "gate_up"
        return {"attention": "o", "swiglu": "down"}.get(source.op if source else "", f"linear_{node.name}")
    if node.op == "add":
        return "attn_add" if _comes_from_attention(node, made) else "ffn_add"
    return {"embedding": "table", "head": "logits"}.get(node.op, node.op)


def _comes_from_attention(add: Node, made: dict[str, Node]) -> bool:
    branches = [made[name] for name in add.inputs if name in made and made[name].op == "linear"]
    return any(made[b.inputs[0]].op == "attention" for b in branches if b.inputs[0] in made)
