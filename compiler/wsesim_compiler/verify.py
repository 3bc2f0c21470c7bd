"""The rules of a Graph, as a table: what every stage must satisfy, and what the later stages add."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, get_type_hints

from wsesim.errors import brief
from wsesim.machine.fields import is_a, shown
from wsesim_compiler.errors import GraphVerificationError, ShapeError
from wsesim_compiler.ir import TOKENS, Graph, Node, Shape, TensorType
from wsesim_compiler.operators.operator import CANONICAL, RAW, RECOGNIZED
from wsesim_compiler.ops import OPERATORS, infer_shape, vocabulary


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a rule does not hold."""

    name: str
    source: str
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and the stages that it is for; `breaches(graph, stage)` may rely on all earlier rules."""

    name: str
    stages: tuple[str, ...]
    breaches: Callable[[Graph, str], Iterator[Breach]]


def verify(graph: Graph, stage: str) -> None:
    """Raise GraphVerificationError at the first broken rule of the stage (raw, canonical, recognized)."""
    for rule in RULES:
        if stage in rule.stages:
            for breach in rule.breaches(graph, stage):
                raise GraphVerificationError(graph.name, stage, rule.name, breach.name, breach.source, breach.message)


def _at(node: Node, message: str) -> Breach:
    return Breach(node.name, node.source, message)


def _unique_names(graph: Graph, stage: str) -> Iterator[Breach]:
    seen: set[str] = set()
    for definition in graph.definitions():
        if definition.name in seen:
            yield Breach(definition.name, getattr(definition, "source", ""), "is defined twice")
        seen.add(definition.name)


def _defined_before_use(graph: Graph, stage: str) -> Iterator[Breach]:
    defined = {definition.name for definition in graph.definitions()} - set(graph.producers())
    for node in graph.nodes:
        for name in node.inputs:
            if name not in defined:
                yield _at(node, f"reads {name!r}, which is not defined before it")
        defined.add(node.name)


def _outputs_exist(graph: Graph, stage: str) -> Iterator[Breach]:
    known = {definition.name for definition in graph.definitions()}
    if not graph.outputs:
        yield Breach(graph.name, "", "has no output")
    for name in graph.outputs:
        if name not in known:
            yield Breach(name, "", "is an output that is not defined")


def _constants_filled(graph: Graph, stage: str) -> Iterator[Breach]:
    for constant in graph.constants:
        shape = constant.type.shape
        sizes = [dim for dim in shape if isinstance(dim, int)]
        if len(sizes) < len(shape) or prod(sizes) != len(constant.values):
            yield Breach(constant.name, "", f"holds {len(constant.values)} values for {list(shape)}")


def _known_operators(graph: Graph, stage: str) -> Iterator[Breach]:
    known = vocabulary(stage)
    for node in graph.nodes:
        if node.op not in known:
            there = "an operator of another stage" if node.op in OPERATORS else "not an operator"
            yield _at(node, f"{node.op!r} is {there}")


def _operand_counts(graph: Graph, stage: str) -> Iterator[Breach]:
    for node in graph.nodes:
        operator = OPERATORS[node.op]
        if not operator.least <= len(node.inputs) <= operator.most:
            yield _at(node, f"{node.op} of {len(node.inputs)} operands, not {operator.least} to {operator.most}")


def _known_attributes(graph: Graph, stage: str) -> Iterator[Breach]:
    for node in graph.nodes:
        names = [name for name, _ in node.attributes]
        if names != sorted(set(names)):
            yield _at(node, f"attributes {', '.join(names)} are not sorted and unique")
        for name in set(names) - OPERATORS[node.op].attributes:
            yield _at(node, f"{node.op} has no attribute {name!r}")


def _attributes_typed(graph: Graph, stage: str) -> Iterator[Breach]:
    """The parameters of the operator's shape rule say the types."""
    for node in graph.nodes:
        types = _attribute_types(node.op)
        for name, value in node.attributes:
            if not is_a(value, types[name]):
                yield _at(node, f"{name} is {brief(value)}, not of type {shown(types[name])}")


@cache
def _attribute_types(op: str) -> dict[str, Any]:
    return get_type_hints(OPERATORS[op].shape)


