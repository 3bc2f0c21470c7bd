"""route: Placement -> Placement with transfers, the feedback, and a colour for everything that moves.

Contract: consecutive stages on different blocks are joined by one transfer; kinds of collectives of a block share one
set of colours (a PE's input queues hold one kind at a time, the engine reroutes in turn); transfers whose rectangles
meet take different colours. Raises PlacementError when colours run out.
"""

from __future__ import annotations

import dataclasses
from itertools import combinations, pairwise

import networkx as nx

from wsesim.machine import Rect
from wsesim.program.layout import Uniform
from wsesim.program.program import Block, ColourUse, Feedback, Transfer
from wsesim.program.routes import colours_needed, transfer_kind
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.partition import Stage
from wsesim_compiler.placement import Placement

COLLECTIVE_COLOURS = (0, 1, 2, 3, 4)  # two for each phase's alternating chain, one for the broadcast
EMBED_COLOURS = (5, 6)  # the id along the entry row and the columns; the rows of the table
KINDS = ("along", "across", "segment")


def route(placement: Placement) -> Placement:
    """Transfers between the stages' blocks, coloured."""
    hops = [
        _uncoloured(placement, before, after)
        for before, after in pairwise(placement.partition.stages)
        if placement.block_of(before.name) != placement.block_of(after.name)
    ]
    stages = placement.partition.stages
    ends = placement.block_of(stages[-1].name), placement.block_of(stages[0].name)
    colours = _colouring(placement, hops, ends)
    transfers = tuple(dataclasses.replace(t, colours=colours[t.name]) for t in hops)
    feedback = Feedback(ends[0].name, ends[1].name, colours["feedback"])
    uses = tuple(ColourUse(p.block.name, kind, COLLECTIVE_COLOURS) for p in placement.blocks for kind in KINDS)
    uses += (ColourUse(ends[1].name, "embed", EMBED_COLOURS),)
    return dataclasses.replace(placement, transfers=transfers, feedback=feedback, colours=uses)


def _uncoloured(placement: Placement, before: Stage, after: Stage) -> Transfer:
    source, target = placement.block_of(before.name), placement.block_of(after.name)
    width = placement.partition.widths[before.target]
    leaving, entering = Uniform(width, source.along), Uniform(width, target.along)
    kind = transfer_kind(source, target, leaving, entering)
    name = f"{before.name}_to_{after.name}"
    return Transfer(name, before.target, source.name, target.name, leaving, entering, kind, ())


def _colouring(
    placement: Placement, transfers: list[Transfer], ends: tuple[Block, Block]
) -> dict[str, tuple[int, ...]]:
    """Colours of each transfer and of the feedback, by greedy colouring of their conflicts."""
    blocks = {p.block.name: p.block for p in placement.blocks}
    needs = {
        t.name: colours_needed(blocks[t.source], blocks[t.target], t.source_layout, t.target_layout) for t in transfers
    }
    areas = {t.name: _area(t, blocks[t.source], blocks[t.target]) for t in transfers}
    needs["feedback"], areas["feedback"] = 1, ends[0].rect.hull(ends[1].rect)
    conflicts = nx.Graph()
    for name, count in needs.items():
        own = [(name, i) for i in range(count)]
        conflicts.add_nodes_from(own)
        conflicts.add_edges_from(combinations(own, 2))
    for a, b in combinations(needs, 2):
        if areas[a].overlaps(areas[b]):
            conflicts.add_edges_from(((a, i), (b, j)) for i in range(needs[a]) for j in range(needs[b]))
    coloured = nx.greedy_color(conflicts, strategy="largest_first")
    offset = len(COLLECTIVE_COLOURS) + len(EMBED_COLOURS)
    limit = placement.machine.colours - placement.machine.reserved_colours - offset
    if max(coloured.values()) >= limit:
        crowded = max(coloured, key=lambda node: coloured[node])[0]
        raise PlacementError(
            f"colours run out at {crowded}: transfers that meet need {max(coloured.values()) + 1}, there are {limit}"
        )
    return {name: tuple(coloured[name, i] + offset for i in range(count)) for name, count in needs.items()}


def _area(transfer: Transfer, source: Block, target: Block) -> Rect:
    """PEs whose routers the transfer may use."""
    if transfer.kind == "straight":
        edge = source.x + source.columns - 1 if source.x < target.x else source.x
        return Rect(edge, source.y, 1, source.rows).hull(target.rect)
    return source.rect.hull(target.rect)
