"""route: Placement -> Placement with transfers, the feedback, and a colour for everything that moves.

Contract: consecutive stages on different blocks are joined by one transfer, none of whose routes crosses a dead PE;
kinds of collectives of a block share one set of colours (a PE's input queues hold one kind at a time, the engine
reroutes in turn); transfers from one block to the same other one are one stream; streams that share a router take
different colours. Raises PlacementError, naming the router and what meets there, when colours run out or a transfer
would cross itself, and naming the PE when there is no way around a dead one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations, groupby, pairwise

import networkx as nx
import numpy as np

from wsesim.machine import Rect
from wsesim.program.kernels import ACROSS, ALONG, SEGMENT
from wsesim.program.layout import Uniform
from wsesim.program.parts import Block, ColourUse, Transfer
from wsesim.program.path import Path
from wsesim.program.routes import (
    all_lanes,
    colours_needed,
    dead_on_the_way,
    footprint,
    path_conflicts,
    transfer_kind,
    transfer_paths,
)
from wsesim.software.software import APART
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.partition import Stage
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.way_back import way_back

COLLECTIVE_COLOURS = (0, 1, 2, 3, 4)  # two for each phase's alternating chain, one for the broadcast
KINDS = (ALONG, ACROSS, SEGMENT)

Node = tuple[str, int]
"""A stream, and which of its colours."""
Footprint = tuple[Rect, np.ndarray]


def route(placement: Placement) -> Placement:
    """Transfers between the stages' blocks, coloured."""
    blocks = {p.block.name: p.block for p in placement.blocks}
    moves = route_moves(placement)
    feedback, back = way_back(placement)
    alike = {t.name: next(other.name for other in moves if _same_way(t, other)) for t in moves}
    paths = {t.name: transfer_paths(t, blocks[t.source], blocks[t.target]) for t in moves if alike[t.name] == t.name}
    colours = _colouring(placement, {**paths, "feedback": back})
    transfers = tuple(dataclasses.replace(t, colours=colours[alike[t.name]]) for t in moves)
    own, embed = _own_colours(placement)
    uses = tuple(ColourUse(p.block.name, kind, own[kind]) for p in placement.blocks for kind in KINDS)
    uses += (ColourUse(feedback.target, "embed", embed),)
    feedback = dataclasses.replace(feedback, colours=colours["feedback"])
    return dataclasses.replace(placement, transfers=transfers, feedback=feedback, colours=uses)


