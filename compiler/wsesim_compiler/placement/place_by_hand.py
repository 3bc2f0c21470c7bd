"""Blocks by hand: Partition -> Placement, with the blocks that the options state.

Contract: every stage lies on one block, of a layer the whole or both halves; the blocks lie inside the usable
rectangle, beside each other, and leave out row and column of each dead PE inside them. Raises PlacementFileError for
what breaks this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, combinations

from wsesim.errors import brief
from wsesim.machine import Machine
from wsesim.program.parts import Block
from wsesim_compiler.errors import PlacementFileError
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.partition import Partition
from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.refuse import out_of_bytes


def place_by_hand(partition: Partition, machine: Machine, options: Options) -> Placement:
    """The stated blocks, and the partition cut into the stages that they name."""
    wrong = next(chain(_wrong_stages(partition, options), _wrong_blocks(machine, options)), None)
    if wrong:
        raise PlacementFileError(f"placement of {partition.graph.name} by hand: {wrong}")
    return Placement(_cut(partition, options), machine, options, options.blocks)


def fits_by_hand(partition: Partition, machine: Machine, options: Options) -> bool:
    """Whether every block has the bytes for its stages."""
    return not short_of_bytes(partition, machine, options)


def block_bytes(partition: Partition, machine: Machine, options: Options, placed: PlacedBlock) -> int:
    """Bytes that the fullest PE of a block needs for its stages; the block need not be one of the options'."""
    placement = Placement(_cut(partition, options), machine, options, (placed,))
    return block_memory(placed.block, placement.kernels_on(placed), options, options.prefill_chunk or 1).total_bytes


def short_of_bytes(partition: Partition, machine: Machine, options: Options) -> str:
    """What the block lacks that is short of most bytes; "" where none is."""
    placement = Placement(_cut(partition, options), machine, options, options.blocks)
    chunk = options.prefill_chunk or 1
    rows = [(p, placement.kernels_on(p)) for p in options.blocks]
    sizes = [(block_memory(p.block, kernels, options, chunk), p.block, kernels) for p, kernels in rows]
    memory, block, kernels = max(sizes, key=lambda row: row[0].total_bytes)
    if memory.total_bytes <= machine.room_bytes:
        return ""
    return out_of_bytes(machine, options, block, kernels, memory)


def _cut(partition: Partition, options: Options) -> Partition:
    return partition.cut({name for placed in options.blocks for name in placed.stages})


def _wrong_stages(partition: Partition, options: Options) -> Iterator[str]:
    model, stages = partition.graph.name, [s.name for s in _cut(partition, options).stages]
    homes = [(name, placed.block.name) for placed in options.blocks for name in placed.stages]
    known = {s.name for s in partition.stages} | {half.name for s in partition.stages for half in s.halves}
    for name, block in homes:
        if name not in known:
            yield f"block {block} has the stage {brief(name)}, which {model} has not; {_stages(partition)}"
        if name not in stages:
            yield f"stage {name} and a half of it are both on a block; it is the layer, or {name}_attn and {name}_ffn"
    for name, count in Counter(name for name, _ in homes).items():
        if count > 1:
            on = " and ".join(block for stage, block in homes if stage == name)
            yield f"stage {name} lies on {on}; it lies on one block, once"
    home = dict(homes)
    if missing := [name for name in stages if name not in home]:
        yield f"no block has {_some(missing)}; every stage of {model} lies on one"
    if partition.tied and home[stages[0]] != home[stages[-1]]:
        apart = f"{home[stages[0]]} and {home[stages[-1]]}"
        yield f"embed and head share one table in {model}; they lie on one block, not on {apart}"


def _stages(partition: Partition) -> str:
    """The stages that there are, in words."""
    names = [s.name for s in partition.layers]
    return f"stages are embed, {names[0]} to {names[-1]} (or halves as {names[0]}_attn and {names[0]}_ffn) and head"


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _wrong_blocks(machine: Machine, options: Options) -> Iterator[str]:
    usable, blocks = machine.usable, [placed.block for placed in options.blocks]
    for block in blocks:
        if not usable.contains(block.rect):
            yield f"block {block.name} ({block.rect}) reaches out of the usable rectangle of {machine.name}, {usable}"
    for a, b in combinations(blocks, 2):
        if a.rect.overlaps(b.rect):
            x, y = max(a.x, b.x), max(a.y, b.y)
            yield f"blocks {a.name} ({a.rect}) and {b.name} ({b.rect}) overlap, first on PE ({x}, {y}); move one"
    for block in blocks:
        for x, y in sorted(machine.dead):
            if block.rect.has(x, y) and not block.leaves_out(x, y):
                yield f"block {block.name} ({block.rect}) {_on_dead(block, x, y)}"


def _on_dead(block: Block, x: int, y: int) -> str:
    """What to do about a dead PE that a line of the block crosses."""
    column, row = f"left_out_columns = [{x}]", f"left_out_rows = [{y}]"
    if y in block.left_out_rows:
        return f"leaves out the row of the dead PE ({x}, {y}), but not its column; add {column}"
    if x in block.left_out_columns:
        return f"leaves out the column of the dead PE ({x}, {y}), but not its row; add {row}"
    return f"is on the dead PE ({x}, {y}); place it beside that, or leave out both: {column}, {row}"
