"""place: Partition -> Placement, for the strategies pipelined, shared and hybrid, and for blocks by hand.

Contract: blocks lie inside the usable rectangle, on no dead PE, do not overlap, and hold their stages in SRAM; layers
go along the wafer in rows of blocks, serpentine or row-major; the embedding's block lies north of them, the head's
south (tied: one block, north). Block sizes are those with the lowest price of a decode step at a typical context
(`search/equal.py`); of equals, those with the fewest PEs. Raises PlacementError if nothing fits.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsesim.machine import Machine
from wsesim.program.layout import ceil_div
from wsesim.program.protocols import StageOracle
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.options import TYPICAL_CONTEXT, Options
from wsesim_compiler.partition import Partition
from wsesim_compiler.passes.route import routable, route_moves
from wsesim_compiler.placement.ground import Ground, grounds
from wsesim_compiler.placement.grow import missing_pes
from wsesim_compiler.placement.place_by_hand import fits_by_hand, place_by_hand, short_of_bytes
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.probe import Probe, block_name
from wsesim_compiler.placement.refuse import smallest_change
from wsesim_compiler.search.equal import besides
from wsesim_compiler.search.prices import Prices
from wsesim_compiler.search.strategies import strategy_plans

Size = tuple[int, int]
"""(columns, rows)."""


def place(partition: Partition, machine: Machine, options: Options, cost: StageOracle) -> Placement:
    """The options' own blocks, or those of the strategy."""
    if options.blocks:
        placement, short = place_by_hand(partition, machine, options), short_of_bytes(partition, machine, options)
        if short:
            raise _refused(partition, machine, options, f"as {options.strategy}: {short}")
        return placement
    prices = Prices(partition, machine, options, cost, min(TYPICAL_CONTEXT, options.max_context))
    plans = strategy_plans(prices, options)
    if not plans:
        raise refusal(partition, machine, options, f"as {options.strategy}")
    placements = [Placement(partition, machine, options, plan.blocks(partition) or ()) for plan in plans]
    for placement in placements:
        if not machine.dead or routable(placement):
            return placement
    route_moves(placements[0])  # says which way is closed
    raise AssertionError("a placement that is not routable is refused")


def refusal(partition: Partition, machine: Machine, options: Options, how: str) -> PlacementError:
    """The error for a strategy without a placement: `how` it places, what is missing, and what change would do."""
    return _refused(partition, machine, options, f"{how}: {_shortage(Probe(partition, machine, options))}")


def _refused(partition: Partition, machine: Machine, options: Options, short: str) -> PlacementError:
    larger = missing_pes(partition, machine, options) if options.blocks else ""
    change = smallest_change(partition, machine, options, fits, larger)
    said = f"{partition.graph.name} does not fit {machine.name} {short}"
    return PlacementError(f"{said}. Smallest change that fits: {change}")


def fits(partition: Partition, machine: Machine, options: Options) -> bool:
    """Whether the strategy has a placement, by bytes alone: between the flattest tables the layers have most rows."""
    if options.blocks:
        return fits_by_hand(partition, machine, options)
    probe = Probe(partition, machine, options)
    for ground in grounds(machine):
        tables = _flattest(probe, ground)
        if tables and any(map(probe.fits_layers, _layer_sizes(probe, ground, *tables))):
            return True
    return False


def _flattest(probe: Probe, ground: Ground) -> tuple[int, int] | None:
    """Rows of the flattest tables, which leave most to the layers; None if one does not fit at all."""
    above = probe.lowest(probe.embed, ground.columns, ground.tallest)
    below = probe.lowest(probe.head, ground.columns, ground.tallest) if probe.head else 0
    return (above, below) if above and (below or not probe.head) else None


def _layer_sizes(probe: Probe, ground: Ground, above: int, below: int) -> Iterator[Size]:
    """Sizes of a block of layers: for each number side by side, the largest at which all stand between the tables.

    The tables have `above` and `below` rows.
    """
    count = len(probe.layer_groups)
    if probe.options.block:
        columns, height = probe.options.block
        beside = min(count, ground.columns // columns)
        if beside and height <= ground.highest(above, ceil_div(count, beside), below):
            yield probe.options.block
        return
    for beside in besides(count, ground.columns):
        rows = ground.highest(above, ceil_div(count, beside), below)
        if rows > 0:
            yield ground.columns // beside, probe.used_rows(rows)


def _shortage(probe: Probe) -> str:
    """What the block lacks that is short when each has the largest rectangle that it could have."""
    dead, usable = len(probe.machine.dead), probe.machine.usable
    ground = next(iter(grounds(probe.machine)), None)
    if ground is None:
        return f"no PE of {usable} that works has a way to the next"
    for stages in (probe.embed, probe.head):
        if stages and not probe.lowest(stages, ground.columns, ground.tallest):
            return probe.out_of_bytes(stages, (ground.columns, probe.used_rows(ground.tallest)))
    tables = _flattest(probe, ground)
    assert tables is not None
    group, count = probe.layer_groups[0], len(probe.layer_groups)
    sizes = list(_layer_sizes(probe, ground, *tables))
    if not sizes:
        shape = "of {} x {} PEs".format(*probe.options.block) if probe.options.block else "of a row or more"
        broken = f", of which {dead} are dead" if dead else ""
        return (
            f"{count} blocks {shape} for the layers, {block_name(group)} the first, do not stand in the "
            f"{ground.columns} x {ground.rows - sum(tables)} PEs that the vocabulary leaves of "
            f"{usable.columns} x {usable.rows}{broken}"
        )
    kinds = [group for group, _ in probe.layer_kinds]
    size = min(sizes, key=lambda size: max(probe.memory(group, size).total_bytes for group in kinds))
    return probe.out_of_bytes(max(kinds, key=lambda group: probe.memory(group, size).total_bytes), size)
