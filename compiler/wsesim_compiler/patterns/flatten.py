"""Flatten: every value becomes [T, features], and what only rearranged the batch of one goes.

The linear that makes the output becomes `head`, and a choice of the last token before it goes too: the head
is then applied to every token, and who wants one row takes the last.
"""

from __future__ import annotations

import dataclasses

from wsesim_compiler.errors import Unsupported
from wsesim_compiler.ir import TOKENS, Graph, Node, Shape, TensorType
from wsesim_compiler.operators.operator import RECOGNIZED
from wsesim_compiler.ops import vocabulary

_VIEWS = ("reshape", "permute", "expand")
_CHOICES = ("slice", "select")


def flatten(graph: Graph) -> tuple[Graph, tuple[tuple[str, Unsupported], ...]]:
    """The flattened graph, and by node name what is left over that no recognised operator stands for."""
    walk = _Walk(graph)
    for node in graph.nodes:
        walk.add(node)
    walk.make_head(graph.outputs)
    inputs = tuple(dataclasses.replace(v, type=TensorType((TOKENS,), v.type.dtype)) for v in graph.inputs)
    outputs = tuple(walk.alias(name) for name in graph.outputs)
    flat = graph.replace(inputs=inputs, nodes=tuple(walk.nodes.values()), outputs=outputs)
    return flat, tuple(walk.left)


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = graph.types()
        self.parameters = {parameter.name for parameter in graph.parameters}
        self.before_attention = _before_attention(graph)
        self.nodes: dict[str, Node] = {}
        self.aliases: dict[str, str] = {}
        self.left: list[tuple[str, Unsupported]] = []

    def alias(self, name: str) -> str:
        return self.aliases.get(name, name)

    def add(self, node: Node) -> None:
        inputs = tuple(self.alias(name) for name in node.inputs)
        if node.op in vocabulary(RECOGNIZED) and self.well_formed(node):
            shape = (TOKENS, node.shape[-1])
            type_ = dataclasses.replace(node.tensor, shape=shape)
            self.nodes[node.name] = dataclasses.replace(node, inputs=inputs, type=type_)
        elif self.is_rearrangement(node):
            self.aliases[node.name] = inputs[0]
        else:
            self.refuse(node)

    def well_formed(self, node: Node) -> bool:
        """Weighted operators read parameters and make rows of tokens, `add` is of two values of one shape."""
        if node.op in ("linear", "embedding", "rmsnorm", "qk_norm"):
            return self.is_rows(node.shape) and all(name in self.parameters for name in node.inputs[1:])
        if node.op == "add":
            return len(node.inputs) == 2 and len({_squeezed(self.shape(n)) for n in node.inputs}) == 1
        return True

    def is_rows(self, shape: Shape) -> bool:
        return len(_squeezed(shape[:-1])) <= 1 and not isinstance(shape[-1], str)

    def is_rearrangement(self, node: Node) -> bool:
        """The same rows in the same order, or the choice of the last one with nothing but rows after it."""
        if not node.inputs or node.inputs[0] in self.parameters:
            return False
        before, after = self.shape(node.inputs[0]), node.shape
        if node.op == "permute":
            return self.keeps_order(node, before)
        if node.op in _VIEWS and _squeezed(before) == _squeezed(after):
            return True
        return node.op in _CHOICES and self.is_last_token(node, before)

    def keeps_order(self, node: Node, before: Shape) -> bool:
        dims = node.attribute("dims")
        assert isinstance(dims, tuple)
        wide = [int(d) for d in dims if isinstance(d, int) and before[d] != 1]
        return wide == sorted(wide)

    def is_last_token(self, node: Node, before: Shape) -> bool:
        if node.op == "select" and before[node.integer("dim")] == 1:
            return True
        if before[node.integer("dim")] != TOKENS or node.name in self.before_attention:
            return False
        return node.attribute("start" if node.op == "slice" else "index") == -1

    def shape(self, name: str) -> Shape:
        type_ = self.types[name]
        assert isinstance(type_, TensorType)
        return type_.shape

    def refuse(self, node: Node) -> None:
        self.left.append((node.name, Unsupported(node.op, node.source)))
        self.nodes[node.name] = node

    def make_head(self, outputs: tuple[str, ...]) -> None:
        node = self.nodes.get(self.alias(outputs[0]))
        if node is None or node.op != "linear" or len(outputs) != 1:
            op, source = (node.op, node.source) if node else ("output", outputs[0])
            made = "a linear" if len(outputs) == 1 else f"one value but {len(outputs)}"
            reason = f"the output, the logits, is not {made}"
            self.left.append((outputs[0], Unsupported(op, source, reason)))
        else:
            self.nodes[node.name] = dataclasses.replace(node, op="head")


def _squeezed(shape: Shape) -> Shape:
    return tuple(dim for dim in shape if dim != 1)


def _before_attention(graph: Graph) -> frozenset[str]:
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op == "attention" or node.name in found:
            found.update(node.inputs)
    return frozenset(found)
