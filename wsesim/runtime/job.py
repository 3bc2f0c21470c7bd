"""Job: a request as the Scheduler sees it, in tokens and cycles."""

from __future__ import annotations

from dataclasses import dataclass, field

from wsesim.program.kernels import DECODE, PREFILL
from wsesim.runtime.protocols import Cycles, StepCycles


@dataclass(slots=True, eq=False)
class Job:
    """The lengths of a request, and the cycle of each thing that happens to it.

    `output_tokens` is the most that it may generate; a text may end before. `candidates` are those of a draw, 1 if it
    is greedy. The Scheduler alone sets the other fields. `admitted_cycles`, `logits_cycles` (after the last prompt
    token) and `token_cycles` (one for each token) are readings of its clock, as `arrival_cycles` is.
    """

    prompt_tokens: int
    output_tokens: int
    candidates: int = 1
    arrival_cycles: int = 0
    admitted_cycles: int = field(default=0, init=False)
    logits_cycles: int = field(default=0, init=False)
    token_cycles: list[int] = field(default_factory=list, init=False)
    ended: bool = field(default=False, init=False)  # before it has all its tokens
    # The step that is on the wafer: its own cycles, when it enters, and when the next step of any job can enter.
    step_cycles: int = field(default=0, init=False)
    enters_cycles: int = field(default=0, init=False)
    leaves_room_cycles: int = field(default=0, init=False)

    @property
    def phase(self) -> str:
        """PREFILL until the first token has come, then DECODE."""
        return DECODE if self.token_cycles else PREFILL

    @property
    def context(self) -> int:
        """Tokens in the KV cache before the next decode step."""
        return self.prompt_tokens + len(self.token_cycles) - 1

    @property
    def over(self) -> bool:
        """Whether no further token comes."""
        return self.ended or len(self.token_cycles) == self.output_tokens

    def next_step(self, cycles: Cycles) -> StepCycles:
        """The cycles of its prompt, or of its next decode step."""
        if self.phase == PREFILL:
            return cycles.prefill(self.prompt_tokens, self.candidates)
        return cycles.decode(self.context, self.candidates)
