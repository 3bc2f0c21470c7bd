"""Repetition: chunks of a prompt that repeat the chunks before them.

Chunks are of one kind as long as every line holds the same number of KV positions. Chunks of one kind have the same
segments. After a few of them, every segment begins a constant number of cycles after the same segment of the chunk
before, or of the chunk `period` chunks before. If no later segment of a chunk moves faster than an earlier one, this
goes on until the kind changes: the chunks up to there need not be simulated.

That is exact if all segments move by the same cycles. If earlier blocks run a few cycles ahead of later ones, the state
after the skipped chunks is a few cycles early or late, until the next simulated chunk.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence

from wsesim.engine.exact.wafer import SegmentRun

LONGEST_PERIOD = 6
Chunk = tuple[SegmentRun, ...]


class Repetition:
    """Watches the chunks of one prompt."""

    def __init__(self) -> None:
        self._kind: Hashable = None
        self._chunks: deque[Chunk] = deque(maxlen=3 * LONGEST_PERIOD)
        self._grown: deque[dict[str, int]] = deque(maxlen=LONGEST_PERIOD)

    def add(self, kind: Hashable, runs: Sequence[SegmentRun], grown: dict[str, int]) -> None:
        """Adds the next chunk and the cycles that it held each block; chunks of one kind have the same segments."""
        if kind != self._kind:
            self._chunks.clear()
        self._kind = kind
        self._chunks.append(tuple(runs))
        self._grown.append(grown)

    def forget(self) -> None:
        self._chunks.clear()

    def grown(self, period: int) -> Counter[str]:
        """Cycles that the last `period` chunks held each block."""
        return sum((Counter(grown) for grown in list(self._grown)[-period:]), Counter())

    def period(self) -> int:
        """How many chunks repeat the chunks before them; 0 if none do.

        Try period 1, then 2 to 6 once the window of chunks is full: what repeats after several chunks may soon repeat
        after one.
        """
        if self._repeats(1):
            return 1
        longest = LONGEST_PERIOD if len(self._chunks) == self._chunks.maxlen else 1
        return next((p for p in range(2, longest + 1) if self._repeats(p)), 0)

    def moved(self, period: int) -> list[tuple[SegmentRun, int]]:
        """The runs of the last `period` chunks in order, each with the cycles since the same run a period before."""
        found = []
        for number in range(-period, 0):
            old, new = self._chunks[number - period], self._chunks[number]
            found += [(b, b.base - a.base) for a, b in zip(old, new, strict=True)]
        return found

    def _repeats(self, period: int) -> bool:
        if len(self._chunks) < 3 * period:
            return False
        bases = [[run.base for run in chunk] for chunk in list(self._chunks)[-3 * period :]]
        moves = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(bases, bases[period:], strict=False)]
        return moves[:period] == moves[period:] and all(move == sorted(move) for move in moves[period:])
