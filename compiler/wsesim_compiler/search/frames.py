"""Frames: where the tables may lie, and the room that they leave to the layers.

top     side by side on the northern rows: the embedding west, the head east (tied: one block)
ends    the embedding on the northern rows, the head on the southern ones
east    one below the other on the eastern columns

A turned frame is the mirror image of one of these, planned on a wafer whose columns and rows are exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from wsesim.machine import Machine, Rect
from wsesim.program.parts import AXES, Block
from wsesim_compiler.options import PlacedBlock
from wsesim_compiler.placement.ground import Ground, grounds
from wsesim_compiler.placement.probe import block_name
from wsesim_compiler.search.plans import ROWS, Frame, Runs, Stages
from wsesim_compiler.search.prices import Prices, Size

TOP, ENDS, EAST = NAMES = ("top", "ends", "east")
FINE, COARSE = 1.15, 1.3
"""Ratio of the heights of tables that are tried."""
NOISE = 1.02  # a narrower table may be slower by so much before no narrower one is tried
STRIPS = tuple(range(8, 33, 4))
"""Widths of eastern strips: the ground's columns divided by each, times 4."""


def frames(
    prices: Prices, ratio: float = FINE, names: Sequence[str] = NAMES, axes: Sequence[str] = (ROWS,)
) -> Iterator[Frame]:
    """Frames of these names, on every ground. A table has the lowest height that holds it, or a power of `ratio`."""
    for axis in axes:
        machine = prices.machine if axis == ROWS else _turned(prices.machine)
        for ground in grounds(machine):
            for name, made in ((TOP, _top), (ENDS, _ends), (EAST, _east)):
                own = made(prices, ground, ratio) if name in names else ()
                yield from (replace(frame, axis=axis) for frame in own)


def axes_of(machine: Machine) -> tuple[str, ...]:
    """The axes that frames are tried with. On a square without dead PEs, a turned frame is no other."""
    square = machine.usable.columns == machine.usable.rows
    return (ROWS,) if square and not machine.dead else AXES


def _turned(machine: Machine) -> Machine:
    """The machine with its columns and rows exchanged."""
    usable = Rect(machine.usable.y, machine.usable.x, machine.usable.rows, machine.usable.columns)
    dead = frozenset((y, x) for x, y in machine.dead)
    return replace(machine, columns=machine.rows, rows=machine.columns, usable=usable, dead=dead)


