"""One stage on one block: the kernels, with every layout fixed by the block's shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from wsesim.program.kernels import (
    ALONG,
    Add,
    Embed,
    FlashSum,
    Kernel,
    Linear,
    Output,
    QKNorm,
    RMSNorm,
    Rope,
    Sample,
    Score,
    Softmax,
    SwiGLU,
    WeightedSum,
    WeightRef,
)
from wsesim.program.kv import KVCache
from wsesim.program.layout import Heads, Layout, Uniform
from wsesim.program.parts import Block
from wsesim_compiler.ir import Graph, Node
from wsesim_compiler.options import FUSED, ByPhase, Options
from wsesim_compiler.partition import Fused, Partition, Stage

ChooseReduce = Callable[[str], ByPhase]
"""Kernel's name -> its collectives."""


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage's kernels are made from."""

    partition: Partition
    stage: Stage
    block: Block
    layouts: dict[str, Layout]
    options: Options
    choose: ChooseReduce

    def extent(self, axis: str) -> int:
        return self.block.along if axis == ALONG else self.block.across

    def layout(self, value: str) -> Layout:
        """Heads for what attention touches, uniform for the rest."""
        if value not in self.layouts:
            self.layouts[value] = Uniform(self.partition.widths[value], self.extent(self.partition.axes[value]))
        return self.layouts[value]

    def uniform(self, value: str) -> Uniform:
        layout = self.layout(value)
        assert isinstance(layout, Uniform), value
        return layout

    def name(self, role: str) -> str:
        return f"{self.stage.name}.{role}"

    @property
    def graph(self) -> Graph:
        return self.partition.graph


def stage_kernels(
    partition: Partition, stage: Stage, block: Block, options: Options, choose: ChooseReduce
) -> tuple[Kernel, ...]:
    """The kernels of `stage` on `block`, in dependency order."""
    context = StageContext(partition, stage, block, _head_layouts(stage, block), options, choose)
    return tuple(k for fused in stage.fused for k in _MAKERS[fused.nodes[0].op](context, fused))


def _head_layouts(stage: Stage, block: Block) -> dict[str, Layout]:
    """Layouts of what goes into and comes out of attention, back through rotations and norms of heads."""
    nodes = {n.name: n for f in stage.fused for n in f.nodes}
    layouts: dict[str, Layout] = {}
    for node in nodes.values():
        if node.op != "attention":
            continue
        query, key, value = node.inputs[:3]
        pairing = next((p for name in (query, key) if (p := _pairing(nodes, name))), "half")
        groups, head_dim = node.integer("kv_heads"), node.integer("head_dim")
        repeat = node.integer("heads") // groups
        queries = Heads(groups, repeat, head_dim, block.across, pairing)
        keys = Heads(groups, 1, head_dim, block.across, pairing)
        layouts |= {query: queries, node.name: queries, key: keys, value: keys}
    for node in reversed(nodes.values()):
        if node.op in ("rope", "qk_norm"):
            layouts[node.inputs[0]] = layouts[node.name]
    return layouts


def _pairing(nodes: dict[str, Node], name: str) -> str:
    """How the rotation on the way to a query or key pairs its features, "" without one."""
    while (node := nodes[name]).op == "qk_norm":
        name = node.inputs[0]
    return str(node.attribute("pairing")) if node.op == "rope" else ""


