"""place: Partition -> Placement, for the strategies pipelined, shared and hybrid.

Contract: blocks lie inside the usable rectangle, on no dead PE, do not overlap, and hold their stages in SRAM; layers
go along the wafer in rows of blocks, serpentine or row-major; the embedding's block lies north of them, the head's
south (tied: one block, north). Block shapes are those with the lowest estimated latency of one token; of equals, those
with the fewest PEs. Raises PlacementError if nothing fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from wsesim.machine import Machine
from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.partition import Partition, Stage
from wsesim_compiler.passes.route import routable, route_moves
from wsesim_compiler.placement.ground import Ground, grounds
from wsesim_compiler.placement.grow import missing_pes
from wsesim_compiler.placement.place_by_hand import fits_by_hand, place_by_hand, short_of_bytes
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.probe import Probe, block_name
from wsesim_compiler.placement.refuse import smallest_change

Size = tuple[int, int]
"""(columns, rows)."""

HEIGHTS_TRIED = (1, 2, 3, 4)  # of a vocabulary table's block, as multiples of the lowest that fits
TABLES_TRIED = 2  # of each of these heights


@dataclass(frozen=True, slots=True)
class Floor:
    """A floor plan: block sizes, and how many layer blocks stand in a row."""

    cycles: int
    ground: Ground
    embed: Size
    layer: Size
    head: Size | None  # None: tied, the embedding's block is the head's too
    per_row: int

    @property
    def rank(self) -> tuple[int, int, int]:
        """The lowest is the best: cycles, then PEs of a layer's block, then those of the tables' blocks."""
        tables = (self.embed, self.head) if self.head else (self.embed,)
        return self.cycles, self.layer[0] * self.layer[1], sum(columns * rows for columns, rows in tables)


def place(partition: Partition, machine: Machine, options: Options) -> Placement:
    """The options' own blocks, or the floor plan with the lowest estimate."""
    if options.blocks:
        placement, short = place_by_hand(partition, machine, options), short_of_bytes(partition, machine, options)
        if short:
            raise _refused(partition, machine, options, short)
        return placement
    probe = Probe(partition, machine, options)
    found = [floor for ground in grounds(machine) if (floor := _best_floor(probe, ground))]
    if not found:
        raise _refused(partition, machine, options, _shortage(probe))
    ranked = sorted(found, key=lambda floor: floor.rank)
    placements = [Placement(partition, machine, options, _blocks(probe, floor)) for floor in ranked]
    for placement in placements:
        if not machine.dead or routable(placement):
            return placement
    route_moves(placements[0])  # says which way is closed
    raise AssertionError("a placement that is not routable is refused")


def _refused(partition: Partition, machine: Machine, options: Options, shortage: str) -> PlacementError:
    larger = missing_pes(partition, machine, options) if options.blocks else ""
    change = smallest_change(partition, machine, options, fits, larger)
    short = f"{partition.graph.name} does not fit {machine.name} as {options.strategy}: {shortage}"
    return PlacementError(f"{short}. Smallest change that fits: {change}")


def fits(partition: Partition, machine: Machine, options: Options) -> bool:
    """Whether there is any floor plan, by bytes alone: between the flattest tables the layers have most rows."""
    if options.blocks:
        return fits_by_hand(partition, machine, options)
    probe = Probe(partition, machine, options)
    for ground in grounds(machine):
        tables = _flattest(probe, ground)
        tallest = dict(_layer_sizes(probe, ground, *tables)) if tables else {}  # sorted: the last of each width
        if any(map(probe.fits_layers, tallest.items())):
            return True
    return False


def _best_floor(probe: Probe, ground: Ground) -> Floor | None:
    heads = _tables(probe, probe.head, ground) if probe.head else [None]
    plans = (_floor(probe, ground, embed, head) for embed, head in product(_tables(probe, probe.embed, ground), heads))
    return min((plan for plan in plans if plan), key=lambda plan: plan.rank, default=None)


def _tables(probe: Probe, stages: tuple[Stage, ...], ground: Ground) -> list[Size]:
    """Sizes for a vocabulary table's block: of each height the fastest, and the flattest, which leave most rows to the
    layers.
    """
    by_height: dict[int, set[Size]] = {multiple: set() for multiple in HEIGHTS_TRIED}
    for w in _sides(ground.columns):
        for multiple, h in zip(HEIGHTS_TRIED, _heights(probe, stages, w, ground.tallest), strict=False):
            by_height[multiple].add((w, probe.used_rows(h)))
    fastest = [
        size
        for sizes in by_height.values()
        for size in sorted(sizes, key=lambda size: (probe.cycles(stages, size), size))[:TABLES_TRIED]
    ]
    flattest = sorted(set.union(*by_height.values()), key=lambda size: (size[1], size))[:2]
    return list(dict.fromkeys([*fastest, *flattest]))