def _shapes_agree(graph: Graph, stage: str) -> Iterator[Breach]:
    types = graph.types()
    for node in graph.nodes:
        try:
            inferred = infer_shape(node.op, [types[name] for name in node.inputs], node.attributes)
        except ShapeError as error:
            yield _at(node, str(error))
            continue
        declared = node.type.shape if isinstance(node.type, TensorType) else [t.shape for t in node.type]
        if inferred != declared:
            yield _at(node, f"{node.op} makes {_shown(inferred)}, declared {_shown(declared)}")


def _shown(shape: Shape | list[Shape]) -> str:
    return str([list(part) for part in shape] if isinstance(shape, list) else list(shape))


def _parameters_used(graph: Graph, stage: str) -> Iterator[Breach]:
    users = graph.users()
    for name in [*(p.name for p in graph.parameters), *(c.name for c in graph.constants)]:
        if not users[name] and name not in graph.outputs:
            yield Breach(name, "", "is used by no node")


def _nothing_dead(graph: Graph, stage: str) -> Iterator[Breach]:
    live = set(graph.live().producers())
    for node in graph.nodes:
        if node.name not in live:
            yield _at(node, "no output depends on it")


def _rows_of_features(graph: Graph, stage: str) -> Iterator[Breach]:
    for value in graph.inputs:
        if value.type.shape != (TOKENS,):
            yield Breach(value.name, "", f"the tokens are {list(value.type.shape)}, not [{TOKENS}]")
    for node in graph.nodes:
        shape = node.shape
        if len(shape) != 2 or shape[0] != TOKENS or not isinstance(shape[1], int):
            yield _at(node, f"is {list(shape)}, not [{TOKENS}, features]")


def _weights_from_parameters(graph: Graph, stage: str) -> Iterator[Breach]:
    """All operands but the first are parameters in weighted operators, constants in rope, else values."""
    kinds = {parameter.name: "parameter" for parameter in graph.parameters}
    kinds |= {constant.name: "constant" for constant in graph.constants}
    second = {**dict.fromkeys(("embedding", "rmsnorm", "qk_norm", "linear", "head"), "parameter"), "rope": "constant"}
    for node in graph.nodes:
        for index, name in enumerate(node.inputs):
            expected, found = second.get(node.op, "value") if index else "value", kinds.get(name, "value")
            if expected != found:
                yield _at(node, f"operand {index} of {node.op} is the {found} {name!r}, not a {expected}")


def _adds_two_values(graph: Graph, stage: str) -> Iterator[Breach]:
    types = graph.types()
    for node in graph.nodes:
        if node.op == "add" and (len(node.inputs) != 2 or len({types[name] for name in node.inputs}) != 1):
            yield _at(node, "add is not of two values of one type")


def _one_head(graph: Graph, stage: str) -> Iterator[Breach]:
    heads = [node.name for node in graph.nodes if node.op == "head"]
    if list(graph.outputs) != heads:
        yield Breach(graph.name, "", f"outputs {list(graph.outputs)} are not the one head ({heads})")


_ALL = (RAW, CANONICAL, RECOGNIZED)
RULES: tuple[Rule, ...] = (
    Rule("names are unique", _ALL, _unique_names),
    Rule("values are defined before use", _ALL, _defined_before_use),
    Rule("outputs are defined", _ALL, _outputs_exist),
    Rule("constants hold as many values as their shape", _ALL, _constants_filled),
    Rule("operators belong to the stage", _ALL, _known_operators),
    Rule("operand counts fit", _ALL, _operand_counts),
    Rule("attributes are known", _ALL, _known_attributes),
    Rule("attributes have their types", (RECOGNIZED,), _attributes_typed),
    Rule("types agree with the shape rules", _ALL, _shapes_agree),
    Rule("parameters and constants are used", _ALL, _parameters_used),
    Rule("every node is used", (CANONICAL, RECOGNIZED), _nothing_dead),
    Rule("values are rows of features", (RECOGNIZED,), _rows_of_features),
    Rule("weights are parameters", (RECOGNIZED,), _weights_from_parameters),
    Rule("add takes two values", (RECOGNIZED,), _adds_two_values),
    Rule("the output is the head", (RECOGNIZED,), _one_head),
)
