"""Bytes on the fullest PE of a block: weights with their padding, KV cache, and the buffers alive at once."""

from __future__ import annotations

from collections.abc import Iterable

from wsesim.machine.parts import dtype_bytes
from wsesim.program.kernels import DECODE, PREFILL, Embed, Kernel, WeightRef
from wsesim.program.parts import Block, BlockMemory
from wsesim.software.form import size_value
from wsesim_compiler.options import Options


def block_memory(block: Block, kernels: Iterable[Kernel], options: Options, chunk: int) -> BlockMemory:
    """The block's row of the memory map, for `options.sequences` sequences of `options.max_context` tokens.

    Buffers are for a prompt's `chunk` or a decode step's batch of tokens, whichever is more.
    """
    kernels = tuple(kernels)
    size = dtype_bytes(options.timing_dtype)
    weights = sum(_weight_elements(kernels).values()) * size
    kv = sum(_kv_bytes(k, block, options, chunk) for k in kernels)
    buffers = _buffer_elements(kernels, block, options, chunk) * size
    return BlockMemory(block.name, weights, kv, buffers)


def kernel_bytes(kernel: Kernel, block: Block, options: Options, chunk: int) -> int:
    """Bytes that one kernel keeps on a PE from token to token: its weights and its part of the KV cache."""
    weights = sum(_weight_elements((kernel,)).values()) * dtype_bytes(options.timing_dtype)
    return weights + _kv_bytes(kernel, block, options, chunk)


def _weight_elements(kernels: tuple[Kernel, ...]) -> dict[WeightRef, int]:
    """Elements of each weight's tile. A weight that two kernels share (a tied head) counts once."""
    return {tile.weight: tile.elements for kernel in kernels for tile in kernel.tiles}


def _kv_bytes(kernel: Kernel, block: Block, options: Options, chunk: int) -> int:
    if kernel.cache is None:
        return 0
    positions = kernel.cache.stored_positions(options.max_context, block.along, chunk) * options.sequences
    return positions * kernel.kv_width * dtype_bytes(kernel.cache.stored(options.timing_dtype))


def _positions(kernels: tuple[Kernel, ...], block: Block, options: Options) -> int:
    """Positions of the KV cache on the fullest line; 0 without a cache."""
    caches = (k.cache for k in kernels if k.cache is not None)
    return max((cache.positions(options.max_context, block.along) for cache in caches), default=0)


def _buffer_elements(kernels: tuple[Kernel, ...], block: Block, options: Options, chunk: int) -> int:
    """Most elements alive at once: values from their making to their last use, and each kernel's own scratch."""
    positions = _positions(kernels, block, options)
    together = max(chunk, options.batch)
    last = {value: number for number, k in enumerate(kernels) for value, _, _ in k.reads}
    leaving: list[list[int]] = [[] for _ in range(len(kernels) + 1)]  # elements that are there for the last time
    alive = most = 0
    for value, elements in _arriving_elements(kernels).items():
        alive += together * elements
        leaving[last[value]].append(together * elements)
    for number, kernel in enumerate(kernels):
        tokens = options.batch if kernel.last_token_only else together
        for value, elements in kernel.value_elements(positions).items():
            alive += tokens * elements
            leaving[last.get(value, number + 1)].append(tokens * elements)  # what nobody reads goes on its way
        scratch = tokens * kernel.scratch_elements(positions) + _form_scratch(kernel, options, chunk, positions)
        most = max(most, alive + scratch)
        alive -= sum(leaving[number])
    return most


def _form_scratch(kernel: Kernel, options: Options, chunk: int, positions: int) -> int:
    """Elements that only the kernel's forms need, in the phase that needs more."""
    if isinstance(kernel, Embed):
        return 0
    most = 0
    for phase, tokens in ((DECODE, options.batch), (PREFILL, options.batch if kernel.last_token_only else chunk)):
        scratch = options.software.form(type(kernel).__name__, kernel.in_phase(phase).form).scratch
        most = max(most, size_value(scratch, kernel.sizes(tokens, positions)) if scratch else 0)
    return most


def most_scratch_bytes(kernels: Iterable[Kernel], block: Block, options: Options, chunk: int) -> int:
    """Bytes of scratch of the form that needs most, of all forms that the software has for a kernel, in any phase."""
    kernels = tuple(kernels)
    positions, tokens = _positions(kernels, block, options), max(chunk, options.batch)
    most = 0
    for kernel in kernels:
        forms = () if isinstance(kernel, Embed) else options.software.forms_of(type(kernel).__name__)
        for form in forms:
            most = max(most, size_value(form.scratch, kernel.sizes(tokens, positions)) if form.scratch else 0)
    return most * dtype_bytes(options.timing_dtype)


def _arriving_elements(kernels: tuple[Kernel, ...]) -> dict[str, int]:
    """Values that transfers bring, and the elements of each on a PE."""
    made = {operand.value for kernel in kernels for operand in kernel.makes}
    read = (operand for kernel in kernels for operand in kernel.reads)
    return {operand.value: operand.layout.width for operand in read if operand.value not in made}
