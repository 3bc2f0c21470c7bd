"""Activity: how many PEs work and how many wavelets move, over the cycles of a run.

Task and message times are those of the engine. A task holds its PE from its start to its end. A message's wavelets,
times the links that they cross, are spread evenly from its beginning to the arrival of its last wavelet: how long a
message waits at each single link is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.exact.effect import Effect, Piece
from wsesim.engine.graph.taskgraph import Int64

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """Sums from cycle 0 up to each cycle of an effect, both [cycles + 1].

    busy_pe_cycles   PEs times cycles for which tasks hold them
    link_wavelets    wavelets times links that they have crossed
    """

    busy_pe_cycles: Float64
    link_wavelets: Float64


def activity_of(effect: Effect) -> Activity:
    """Needs an effect with timelines."""
    last = max((_last(piece) for piece in effect.pieces), default=0)
    busy, moved = np.zeros(last + 1), np.zeros(last + 1)
    for piece in effect.pieces:
        graph, times = piece.graph, piece.timeline
        assert times is not None, "the run kept no timelines"
        bases, lines = np.unique(piece.bases, return_counts=True)
        ones = np.ones(graph.task_count)
        _spread(busy, times.task_start, times.task_end, ones, bases, lines)
        if graph.message_count:
            crossed = graph.wavelets.astype(np.float64) * (graph.hops1 + graph.hops2)
            arrived = np.maximum(times.drop_tail[graph.drop_ptr[1:] - 1], times.message_head + 1)
            span = arrived - times.message_head
            _spread(moved, times.message_head, arrived, crossed / span, bases, lines)
    return Activity(_sums(busy), _sums(moved))


def binned(placed: Iterable[tuple[int, Activity]], edges: Int64) -> tuple[Float64, Float64]:
    """Mean busy PEs, and mean wavelets per cycle on links, between neighbours of `edges`: both [edges - 1].

    `placed`: activities, each with the cycle at which it begins.
    """
    busy, moved = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for base, activity in placed:
        length = activity.busy_pe_cycles.size - 1
        first = max(0, int(np.searchsorted(edges, base, side="right")) - 1)
        stop = min(edges.size - 1, int(np.searchsorted(edges, base + length, side="left")))
        at = np.clip(edges[first : stop + 1] - base, 0, length)
        busy[first:stop] += np.diff(activity.busy_pe_cycles[at])
        moved[first:stop] += np.diff(activity.link_wavelets[at])
    width = np.diff(edges)
    return busy / width, moved / width


def _spread(rates: Float64, begin: Int64, end: Int64, rate: Float64, bases: Int64, lines: Int64) -> None:
    """Adds `rate` from `begin` on and takes it away from `end` on, at every base as often as it has lines."""
    size = rates.size
    own = np.bincount(begin, rate, size) - np.bincount(end, rate, size)
    for base, count in zip(bases.tolist(), lines.tolist(), strict=True):
        rates[base:] += count * own[: size - base]


def _sums(rates: Float64) -> Float64:
    """From changes of a rate per cycle to sums up to each cycle."""
    return np.concatenate(([0.0], np.cumsum(np.cumsum(rates))))


def _last(piece: Piece) -> int:
    """The last cycle at which something of a piece ends."""
    times = piece.timeline
    assert times is not None, "the run kept no timelines"
    ends = [int(values.max()) for values in (times.task_end, times.drop_tail, times.message_head + 1) if values.size]
    return int(piece.bases.max()) + max(ends, default=0) + 1
