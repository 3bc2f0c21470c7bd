"""What the patterns share: who makes and reads a value, and the values that depend on nothing but T."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from wsesim_compiler.interpret import compute, constant_array
from wsesim_compiler.ir import Graph, Node, TensorType
from wsesim_compiler.operators.operator import Array

PROBE_TOKENS = 7
"""T of the small inputs on which tables and arrangements are compared."""


class Matcher:
    """A canonical graph with its indices, and its static values evaluated once for each T that is asked for.

    A value is static if no input and no parameter is among its ancestors: masks, positions, cos and sin.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made = graph.producers()
        self.users = graph.users()
        self.types = graph.types()
        self.parameters = frozenset(parameter.name for parameter in graph.parameters)
        self.constants = {constant.name: constant for constant in graph.constants}
        self.static = _static_names(graph)
        self.order = {node.name: index for index, node in enumerate(graph.nodes)}
        self._values: dict[tuple[int, str], Array] = {}
        self._with_lengths: dict[tuple[tuple[int, int], ...], Matcher] = {}

    def node(self, name: str, *ops: str) -> Node | None:
        """The node of a value if one of `ops` makes it."""
        node = self.made.get(name)
        return node if node is not None and node.op in ops else None

    def type(self, name: str) -> TensorType:
        """Type of a value with one result."""
        type_ = self.types[name]
        assert isinstance(type_, TensorType), name
        return type_

    def only_user(self, name: str) -> Node | None:
        """The node that alone reads a value which is no output."""
        users = self.users[name]
        return users[0] if len(users) == 1 and name not in self.graph.outputs else None

    def value(self, name: str, tokens: int = PROBE_TOKENS) -> Array:
        """A static value for T = `tokens`."""
        for needed in self.ancestors([name]):
            if (tokens, needed.name) not in self._values:
                operands = [self._operand(operand, tokens) for operand in needed.inputs]
                self._values[tokens, needed.name] = compute(needed, operands, tokens)
        return self._operand(name, tokens)

    def with_lengths(self, lengths: Mapping[int, int]) -> Matcher:
        """The same graph with other lengths among the attributes and single numbers of its static nodes."""
        key = tuple(sorted(lengths.items()))
        if key not in self._with_lengths:
            self._with_lengths[key] = Matcher(_with_lengths(self.graph, self.static, lengths))
        return self._with_lengths[key]

    def _operand(self, name: str, tokens: int) -> Array:
        constant = self.constants.get(name)
        return self._values[tokens, name] if constant is None else constant_array(constant)

    def ancestors(self, names: Collection[str]) -> list[Node]:
        """Nodes that a value depends on, itself included, in dependency order."""
        return self.region(names, ())[0]

    def region(self, names: Collection[str], ops: Collection[str]) -> tuple[list[Node], list[str]]:
        """Nodes above `names` up to, and without, those that are neither static nor in `ops`; and these
        boundaries.

        With no `ops` at all every node is taken.
        """
        found: dict[str, Node] = {}
        boundary: dict[str, None] = {}
        pending = list(names)
        while pending:
            name = pending.pop()
            node = self.made.get(name)
            if node is not None and (not ops or name in self.static or node.op in ops):
                if name not in found:
                    found[name] = node
                    pending += () if ops and name in self.static else node.inputs
            elif name not in self.constants:
                boundary[name] = None
        ordered = sorted(found.values(), key=lambda node: self.order[node.name])
        return ordered, list(boundary)

    def evaluate(self, name: str, region: list[Node], given: dict[str, Array], tokens: int) -> Array:
        """A value computed through a region from arrays for its boundaries."""
        values: dict[str, Any] = dict(given)
        for node in region:
            if node.name in self.static:
                values[node.name] = self.value(node.name, tokens)
            else:
                operands = [values[n] if n in values else self._operand(n, tokens) for n in node.inputs]
                values[node.name] = compute(node, operands, tokens)
        result: Array = values[name]
        return result


def _with_lengths(graph: Graph, static: Collection[str], lengths: Mapping[int, int]) -> Graph:
    def other(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) not in lengths:
            return value
        return lengths[int(abs(value))] * (1 if value > 0 else -1)

    nodes = (
        dataclasses.replace(node, attributes=tuple((key, other(value)) for key, value in node.attributes))
        if node.name in static
        else node
        for node in graph.nodes
    )
    constants = (
        dataclasses.replace(c, values=tuple(map(other, c.values))) if len(c.values) == 1 else c for c in graph.constants
    )
    return graph.replace(nodes=tuple(nodes), constants=tuple(constants))


def _static_names(graph: Graph) -> frozenset[str]:
    static = {constant.name for constant in graph.constants}
    for node in graph.nodes:
        if static.issuperset(node.inputs):
            static.add(node.name)
    return frozenset(static)
