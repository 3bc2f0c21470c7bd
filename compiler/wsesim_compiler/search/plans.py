"""Plans: tables beside shelves of layers, as numbers, and the blocks that they stand for.

Frame   where the tables (embedding, head) lie, and the columns and rows that they leave to the layers
Shelf   blocks side by side: `count` blocks of `columns` x `rows` PEs, each with the next `units` halves of layers
Plan    a frame, and shelves from north to south; in a serpentine every other shelf runs from east to west

A turned plan is the mirror image of such a plan: columns and rows of the wafer are exchanged, and the residual stream
is split over columns.

A unit is half a layer: attention or FFN. Blocks of one unit alternate, attention and FFN; every other block has whole
layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from wsesim.program.parts import AXES, Block
from wsesim_compiler.options import PlacedBlock
from wsesim_compiler.partition import Partition, Stage
from wsesim_compiler.placement.ground import NOTHING, LeftOut
from wsesim_compiler.placement.probe import block_name

Runs = tuple[tuple[int, int], ...]
"""Rows on which blocks can stand: (first row, how many)."""
Stages = tuple[Stage, ...]
SERPENTINE = "serpentine"
ROWS, COLUMNS = AXES


@dataclass(frozen=True, slots=True)
class Frame:
    """The tables' blocks and their cycles, and the room that is left: columns from `x` on, and runs of rows.

    If `axis` is COLUMNS, all this is the mirror image of what stands on the wafer.
    Places are numbered without the columns and rows that are `left_out`.
    """

    name: str
    tables: tuple[PlacedBlock, ...]
    cycles: int
    x: int
    columns: int
    runs: Runs
    left_out: LeftOut = NOTHING
    axis: str = ROWS

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.runs)


@dataclass(frozen=True, slots=True, order=True)
class Shelf:
    """`widths` are the columns of its blocks, in the order in which a token visits them."""

    rows: int
    widths: tuple[int, ...]
    units: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Shelves stand one below the other, each as far north as it can be."""

    frame: Frame
    shelves: tuple[Shelf, ...]
    order: str = SERPENTINE  # or row_major: each shelf runs from west to east

    def name(self) -> str:
        """As `4 layers per block, 2 blocks side by side, tables top`; of unlike shelves the numbers of the most."""
        units, beside = Counter((s.units, len(s.widths)) for s in self.shelves).most_common(1)[0][0]
        layers = "half a layer" if units == 1 else "1 layer" if units == 2 else f"{units // 2} layers"
        same = "" if len(set(self.shelves)) == 1 else ", unlike shelves"
        turned = ", turned" if self.frame.axis == COLUMNS else ""
        return f"{layers} per block, {beside} side by side, tables {self.frame.name}{same}{turned}"

    def tops(self) -> tuple[int, ...] | None:
        """First row of each shelf; None if they do not stand on the frame's rows and columns."""
        if any(sum(shelf.widths) > self.frame.columns for shelf in self.shelves):
            return None
        found: list[int] = []
        runs = iter(self.frame.runs)
        y, left = next(runs, (0, 0))
        for shelf in self.shelves:
            while left < shelf.rows:
                y, left = next(runs, (0, -1))
                if left < 0:
                    return None
            found.append(y)
            y, left = y + shelf.rows, left - shelf.rows
        return tuple(found)

    def blocks(self, partition: Partition) -> tuple[PlacedBlock, ...] | None:
        """All blocks in the order of a token's way; None if the shelves do not stand."""
        tops = self.tops()
        if tops is None:
            return None
        units, placed = Units(partition), []
        done = 0
        for number, (shelf, y) in enumerate(zip(self.shelves, tops, strict=True)):
            westward = number % 2 == 1 and self.order == SERPENTINE
            x = self.frame.x + (sum(shelf.widths) if westward else 0)
            for columns in shelf.widths:
                if done >= units.count:
                    break
                stages = units.stages(done, shelf.units)
                x -= columns if westward else 0
                block = Block(block_name(stages), x, y, columns, shelf.rows, "rows")
                placed.append(PlacedBlock(block, tuple(s.name for s in stages)))
                x += 0 if westward else columns
                done += shelf.units
        first, *others = self.frame.tables
        bottom = tops[-1] + self.shelves[-1].rows
        standing = (first, *placed, *(self._nearer(table, bottom, placed[-1].block) for table in others))
        opened = self.frame.left_out.opened([own.block for own in standing])
        found = tuple(replace(own, block=block) for own, block in zip(standing, opened, strict=True))
        return found if self.frame.axis == ROWS else turned(found)

    def _nearer(self, table: PlacedBlock, bottom: int, last: Block) -> PlacedBlock:
        """A table that lies south of the shelves, moved as far north and as near to the last block as it can be."""
        own = table.block
        if own.y < bottom:
            return table
        y, rows = self.frame.runs[-1]
        up = max(bottom, y) if y + rows == own.y else own.y
        x = min(last.x, self.frame.x + self.frame.columns - own.columns)
        return replace(table, block=replace(own, x=x, y=up))


def turned(blocks: Iterable[PlacedBlock]) -> tuple[PlacedBlock, ...]:
    """The mirror images of blocks, which take as long."""
    return tuple(replace(placed, block=placed.block.turned()) for placed in blocks)


class Units:
    """The halves of a model's layers, numbered in order."""

    def __init__(self, partition: Partition) -> None:
        self.layers = partition.layers
        self.divisible = all(layer.halves for layer in self.layers)
        self.count = 2 * len(self.layers)
        self._known: dict[tuple[int, int], Stages] = {}

    def stages(self, first: int, count: int) -> Stages:
        """The stages of units first, ..., first + count - 1, as far as there are any. Pairs of halves are layers."""
        key = (first, count)
        if key not in self._known:
            self._known[key] = tuple(self._stages(first, min(first + count, self.count)))
        return self._known[key]

    def _stages(self, first: int, stop: int) -> Iterator[Stage]:
        while first < stop:
            layer = self.layers[first // 2]
            whole = first % 2 == 0 and first + 1 < stop
            yield layer if whole else layer.halves[first % 2]
            first += 2 if whole else 1
