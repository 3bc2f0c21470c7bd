"""Collectives on a line of PEs: who adds whose partial sum, in which order.

The engine turns these merges into tasks and messages, execute adds in the same order: the placement decides both the
cycles and the rounding. A Program names a collective by a text, `[streamed_]ALGORITHM[:GROUPS]`:

    chain          each PE adds what its neighbour has summed and sends it on; ends on the last PE
    star           every PE sends its own to the middle one, which adds them one after the other, the nearest first
    tree           log2(P) rounds; in round k the sums 2^k apart meet, two by two; ends on the first PE
    two_phase      GROUPS groups, about sqrt(P), reduce to their middles by chains from both sides, the middles likewise
                   to the middle one (WaferLLM's K-tree, K = 2)
    two_phase_end  the same with every root at the beginning: the first PE of a group, the first of the line (HPDC'24)
    ring           an AllReduce in P rounds of adding and P of passing on, around a ring that goes out over the even
                   PEs and back over the odd ones. Element e of a vector belongs to range e mod P, and range r is
                   summed from its own PE's successor on, all around: each range in its own order

Without `streamed_` a PE receives a sum whole, then adds its own while it sends (store and forward). Streamed, it is set
up early and adds while the wavelets pass. The order is the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import isqrt

from wsesim.errors import UnknownNameError

ALGORITHMS = ("chain", "star", "tree", "two_phase", "two_phase_end", "ring")
STREAMED = "streamed_"
COLLECTIVES = tuple(staging + algorithm for algorithm in ALGORITHMS for staging in ("", STREAMED))
"""Every algorithm in both stagings, two-phase ones with groups of about sqrt(P)."""

GROUPED = ("two_phase", "two_phase_end")
_TEXT = re.compile(rf"({STREAMED})?([a-z_]+?)(?::([1-9]\d{{0,5}}))?")


@dataclass(frozen=True, slots=True)
class Collective:
    """What a Program's text names. `groups` of a two-phase one: 0 is about sqrt(P)."""

    algorithm: str
    streamed: bool = False
    groups: int = 0

    def __str__(self) -> str:
        groups = f":{self.groups}" if self.groups else ""
        return f"{STREAMED if self.streamed else ''}{self.algorithm}{groups}"


@dataclass(frozen=True, slots=True)
class Merge:
    """Position `target` adds what position `source` has summed so far."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """Merges in an order in which they may be done one after the other; the sum ends on `root`."""

    length: int
    root: int
    merges: tuple[Merge, ...]


def parse_collective(text: str) -> Collective:
    """The collective that a text names. Raises UnknownNameError."""
    if not is_collective(text):
        raise UnknownNameError("collective", text, COLLECTIVES, "or two_phase:GROUPS")
    found = _TEXT.fullmatch(text)
    assert found is not None
    streamed, algorithm, groups = found.groups()
    return Collective(algorithm, streamed is not None, int(groups or 0))


def is_collective(text: str) -> bool:
    """Whether a text names a collective."""
    found = _TEXT.fullmatch(text)
    return found is not None and found[2] in ALGORITHMS and (found[3] is None or found[2] in GROUPED)


@lru_cache(maxsize=1024)
def reduction(length: int, collective: str, element: int = 0) -> Reduction:
    """The merges of `collective` on a line of `length` PEs for one element of the vector; only a ring's depend on it.

    What is reduced to one PE and not sent back, or cannot be split, is reduced whole, as element 0. Raises
    UnknownNameError.
    """
    named = parse_collective(collective)
    match named.algorithm:
        case "chain":
            return Reduction(length, length - 1, _towards(range(length), length - 1))
        case "star":
            return _star(length)
        case "tree":
            return _tree(length)
        case "ring":
            return _around(length, element % length)
        case _:
            return _two_phase(length, named)


def group_count(length: int, collective: str) -> int:
    """Groups whose roots' sums are merged last; 1 if the algorithm has no groups."""
    named = parse_collective(collective)
    return min(named.groups or max(1, isqrt(length)), length) if named.algorithm in GROUPED else 1


def ring_order(length: int) -> tuple[int, ...]:
    """Positions around the ring: neighbours are at most two hops apart, the last and the first included."""
    odd = range(1, length, 2)
    return (*range(0, length, 2), *reversed(odd))


def _around(length: int, element_range: int) -> Reduction:
    """All around the ring to the PE at place `element_range`, from its successor on."""
    ring, first = ring_order(length), element_range + 1
    places = [ring[(first + step) % length] for step in range(length)]
    return Reduction(length, places[-1], tuple(Merge(a, b) for a, b in pairwise(places)))


def _star(length: int) -> Reduction:
    root = length // 2
    others = sorted((p for p in range(length) if p != root), key=lambda p: abs(p - root))
    return Reduction(length, root, tuple(Merge(p, root) for p in others))


def _tree(length: int) -> Reduction:
    distances = [1 << k for k in range((length - 1).bit_length())]
    merges = (Merge(t + d, t) for d in distances for t in range(0, length - d, 2 * d))
    return Reduction(length, 0, tuple(merges))


def _two_phase(length: int, named: Collective) -> Reduction:
    count = group_count(length, str(named))
    edges = [length * g // count for g in range(count + 1)]
    groups = [range(a, b) for a, b in pairwise(edges)]
    middle = named.algorithm == "two_phase"
    roots = [(g.start + g.stop) // 2 if middle else g.start for g in groups]
    within = [merge for group, root in zip(groups, roots, strict=True) for merge in _towards(group, root)]
    last = roots[count // 2] if middle else roots[0]
    return Reduction(length, last, (*within, *_towards(roots, last)))


def _towards(positions: range | list[int], root: int) -> tuple[Merge, ...]:
    """Chains along `positions` (ascending) from both ends towards `root`, the shorter one, which comes first, first."""
    west = [p for p in positions if p <= root]
    east = [p for p in reversed(positions) if p >= root]
    pairs = [pair for side in sorted((west, east), key=len) for pair in pairwise(side)]
    return tuple(Merge(source, target) for source, target in pairs)
