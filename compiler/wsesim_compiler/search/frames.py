"""Frames: where the tables may lie, and the room that they leave to the layers.

top     side by side on the northern rows: the embedding west, the head east (tied: one block)
ends    the embedding on the northern rows, the head on the southern ones
east    one below the other on the eastern columns
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from wsesim.program.parts import Block
from wsesim_compiler.options import PlacedBlock
from wsesim_compiler.placement.ground import Ground, grounds
from wsesim_compiler.placement.probe import block_name
from wsesim_compiler.search.plans import Frame, Runs, Stages
from wsesim_compiler.search.prices import Prices, Size

STRETCHES = (1.0, 1.15, 1.35, 1.6, 2.0, 3.0)
"""Heights of tables, as multiples of the lowest that holds them."""
STRIPS = tuple(range(8, 33, 4))
"""Widths of eastern strips: the ground's columns divided by each, times 4."""


def frames(prices: Prices, stretches: Sequence[float] = STRETCHES) -> Iterator[Frame]:
    """All frames to try, on every ground. Tables are as high as the lowest that holds them, times `stretches`."""
    for ground in grounds(prices.machine):
        yield from _top(prices, ground, stretches)
        yield from _ends(prices, ground, stretches)
        yield from _east(prices, ground, stretches)


def _top(prices: Prices, ground: Ground, stretches: Sequence[float]) -> Iterator[Frame]:
    embed, head = prices.probe.embed, prices.probe.head
    west = [ground.columns * eighths // 8 for eighths in range(1, 8)] if head else [ground.columns]
    best: dict[int, Frame] = {}
    for columns in west:
        rest = ground.columns - columns
        least = max(
            lowest(prices, embed, columns, ground.tallest), lowest(prices, head, rest, ground.tallest) if head else 0
        )
        for stretch in stretches:
            rows = round(least * stretch)
            sizes = [(embed, 0, columns), (head, columns, rest)] if head else [(embed, 0, columns)]
            frame = _banded(prices, ground, rows, sizes)
            if frame and (rows not in best or frame.cycles < best[rows].cycles):
                best[rows] = frame
    yield from best.values()


def _banded(prices: Prices, ground: Ground, rows: int, sizes: Sequence[tuple[Stages, int, int]]) -> Frame | None:
    """Tables of (stages, first column, columns) side by side on the first rows that are free."""
    taken = _take(ground.runs, rows) if rows else None
    if taken is None:
        return None
    y, runs = taken
    cycles, tables = 0, []
    for stages, x, columns in sizes:
        used = prices.probe.used_rows(rows)
        own = prices.block_cycles(stages, (columns, used))
        if own is None:
            return None
        cycles += own
        tables.append(_placed(stages, ground.x + x, y, columns, used))
    return Frame("top", tuple(tables), cycles, ground.x, ground.columns, runs)


def _ends(prices: Prices, ground: Ground, stretches: Sequence[float]) -> Iterator[Frame]:
    """The head's rows are taken from the south."""
    embed, head = prices.probe.embed, prices.probe.head
    if not head:
        return
    above, below = (_tables(prices, stages, ground, stretches) for stages in (embed, head))
    for upper, lower in product(above, below):
        north = _take(ground.runs, upper[1])
        south = _take(_mirrored(north[1]), lower[1]) if north else None
        if north is None or south is None:
            continue
        cycles = sum(prices.block_cycles(s, size) or 0 for s, size in ((embed, upper), (head, lower)))
        tables = (
            _placed(embed, ground.x, north[0], *upper),
            _placed(head, ground.x, -south[0] - lower[1], *lower),
        )
        yield Frame("ends", tables, cycles, ground.x, ground.columns, _mirrored(south[1]))


def _east(prices: Prices, ground: Ground, stretches: Sequence[float]) -> Iterator[Frame]:
    embed, head = prices.probe.embed, prices.probe.head
    for part in STRIPS:
        columns = ground.columns * 4 // part
        x = ground.x + ground.columns - columns
        upper = lowest(prices, embed, columns, ground.tallest)
        lower = lowest(prices, head, columns, ground.tallest) if head else 0
        if not upper or (head and not lower) or upper + lower > ground.rows:
            continue
        for stretch in stretches[:4] if head else stretches:
            heights = [prices.probe.used_rows(round(h * stretch)) for h in (upper, lower) if h]
            frame = _strip(prices, ground, x, columns, heights)
            if frame:
                yield frame


def _strip(prices: Prices, ground: Ground, x: int, columns: int, heights: Sequence[int]) -> Frame | None:
    runs, tables, cycles = ground.runs, [], 0
    for stages, rows in zip((prices.probe.embed, prices.probe.head), heights, strict=False):
        taken, own = _take(runs, rows), prices.block_cycles(stages, (columns, rows))
        if taken is None or own is None:
            return None
        y, runs = taken
        cycles += own
        tables.append(_placed(stages, x, y, columns, rows))
    return Frame("east", tuple(tables), cycles, ground.x, ground.columns - columns, ground.runs)


def _tables(prices: Prices, stages: Stages, ground: Ground, stretches: Sequence[float]) -> list[Size]:
    """Of each height the fastest block for a table, if it is faster than the lower ones."""
    best: dict[int, tuple[int, Size]] = {}
    for quarters in range(1, 5):
        columns = ground.columns * quarters // 4
        least = lowest(prices, stages, columns, ground.tallest)
        for stretch in stretches if least else ():
            size = columns, prices.probe.used_rows(round(least * stretch))
            cycles = prices.block_cycles(stages, size) if size[1] <= ground.tallest else None
            if cycles is not None:
                best[size[1]] = min(best.get(size[1], (cycles, size)), (cycles, size))
    found: list[tuple[int, Size]] = []
    for _, own in sorted(best.items()):
        if not found or own[0] < found[-1][0]:
            found.append(own)
    return [size for _, size in found]


def lowest(prices: Prices, stages: Stages, columns: int, limit: int) -> int:
    """The lowest block of so many columns that holds the stages; 0 if not even one of `limit` rows does."""
    if min(columns, limit) < 1 or not prices.probe.fits(stages, (columns, limit)):
        return 0
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if prices.probe.fits(stages, (columns, middle)) else (middle + 1, high)
    return low


def _take(runs: Runs, rows: int) -> tuple[int, Runs] | None:
    """The first `rows` rows that lie together, and the runs that are left behind them."""
    for number, (y, there) in enumerate(runs):
        if there >= rows:
            rest = ((y + rows, there - rows),) if there > rows else ()
            return y, (*rest, *runs[number + 1 :])
    return None


def _mirrored(runs: Runs) -> Runs:
    """The runs with north and south exchanged: row y becomes row -1 - y."""
    return tuple((-y - rows, rows) for y, rows in reversed(runs))


def _placed(stages: Stages, x: int, y: int, columns: int, rows: int) -> PlacedBlock:
    return PlacedBlock(Block(block_name(stages), x, y, columns, rows, "rows"), tuple(s.name for s in stages))
