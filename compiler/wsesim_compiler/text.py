"""The text form of a Graph. `parse_graph(print_graph(g)) == g`, exactly: floats are printed by repr.

    graph NAME
    input %NAME : TYPE
    parameter @NAME : TYPE
    constant %NAME : TYPE = (VALUES)
    %NAME : TYPE = OP(%VALUE, @PARAMETER, ...) {ATTRIBUTE=VALUE, ...}  // SOURCE
    output %NAME, ...

TYPE is `[T, 32] f32`, or a tuple of those. A name or source with unusual characters is a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeAlias

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

_PLAIN = r"[A-Za-z0-9_./:+-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NUMBER = r"-?(?:inf|nan|\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![A-Za-z0-9_./:+-])"
_TOKEN = re.compile(
    rf"[ \t]*(?:(?P<comment>//.*)|(?P<reference>[%@](?:{_PLAIN}|{_QUOTED}))|(?P<string>{_QUOTED})"
    rf"|(?P<number>{_NUMBER})|(?P<word>{_PLAIN})|(?P<mark>[][(){{}},=])|(?P<end>$))"
)

_WORDS: dict[str, Attribute] = {"true": True, "false": False, "none": None}
_Reference: TypeAlias = Callable[[str], str]


def print_graph(graph: Graph, provenance: bool = True) -> str:
    """Text of a graph; without `provenance` the sources are left out, and parse as empty."""
    parameters = {parameter.name for parameter in graph.parameters}

    def reference(name: str) -> str:
        return ("@" if name in parameters else "%") + _word(name)

    return "\n".join(_lines(graph, reference, provenance)) + "\n"


def _lines(graph: Graph, reference: _Reference, provenance: bool) -> Iterator[str]:
    yield f"graph {_word(graph.name)}"
    for value in graph.inputs:
        yield f"input %{_word(value.name)} : {_type(value.type)}"
    for parameter in graph.parameters:
        yield f"parameter @{_word(parameter.name)} : {_type(parameter.type)}"
    for constant in graph.constants:
        yield f"constant %{_word(constant.name)} : {_type(constant.type)} = {_attribute(constant.values)}"
    for node in graph.nodes:
        yield _node(node, reference, provenance)
    yield f"output {', '.join(reference(name) for name in graph.outputs)}".rstrip()


def _node(node: Node, reference: _Reference, provenance: bool) -> str:
    operands = ", ".join(reference(name) for name in node.inputs)
    text = f"%{_word(node.name)} : {_type(node.type)} = {_word(node.op)}({operands})"
    if node.attributes:
        pairs = ", ".join(f"{_word(name)}={_attribute(value)}" for name, value in node.attributes)
        text += f" {{{pairs}}}"
    return f"{text}  // {_word(node.source)}" if provenance and node.source else text


def _type(type_: NodeType) -> str:
    if isinstance(type_, TensorType):
        return f"[{', '.join(_dim(dim) for dim in type_.shape)}] {_word(type_.dtype)}"
    return f"({', '.join(_type(part) for part in type_)})"


def _dim(dim: Dim) -> str:
    return str(dim) if isinstance(dim, int) else _word(dim)


def _word(text: str) -> str:
    plain = re.fullmatch(_PLAIN, text) and not re.match(_NUMBER, text) and not text.startswith("//")
    return text if plain else json.dumps(text)


def _attribute(value: Attribute) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_attribute(part) for part in value)})"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return json.dumps(value) if isinstance(value, str) else repr(value)


def parse_graph(text: str) -> Graph:
    """The graph that a text describes; raises GraphSyntaxError with the line. Does not verify it."""
    parts = _Parts()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            parts.read(_Line(number, line))
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

    def read(self, line: _Line) -> None:
        if line.kind == "reference":
            self.nodes.append(_parse_node(line))
        else:
            self.read_declaration(line.word(), line)
        line.finish()

    def read_declaration(self, keyword: str, line: _Line) -> None:
        if keyword == "graph":
            self.name = line.word()
        elif keyword == "input":
            self.inputs.append(Value(line.reference(), _parse_declared_type(line)))
        elif keyword == "parameter":
            self.parameters.append(Parameter(line.reference(), _parse_declared_type(line)))
        elif keyword == "constant":
            self.constants.append(_parse_constant(line))
        elif keyword == "output":
            self.outputs = _parse_references(line)
        else:
            line.fail(f"expected a node, graph, input, parameter, constant or output, found {keyword!r}")


class _Line:
    """The tokens of one line, with a cursor."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.tokens = _tokens(number, text)
        self.at = 0

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def fail(self, message: str) -> NoReturn:
        raise GraphSyntaxError(self.number, message)

    def accept(self, mark: str) -> bool:
        if self.tokens[self.at] != ("mark", mark):
            return False
        self.at += 1
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(f"expected {mark!r}, found {self.tokens[self.at][1]!r}")

    def word(self) -> str:
        if self.kind not in ("word", "string"):
            self.fail(f"expected a name, found {self.tokens[self.at][1]!r}")
        return _unquoted(self.take())

    def reference(self) -> str:
        if self.kind != "reference":
            self.fail(f"expected %NAME or @NAME, found {self.tokens[self.at][1]!r}")
        return _unquoted(self.take()[1:])

    def colon(self) -> None:
        if self.kind != "word" or self.take() != ":":
            self.fail("expected ':' before the type")

    def comment(self) -> str:
        return _unquoted(self.take()[len("//") :].strip(" ")) if self.kind == "comment" else ""

    def finish(self) -> None:
        if self.kind != "end":
            self.fail(f"unexpected {self.tokens[self.at][1]!r}")


