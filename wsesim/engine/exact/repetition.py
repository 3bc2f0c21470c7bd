"""Repetition: chunks of a prompt that follow one another as the chunks before them did.

Between two changes of the positions that a line holds, all chunks have the same segments. After a few of them every
segment begins a constant time after its like in the chunk before (or `period` chunks before). If nothing that comes
later in a chunk is faster than what comes earlier, no wait changes sides from there on, and the chunks up to the next
change are their like moved by that time. Where all segments move alike this is exact; where earlier blocks run a few
cycles ahead of later ones, what these leave free is a few cycles early or late, until the next change is simulated.
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
        """The next chunk, and by how much it held each block longer; chunks of one kind have the same segments."""
        if kind != self._kind:
            self._chunks.clear()
        self._kind = kind
        self._chunks.append(tuple(runs))
        self._grown.append(grown)

    def forget(self) -> None:
        self._chunks.clear()

    def grown(self, period: int) -> Counter[str]:
        """By how much the last `period` chunks held each block longer."""
        return sum((Counter(grown) for grown in list(self._grown)[-period:]), Counter())

    def period(self) -> int:
        """How many chunks repeat as those before them did; 0 while they do not. Several, where one alone did not for
        long: what repeats after several may be about to repeat after one.
        """
        if self._repeats(1):
            return 1
        longest = LONGEST_PERIOD if len(self._chunks) == self._chunks.maxlen else 1
        return next((p for p in range(2, longest + 1) if self._repeats(p)), 0)

    def moved(self, period: int) -> list[tuple[SegmentRun, int]]:
        """The runs of the last `period` chunks in order, each with the cycles from its like before."""
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