def _heights(probe: Probe, stages: tuple[Stage, ...], columns: int, limit: int) -> list[int]:
    """The lowest height that fits, and multiples of it, up to a limit."""
    low, high = 1, limit
    if not probe.fits(stages, (columns, high)):
        return []
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if probe.fits(stages, (columns, middle)) else (middle + 1, high)
    heights = (multiple * low for multiple in HEIGHTS_TRIED)
    return [h for h in heights if h <= limit and probe.fits(stages, (columns, h))]


def _floor(probe: Probe, ground: Ground, embed: Size, head: Size | None) -> Floor | None:
    """The best layer blocks between two tables."""
    tables = probe.cycles(probe.embed, embed) + (probe.cycles(probe.head, head) if head else 0)
    count = len(probe.layer_groups)
    floors = [
        Floor(tables + probe.layer_cycles(size), ground, embed, size, head, min(count, ground.columns // size[0]))
        for size in _layer_sizes(probe, ground, embed[1], head[1] if head else 0)
        if probe.fits_layers(size)
    ]
    return min(floors, key=lambda floor: floor.rank, default=None)


def _flattest(probe: Probe, ground: Ground) -> tuple[int, int] | None:
    """Rows of the flattest tables, which leave most to the layers; None if one does not fit at all."""
    rows = []
    for stages in (probe.embed, probe.head):
        heights = _heights(probe, stages, ground.columns, ground.tallest) if stages else [0]
        if not heights:
            return None
        rows.append(heights[0])
    return rows[0], rows[1]


def _layer_sizes(probe: Probe, ground: Ground, above: int, below: int) -> list[Size]:
    """Sizes of which as many blocks as there are groups of layers stand between tables of so many rows."""
    width, count = ground.columns, len(probe.layer_groups)
    if probe.options.block:
        columns, height = probe.options.block
        room = columns <= width and height <= ground.highest(above, ceil_div(count, width // columns), below)
        return [probe.options.block] if room else []
    rows, sizes = ground.rows - above - below, []
    for columns in _sides(width):
        highest = ground.highest(above, ceil_div(count, min(count, width // columns)), below)
        sizes += [(columns, probe.used_rows(h)) for h in {*_sides(rows), highest} if 0 < h <= highest]
    return sorted(set(sizes))


def _sides(limit: int) -> list[int]:
    """Lengths worth trying: equal parts of the whole, and round numbers."""
    parts = {limit // n for n in range(1, 33)}
    round_numbers = {m << e for e in range(10) for m in (1, 3)}
    return sorted(n for n in parts | round_numbers if 0 < n <= limit)


def _blocks(probe: Probe, floor: Floor) -> tuple[PlacedBlock, ...]:
    ground, (columns, rows) = floor.ground, floor.layer
    bands = ceil_div(len(probe.layer_groups), floor.per_row)
    tops = ground.stack((floor.embed[1], *[rows] * bands, *([floor.head[1]] if floor.head else [])))
    assert tops is not None, "a floor plan stands on its ground"
    blocks = [_placed(probe.embed, ground.x, tops[0], floor.embed)]
    for number, group in enumerate(probe.layer_groups):
        row, place_in_row = divmod(number, floor.per_row)
        if probe.options.order == "serpentine" and row % 2:
            place_in_row = floor.per_row - 1 - place_in_row
        blocks.append(_placed(group, ground.x + place_in_row * columns, tops[1 + row], floor.layer))
    if floor.head:
        west = min(blocks[-1].block.x, ground.x + ground.columns - floor.head[0])
        blocks.append(_placed(probe.head, west, tops[-1], floor.head))
    return tuple(blocks)


def _placed(stages: tuple[Stage, ...], x: int, y: int, size: Size) -> PlacedBlock:
    return PlacedBlock(Block(block_name(stages), x, y, *size, "rows"), tuple(s.name for s in stages))


def _shortage(probe: Probe) -> str:
    """What the block lacks that is short when each has the largest rectangle that it could have."""
    dead, usable = len(probe.machine.dead), probe.machine.usable
    ground = next(iter(grounds(probe.machine)), None)
    if ground is None:
        return f"no PE of {usable} that works has a way to the next"
    for stages in (probe.embed, probe.head):
        if stages and not _heights(probe, stages, ground.columns, ground.tallest):
            return probe.out_of_bytes(stages, (ground.columns, probe.used_rows(ground.tallest)))
    tables = _flattest(probe, ground)
    assert tables is not None
    group, count = probe.layer_groups[0], len(probe.layer_groups)
    sizes = _layer_sizes(probe, ground, *tables)
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
