"""Refusals: a model that does not fit, said with block, operator, bytes needed and there, and the change that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from typing import Any

from wsesim.errors import keyword
from wsesim.machine import Machine
from wsesim.machine.parts import dtype_bytes
from wsesim.program.kernels import Kernel
from wsesim.program.kv import CONCAT, INTERLEAVED
from wsesim.program.parts import Block, BlockMemory
from wsesim_compiler.options import AUTO, Options
from wsesim_compiler.partition import Partition
from wsesim_compiler.placement.memory import kernel_bytes

Fits = Callable[[Partition, Machine, Options], bool]

CONTEXT_STEP = 128
SRAM_STEP = 256


def out_of_bytes(machine: Machine, options: Options, block: Block, kernels: tuple[Kernel, ...], m: BlockMemory) -> str:
    """Which block, bytes needed and there, which operator has most of them."""
    room = machine.room_bytes
    held = {k: kernel_bytes(k, block, options, options.prefill_chunk or 1) for k in kernels}
    largest = max(kernels, key=held.__getitem__)
    return (
        f"block {block.name} ({block.columns} x {block.rows} PEs) needs {m.total_bytes:,} bytes on a PE, "
        f"{room:,} are there (short by {m.total_bytes - room:,}): weights {m.weight_bytes:,}, KV {m.kv_bytes:,}, "
        f"buffers {m.buffer_bytes:,}; the largest operator is {largest.name} with "
        f"{held[largest]:,}"
    )


def smallest_change(
    partition: Partition, machine: Machine, options: Options, fits: Fits, larger_blocks: str = ""
) -> str:
    """The first of ever larger changes with which the model fits, in words that say all of it.

    `larger_blocks`: what makes a placement by hand fit; it is said first, and no placement is given up then.
    """

    @lru_cache(maxsize=256)
    def changed_fits(changed: Options) -> bool:
        return fits(partition, machine, changed)

    for changed in _changes(options, changed_fits):
        if larger_blocks and changed.blocks != options.blocks:
            return larger_blocks
        if changed_fits(changed):
            said = _said(options, changed)
            return f"{larger_blocks}; or {said}" if larger_blocks else said
    return _other_machine(partition, machine, options, fits)


def _changes(options: Options, fits: Callable[[Options], bool]) -> Iterator[Options]:
    """Less work of the same kind, then other placements, then a smaller dtype."""

    def less(of: Options, steps: int, with_steps: Callable[[int], dict[str, Any]]) -> Options:
        """The most steps that fit; one where none does."""

        def changed(n: int) -> Options:
            return dataclasses.replace(of, **with_steps(n))

        return changed(largest(steps, lambda n: fits(changed(n))) if fits(changed(1)) else 1)

    def fewer(n: int) -> dict[str, Any]:
        return {"sequences": n, "batch": min(n, options.batch)}

    one = dataclasses.replace(options, **fewer(1))
    contexts = (options.max_context - 1) // CONTEXT_STEP
    if options.batch > 1:
        yield less(options, options.batch - 1, lambda n: {"batch": n})
    if options.sequences > 1:
        yield less(options, options.sequences - 1, fewer)
    if contexts:
        yield less(options, contexts, lambda n: {"max_context": n * CONTEXT_STEP})
        yield less(one, contexts, lambda n: {"max_context": n * CONTEXT_STEP})
    if options.kv == CONCAT:
        yield dataclasses.replace(options, kv=INTERLEAVED)
    if options.prefill_chunk:
        yield dataclasses.replace(options, prefill_chunk=None)
    if options.block:
        yield dataclasses.replace(options, block=None)
    for layers in range(options.layers_per_block - 1, 0, -1):
        yield dataclasses.replace(options, layers_per_block=layers)
    for strategy in ("pipelined", "shared"):
        if options.blocks:
            freed: dict[str, Any] = {"blocks": (), "collectives": (), "collective": AUTO, "prefill_chunk": None}
            yield dataclasses.replace(options, strategy=strategy, **freed)
        elif strategy != options.strategy:
            yield dataclasses.replace(options, strategy=strategy, block=None, layers_per_block=1)
    if dtype_bytes(options.cache.stored(options.timing_dtype)) > 1:
        yield dataclasses.replace(options, kv_dtype="int8")
    if dtype_bytes(options.timing_dtype) > 1:
        yield dataclasses.replace(options, timing_dtype="int8")


def _said(options: Options, changed: Options) -> str:
    """The options that differ, with their new values."""
    if options.blocks and not changed.blocks:
        return f"{keyword('placement', None)} {keyword('strategy', changed.strategy)}"
    if options.blocks and options.prefill_chunk != changed.prefill_chunk:
        return "no prefill_chunk in the placement's file"
    names = (field.name for field in dataclasses.fields(Options))
    return " ".join(keyword(n, getattr(changed, n)) for n in names if getattr(changed, n) != getattr(options, n))


def largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest n in 1..limit for which a property holds that small n have and large ones lose; 0 if none has."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _other_machine(partition: Partition, machine: Machine, options: Options, fits: Fits) -> str:
    needed = sum(prod(int(extent) for extent in p.type.shape) for p in partition.graph.parameters)
    needed *= dtype_bytes(options.timing_dtype)
    there = machine.usable.pes * machine.room_bytes
    if needed > there:
        return (
            f"{-(-needed // there)} wafers or more (the weights alone are {_sized(needed)}, "
            f"one {machine.name} has room for {_sized(there)})"
        )

    def short(missing: int) -> bool:
        sram = machine.sram_bytes + missing * SRAM_STEP
        return not fits(partition, dataclasses.replace(machine, sram_bytes=sram), options)

    steps = 8 * machine.sram_bytes // SRAM_STEP
    if short(steps):
        return f"a wafer of more PEs than the {machine.usable.columns} x {machine.usable.rows} of {machine.name}"
    more = (largest(steps, short) + 1) * SRAM_STEP
    return f"sram_bytes of {machine.sram_bytes + more:,} a PE, {more:,} more than {machine.name} has"


def _sized(count: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"
