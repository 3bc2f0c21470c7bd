"""Attention with its norms of heads and RoPE: projections -> qk_norm, rope, attention on rows of features
[.., T, heads * head_dim].
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from wsesim_compiler.errors import Unsupported
from wsesim_compiler.ir import Constant, Graph, Node, TensorType, attributes
from wsesim_compiler.patterns.heads import HEAD_OPS, FoundHeads, find_heads
from wsesim_compiler.patterns.masks import NotAttentionError
from wsesim_compiler.patterns.matching import PROBE_TOKENS, Matcher
from wsesim_compiler.patterns.scores import SCORE_OPS, Core, find_core


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Attention that was seen and not taken: why, and the nodes that belong to it."""

    unsupported: Unsupported
    covered: frozenset[str]


def recognize_attention(graph: Graph) -> tuple[Graph, tuple[Refused, ...]]:
    """The graph with each causal attention, its norms of heads and RoPE as `qk_norm`, `rope` and `attention`; and
    what was refused.
    """
    matcher = Matcher(graph)
    made: dict[str, list[Node]] = {}
    refused: list[Refused] = []
    frequencies = _Frequencies(matcher)
    for node in graph.nodes:
        try:
            core = find_core(matcher, node)
            if core is not None:
                nodes = _attention(matcher, core, frequencies)
                made[nodes[-1].name] = nodes
        except NotAttentionError as error:
            unsupported = Unsupported(node.op, node.source, str(error))
            refused.append(Refused(unsupported, _around(matcher, node)))
    nodes = [new for node in graph.nodes for new in made.get(node.name, [node])]
    constants = (*graph.constants, *frequencies.added)
    return graph.replace(nodes=tuple(nodes), constants=constants).live(), tuple(refused)


def _around(matcher: Matcher, node: Node) -> frozenset[str]:
    """The nodes between the projections before an attention and the one after it."""
    region, _ = matcher.region([node.name], {node.op, "matmul", "rmsnorm", *SCORE_OPS, *HEAD_OPS})
    names = {inner.name for inner in region}
    after = matcher.only_user(node.name)
    while after is not None and after.op in ("matmul", "reshape", "permute"):
        names |= {
            inner.name
            for inner in matcher.region([after.name], {node.op, "matmul", "rmsnorm", *SCORE_OPS, *HEAD_OPS})[0]
        }
        after = matcher.only_user(after.name)
    return frozenset(names)


class _Frequencies:
    """Constants of RoPE frequencies, one for all rotations with the same values."""

    def __init__(self, matcher: Matcher) -> None:
        lines = [constant for constant in matcher.constants.values() if len(constant.type.shape) == 1]
        self.names = {constant.values: constant.name for constant in lines}
        self.taken = set(matcher.types)
        self.added: list[Constant] = []

    def name(self, values: tuple[float, ...]) -> str:
        for known, name in self.names.items():
            if len(known) == len(values) and np.allclose(known, values, rtol=1e-8, atol=0):
                return name
        name = next(n for i in range(len(self.taken) + 1) if (n := f"inv_freq.{i}") not in self.taken)
        self.added.append(Constant(name, TensorType((len(values),), "f32"), values))
        self.names[values] = name
        self.taken.add(name)
        return name


def _attention(matcher: Matcher, core: Core, frequencies: _Frequencies) -> list[Node]:
    q, k, v = _all_heads(matcher, core)
    end = _merged(matcher, core.root, q.heads, v.head_dim)
    made = dataclasses.replace(end, source=core.root.source)
    before = [_before(matcher, made, heads, part, frequencies) for heads, part in ((q, "q"), (k, "k"))]
    inputs = [nodes[-1].name if nodes else heads.source for nodes, heads in zip(before, (q, k), strict=True)]
    scale = _exact_scale(core.scale * q.scale * k.scale, q.head_dim)
    window = {} if core.window is None else {"window": core.window}
    shape = attributes(heads=q.heads, kv_heads=k.heads, head_dim=q.head_dim, scale=scale, **window)
    attention = dataclasses.replace(made, op="attention", inputs=(*inputs, v.source), attributes=shape)
    return [*before[0], *before[1], attention]


def _all_heads(matcher: Matcher, core: Core) -> tuple[FoundHeads, FoundHeads, FoundHeads]:
    q, v = find_heads(matcher, core.q), find_heads(matcher, core.v)
    k = find_heads(matcher, core.k, core.transposed_keys)
    if v.rope is not None or v.norm is not None or not np.isclose(v.scale, 1):
        raise NotAttentionError("its values are normed, rotated or scaled")
    if (k.heads, k.head_dim) != (v.heads, v.head_dim) or k.head_dim != q.head_dim:
        raise NotAttentionError("its queries, keys and values differ in head size or number")
    return q, k, v


def _exact_scale(scale: float, head_dim: int) -> float:
    """The usual scale where a factor measured on random numbers is equal to it up to rounding."""
    usual = 1 / math.sqrt(head_dim)
    return usual if math.isclose(scale, usual, rel_tol=1e-6) else float(f"{scale:.12g}")


def _before(matcher: Matcher, attention: Node, heads: FoundHeads, part: str, frequencies: _Frequencies) -> list[Node]:
    """What makes queries or keys from their projection: the norm of each head, then the rotation, as far as there."""
    nodes, type_ = [], matcher.made[heads.source].type
    if heads.norm is not None:
        read = (heads.source, heads.norm.weight)
        shape = attributes(heads=heads.heads, head_dim=heads.head_dim, eps=heads.norm.eps)
        nodes.append(Node(f"{attention.name}.{part}.norm", "qk_norm", read, shape, type_, heads.norm.source))
    if heads.rope is not None:
        read = (nodes[-1].name if nodes else heads.source, frequencies.name(heads.rope.inv_freq))
        shape = attributes(heads=heads.heads, head_dim=heads.head_dim, pairing=heads.rope.pairing)
        nodes.append(Node(f"{attention.name}.{part}", "rope", read, shape, type_, attention.source))
    return nodes


def _merged(matcher: Matcher, root: Node, heads: int, head_dim: int) -> Node:
    """The node after the core at which the heads are side by side: [.., T, heads * head_dim]."""
    probe = np.arange(PROBE_TOKENS * heads * head_dim).reshape(heads, PROBE_TOKENS, head_dim)
    merged = probe.swapaxes(0, 1).reshape(PROBE_TOKENS, heads * head_dim)
    sizes = [PROBE_TOKENS if dim == "T" else int(dim) for dim in root.shape]
    region: list[Node] = []
    end = root
    value = probe.reshape(sizes)
    while value.shape[-2:] != merged.shape or not np.array_equal(value.reshape(merged.shape), merged):
        after = matcher.only_user(end.name)
        if after is None or after.op not in ("reshape", "permute"):
            raise NotAttentionError("its heads are not merged into rows of features")
        region, end = [*region, after], after
        value = matcher.evaluate(end.name, region, {root.name: probe.reshape(sizes)}, PROBE_TOKENS)
    return end
