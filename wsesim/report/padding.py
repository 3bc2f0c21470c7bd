"""Padding: multiply-adds on the empty part of tiles. All PEs run the same program, with a full tile or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsesim.engine.steps.timing import Step
from wsesim.program.kernels import Kernel
from wsesim.program.program import Program


@dataclass(frozen=True, slots=True)
class MultiplyAdds:
    """`done`: by all PEs in one step. `needed`: those that the model needs."""

    done: int
    needed: int

    @property
    def padding_share(self) -> float:
        return 1 - self.needed / self.done


@dataclass(frozen=True, slots=True)
class Pass:
    """`tokens` that go through the kernels together; `logits` of them visit the head. `context`: positions after them.

    `contexts`: for each token, the positions up to its own.
    """

    tokens: int
    context: int
    logits: int
    contexts: tuple[int, ...]


def multiply_adds_done(program: Program, step: Step) -> MultiplyAdds:
    """Multiply-adds of the weights and of attention in one step. Elementwise operations are not counted."""
    done = needed = 0
    for one in _passes(program, step):
        for kernel in program.kernels:
            more_done, more_needed = _of_kernel(program, kernel, one)
            done, needed = done + more_done, needed + more_needed
    return MultiplyAdds(done, needed)


def needed_by_kernel(program: Program, step: Step) -> list[int]:
    """Multiply-adds that the model needs of each kernel of `program` in one step."""
    passes = list(_passes(program, step))
    return [sum(_of_kernel(program, kernel, one)[1] for one in passes) for kernel in program.kernels]


def _passes(program: Program, step: Step) -> Iterator[Pass]:
    """One pass for a decode step, one for each chunk of a prompt. A token attends to itself and those before it."""
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
