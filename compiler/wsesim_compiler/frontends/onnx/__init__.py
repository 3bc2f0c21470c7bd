"""ONNX file -> raw Graph, and its own tensors as a WeightStore.

What changes on the way: what depends on nothing but the number of tokens (shapes, positions, masks, angles) is
computed and written again as plain operators; the batch is one sequence; explicit caches go; packed projections and
fused operators come apart; the head shares the embedding's weight where their values are the same. Weights keep the
file's names. None is read but RoPE's frequencies or tables, and the head's and the embedding's if they may be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsesim_compiler.errors import OnnxFileError
from wsesim_compiler.frontends.onnx.file import open_onnx
from wsesim_compiler.frontends.onnx.reader import Reader
from wsesim_compiler.frontends.onnx.rope_source import RopeSource
from wsesim_compiler.frontends.onnx.weights import OnnxWeights, WeightView, equal_values
from wsesim_compiler.ir import Graph, with_inputs
from wsesim_compiler.verify import verify


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """The raw graph of a file, and its weights by the graph's names."""

    graph: Graph
    weights: OnnxWeights


def from_onnx(path: str | Path, rope_theta: float | None = None) -> OnnxModel:
    """The model of an ONNX file: a causal language model from tokens [1, T] or [T] to logits.

    T is dynamic, or 1 in a file with past keys and values. `rope_theta` is RoPE's base for a file whose external data
    is absent; without it a config.json beside the file tells RoPE's parameters. Raises OnnxFileError, or
    UnsupportedOperatorError with all operators that are not read.
    """
    rope = RopeSource(Path(path), rope_theta)
    reader = Reader(open_onnx(path), rope)
    graph = _tied(reader.read(), reader.build.views)
    if rope_theta is not None and not rope.used:
        raise OnnxFileError(path, "its own RoPE frequencies are there, so it takes no `rope_theta`")
    verify(graph, "raw")
    return OnnxModel(graph, OnnxWeights({p.name: reader.build.views[p.name] for p in graph.parameters}))


def _tied(graph: Graph, views: dict[str, WeightView]) -> Graph:
    """The graph with one weight for an embedding and a linear of the same values, which exporters store twice."""
    tables = {node.inputs[1] for node in graph.nodes if node.op == "embedding"} & set(views)
    weights = {node.inputs[1] for node in graph.nodes if node.op == "linear"} & set(views) - tables
    pairs = ((weight, table) for weight in weights for table in tables)
    same = {weight: table for weight, table in pairs if equal_values(views[table], views[weight])}
    nodes = tuple(with_inputs(node, (same.get(name, name) for name in node.inputs)) for node in graph.nodes)
    return graph.replace(nodes=nodes).live()
