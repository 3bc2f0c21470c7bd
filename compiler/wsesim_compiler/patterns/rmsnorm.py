"""RMSNorm: x * rsqrt(mean(x * x) + eps) * weight in any operand order, or torch's rms_norm."""

from __future__ import annotations

import dataclasses

import numpy as np

from wsesim_compiler.ir import Graph, Node, attributes
from wsesim_compiler.patterns.matching import Matcher


def recognize_rmsnorm(graph: Graph) -> Graph:
    """The graph with every RMSNorm by a weight as one `rmsnorm` in place of its last node."""
    matcher = Matcher(graph)
    return graph.replace(nodes=tuple(_match(matcher, node) or node for node in graph.nodes)).live()


def _match(matcher: Matcher, node: Node) -> Node | None:
    if node.op == "rms_norm" and len(node.inputs) == 2 and node.inputs[1] in matcher.parameters:
        eps = node.attribute("eps")
        floor = float(np.finfo(np.float32).eps) if eps is None else node.number("eps")
        return _rmsnorm(node, *node.inputs, floor)
    if node.op != "mul" or len(node.inputs) != 2:
        return None
    for scaled, weight in (node.inputs, node.inputs[::-1]):
        found = _normalized(matcher, scaled) if weight in matcher.parameters else None
        if found is not None:
            return _rmsnorm(node, found[0], weight, found[1])
    return None


def _rmsnorm(node: Node, x: str, weight: str, eps: float) -> Node:
    return dataclasses.replace(node, op="rmsnorm", inputs=(x, weight), attributes=attributes(eps=eps))


def _normalized(matcher: Matcher, name: str) -> tuple[str, float] | None:
    """x and eps of x * rsqrt(mean(x * x) + eps)."""
    product = matcher.node(name, "mul")
    if product is None or len(product.inputs) != 2:
        return None
    for x, factor in (product.inputs, product.inputs[::-1]):
        eps = _eps(matcher, x, factor)
        if eps is not None:
            return x, eps
    return None


def _eps(matcher: Matcher, x: str, factor: str) -> float | None:
    """eps if `factor` is rsqrt(mean(x * x) + eps) over the last dimension."""
    root = matcher.node(factor, "rsqrt")
    shifted = matcher.node(root.inputs[0], "add") if root else None
    mean = matcher.node(shifted.inputs[0], "mean") if shifted and len(shifted.inputs) == 1 else None
    square = matcher.node(mean.inputs[0], "mul") if mean and _over_features(matcher, mean) else None
    return shifted.number("other") if shifted and square and square.inputs == (x, x) else None


def _over_features(matcher: Matcher, mean: Node) -> bool:
    source = matcher.made.get(mean.inputs[0])
    last = (-1,) if source is None else ((-1,), (len(source.shape) - 1,))
    return mean.attribute("keepdim") is True and mean.attribute("dim") in last
