"""The ids' way back from the sampler to the embedding, around dead PEs."""

from __future__ import annotations

from wsesim.program.parts import Feedback
from wsesim.program.path import Path
from wsesim.program.routes import dead_on_the_way, sampler_on, way_home
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.placement.placement import Placement


def way_back(placement: Placement) -> tuple[Feedback, tuple[Path, ...]]:
    """The feedback with its colour counted from 0, and its path, none where sampler and entry are one PE.

    Along the sampler's column, else along the nearest column of the embedding's block on which no dead PE lies. Raises
    PlacementError where there is none.
    """
    stages = placement.partition.stages
    source, target = placement.block_of(stages[-1].name), placement.block_of(stages[0].name)
    x, y = sampler_on(source, placement.kernels_of(stages[-1]))
    lanes = sorted(target.column_places, key=lambda lane: (abs(lane - x), lane))
    crossed: list[tuple[int, int]] = []
    for lane in (None, *lanes):
        path = way_home((x, y), target, lane)
        paths = (path,) if path else ()
        dead = dead_on_the_way(paths, placement.machine.dead)
        if dead is None:
            return Feedback(source.name, target.name, (0,), lane), paths
        crossed.append(dead)
    raise PlacementError(
        f"the ids have no way back from block {source.name} ({source.rect}) to {target.name} ({target.rect}) around "
        f"the dead PE {crossed[0]}; place them without it between them"
    )
