"""Partition: the Graph cut into stages, each value with the axis that it is split over.

Partition  graph, stages
Stage      name, kind (embed | layer | head), fused
Fused      role, nodes                       nodes that become one kernel: linears of the same source, or one node
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wsesim_compiler.ir import Graph, Node


@dataclass(frozen=True, slots=True)
class Fused:
    """Nodes that become one kernel (attention: one role, three kernels)."""

    role: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What stays together on one block: the embedding, one layer, or the head."""

    name: str
    kind: str
    fused: tuple[Fused, ...]
    source: str  # value of the residual stream that enters; "" for embed
    target: str  # value that leaves


@dataclass(frozen=True, slots=True)
class Partition:
    """The stages of a recognised graph in order; axis and length of each value."""

    graph: Graph
    stages: tuple[Stage, ...]
    axes: Mapping[str, str]
    widths: Mapping[str, int]

    @property
    def layers(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.kind == "layer")

    @property
    def tied(self) -> bool:
        """Whether the head multiplies with the embedding's own table."""
        return self.stages[0].fused[0].nodes[0].inputs[1] == self.stages[-1].fused[-1].nodes[0].inputs[1]

    def __str__(self) -> str:
        from wsesim_compiler.partition_text import print_partition  # which needs the classes above

        return print_partition(self)