def _top(prices: Prices, ground: Ground, ratio: float) -> Iterator[Frame]:
    embed, head = prices.probe.embed, prices.probe.head
    if not head:
        sizes = _tables(prices, embed, ground, ratio)
        found = (_banded(prices, ground, rows, [(embed, 0, columns)]) for columns, rows in sizes)
        yield from (frame for frame in found if frame)
        return
    best: dict[int, Frame] = {}
    for columns in (ground.columns * eighths // 8 for eighths in range(1, 8)):
        rest = ground.columns - columns
        tables = ((embed, columns), (head, rest))
        least = max(prices.probe.lowest(stages, width, ground.tallest) for stages, width in tables)
        made = (
            _banded(prices, ground, rows, [(embed, 0, columns), (head, columns, rest)])
            for rows in ladder(least, most_rows(prices, ground), ratio)
        )
        for frame in _faster_and_faster(made):
            rows = frame.tables[0].block.rows
            if rows not in best or frame.cycles < best[rows].cycles:
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
    return Frame(TOP, tuple(tables), cycles, ground.x, ground.columns, runs, ground.left_out)


def _ends(prices: Prices, ground: Ground, ratio: float) -> Iterator[Frame]:
    """The head's rows are taken from the south."""
    embed, head = prices.probe.embed, prices.probe.head
    if not head:
        return
    above, below = (_tables(prices, stages, ground, ratio) for stages in (embed, head))
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
        yield Frame(ENDS, tables, cycles, ground.x, ground.columns, _mirrored(south[1]), ground.left_out)


def _east(prices: Prices, ground: Ground, ratio: float) -> Iterator[Frame]:
    embed, head = prices.probe.embed, prices.probe.head
    for part in STRIPS:
        columns = ground.columns * 4 // part
        x = ground.x + ground.columns - columns
        upper = prices.probe.lowest(embed, columns, ground.tallest)
        lower = prices.probe.lowest(head, columns, ground.tallest) if head else 0
        if not upper or (head and not lower) or upper + lower > ground.rows:
            continue
        made = (
            _strip(prices, ground, x, columns, [round(h * rows / upper) for h in (upper, lower) if h])
            for rows in ladder(upper, ground.tallest, ratio)
        )
        yield from _faster_and_faster(made)


def _strip(prices: Prices, ground: Ground, x: int, columns: int, rows: Sequence[int]) -> Frame | None:
    runs, tables, cycles = ground.runs, [], 0
    for stages, height in zip((prices.probe.embed, prices.probe.head), rows, strict=False):
        used = prices.probe.used_rows(height)
        taken, own = _take(runs, used), prices.block_cycles(stages, (columns, used))
        if taken is None or own is None:
            return None
        y, runs = taken
        cycles += own
        tables.append(_placed(stages, x, y, columns, used))
    return Frame(EAST, tuple(tables), cycles, ground.x, ground.columns - columns, ground.runs, ground.left_out)


def _tables(prices: Prices, stages: Stages, ground: Ground, ratio: float) -> list[Size]:
    """Of each height the fastest block for a table, if it is faster than the lower ones.

    Widths are tried from the widest on, until a narrower block is slower at all of its heights.
    """
    best: dict[int, tuple[int, Size]] = {}
    last: int | None = None
    for columns in reversed((*ladder(8, ground.columns - 1, COARSE), ground.columns)):
        own = list(_of_width(prices, stages, ground, columns, ratio))
        for cycles, size in own:
            best[size[1]] = min(best.get(size[1], (cycles, size)), (cycles, size))
        fastest = min((cycles for cycles, _ in own), default=None)
        if fastest is None or (last is not None and fastest > NOISE * last):
            break
        last = fastest
    found: list[tuple[int, Size]] = []
    for _, entry in sorted(best.items()):
        if not found or entry[0] < found[-1][0]:
            found.append(entry)
    return [size for _, size in found]


def _of_width(prices: Prices, stages: Stages, ground: Ground, columns: int, ratio: float) -> Iterator[tuple[int, Size]]:
    """Cycles and sizes of ever higher blocks, as long as each is faster than the one before."""
    last: int | None = None
    for rows in ladder(prices.probe.lowest(stages, columns, ground.tallest), most_rows(prices, ground), ratio):
        size = columns, prices.probe.used_rows(rows)
        cycles = prices.block_cycles(stages, size)
        if cycles is None or (last is not None and cycles > last):
            return
        last = cycles
        yield cycles, size


def ladder(least: int, most: int, ratio: float) -> list[int]:
    """The least, and powers of `ratio` above it up to `most`; [] if the least is 0 or above.

    Every least has the same powers: a size that one machine has is not lost on a larger one.
    """
    if not 0 < least <= most:
        return []
    first, last = math.ceil(math.log(least + 1, ratio)), math.floor(math.log(most, ratio))
    return sorted({least, *(round(ratio**n) for n in range(first, last + 1))})


def most_rows(prices: Prices, ground: Ground) -> int:
    """Rows that the matrices of the layers leave to the tables, if all PEs below are filled with them."""
    layers = -(-prices.probe.layers_bytes // (ground.columns * prices.machine.room_bytes))
    return min(ground.tallest, ground.rows - layers)


def _faster_and_faster(made: Iterable[Frame | None]) -> Iterator[Frame]:
    """Frames, as long as each is faster than the one before."""
    last = None
    for frame in made:
        if frame is None or (last is not None and frame.cycles >= last):
            return
        last = frame.cycles
        yield frame


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
