"""Executor: a Program's arithmetic over real weights, a step of one or more tokens at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Ids
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from wsesim.errors import UnknownNameError
from wsesim.execute.bind import Binder, Bound
from wsesim.execute.calls import Call
from wsesim.execute.errors import ContextOverflowError, KernelTypeError, TokenIdError
from wsesim.execute.pack import check_dtype, pack_weights
from wsesim.execute.sequence import Sequence
from wsesim.program import Program, WeightStore
from wsesim.program.kernels import DECODE, KERNEL_TYPES, PREFILL

ACTIVATIONS = ("fp32", "bf16", "fp16")
CHUNK = 32  # tokens whose values are held at once; changes no bit

# numba's plainest threading layer may not be entered twice.
_one_at_a_time = threading.Lock()


class Executor:
    """Runs `program` with `weights` packed as `dtype`, rounding to `activations` wherever a kernel ends.

    Sums are float32 in every case. The logits of a token do not depend on the chunk that it came in, nor on
    the number of threads. Raises UnknownNameError for a dtype, WeightShapeError for weights that are not the
    Program's, KernelTypeError for kernels that have no arithmetic here.
    """

    def __init__(self, program: Program, weights: WeightStore, dtype: str = "fp32", activations: str = "fp32") -> None:
        check_dtype(dtype)
        if activations not in ACTIVATIONS:
            raise UnknownNameError("activation dtype", activations, ACTIVATIONS)
        _check_kernels(program)
        self._vocabulary, self._max_context = program.vocabulary, program.max_context
        with _one_at_a_time:
            packed = pack_weights(program, weights, dtype)
            self._bound = _bind_phases(program, packed, activations)

    def new_sequence(self) -> Sequence:
        """An empty text. Its cache grows as it does, up to the Program's `max_context`."""
        bound = self._bound[DECODE]
        return Sequence(tuple(bound.key_rows), tuple(bound.value_rows))

    def step(
        self, sequence: Sequence, token_ids: Ids[int], logits: bool = True, *, phase: str = DECODE
    ) -> NDArray[np.float32] | None:
        """Appends `token_ids` (one or more) to `sequence`, with the collectives of DECODE or PREFILL; the last one's
        logits [vocabulary], or None if not asked for.

        Raises TokenIdError and ContextOverflowError, before anything has changed.
        """
        self._check(sequence, token_ids)
        bound = self._bound[phase]
        with _one_at_a_time:
            sequence.reserve(sequence.position + len(token_ids))
            for first in range(0, len(token_ids), CHUNK):
                ids = token_ids[first : first + CHUNK]
                bound.ids[: len(ids)] = ids
                _run(bound, sequence, len(ids), logits and first + len(ids) == len(token_ids))
            return _logits(bound) if logits else None

    def _check(self, sequence: Sequence, token_ids: Ids[int]) -> None:
        if not len(token_ids):
            raise TokenIdError("a step needs at least one token id")
        for token in token_ids:
            if not 0 <= token < self._vocabulary:
                raise TokenIdError(f"token id {token} is outside the vocabulary of {self._vocabulary}")
        needed = sequence.position + len(token_ids)
        if needed > self._max_context:
            raise ContextOverflowError(
                f"{sequence.position} tokens and {len(token_ids)} more are beyond the compiled context"
                f" of {self._max_context}"
            )


def _bind_phases(program: Program, packed: dict[str, Any], activations: str) -> dict[str, Bound]:
    """The calls of each phase; they are the same ones where no kernel tells the phases apart."""

    def bound(phase: str) -> Bound:
        return Binder(program, phase, packed, activations, CHUNK, numba.get_num_threads()).bind()

    decode = bound(DECODE)
    alike = program.in_phase(DECODE) == program.in_phase(PREFILL)
    return {DECODE: decode, PREFILL: decode if alike else bound(PREFILL)}


def _run(bound: Bound, sequence: Sequence, tokens: int, logits: bool) -> None:
    for angles in bound.angles.values():
        angles.fill(tokens, sequence.position)
    for lines in bound.lines.values():
        lines.fill(tokens, sequence.position)
    _run_all(bound.body, tokens, sequence)
    sequence.position += tokens
    if logits:
        for array, row in bound.crossing if tokens > 1 else ():
            array[:row] = array[(tokens - 1) * row : tokens * row]
        _run_all(bound.tail, 1, sequence)


def _logits(bound: Bound) -> NDArray[np.float32]:
    assert bound.logits is not None, "a Program ends with a Sample"
    values, places = bound.logits
    return values[places]


def _check_kernels(program: Program) -> None:
    for kernel in program.kernels:
        if not isinstance(kernel, KERNEL_TYPES):
            what, known = type(kernel).__name__, ", ".join(t.__name__ for t in KERNEL_TYPES)
            raise KernelTypeError(
                f"kernel {kernel.name} is a {what}, which is timed but not executed; executed are {known}"
            )


def _run_all(calls: list[Call], tokens: int, sequence: Sequence) -> None:
    for call in calls:
        call(tokens, sequence)
