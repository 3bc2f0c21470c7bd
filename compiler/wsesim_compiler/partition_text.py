"""Reads the text form of a Partition: its stages, then its graph. `parse_partition(str(partition)) == partition`.

partition
stage NAME KIND from %VALUE to %VALUE
  ROLE : %NODE AXIS, %NODE AXIS, ...
graph NAME
...
"""

from __future__ import annotations

from itertools import count

from wsesim.errors import brief
from wsesim.program.parts import LAYER
from wsesim_compiler.errors import GraphSyntaxError, PartitionError
from wsesim_compiler.ir import Graph, Node, TensorType
from wsesim_compiler.line import Line
from wsesim_compiler.partition import TITLE, Fused, Partition, Stage
from wsesim_compiler.text import parse_graph


def is_partition(text: str) -> bool:
    """Whether a text begins as a Partition's does."""
    return text.split(None, 1)[:1] == [TITLE]


def parse_partition(text: str) -> Partition:
    """The Partition that a text describes, not verified.

    Raises GraphSyntaxError with the line, and PartitionError for nodes that are not the graph's.
    """
    lines = text.split("\n")
    first = next((n for n, line in enumerate(lines) if line.startswith("graph ")), None)
    if first is None:
        raise GraphSyntaxError(len(lines), "a partition ends with its graph: `graph NAME` and what follows")
    graph = parse_graph("\n" * first + "\n".join(lines[first:]))  # lines keep their numbers
    parts = _Parts(graph)
    for number, line in enumerate(lines[:first], 1):
        if line.strip():
            parts.read(Line(number, line))
    return parts.partition()


def _features(node: Node) -> int:
    width = node.shape[-1] if isinstance(node.type, TensorType) and node.shape else None
    if not isinstance(width, int):
        raise PartitionError(f"node {node.name!r} of a partition is not [T, features]")
    return width


class _Parts:
    """What has been read of a partition so far."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._tokens = graph.inputs[0].name if graph.inputs else ""
        self._stages: list[tuple[str, str, str, str]] = []
        self._fused: list[list[Fused]] = []
        self._axes: dict[str, str] = {}

    def read(self, line: Line) -> None:
        said = line.word()
        if line.kind == "end" and said == TITLE:
            return
        if said == "stage":
            self._stage(line)
        elif self._stages:
            self._kernel(said, line)
        else:
            line.fail(f"expected `stage NAME KIND from %VALUE to %VALUE`, found {brief(said)}")
        line.finish()

    def partition(self) -> Partition:
        widths = {node.name: _features(node) for node in self._graph.nodes}
        stages, layers = [], count()
        for (name, kind, source, target), fused in zip(self._stages, self._fused, strict=True):
            entering = "" if source == self._tokens else source
            stages.append(Stage(name, kind, tuple(fused), entering, target, next(layers) if kind == LAYER else None))
        return Partition(self._graph, tuple(stages), self._axes, widths)

    def _stage(self, line: Line) -> None:
        name, kind = line.word(), line.word()
        ends = []
        for keyword in ("from", "to"):
            if line.word() != keyword:
                line.fail(f"expected {keyword!r} and a value")
            ends.append(line.reference())
        self._stages.append((name, kind, ends[0], ends[1]))
        self._fused.append([])

    def _kernel(self, role: str, line: Line) -> None:
        line.colon()
        nodes: list[Node] = []
        while not nodes or line.accept(","):
            name = line.reference()
            if name not in self._nodes:
                raise PartitionError(f"line {line.number}: %{name} is no node of graph {self._graph.name}")
            nodes.append(self._nodes[name])
            self._axes[name] = line.word()
        self._fused[-1].append(Fused(role, tuple(nodes)))
