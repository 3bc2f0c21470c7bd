"""What the runtime asks of its parts, so that it needs neither a model library nor a particular engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from wsesim.program.kernels import DECODE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextStream(Protocol):
    """Text of ids that come one by one; never part of a character."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Tokenizer(Protocol):
    """Text to ids and back, by a model's own rules."""

    @property
    def eos_ids(self) -> frozenset[int]: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def stream(self) -> TextStream: ...


class State(Protocol):
    """One sequence's KV cache."""

    position: int


class Arithmetic(Protocol):
    """Real numbers: `wsesim.execute.Executor`."""

    def new_sequence(self) -> State: ...

    def step(
        self, sequence: State, token_ids: Sequence[int], logits: bool = True, *, phase: str = DECODE
    ) -> NDArray[np.float32] | None: ...


class StepCycles(Protocol):
    """Cycles of one step, to its logits and in all."""

    @property
    def cycles(self) -> int: ...

    @property
    def logits_cycles(self) -> int: ...


class Cycles(Protocol):
    """Modelled time: `wsesim.toolchain.steps.RememberedSteps` over `wsesim.engine.timing.Timing`."""

    def prefill(self, tokens: int, candidates: int) -> StepCycles: ...

    def decode(self, context: int, candidates: int) -> StepCycles: ...
