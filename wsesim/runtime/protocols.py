"""What the runtime asks of its parts, so that it needs neither a model library nor a particular engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from wsesim.program.kernels import DECODE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextStream(Protocol):
    """Text of ids that come one by one; never part of a character."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Tokenizer(Protocol):
    """Text to ids and back, by a model's own rules. `piece`: the bytes of one id."""

    @property
    def eos_ids(self) -> frozenset[int]: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def piece(self, token_id: int) -> bytes: ...

    def stream(self) -> TextStream: ...


class Arithmetic(Protocol):
    """Real numbers: `wsesim.execute.Executor`. A sequence is one text's KV cache."""

    def new_sequence(self) -> Any: ...

    def fork(self, sequence: Any) -> Any: ...

    def step_each(
        self, sequences: Sequence[Any], token_ids: Sequence[Sequence[int]], *, phase: str = DECODE
    ) -> list[NDArray[np.float32]]: ...


class StepCycles(Protocol):
    """Cycles of one step: in all, to its logits, and those before another sequence's step can follow it."""

    @property
    def cycles(self) -> int: ...

    @property
    def logits_cycles(self) -> int: ...

    @property
    def busy_cycles(self) -> int: ...


class Cycles(Protocol):
    """Modelled time: `wsesim.toolchain.kept_steps.KeptSteps` over `wsesim.engine.steps.timing.Timing`."""

    def prefill(self, tokens: int, candidates: int) -> StepCycles: ...

    def decode(self, context: int, candidates: int) -> StepCycles: ...
