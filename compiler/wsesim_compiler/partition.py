"""Partition: the Graph cut into stages, each value with the axis that it is split over.

Partition  graph, stages
Stage      name, kind, layer, fused           kind: embed, layer, head; of a layer's halves: attention, ffn
Fused      role, nodes                       nodes that become one kernel: linears of the same source, or one node
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from wsesim.program.parts import ATTENTION, FFN, LAYER
from wsesim.tables import Table
from wsesim_compiler.ir import Graph, Node
from wsesim_compiler.line import word

TITLE = "partition"
"""The first line of a Partition's text."""


@dataclass(frozen=True, slots=True)
class Fused:
    """Nodes that become one kernel (attention: one role, three kernels)."""

    role: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What stays together on one block: the embedding, one layer or its attention or FFN half, or the head."""

    name: str
    kind: str
    fused: tuple[Fused, ...]
    source: str  # value of the residual stream that enters; "" for embed
    target: str  # value that leaves
    layer: int | None = None  # number of the layer, from 0

    @property
    def halves(self) -> tuple[Stage, ...]:
        """Attention and FFN of a layer, cut behind the first add to the residual stream; () for what has no two."""
        first = next((n for n, fused in enumerate(self.fused, start=1) if fused.nodes[0].op == "add"), 0)
        if self.kind != LAYER or first in (0, len(self.fused)):
            return ()
        middle = self.fused[first - 1].nodes[0].name
        attention = Stage(f"{self.name}_attn", ATTENTION, self.fused[:first], self.source, middle, self.layer)
        return attention, Stage(f"{self.name}_ffn", FFN, self.fused[first:], middle, self.target, self.layer)


@dataclass(frozen=True, slots=True)
class Partition:
    """The stages of a recognised graph in order; axis and length of each value."""

    graph: Graph
    stages: tuple[Stage, ...]
    axes: Mapping[str, str]
    widths: Mapping[str, int]

    @property
    def layers(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.kind == LAYER)

    @property
    def tied(self) -> bool:
        """Whether the head multiplies with the embedding's own table."""
        return self.stages[0].fused[0].nodes[0].inputs[1] == self.stages[-1].fused[-1].nodes[0].inputs[1]

    def cut(self, names: Collection[str]) -> Partition:
        """With the halves of those layers of which `names` has one as stages of their own."""
        stages = (s.halves if any(half.name in names for half in s.halves) else (s,) for s in self.stages)
        return dataclasses.replace(self, stages=tuple(stage for group in stages for stage in group))

    def __repr__(self) -> str:
        return f"<Partition of {self.graph.name}: {len(self.stages)} stages>"

    def _repr_html_(self) -> str:
        rows = [("stage", "kind", "kernels"), *((s.name, s.kind, str(len(s.fused))) for s in self.stages)]
        return Table(repr(self)[1:-1], tuple(rows), heading=True).html()

    def __str__(self) -> str:
        """The text form. `tokens`, the model's input, stands for what enters the embedding."""
        tokens = self.graph.inputs[0].name
        lines = [TITLE]
        for stage in self.stages:
            entering = word(stage.source or tokens)
            lines.append(f"stage {word(stage.name)} {stage.kind} from %{entering} to %{word(stage.target)}")
            for fused in stage.fused:
                made = ", ".join(f"%{word(node.name)} {self.axes[node.name]}" for node in fused.nodes)
                lines.append(f"  {word(fused.role)} : {made}")
        return "\n".join(lines) + "\n" + str(self.graph)
