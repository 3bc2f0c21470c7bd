"""Prompt: the KV cache and the logits of a prompt, computed once for all texts that continue it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsesim.execute.sampling import likeliest, logprob
from wsesim.runtime.completion import Alternatives
from wsesim.runtime.protocols import Arithmetic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Prompt:
    """A prompt that `users` texts continue. `logits` are those after its last token, None until it is computed.

    With `each_token` it is computed one token at a time, and `logprobs` has each token of it but the first.
    """

    def __init__(self, token_ids: Sequence[int], *, each_token: bool = False) -> None:
        self.token_ids = tuple(token_ids)
        self.each_token = each_token
        self.users = 0
        self.logprobs: list[tuple[float, Alternatives]] = []
        self.logits: NDArray[np.float32] | None = None
        self._fed = 0
        self._sequence: Any = None

    @property
    def computed(self) -> bool:
        return self._fed == len(self.token_ids)

    def sequence(self, arithmetic: Arithmetic) -> Any:
        """Its own KV cache."""
        if self._sequence is None:
            self._sequence = arithmetic.new_sequence()
        return self._sequence

    def next_ids(self, most: int) -> tuple[int, ...]:
        """The ids to feed next, at most `most`."""
        return self.token_ids[self._fed : self._fed + (1 if self.each_token else most)]

    def consume(self, fed: int, logits: NDArray[np.float32], alternatives: int) -> None:
        """Takes the `logits` after `fed` more tokens; with `each_token`, notes so many alternatives of the next."""
        self._fed += fed
        if self.computed:
            self.logits = logits
        elif self.each_token:
            top = tuple((token.id, token.logprob) for token in likeliest(logits, alternatives))
            self.logprobs.append((logprob(logits, self.token_ids[self._fed]), top))

    def fork(self, arithmetic: Arithmetic) -> Any:
        """The KV cache of a text that continues it: a copy, or for the last user the prompt's own."""
        sequence = self._sequence
        self.drop()
        return arithmetic.fork(sequence) if self.users else sequence

    def drop(self) -> None:
        """One user less; without users the cache is released."""
        self.users -= 1
        if not self.users:
            self._sequence = None