def _own_colours(placement: Placement) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Colours of each kind of collective, and of the embedding. Kinds that take turns share theirs."""
    turns = placement.options.software.routes != APART
    count = len(COLLECTIVE_COLOURS)
    own = {kind: tuple(c + (0 if turns else count * n) for c in COLLECTIVE_COLOURS) for n, kind in enumerate(KINDS)}
    after = max(colour for colours in own.values() for colour in colours) + 1
    return own, (after, after + 1)


def route_moves(placement: Placement) -> list[Transfer]:
    """The transfers, each with the colours that it takes alone. Raises PlacementError where one has no way."""
    widths, dead = placement.partition.widths, placement.machine.dead
    stages = [(stage, placement.block_of(stage.name)) for stage in placement.partition.stages]
    return [
        transfer_between((before, after), (source, target), widths[before.target], dead)
        for (before, source), (after, target) in pairwise(stages)
        if source != target
    ]


def routable(placement: Placement) -> bool:
    """Whether every transfer has a way around the dead PEs."""
    try:
        route_moves(placement)
    except PlacementError:
        return False
    return True


def transfer_between(
    stages: tuple[Stage, Stage], ends: tuple[Block, Block], width: int, dead: Collection[tuple[int, int]] = ()
) -> Transfer:
    """The transfer of `width` elements from a stage to the next, which lie on the blocks `ends`, without `dead` PEs.

    Its colours are counted from 0. Raises PlacementError where it crosses itself or a dead PE.
    """
    (before, after), (source, target) = stages, ends
    leaving, entering = Uniform(width, source.along), Uniform(width, target.along)
    kind = transfer_kind(source, target, leaving, entering)
    name = f"{before.name}_to_{after.name}"
    lanes = _lanes(source, target, dead) if kind == "reslice" else None
    transfer = Transfer(name, before.target, source.name, target.name, leaving, entering, kind, (), lanes)
    transfer = dataclasses.replace(transfer, colours=tuple(range(colours_needed(transfer, source, target))))
    paths = transfer_paths(transfer, source, target)
    said = f"transfer {name} from block {source.name} ({source.rect}) to {target.name} ({target.rect})"
    if crossed := dead_on_the_way(paths, dead):
        raise PlacementError(
            f"{said} has no way around the dead PE {crossed}; place the blocks without it between them"
        )
    conflict = next(path_conflicts(("it", path) for path in paths), None) if kind == "turn" else None
    if conflict:  # no other kind can
        raise PlacementError(
            f"{said}: {conflict[1]}; split both over {source.axis}, or place {target.name} where its lines leave "
            f"{source.name}"
        )
    return transfer


def _same_way(a: Transfer, b: Transfer) -> bool:
    """Whether both go from the same block to the same other one: one stream, of which they are parts."""
    ends = ((t.source, t.target, t.source_layout, t.target_layout) for t in (a, b))
    return len(set(ends)) == 1


def _lanes(source: Block, target: Block, dead: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """The longest run of lanes without a dead PE; None where all are, or none is, without."""
    hull = source.rect.hull(target.rect)
    across = 0 if source.axis == "rows" else 1
    broken = {pe[across] for pe in dead if hull.has(*pe)}
    lanes = all_lanes(source, target)
    runs = [list(run) for clean, run in groupby(lanes, key=lambda lane: lane not in broken) if clean]
    longest = max(runs, key=len, default=lanes)
    if len(longest) == len(lanes):
        return None
    return longest[0], longest[-1]


def _colouring(placement: Placement, paths: dict[str, Sequence[Path]]) -> dict[str, tuple[int, ...]]:
    """Colours of every stream, by greedy colouring of what shares a router."""
    used = {
        (name, colour): footprint(path for path in group if path.colour == colour)
        for name, group in paths.items()
        for colour in sorted({path.colour for path in group})
    }
    conflicts = nx.Graph()
    conflicts.add_nodes_from(used)
    conflicts.add_edges_from((a, b) for a, b in combinations(used, 2) if a[0] == b[0] or _meet(used[a], used[b]))
    coloured = nx.greedy_color(conflicts, strategy="largest_first")
    offset = _own_colours(placement)[1][-1] + 1  # the id's colour, and that of the table's rows, come last
    limit = placement.machine.colours - placement.machine.reserved_colours - offset
    if coloured and max(coloured.values()) >= limit:
        crowded = max(coloured, key=lambda node: coloured[node])
        raise PlacementError(_crowd(crowded, used, max(coloured.values()) + 1, limit))
    found = {name: [coloured[node] + offset for node in used if node[0] == name] for name in paths}
    return {name: tuple(colours) or (offset,) for name, colours in found.items()}  # ids that stay have one, unused


def _meet(a: Footprint, b: Footprint) -> bool:
    """Whether a router is in both."""
    (one, ours), (other, theirs) = a, b
    if not one.overlaps(other):
        return False
    x, y = max(one.x, other.x), max(one.y, other.y)
    columns = min(one.x + one.columns, other.x + other.columns) - x
    rows = min(one.y + one.rows, other.y + other.rows) - y
    here, there = (
        mask[y - area.y : y - area.y + rows, x - area.x : x - area.x + columns]
        for area, mask in ((one, ours), (other, theirs))
    )
    return bool((here & there).any())


def _crowd(crowded: Node, used: dict[Node, Footprint], needed: int, limit: int) -> str:
    """The router of the crowded stream that most streams share, and which they are."""
    area, own = used[crowded]
    count = own.astype(np.int64)
    for node, (other, mask) in used.items():
        if node != crowded and area.overlaps(other):
            ys, xs = (mask.nonzero()[axis] + at - to for axis, at, to in ((0, other.y, area.y), (1, other.x, area.x)))
            inside = (ys >= 0) & (ys < area.rows) & (xs >= 0) & (xs < area.columns)
            count[ys[inside], xs[inside]] += own[ys[inside], xs[inside]]
    y, x = (int(place) for place in np.unravel_index(int(count.argmax()), count.shape))
    router = (x + area.x, y + area.y)
    names = sorted(
        {name for (name, _), (at, mask) in used.items() if at.has(*router) and mask[router[1] - at.y, router[0] - at.x]}
    )
    return (
        f"colours run out at router {router}: the streams {', '.join(names)} meet there, and {needed} colours are "
        f"needed where {limit} are left of collectives and host"
    )