def _embed(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    node = fused.nodes[0]
    vocabulary = _rows(c.graph, node.inputs[1])
    table = WeightRef(node.inputs[1], 0, vocabulary)
    split = Uniform(vocabulary, c.block.across)
    return (Embed(c.name(fused.role), c.block.name, node.name, table, split, c.uniform(node.name)),)


def _rmsnorm(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    node = fused.nodes[0]
    name, layout = c.name(fused.role), c.uniform(node.inputs[0])
    weight = WeightRef(node.inputs[1], 0, layout.size)
    c.layouts[node.name] = layout
    chosen, eps = c.choose(name), node.number("eps")
    reduce = (chosen.decode, chosen.differing)
    return (RMSNorm(name, c.block.name, node.inputs[0], node.name, weight, layout, eps, *reduce),)


def _linear(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    source = fused.nodes[0].inputs[0]
    return (_gemv(c, fused, source, broadcast=True),)


def _gemv(c: StageContext, fused: Fused, source: str, *, broadcast: bool) -> Linear:
    name, layout = c.name(fused.role), c.layout(source)
    outputs = tuple(_output(c, node) for node in fused.nodes)
    chosen = c.choose(name)
    prefill = chosen.differing if broadcast else ""
    return Linear(
        name, c.block.name, source, layout, c.partition.axes[source], outputs, chosen.decode, broadcast, prefill
    )


def _output(c: StageContext, node: Node) -> Output:
    given, layout = dict(node.attributes), c.layout(node.name)
    start = node.integer("start") if "start" in given else 0
    weight = WeightRef(node.inputs[1], start, start + layout.size, bool(given.get("transpose", False)))
    bias = WeightRef(node.inputs[2], start, start + layout.size) if len(node.inputs) > 2 else None
    return Output(node.name, weight, layout, bias)


def _qk_norm(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    name, heads = c.name(fused.role), _heads_of(c, fused)
    sources, targets = _sources_and_targets(fused)
    weights = tuple(WeightRef(n.inputs[1], 0, layout.head_dim) for n, layout in zip(fused.nodes, heads, strict=True))
    eps = tuple(n.number("eps") for n in fused.nodes)
    chosen = c.choose(name)
    return (QKNorm(name, c.block.name, sources, targets, heads, weights, eps, chosen.decode, chosen.differing),)


def _rope(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    inv_freq = tuple(float(v) for v in c.graph.constant(fused.nodes[0].inputs[1]).values)
    return (Rope(c.name(fused.role), c.block.name, *_sources_and_targets(fused), _heads_of(c, fused), inv_freq),)


def _sources_and_targets(fused: Fused) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(n.inputs[0] for n in fused.nodes), tuple(n.name for n in fused.nodes)


def _heads_of(c: StageContext, fused: Fused) -> tuple[Heads, ...]:
    return tuple(layout for n in fused.nodes if isinstance(layout := c.layout(n.name), Heads))


def _attention(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    node = fused.nodes[0]
    query, key, value = node.inputs[:3]
    block = c.block.name
    queries, keys = c.layout(query), c.layout(key)
    assert isinstance(queries, Heads) and isinstance(keys, Heads)
    scores, score = f"{node.name}.scores", c.name("score")
    window = node.attribute("window")
    cache = dataclasses.replace(c.options.cache, window=window if isinstance(window, int) else None)

    def how(name: str) -> tuple[str, KVCache, str]:
        chosen = c.choose(name)
        return chosen.decode, cache, chosen.differing

    first = Score(score, block, query, key, scores, queries, keys, node.number("scale"), *how(score))
    if c.options.softmax == FUSED:
        flash = c.name("flash_sum")
        return (first, FlashSum(flash, block, scores, value, node.name, queries, keys, *how(flash)))
    shares, softmax, total = f"{node.name}.probabilities", c.name("softmax"), c.name("weighted_sum")
    return (
        first,
        Softmax(softmax, block, scores, shares, queries, *how(softmax)),
        WeightedSum(total, block, shares, value, node.name, queries, keys, *how(total)),
    )


def _swiglu(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    node = fused.nodes[0]
    gate, up = node.inputs
    return (SwiGLU(c.name(fused.role), c.block.name, gate, up, node.name, c.uniform(node.name)),)


def _add(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    node = fused.nodes[0]
    left, right = node.inputs
    return (Add(c.name(fused.role), c.block.name, left, right, node.name, c.uniform(node.name)),)


def _head(c: StageContext, fused: Fused) -> tuple[Kernel, ...]:
    node = fused.nodes[0]
    logits = _gemv(c, fused, node.inputs[0], broadcast=False)
    layout = logits.outputs[0].layout
    assert isinstance(layout, Uniform)
    kept = min(c.options.candidates, layout.size)
    name = c.name("sample")
    return (logits, Sample(name, c.block.name, node.name, "token", layout, kept, c.choose(name).decode))


def _rows(graph: Graph, parameter: str) -> int:
    return int(graph.parameter(parameter).type.shape[0])


_MAKERS: dict[str, Callable[[StageContext, Fused], tuple[Kernel, ...]]] = {
    "embedding": _embed,
    "rmsnorm": _rmsnorm,
    "linear": _linear,
    "qk_norm": _qk_norm,
    "rope": _rope,
    "attention": _attention,
    "swiglu": _swiglu,
    "add": _add,
    "head": _head,
}
