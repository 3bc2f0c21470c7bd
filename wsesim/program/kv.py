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

    `dtype` None is the one that everything else is timed in. With a `window`, a token sees itself and the window - 1
    positions before it; those before the window of every token that goes through together are overwritten.
    """

    policy: str = INTERLEAVED
    dtype: str | None = None
    window: int | None = None

    def stored(self, timing_dtype: str) -> str:
        return self.dtype or timing_dtype

    def positions(self, context: int, along: int) -> int:
        """Positions on the fullest line that a token sees; every PE works on as many, masked where it has fewer."""
        return self._fullest(self.seen(context), along)

    def stored_positions(self, context: int, along: int, together: int) -> int:
        """Positions that the fullest line has room for, so that each of `together` tokens finds its own window."""
        return self._fullest(self.seen(context, together), along)

    def seen(self, context: int, together: int = 1) -> int:
        """How many of `context` positions the last `together` tokens see."""
        return min(context, self.window + together - 1) if self.window else context

    def _fullest(self, positions: int, along: int) -> int:
        return positions if self.policy == CONCAT else ceil_div(positions, along)

    def longest(self, positions: int, along: int) -> int:
        """The longest context that leaves at most `positions` on each line, without a window."""
        return positions if self.policy == CONCAT else positions * along

    def step(self, along: int) -> int:
        """Distance of two positions that follow each other on a line."""
        return along if self.policy == INTERLEAVED else 1

    def spans(self, seen: NDArray[np.int64], along: int) -> NDArray[np.int64]:
        """[len(seen), along, 2]: for each number of positions `seen`, the first position of each line that the last
        token sees, and where the line's positions end. Both are equal for a line without positions.
        """
        n, line = seen[:, None], np.arange(along)
        low = np.maximum(n - self.window, 0) if self.window else np.zeros_like(n)
        if self.policy == SHIFT:
            first, end = low + (n - low) * line // along, low + (n - low) * (line + 1) // along
        elif self.policy == CONCAT:
            first, end = np.where(line == along - 1, low, n), n
        else:
            first, end = np.minimum(low + (line - low) % along, n), n
        return np.stack(np.broadcast_arrays(first, end), axis=-1)


DEFAULT_CACHE = KVCache()
