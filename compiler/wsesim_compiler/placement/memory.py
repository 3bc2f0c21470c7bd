"""Bytes on the fullest PE of a block: weights with their padding, KV cache, and the buffers alive at once."""

from __future__ import annotations

from collections.abc import Iterable

from wsesim.machine.parts import dtype_bytes
from wsesim.program.kernels import (
    Add,
    Embed,
    FlashSum,
    Kernel,
    Linear,
    QKNorm,
    RMSNorm,
    Rope,
    Sample,
    Score,
    Softmax,
    SwiGLU,
    WeightedSum,
    WeightRef,
    kernel_inputs,
    kernel_outputs,
)
from wsesim.program.parts import Block, BlockMemory
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
    """Elements of each weight's tile; a weight that two kernels share (a tied head) is there once."""
    tiles: dict[WeightRef, int] = {}
    for kernel in kernels:
        match kernel:
            case Embed():
                tiles[kernel.weight] = kernel.vocabulary.width * kernel.layout.width
            case RMSNorm():
                tiles[kernel.weight] = kernel.layout.width
            case Linear():
                for output in kernel.outputs:
                    tiles[output.weight] = kernel.layout.width * output.layout.width
                    if output.bias is not None:
                        tiles[output.bias] = output.layout.width
            case QKNorm():
                tiles |= {w: layout.features for w, layout in zip(kernel.weights, kernel.layouts, strict=True)}
            case _:
                pass
    return tiles


def _kv_bytes(kernel: Kernel, block: Block, options: Options, chunk: int) -> int:
    match kernel:
        case Score():
            width = kernel.key_layout.width
        case WeightedSum() | FlashSum():
            width = kernel.value_layout.width
        case _:
            return 0
    positions = kernel.cache.stored_positions(options.max_context, block.along, chunk) * options.sequences
    return positions * width * dtype_bytes(kernel.cache.stored(options.timing_dtype))


def _positions(kernels: tuple[Kernel, ...], block: Block, options: Options) -> int:
    """Positions on the fullest line, 0 where nothing is cached."""
    caches = (k.cache for k in kernels if isinstance(k, Score | Softmax | WeightedSum | FlashSum))
    return max((cache.positions(options.max_context, block.along) for cache in caches), default=0)


def _buffer_elements(kernels: tuple[Kernel, ...], block: Block, options: Options, chunk: int) -> int:
    """Most elements alive at once: values from their making to their last use, and each kernel's own scratch."""
    positions = _positions(kernels, block, options)
    together = max(chunk, options.batch)
    last = {value: number for number, k in enumerate(kernels) for value in kernel_inputs(k)}
    leaving: list[list[int]] = [[] for _ in range(len(kernels) + 1)]  # elements that are there for the last time
    alive = most = 0
    for value, elements in _arriving_elements(kernels).items():
        alive += together * elements
        leaving[last[value]].append(together * elements)
    for number, kernel in enumerate(kernels):
        tokens = options.batch if _of_last_token(kernel) else together
        for value, elements in _value_elements(kernel, positions).items():
            alive += tokens * elements
            leaving[last.get(value, number + 1)].append(tokens * elements)  # what nobody reads goes on its way
        most = max(most, alive + tokens * _scratch_elements(kernel, positions))
        alive -= sum(leaving[number])
    return most


def _of_last_token(kernel: Kernel) -> bool:
    """Of a prompt's chunk only the last token becomes logits; of a batch every token."""
    return isinstance(kernel, Sample) or (isinstance(kernel, Linear) and not kernel.broadcast)


def _arriving_elements(kernels: tuple[Kernel, ...]) -> dict[str, int]:
    """What transfers bring: the residual stream, read first by a norm and last by an add."""
    made = {value for kernel in kernels for value in kernel_outputs(kernel)}
    readers = (k for k in kernels if isinstance(k, RMSNorm | Linear | Add))
    return {v: k.layout.width for k in readers for v in kernel_inputs(k) if v not in made}


def _value_elements(kernel: Kernel, positions: int) -> dict[str, int]:
    match kernel:
        case Linear():
            return {o.value: o.layout.width for o in kernel.outputs}
        case QKNorm() | Rope():
            return {t: layout.width for t, layout in zip(kernel.targets, kernel.layouts, strict=True)}
        case Score():
            return {kernel.target: _scores(kernel.query_layout.heads, positions)}
        case Softmax():
            return {kernel.target: 0}  # in the place of the scores
        case WeightedSum() | FlashSum():
            return {kernel.target: kernel.layout.width}
        case Sample():
            return {kernel.target: 2}
        case Embed() | RMSNorm() | SwiGLU() | Add():
            return {kernel.target: kernel.layout.width}


def _scores(heads: int, positions: int) -> int:
    return heads * positions


def _scratch_elements(kernel: Kernel, positions: int) -> int:
    """What is received before it is added, or sorted before it is sent."""
    match kernel:
        case Linear():
            return sum(o.layout.width for o in kernel.outputs)
        case Score():
            return _scores(kernel.query_layout.heads, positions)
        case Softmax():
            layout = kernel.layout
            return _scores(layout.heads, positions) + 2 * layout.heads
        case WeightedSum():
            return kernel.layout.width
        case FlashSum():
            return kernel.layout.width + 3 * kernel.layout.heads  # what comes, and each head's own maximum and sum
        case QKNorm():
            return 2 * sum(layout.heads for layout in kernel.layouts)
        case Rope():
            return 2 * len(kernel.inv_freq) // max(1, kernel.layouts[0].segment)
        case Sample():
            return 2 * 3 * kernel.candidates
        case RMSNorm():
            return 2
        case _:
            return 0
