"""Sequences: how many of them a placement holds, if the options leave it to the search.

With more sequences in flight the blocks idle less, but their KV cache takes memory from the layers. Once the busiest
block always works, further sequences bring nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from wsesim_compiler.search.explore import by_strategy, explore
from wsesim_compiler.search.judge import Candidate, Judge


def explore_sequences(judge: Judge, seed: int) -> Iterator[Candidate | None]:
    """As `explore`. If sequences are free, the strategies are tried for 1, 2, 4, ... sequences first.

    The rest of the plans is made for as many sequences as the best of these candidates has.
    """
    best: Candidate | None = None
    for exponent in itertools.count() if judge.free_sequences else ():
        sequences = 1 << exponent
        own = judge.with_sequences(sequences, free=True)
        found = [own.candidate(plan) for plan, _ in by_strategy(own)]
        for candidate in found:
            if candidate is None or not own.goal.allows(candidate.metrics):
                yield None
                continue
            best = candidate if best is None or candidate.cost < best.cost else best
            yield candidate
        if all(c is None or c.sequences < sequences for c in found):
            break
    yield from explore(judge if best is None else judge.with_sequences(best.sequences, free=True), seed)
