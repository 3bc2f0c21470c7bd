"""The interfaces that the runtime needs of tokenizers, of arithmetic and of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from wsesim.program.kernels import DECODE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextStream(Protocol):
    """Text of ids that come one by one, in whole characters."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Tokenizer(Protocol):
    """From text to ids and back. `piece`: the bytes of one id."""

    @property
    def eos_ids(self) -> frozenset[int]: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def piece(self, token_id: int) -> bytes: ...

    def stream(self) -> TextStream: ...


class Arithmetic(Protocol):
    """Computes logits, as `wsesim.execute.executor.Executor` does. A sequence is the KV cache of one text."""

    def new_sequence(self) -> Any: ...

    def fork(self, sequence: Any) -> Any: ...

    def step_each(
        self, sequences: Sequence[Any], token_ids: Sequence[Sequence[int]], *, phase: str = DECODE
    ) -> list[NDArray[np.float32]]: ...


class StepCycles(Protocol):
    """Cycles of one step: in all, until its logits, and until a step of another sequence can follow it."""

    @property
    def cycles(self) -> int: ...

    @property
    def logits_cycles(self) -> int: ...

    @property
    def busy_cycles(self) -> int: ...


class Cycles(Protocol):
    """The cycles of steps, as `wsesim.toolchain.kept_steps.KeptSteps` gives them."""

    def prefill(self, tokens: int, candidates: int) -> StepCycles: ...

    def decode(self, context: int, candidates: int) -> StepCycles: ...
