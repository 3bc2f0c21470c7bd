"""Executor: a Program's arithmetic over real weights, a step of one or more tokens of one or more texts at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Ids
from typing import Any, Literal, overload

import numba
import numpy as np
from numpy.typing import NDArray

from wsesim.errors import UnknownNameError
from wsesim.execute.bind import Binder, Bound
from wsesim.execute.calls import Call
from wsesim.execute.errors import ContextOverflowError, KernelTypeError, TokenIdError
from wsesim.execute.pack import check_dtype, pack_weights
from wsesim.execute.passes import Pass, passes
from wsesim.execute.sequence import Sequence
from wsesim.program import Program, WeightStore
from wsesim.program.kernels import DECODE, KERNEL_TYPES, PREFILL

ACTIVATIONS = ("fp32", "bf16", "fp16")
CHUNK = 32  # tokens whose values are held at once; changes no bit

# Kernels let go of the GIL, so that other threads go on; numba's plainest threading layer may not be entered twice.
_one_at_a_time = threading.Lock()


class Executor:
    """Runs `program` with `weights` packed as `dtype`, rounding to `activations` wherever a kernel ends.

    Sums are float32 in every case. The logits of a token depend on its own text alone: not on the pass that it came
    in, nor on the number of threads. Raises UnknownNameError for a dtype, WeightShapeError for weights that are not the
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

    def fork(self, sequence: Sequence) -> Sequence:
        """A copy of a text's cache, to go on differently (same bits as if its tokens had been appended again)."""
        with _one_at_a_time:
            return sequence.copy()

    @overload
    def step(
        self, sequence: Sequence, token_ids: Ids[int], logits: Literal[True] = True, *, phase: str = DECODE
    ) -> NDArray[np.float32]: ...

    @overload
    def step(
        self, sequence: Sequence, token_ids: Ids[int], logits: bool, *, phase: str = DECODE
    ) -> NDArray[np.float32] | None: ...

    def step(
        self, sequence: Sequence, token_ids: Ids[int], logits: bool = True, *, phase: str = DECODE
    ) -> NDArray[np.float32] | None:
        """Appends `token_ids` (one or more) to `sequence`, with the collectives of DECODE or PREFILL; the last one's
        logits [vocabulary], or None if not asked for.

        Raises TokenIdError and ContextOverflowError, before anything has changed.
        """
        found = self._append([sequence], [token_ids], phase, logits)
        return found[0] if logits else None

    def step_each(
        self, sequences: Ids[Sequence], token_ids: Ids[Ids[int]], *, phase: str = DECODE
    ) -> list[NDArray[np.float32]]:
        """Appends token_ids[i] (one or more) to sequences[i], different sequences, together: each pass of at most CHUNK
        tokens reads the weights once for all. The logits [vocabulary] after each one's last token, bit for bit what
        `step` gives alone.

        Raises TokenIdError and ContextOverflowError, before anything has changed.
        """
        assert len({id(sequence) for sequence in sequences}) == len(sequences), "a sequence is there twice"
        return self._append(sequences, token_ids, phase, logits=True)

    def _append(
        self, sequences: Ids[Sequence], token_ids: Ids[Ids[int]], phase: str, logits: bool
    ) -> list[NDArray[np.float32]]:
        texts = list(zip(sequences, token_ids, strict=True))
        for sequence, ids in texts:
            self._check(sequence, ids)
        bound, found = self._bound[phase], []
        with _one_at_a_time:
            for sequence, ids in texts:
                sequence.reserve(sequence.position + len(ids))
            for passed in passes(texts, CHUNK):
                _run_body(bound, passed)
                if logits:
                    found += _run_tail(bound, passed)
        return found

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


def _run_body(bound: Bound, passed: Pass) -> None:
    """Appends the tokens: after it their keys and values are there, and what the tail reads of them."""
    positions = passed.positions()
    for angles in bound.angles.values():
        angles.fill(positions)
    for lines in bound.lines.values():
        lines.fill(positions)
    for part in passed.parts:
        bound.ids[part.first : part.last + 1] = part.ids
    _run_all(bound.body, passed)
    for part in passed.parts:
        part.sequence.position += part.tokens


def _run_tail(bound: Bound, passed: Pass) -> list[NDArray[np.float32]]:
    """The logits of each part that ends; its last row becomes row 0, 1, ... of what the tail reads."""
    ended = passed.ended()
    if ended is None:
        return []
    for row, last in enumerate(part.last for part in passed.parts if part.ends):  # ascending, and never below `row`
        for array, size in bound.crossing if row < last else ():
            array[row * size : (row + 1) * size] = array[last * size : (last + 1) * size]
    _run_all(bound.tail, ended)
    assert bound.logits is not None, "a Program ends with a Sample"
    values, size, places = bound.logits
    return [values[row * size :][places] for row in range(ended.tokens)]


def _check_kernels(program: Program) -> None:
    for kernel in program.kernels:
        if not isinstance(kernel, KERNEL_TYPES):
            what, known = type(kernel).__name__, ", ".join(t.__name__ for t in KERNEL_TYPES)
            raise KernelTypeError(
                f"kernel {kernel.name} is a {what}, which is timed but not executed; executed are {known}"
            )


def _run_all(calls: list[Call], passed: Pass) -> None:
    for call in calls:
        call(passed)
