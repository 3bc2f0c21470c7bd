"""Padding: multiply-adds that PEs do for nothing, since the program is one for all of them and tiles are not full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsesim.engine.steps.timing import Step
from wsesim.program.kernels import Kernel
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


def _of_kernel(program: Program, kernel: Kernel, one: Pass) -> tuple[int, int]:
    """(done, needed). Every PE with a share does as much as the fullest one."""
    along = program.block(kernel.block).along
    tokens = one.logits if kernel.last_token_only else one.tokens
    needed = sum(kernel.multiply_adds(seen) for seen in one.contexts[len(one.contexts) - tokens :])
    return tokens * kernel.padded_multiply_adds(one.context, along), needed
