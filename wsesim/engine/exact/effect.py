"""Effect: the changes that a segment makes to its window, in cycles after the segment's base."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.engine.exact.plane_kernels import keep_busy, keep_changes, span
from wsesim.engine.expand.segment import Plan
from wsesim.engine.flow.state import STATE_FIELDS, Requests, State
from wsesim.engine.flow.timeline import Times
from wsesim.engine.graph.taskgraph import Int64, TaskGraph


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The times of tasks of a window, simulated as one `graph`.

    PE k of `graph` is PE `members[l, k]` of the window, for each line l that the graph stands for. There the times of
    `timeline` count from `bases[l]`, cycles after the segment's base. `timeline` is None if it was not kept.
    """

    graph: TaskGraph
    timeline: Times | None
    members: Int64
    bases: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """The changes that a segment makes to its window. All cycles count from the segment's base.

    after                 the window's State where the segment changed it, NEVER elsewhere
    requests              for ramps in and links
    end_cycles            when the last task ends
    link_events           links granted to messages
    pieces                the tasks, with their times
    first_free_cycles     when the first PE is free again
    settled_cycles        for each array of the State, when all that changed is free again
    first_request_cycles, last_request_cycles    for ramps in and links
    """

    after: State
    requests: Requests
    end_cycles: int
    link_events: int
    pieces: tuple[Piece, ...]
    first_free_cycles: int
    settled_cycles: tuple[int, ...]
    first_request_cycles: int
    last_request_cycles: int


def effect_of(
    plan: Plan,
    before: State,
    after: State,
    requests: Requests,
    *,
    end_cycles: int,
    link_events: int,
    pieces: tuple[Piece, ...],
) -> Effect:
    """The Effect of a run of `plan` from `before` to `after`. It takes over the arrays of `after` and `requests`.

    A PE with tasks always counts as modified.
    """
    first_free, last_free = keep_busy(plan.busy, after.pe_free)
    settled = [keep_changes(getattr(before, name), getattr(after, name)) for name in STATE_FIELDS if name != "pe_free"]
    spans = span(requests.ramp_first, requests.ramp_last), span(requests.link_first, requests.link_last)
    return Effect(
        after,
        requests,
        end_cycles,
        link_events,
        pieces,
        first_free_cycles=first_free,
        settled_cycles=(last_free, *settled),
        first_request_cycles=min(begin for begin, _ in spans),
        last_request_cycles=max(end for _, end in spans),
    )
