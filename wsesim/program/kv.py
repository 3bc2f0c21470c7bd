"""Where the KV cache lies: which positions each line of a block holds, and the dtype that they are stored in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.program.layout import ceil_div

INTERLEAVED, SHIFT, CONCAT = POLICIES = ("interleaved", "shift", "concat")
KV_DTYPES = ("fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class KVCache:
    """How a block that splits the residual stream over `along` lines keeps the n positions seen so far.

    interleaved  position t on line t mod along; nothing moves
    shift        in order and evenly, line i from n * i // along on; with every token each line passes its oldest up
    concat       all of them on the last line; nothing moves, and one line's room is all the room there is

    `dtype` None is the one that everything else is timed in.
    """

    policy: str = INTERLEAVED
    dtype: str | None = None

    def stored(self, timing_dtype: str) -> str:
        return self.dtype or timing_dtype

    def positions(self, context: int, along: int) -> int:
        """Positions on the fullest line; every PE works on as many, masked where it has fewer."""
        return context if self.policy == CONCAT else ceil_div(context, along)

    def longest(self, positions: int, along: int) -> int:
        """The longest context of which no line holds more than so many positions."""
        return positions if self.policy == CONCAT else positions * along

    def step(self, along: int) -> int:
        """Distance of two positions that follow each other on a line."""
        return along if self.policy == INTERLEAVED else 1

    def spans(self, seen: NDArray[np.int64], along: int) -> NDArray[np.int64]:
        """[len(seen), along, 2]: of so many positions each line's first, and where it ends; equal for an empty line."""
        n, line = seen[:, None], np.arange(along)
        if self.policy == SHIFT:
            first, end = n * line // along, n * (line + 1) // along
        elif self.policy == CONCAT:
            first, end = np.where(line == along - 1, 0, n), n
        else:
            first, end = np.minimum(line, n), n
        return np.stack(np.broadcast_arrays(first, end), axis=-1)


DEFAULT_CACHE = KVCache()
