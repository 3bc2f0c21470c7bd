"""Names of a recognised graph's weights by what they do, as transformers' Llama calls them.

An exporter may fold a weight's transpose and lose its name (`val_127`); what reads it tells which one it is:
`model.layers.0.self_attn.q_proj.weight` is the linear that makes the queries of the first attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from wsesim_compiler.ir import Graph, Node, with_inputs


def roles(graph: Graph) -> dict[str, str]:
    """Name by role of each parameter of a recognised graph, in the graph's order; its own name where it has no role."""
    found: dict[str, str] = {}
    for name, role in _roles(graph):
        if role not in found.values():
            found.setdefault(name, role)
    taken = set(found.values())
    return {p.name: found.get(p.name) or _free(p.name, taken) for p in graph.parameters}


def named_by_role(graph: Graph) -> Graph:
    """The recognised graph with its parameters named by role."""
    names = roles(graph)
    parameters = tuple(dataclasses.replace(p, name=names[p.name]) for p in graph.parameters)
    nodes = tuple(with_inputs(node, (names.get(name, name) for name in node.inputs)) for node in graph.nodes)
    return graph.replace(parameters=parameters, nodes=nodes)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"{name}.file"
    taken.add(name)
    return name


def _roles(graph: Graph) -> Iterator[tuple[str, str]]:
    made, users = graph.producers(), graph.users()
    yield from ((node.inputs[1], "model.embed_tokens.weight") for node in graph.nodes if node.op == "embedding")
    for index, node in enumerate(node for node in graph.nodes if node.op == "attention"):
        yield from _attention(f"model.layers.{index}", node, made, users)
    for index, node in enumerate(node for node in graph.nodes if node.op == "swiglu"):
        yield from _mlp(f"model.layers.{index}", node, made, users)
    head = made[graph.outputs[0]]
    yield from _norm("model.norm", made.get(head.inputs[0]))
    yield head.inputs[1], "lm_head.weight"


def _attention(
    layer: str, attention: Node, made: dict[str, Node], users: dict[str, tuple[Node, ...]]
) -> Iterator[tuple[str, str]]:
    for part, name in zip("qkv", attention.inputs, strict=True):
        node = made.get(name)
        while node is not None and node.op in ("rope", "qk_norm"):
            if node.op == "qk_norm":
                yield node.inputs[1], f"{layer}.self_attn.{part}_norm.weight"
            node = made.get(node.inputs[0])
        yield from _linear(f"{layer}.self_attn.{part}_proj", node)
        yield from _norm(f"{layer}.input_layernorm", made.get(node.inputs[0]) if node else None)
    for user in users[attention.name]:
        yield from _linear(f"{layer}.self_attn.o_proj", user)


def _mlp(
    layer: str, swiglu: Node, made: dict[str, Node], users: dict[str, tuple[Node, ...]]
) -> Iterator[tuple[str, str]]:
    for part, name in zip(("gate", "up"), swiglu.inputs, strict=True):
        node = made.get(name)
        yield from _linear(f"{layer}.mlp.{part}_proj", node)
        yield from _norm(f"{layer}.post_attention_layernorm", made.get(node.inputs[0]) if node else None)
    for user in users[swiglu.name]:
        yield from _linear(f"{layer}.mlp.down_proj", user)


def _linear(module: str, node: Node | None) -> Iterator[tuple[str, str]]:
    if node is not None and node.op == "linear":
        yield from zip(node.inputs[1:], (f"{module}.weight", f"{module}.bias"), strict=False)


def _norm(module: str, node: Node | None) -> Iterator[tuple[str, str]]:
    if node is not None and node.op == "rmsnorm":
        yield node.inputs[1], f"{module}.weight"
