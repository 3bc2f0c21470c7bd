"""Graph: a model as operators over named values, in dependency order. Immutable; `str(graph)` parses back.

    Graph     name, inputs, parameters, constants, nodes, outputs
    Node      name, op, inputs, attributes, type, source
    Value     name, type                    an input of the graph
    Parameter name, type                    a tensor of the model's weights, by the name in its weight store
    Constant  name, type, values            a small tensor known at compile time, row-major
    TensorType shape, dtype                 dimensions are integers or T, the number of new tokens

Names share one namespace. A node's inputs and the graph's outputs name inputs, parameters, constants or
nodes.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from wsesim.tables import Table
from wsesim_compiler.line import word

TOKENS = "T"
"""The symbolic dimension: the number of new tokens."""

Dim: TypeAlias = int | str
Shape: TypeAlias = tuple[Dim, ...]
Attribute: TypeAlias = "int | float | bool | str | tuple[Attribute, ...] | None"
Attributes: TypeAlias = tuple[tuple[str, Attribute], ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and element type (`f32`, `bf16`, `f16`, `f64`, `i64`, `i32`, `bool`, ...) of one value."""

    shape: Shape
    dtype: str


NodeType: TypeAlias = TensorType | tuple[TensorType, ...]
"""A tuple only for operators with several results (`split`), whose results `getitem` picks."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input of the graph."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of the model's weights."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor known at compile time; `values` in row-major order."""

    name: str
    type: TensorType
    values: tuple[int | float | bool, ...]


_Named = TypeVar("_Named", Parameter, Constant)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator; `attributes` sorted by name, `source` the name in the model that it came from."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes
    type: NodeType
    source: str = ""

    def attribute(self, name: str, default: Attribute = None) -> Attribute:
        """Value of one attribute, `default` if the node does not have it."""
        return dict(self.attributes).get(name, default)

    def integer(self, name: str) -> int:
        """An attribute that is an integer by the operator's definition."""
        value = self.attribute(name)
        assert isinstance(value, int), f"{self.name}.{name}"
        return value

    def number(self, name: str) -> float:
        """An attribute that is a number by the operator's definition."""
        value = self.attribute(name)
        assert isinstance(value, int | float), f"{self.name}.{name}"
        return float(value)

    @property
    def tensor(self) -> TensorType:
        """Type of the only result."""
        assert isinstance(self.type, TensorType), self.name
        return self.type

    @property
    def shape(self) -> Shape:
        """Shape of the only result."""
        return self.tensor.shape


@dataclass(frozen=True, slots=True)
class Graph:
    """A model; see the module's docstring for the grammar and `wsesim_compiler.verify` for the rules."""

    name: str
    inputs: tuple[Value, ...]
    parameters: tuple[Parameter, ...]
    constants: tuple[Constant, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def definitions(self) -> Iterator[Value | Parameter | Constant | Node]:
        """Everything that has a name, in the order of the text."""
        yield from self.inputs
        yield from self.parameters
        yield from self.constants
        yield from self.nodes

    def types(self) -> dict[str, NodeType]:
        """Type of every name."""
        return {definition.name: definition.type for definition in self.definitions()}

    def producers(self) -> dict[str, Node]:
        """Node of every name that a node makes."""
        return {node.name: node for node in self.nodes}

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs, parameters and constants."""
        return next((node for node in self.nodes if node.name == name), None)

    def users(self) -> dict[str, tuple[Node, ...]]:
        """Nodes that read each name, in order, each once; names that nothing reads are there with ()."""
        users: dict[str, list[Node]] = {definition.name: [] for definition in self.definitions()}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                users.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in users.items()}

    def parameter(self, name: str) -> Parameter:
        """One parameter by name; KeyError if there is none."""
        return _named(self.parameters, name)

    def constant(self, name: str) -> Constant:
        """One constant by name; KeyError if there is none."""
        return _named(self.constants, name)

    def replace(self, **changes: Any) -> Graph:
        """The same graph with some fields replaced."""
        return dataclasses.replace(self, **changes)

    def live(self) -> Graph:
        """The graph without nodes, parameters and constants that no output depends on; inputs stay."""
        wanted = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(node.inputs)
        return self.replace(
            parameters=tuple(p for p in self.parameters if p.name in wanted),
            constants=tuple(c for c in self.constants if c.name in wanted),
            nodes=tuple(n for n in self.nodes if n.name in wanted),
        )

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.nodes):,} nodes, {len(self.parameters):,} parameters>"

    def _repr_html_(self) -> str:
        counts = Counter(node.op for node in self.nodes).most_common()
        rows = [("operator", "nodes"), *((op, f"{count:,}") for op, count in counts)]
        return Table(repr(self)[1:-1], tuple(rows), heading=True).html()

    def text(self, provenance: bool = True) -> str:
        """The text form, which `parse_graph` reads back. Without `provenance` the nodes' sources are left out."""
        return "\n".join(_lines(self, provenance)) + "\n"

    def __str__(self) -> str:
        return self.text()


def attributes(**values: Attribute) -> Attributes:
    """Attributes of a node, sorted by name."""
    return tuple(sorted(values.items()))


def with_inputs(node: Node, inputs: Iterable[str]) -> Node:
    """The same node reading other values."""
    return dataclasses.replace(node, inputs=tuple(inputs))


def _named(definitions: tuple[_Named, ...], name: str) -> _Named:
    for definition in definitions:
        if definition.name == name:
            return definition
    raise KeyError(name)


def _lines(graph: Graph, provenance: bool) -> Iterator[str]:
    parameters = {parameter.name for parameter in graph.parameters}

    def reference(name: str) -> str:
        return ("@" if name in parameters else "%") + word(name)

    yield f"graph {word(graph.name)}"
    for value in graph.inputs:
        yield f"input %{word(value.name)} : {_type_text(value.type)}"
    for parameter in graph.parameters:
        yield f"parameter @{word(parameter.name)} : {_type_text(parameter.type)}"
    for constant in graph.constants:
        values = _attribute_text(constant.values)
        yield f"constant %{word(constant.name)} : {_type_text(constant.type)} = {values}"
    for node in graph.nodes:
        source = f"  // {word(node.source)}" if provenance and node.source else ""
        yield _node_text(node, [reference(name) for name in node.inputs]) + source
    yield f"output {', '.join(reference(name) for name in graph.outputs)}".rstrip()


def _node_text(node: Node, operands: list[str]) -> str:
    text = f"%{word(node.name)} : {_type_text(node.type)} = {word(node.op)}({', '.join(operands)})"
    pairs = ", ".join(f"{word(name)}={_attribute_text(value)}" for name, value in node.attributes)
    return f"{text} {{{pairs}}}" if pairs else text


def _type_text(type_: NodeType) -> str:
    if isinstance(type_, TensorType):
        dims = (str(dim) if isinstance(dim, int) else word(dim) for dim in type_.shape)
        return f"[{', '.join(dims)}] {word(type_.dtype)}"
    return f"({', '.join(_type_text(part) for part in type_)})"


def _attribute_text(value: Attribute) -> str:
    """A value of an attribute. Floats are printed by repr, which reads back exactly."""
    if isinstance(value, tuple):
        return f"({', '.join(_attribute_text(part) for part in value)})"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return json.dumps(value) if isinstance(value, str) else repr(value)
