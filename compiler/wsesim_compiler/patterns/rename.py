"""Rename: an order and names that do not depend on the exporter, so that equal models have equal texts."""

from __future__ import annotations

import dataclasses

from wsesim_compiler.ir import Constant, Graph, Node, Value


def renamed(graph: Graph, name: str = "tokens") -> Graph:
    """The graph in an order and with names that do not depend on the exporter.

    Nodes: operands before their node, in operand order, from the output down; names are the operator's and
    a count. The residual, which the other summand depends on, comes first in `add`. The input is `name`.
    """
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    made = {node.name: _residual_first(node, order) for node in graph.nodes}
    ordered = _depth_first(graph.outputs, made)
    names = {graph.inputs[0].name: name} | _counted_names(ordered) | _constant_names(graph, ordered)
    used = dict.fromkeys(n for node in ordered for n in node.inputs)
    parameters = {parameter.name: parameter for parameter in graph.parameters}
    constants = {constant.name: constant for constant in graph.constants}
    return Graph(
        graph.name,
        (Value(name, graph.inputs[0].type),),
        tuple(parameters[n] for n in used if n in parameters),
        tuple(Constant(names[n], constants[n].type, constants[n].values) for n in used if n in constants),
        tuple(_with_names(node, names) for node in ordered),
        tuple(names[n] for n in graph.outputs),
    )


def _with_names(node: Node, names: dict[str, str]) -> Node:
    return dataclasses.replace(node, name=names[node.name], inputs=tuple(names.get(n, n) for n in node.inputs))


def _residual_first(node: Node, order: dict[str, int]) -> Node:
    if node.op != "add":
        return node
    return dataclasses.replace(node, inputs=tuple(sorted(node.inputs, key=lambda name: order.get(name, -1))))


def _depth_first(outputs: tuple[str, ...], made: dict[str, Node]) -> list[Node]:
    done: dict[str, Node] = {}
    pending = [(name, False) for name in reversed(outputs)]
    while pending:
        name, operands_done = pending.pop()
        node = made.get(name)
        if node is None or name in done:
            continue
        if operands_done:
            done[name] = node
        else:
            pending.append((name, True))
            pending += [(operand, False) for operand in reversed(node.inputs)]
    return list(done.values())


def _counted_names(ordered: list[Node]) -> dict[str, str]:
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for node in ordered:
        count = counts[node.op] = counts.get(node.op, -1) + 1
        names[node.name] = f"{node.op}_{count}"
    return names


def _constant_names(graph: Graph, ordered: list[Node]) -> dict[str, str]:
    read = {name for node in ordered for name in node.inputs}
    kept = [constant.name for constant in graph.constants if constant.name in read]
    return {name: "inv_freq" if not index else f"inv_freq_{index}" for index, name in enumerate(kept)}
