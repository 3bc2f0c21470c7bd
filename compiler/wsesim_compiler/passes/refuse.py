"""Refusals: a model that does not fit, said with block, operator, bytes needed and there, and the change that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from wsesim.machine import Machine
from wsesim.machine.machine import dtype_bytes
from wsesim.program.kernels import Kernel
from wsesim.program.program import Block, BlockMemory
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.memory import kernel_bytes
from wsesim_compiler.options import Options
from wsesim_compiler.partition import Partition

Fits = Callable[[Partition, Machine, Options], bool]


def refuse(
    partition: Partition,
    machine: Machine,
    options: Options,
    block: Block,
    kernels: tuple[Kernel, ...],
    memory: BlockMemory,
) -> PlacementError:
    """The error for one block that is over its room, when the block's shape is not the compiler's to change."""
    change = f"{memory.total_bytes - machine.room_bytes} bytes less on a PE: a larger block, or fewer layers on it"
    return PlacementError(refusal_message(partition, machine, options, block, kernels, memory, change))


def refusal_message(
    partition: Partition,
    machine: Machine,
    options: Options,
    block: Block,
    kernels: tuple[Kernel, ...],
    memory: BlockMemory,
    change: str,
) -> str:
    """Which block, which operator, bytes needed and there, smallest change."""
    room = machine.room_bytes
    largest = max(kernels, key=lambda k: kernel_bytes(k, block, options))
    return (
        f"{partition.graph.name} does not fit {machine.name} as {options.strategy}: block {block.name} "
        f"({block.columns} x {block.rows} PEs) needs {memory.total_bytes:,} bytes on a PE, {room:,} are there "
        f"(short by {memory.total_bytes - room:,}): weights {memory.weight_bytes:,}, KV {memory.kv_bytes:,}, "
        f"buffers {memory.buffer_bytes:,}; the largest operator is {largest.name} with "
        f"{kernel_bytes(largest, block, options):,}. Smallest change that fits: {change}"
    )


def smallest_change(partition: Partition, machine: Machine, options: Options, fits: Fits) -> str:
    """The first of ever larger changes with which the model fits."""
    for words, changed in _changes(options):
        if fits(partition, machine, changed):
            return words
    return _wafers(partition, machine, options)


def _changes(options: Options) -> Iterator[tuple[str, Options]]:
    for sequences in range(options.sequences - 1, 0, -1):
        yield f"--sequences {sequences}", dataclasses.replace(options, sequences=sequences)
    context = options.max_context // 2
    while context >= 128:
        yield f"--max-context {context}", dataclasses.replace(options, max_context=context, sequences=1)
        context //= 4
    if options.block:
        yield "no fixed block shape", dataclasses.replace(options, block=None)
    if options.strategy != "pipelined":
        yield "--strategy pipelined", dataclasses.replace(options, strategy="pipelined", block=None)
    if dtype_bytes(options.timing_dtype) > 1:
        yield "--timing-dtype int8", dataclasses.replace(options, timing_dtype="int8")


def _wafers(partition: Partition, machine: Machine, options: Options) -> str:
    parameters = sum(_elements(p.type.shape) for p in partition.graph.parameters)
    needed = parameters * dtype_bytes(options.timing_dtype)
    there = machine.usable.pes * machine.room_bytes
    return (
        f"{-(-needed // there)} wafers or more (the weights alone are {needed / 1e9:.2f} GB, "
        f"one {machine.name} has room for {there / 1e9:.2f} GB)"
        if needed > there
        else f"more SRAM a PE (the weights are {needed / 1e9:.2f} GB of {there / 1e9:.2f} GB of room, before padding)"
    )


def _elements(shape: tuple[int | str, ...]) -> int:
    count = 1
    for extent in shape:
        count *= int(extent)
    return count
