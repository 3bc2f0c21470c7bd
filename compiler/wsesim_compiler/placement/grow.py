"""Blocks by hand that are too small: how many rows or columns they lack, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import combinations

from wsesim.machine import Machine
from wsesim.program.parts import Block
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.partition import Partition
from wsesim_compiler.placement.place_by_hand import block_bytes, fits_by_hand
from wsesim_compiler.placement.refuse import largest


def missing_pes(partition: Partition, machine: Machine, options: Options) -> str:
    """The fewest rows, or columns if they are fewer PEs, that each block needs more, each block's position unchanged.

    "" where no such blocks have room on the wafer. The sizes are checked by their bytes; whether a larger
    block meets another one or the wafer's edge is said, not solved.
    """
    grown = {p.block.name: _grown(partition, machine, options, p) for p in options.blocks}
    blocks = tuple(
        PlacedBlock(block, placed.stages)
        for placed in options.blocks
        if (block := grown[placed.block.name]) is not None
    )
    changed = dataclasses.replace(options, blocks=blocks)
    too_many = sum(placed.block.pes for placed in blocks) > machine.usable.pes
    if too_many or len(blocks) < len(options.blocks) or not fits_by_hand(partition, machine, changed):
        return ""
    meet = " (other blocks have to make room)" if _collide(machine, blocks) else ""
    return ", ".join(_said(options.blocks, blocks)) + meet


def _grown(partition: Partition, machine: Machine, options: Options, placed: PlacedBlock) -> Block | None:
    """The block as it is, or the smallest one that holds its stages; None where not even the wafer's extent does."""

    def short(block: Block) -> bool:
        return block_bytes(partition, machine, options, PlacedBlock(block, placed.stages)) > machine.room_bytes

    block, usable = placed.block, machine.usable
    if not short(block):
        return block
    ways: tuple[tuple[int, Callable[[int], Block]], ...] = (
        (usable.rows - block.rect.rows, lambda more: dataclasses.replace(block, rows=block.rows + more)),
        (usable.columns - block.rect.columns, lambda more: dataclasses.replace(block, columns=block.columns + more)),
    )
    found = [longer(_fewest(room, longer, short)) for room, longer in ways if room > 0 and not short(longer(room))]
    return min(found, key=lambda larger: larger.pes, default=None)


def _fewest(room: int, longer: Callable[[int], Block], short: Callable[[Block], bool]) -> int:
    """The fewest rows or columns more that are enough."""
    return largest(room, lambda more: short(longer(more))) + 1


def _collide(machine: Machine, blocks: tuple[PlacedBlock, ...]) -> bool:
    rects = [placed.block.rect for placed in blocks]
    return not all(map(machine.usable.contains, rects)) or any(a.overlaps(b) for a, b in combinations(rects, 2))


def _said(before: tuple[PlacedBlock, ...], after: tuple[PlacedBlock, ...]) -> Iterator[str]:
    """Blocks that grow alike in one phrase: blocks b0 to b7 (8): 3 rows more each, 624 x 145 PEs."""
    alike: dict[tuple[int, int, int, int], list[str]] = {}
    for old, new in zip((p.block for p in before), (p.block for p in after), strict=True):
        rows, columns = new.rows - old.rows, new.columns - old.columns
        if rows or columns:
            alike.setdefault((rows, columns, new.columns, new.rows), []).append(new.name)
    for (rows, columns, width, height), names in alike.items():
        count, side = (rows, "row") if rows else (columns, "column")
        more = f"{count} {side}{'s' * (count > 1)} more"
        if len(names) == 1:
            yield f"block {names[0]}: {more}, {width} x {height} PEs"
        else:
            yield f"blocks {names[0]} to {names[-1]} ({len(names)}): {more} each, {width} x {height} PEs"