def _tokens(number: int, text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while not tokens or tokens[-1][0] != "end":
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise GraphSyntaxError(number, f"cannot read {text[position:].strip()!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


def _parse_references(line: _Line) -> tuple[str, ...]:
    names: list[str] = []
    while line.kind == "reference":
        names.append(line.reference())
        if not line.accept(","):
            break
    return tuple(names)


def _parse_node(line: _Line) -> Node:
    name = line.reference()
    line.colon()
    type_ = _parse_type(line)
    line.expect("=")
    op = line.word()
    line.expect("(")
    inputs = _parse_references(line)
    line.expect(")")
    return Node(name, op, inputs, _parse_attributes(line), type_, line.comment())


def _parse_attributes(line: _Line) -> Attributes:
    pairs: list[tuple[str, Attribute]] = []
    if not line.accept("{"):
        return ()
    while not line.accept("}"):
        name = line.word()
        line.expect("=")
        pairs.append((name, _parse_attribute(line)))
        line.accept(",")
    return tuple(pairs)


def _parse_attribute(line: _Line) -> Attribute:
    if line.accept("("):
        parts: list[Attribute] = []
        while not line.accept(")"):
            parts.append(_parse_attribute(line))
            line.accept(",")
        return tuple(parts)
    if line.kind == "string":
        return _unquoted(line.take())
    if line.kind == "number":
        return _number(line.take())
    word = line.word()
    if word not in _WORDS:
        line.fail(f"expected a value, found {word!r}")
    return _WORDS[word]


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _parse_constant(line: _Line) -> Constant:
    name, type_ = line.reference(), _parse_declared_type(line)
    line.expect("=")
    values = _parse_attribute(line)
    if not isinstance(values, tuple):
        line.fail("expected the constant's values in parentheses")
    return Constant(name, type_, tuple(value for value in values if isinstance(value, int | float)))


def _parse_declared_type(line: _Line) -> TensorType:
    line.colon()
    type_ = _parse_type(line)
    if not isinstance(type_, TensorType):
        line.fail("only a node has several results")
    return type_


def _parse_type(line: _Line) -> NodeType:
    if not line.accept("("):
        return _parse_tensor_type(line)
    parts: list[TensorType] = []
    while not line.accept(")"):
        parts.append(_parse_tensor_type(line))
        line.accept(",")
    return tuple(parts)


def _parse_tensor_type(line: _Line) -> TensorType:
    line.expect("[")
    dims: list[Dim] = []
    while not line.accept("]"):
        dims.append(int(line.take()) if line.kind == "number" else line.word())
        line.accept(",")
    return TensorType(tuple(dims), line.word())
