"""SwiGLU: silu(gate) * up in either order, silu whole or as gate * sigmoid(gate)."""

from __future__ import annotations

import dataclasses

from wsesim_compiler.ir import Graph, Node
from wsesim_compiler.patterns.matching import Matcher


def recognize_swiglu(graph: Graph) -> Graph:
    """The graph with every SwiGLU as one `swiglu(gate, up)` in place of its product."""
    matcher = Matcher(graph)
    return graph.replace(nodes=tuple(_match(matcher, node) or node for node in graph.nodes)).live()


def _match(matcher: Matcher, node: Node) -> Node | None:
    if node.op != "mul" or len(node.inputs) != 2:
        return None
    for activated, up in (node.inputs, node.inputs[::-1]):
        gate = _gate(matcher, activated)
        if gate is not None and matcher.types[gate] == matcher.types[up]:
            return dataclasses.replace(node, op="swiglu", inputs=(gate, up), attributes=())
    return None


def _gate(matcher: Matcher, name: str) -> str | None:
    """x if the value is silu(x)."""
    whole = matcher.node(name, "silu")
    if whole is not None:
        return whole.inputs[0]
    product = matcher.node(name, "mul")
    if product is None or len(product.inputs) != 2:
        return None
    for x, factor in (product.inputs, product.inputs[::-1]):
        sigmoid = matcher.node(factor, "sigmoid")
        if sigmoid is not None and sigmoid.inputs == (x,):
            return x
    return None
