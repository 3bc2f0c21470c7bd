"""Reads the text form of a Graph, which `str(graph)` prints. `parse_graph(str(graph)) == graph`, floats included.

    graph NAME
    input %NAME : TYPE
    parameter @NAME : TYPE
    constant %NAME : TYPE = (VALUES)
    %NAME : TYPE = OP(%VALUE, @PARAMETER, ...) {ATTRIBUTE=VALUE, ...}  // SOURCE
    output %NAME, ...

TYPE is `[T, 32] f32`, or a tuple of those. A name or source with unusual characters is a JSON string.
"""

from __future__ import annotations

from wsesim.errors import brief
from wsesim_compiler.errors import GraphSyntaxError
from wsesim_compiler.ir import (
    Attribute,
    Attributes,
    Constant,
    Dim,
    Graph,
    Node,
    NodeType,
    Parameter,
    TensorType,
    Value,
)
from wsesim_compiler.line import Line

_MOST_LEVELS = 16
_WORDS: dict[str, Attribute] = {"true": True, "false": False, "none": None}


def parse_graph(text: str) -> Graph:
    """The graph that a text describes; raises GraphSyntaxError with the line. Does not verify it."""
    parts = _Parts()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            parts.read(Line(number, line))
    return parts.graph(text.count("\n") + 1)


class _Parts:
    """What has been read of a graph so far."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.outputs: tuple[str, ...] | None = None
        self.inputs: list[Value] = []
        self.parameters: list[Parameter] = []
        self.constants: list[Constant] = []
        self.nodes: list[Node] = []

    def graph(self, line: int) -> Graph:
        if self.name is None or self.outputs is None:
            raise GraphSyntaxError(line, "a graph begins with `graph NAME` and ends with `output %NAME, ...`")
        definitions = tuple(self.inputs), tuple(self.parameters), tuple(self.constants), tuple(self.nodes)
        return Graph(self.name, *definitions, self.outputs)

    def read(self, line: Line) -> None:
        if line.kind == "reference":
            self.nodes.append(_parse_node(line))
        else:
            self.read_declaration(line.word(), line)
        line.finish()

    def read_declaration(self, keyword: str, line: Line) -> None:
        if keyword == "graph":
            self.name = line.word()
        elif keyword == "input":
            self.inputs.append(Value(line.reference(), _parse_declared_type(line)))
        elif keyword == "parameter":
            self.parameters.append(Parameter(line.reference(), _parse_declared_type(line)))
        elif keyword == "constant":
            self.constants.append(_parse_constant(line))
        elif keyword == "output":
            self.outputs = parse_references(line)
        else:
            line.fail(f"expected a node, graph, input, parameter, constant or output, found {brief(keyword)}")


def parse_references(line: Line) -> tuple[str, ...]:
    """Names with commas between them."""
    names: list[str] = []
    while line.kind == "reference":
        names.append(line.reference())
        if not line.accept(","):
            break
    return tuple(names)


def _parse_node(line: Line) -> Node:
    name = line.reference()
    line.colon()
    type_ = _parse_type(line)
    line.expect("=")
    op = line.word()
    line.expect("(")
    inputs = parse_references(line)
    line.expect(")")
    return Node(name, op, inputs, _parse_attributes(line), type_, line.comment())


def _parse_attributes(line: Line) -> Attributes:
    pairs: list[tuple[str, Attribute]] = []
    if not line.accept("{"):
        return ()
    while not line.accept("}"):
        name = line.word()
        line.expect("=")
        pairs.append((name, _parse_attribute(line)))
        line.accept(",")
    return tuple(pairs)


def _parse_attribute(line: Line, level: int = 0) -> Attribute:
    if level > _MOST_LEVELS:
        line.fail("values are nested too deeply")
    if line.accept("("):
        parts: list[Attribute] = []
        while not line.accept(")"):
            parts.append(_parse_attribute(line, level + 1))
            line.accept(",")
        return tuple(parts)
    if line.kind == "string":
        return line.unquoted(line.take())
    if line.kind == "number":
        return line.take_number()
    word = line.word()
    if word not in _WORDS:
        line.fail(f"expected a value, found {brief(word)}")
    return _WORDS[word]


def _parse_constant(line: Line) -> Constant:
    name, type_ = line.reference(), _parse_declared_type(line)
    line.expect("=")
    values = _parse_attribute(line)
    if not isinstance(values, tuple):
        line.fail("expected the constant's values in parentheses")
    return Constant(name, type_, tuple(value for value in values if isinstance(value, int | float)))


def _parse_declared_type(line: Line) -> TensorType:
    line.colon()
    type_ = _parse_type(line)
    if not isinstance(type_, TensorType):
        line.fail("only a node has several results")
    return type_


def _parse_type(line: Line) -> NodeType:
    if not line.accept("("):
        return _parse_tensor_type(line)
    parts: list[TensorType] = []
    while not line.accept(")"):
        parts.append(_parse_tensor_type(line))
        line.accept(",")
    return tuple(parts)


def _parse_tensor_type(line: Line) -> TensorType:
    line.expect("[")
    dims: list[Dim] = []
    while not line.accept("]"):
        dims.append(line.dimension() if line.kind == "number" else line.word())
        line.accept(",")
    return TensorType(tuple(dims), line.word())
