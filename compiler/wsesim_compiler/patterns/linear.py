"""Linear: a product with a parameter, stored either way round; its bias; parts of a packed one as linears of their
own.
"""

from __future__ import annotations

import dataclasses

from wsesim_compiler.ir import Attribute, Graph, Node, attributes

_PART = ("start", "stop")


def recognize_linear(graph: Graph) -> Graph:
    """The graph with every product by a parameter as `linear`, with its bias, and every slice of a linear's features as
    a linear of those rows.
    """
    walk = _Walk(graph)
    for node in graph.nodes:
        walk.made[node.name] = walk.product(node) or walk.biased(node) or walk.part(node) or node
    return graph.replace(nodes=tuple(walk.made.values())).live()


class _Walk:
    """`made`: nodes so far by name."""

    def __init__(self, graph: Graph) -> None:
        self.users = graph.users()
        self.outputs = graph.outputs
        self.shapes = {parameter.name: parameter.type.shape for parameter in graph.parameters}
        self.made: dict[str, Node] = {}

    def product(self, node: Node) -> Node | None:
        """x @ w, w a parameter [i, o], or a parameter [o, i] transposed."""
        if node.op != "matmul":
            return None
        x, weight = node.inputs
        turned = self.made.get(weight)
        if turned is not None and turned.op == "permute" and len(self.shapes.get(turned.inputs[0], ())) == 2:
            return dataclasses.replace(node, op="linear", inputs=(x, turned.inputs[0]))
        if len(self.shapes.get(weight, ())) != 2:
            return None
        return dataclasses.replace(node, op="linear", attributes=attributes(transpose=True))

    def biased(self, node: Node) -> Node | None:
        """linear + b, b a parameter as long as the linear's features."""
        if node.op != "add" or len(node.inputs) != 2 or node.attributes:
            return None
        for product, bias in (node.inputs, node.inputs[::-1]):
            linear = self.linear(product)
            if linear is not None and len(linear.inputs) == 2 and self.shapes.get(bias) == linear.shape[-1:]:
                return self.instead(node, linear, (*linear.inputs, bias), linear.attribute("transpose"))
        return None

    def part(self, node: Node) -> Node | None:
        """Some of a linear's features, one after the other."""
        linear = self.made.get(node.inputs[0]) if node.op == "slice" else None
        if linear is None or linear.op != "linear" or any(linear.attribute(name) is not None for name in _PART):
            return None
        start, end, step = node.attribute("start", 0), node.attribute("end"), node.attribute("step")
        if node.attribute("dim") != len(linear.shape) - 1 or step is not None or not isinstance(start, int):
            return None
        if start < 0 or (isinstance(end, int) and end < 0):
            return None
        stop = start + int(node.shape[-1])
        return self.instead(node, linear, linear.inputs, linear.attribute("transpose"), start=start, stop=stop)

    def linear(self, name: str) -> Node | None:
        """The whole linear that only one node reads."""
        node = self.made.get(name)
        alone = len(self.users.get(name, ())) == 1 and name not in self.outputs
        whole = node is not None and node.op == "linear" and not any(node.attribute(part) is not None for part in _PART)
        return node if alone and whole else None

    def instead(
        self, node: Node, linear: Node, inputs: tuple[str, ...], transpose: Attribute, **part: Attribute
    ) -> Node:
        """A linear in place of `node`, under the name of the module that holds the weight."""
        known = attributes(**part, **({"transpose": True} if transpose else {}))
        return dataclasses.replace(node, op="linear", inputs=inputs, attributes=known, source=linear.source)
