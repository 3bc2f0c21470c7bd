"""Padding: multiply-adds that PEs do for nothing, since the program is one for all of them and tiles are not full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsesim.engine.steps.timing import Step
from wsesim.program.kernels import FlashSum, Kernel, Linear, Score, WeightedSum
from wsesim.program.program import Program


@dataclass(frozen=True, slots=True)
class MultiplyAdds:
    """`done` by all PEs in one step, of which the model asks for `needed`."""

    done: int
    needed: int

    @property
    def padding_share(self) -> float:
        return 1 - self.needed / self.done


@dataclass(frozen=True, slots=True)
class Pass:
    """Tokens that go through the kernels together, the context after them, and those that visit the head.

    `contexts`: of each token the positions up to its own.
    """

    tokens: int
    context: int
    logits: int
    contexts: tuple[int, ...]


def multiply_adds_done(program: Program, step: Step) -> MultiplyAdds:
    """Of the weights' products and of attention's; vector operations on single elements are not counted."""
    done = needed = 0
    for one in _passes(program, step):
        for kernel in program.kernels:
            more_done, more_needed = _of_kernel(program, kernel, one)
            done, needed = done + more_done, needed + more_needed
    return MultiplyAdds(done, needed)


def _passes(program: Program, step: Step) -> Iterator[Pass]:
    """A decode step is one; a prompt has one a chunk, and a token of it attends to itself and those before."""
    if step.phase == "decode":
        positions = step.context + 1
        yield Pass(step.tokens, positions, step.tokens, (positions,) * step.tokens)
        return
    for start in range(0, step.tokens, program.prefill_chunk):
        stop = min(start + program.prefill_chunk, step.tokens)
        yield Pass(stop - start, stop, int(stop == step.tokens), tuple(range(start + 1, stop + 1)))


def needed_multiply_adds(kernel: Kernel, positions: int) -> int:
    """Of one token that is the last of `positions`, the head's included."""
    if isinstance(kernel, Linear):
        return kernel.layout.size * sum(o.layout.size for o in kernel.outputs)
    if isinstance(kernel, Score | WeightedSum | FlashSum):
        layout = kernel.query_layout if isinstance(kernel, Score) else kernel.layout
        return kernel.cache.seen(positions) * layout.size
    return 0


def _of_kernel(program: Program, kernel: Kernel, one: Pass) -> tuple[int, int]:
    """(done, needed). What is done: the fullest PE's share, on every PE that has any."""
    if isinstance(kernel, Linear):
        tokens = one.tokens if kernel.broadcast else one.logits
        across = max(o.layout.used for o in kernel.outputs) * sum(o.layout.width for o in kernel.outputs)
        return tokens * kernel.layout.used * kernel.layout.width * across, tokens * needed_multiply_adds(kernel, 0)
    if isinstance(kernel, Score | WeightedSum | FlashSum):
        layout = kernel.query_layout if isinstance(kernel, Score) else kernel.layout
        along = program.block(kernel.block).along
        positions = along * kernel.cache.positions(one.context, along)
        needed = sum(needed_multiply_adds(kernel, seen) for seen in one.contexts)
        return one.tokens * positions * layout.used * layout.width, needed
    return 0, 0
