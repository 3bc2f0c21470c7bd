"""Effect: what a segment does to its window, in cycles after the segment's base."""

from __future__ import annotations

from dataclasses import dataclass

from wsesim.engine.exact.fold import STATE_FIELDS, Outcome, Piece
from wsesim.engine.exact.plane_kernels import keep_busy, keep_changes, span
from wsesim.engine.expand.segment import Plan
from wsesim.engine.flow.state import Requests, State


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """`after`: the window's State where the segment changed it, NEVER elsewhere. `requests`: for ramps in and links.

    From `first_free_cycles` on the first PE is free again, from `settled_cycles` on all that changed of each State
    field is; ramps in and links are asked for between `first_request_cycles` and `last_request_cycles`.
    """

    after: State
    requests: Requests
    end_cycles: int
    first_free_cycles: int
    settled_cycles: tuple[int, ...]
    first_request_cycles: int
    last_request_cycles: int
    link_events: int
    pieces: tuple[Piece, ...]


def effect_of(plan: Plan, before: State, outcome: Outcome) -> Effect:
    """What `outcome` changed of `before`; its `after` becomes the effect's. A PE with tasks is changed even if it is
    free as early as before.
    """
    after, asked = outcome.after, outcome.requests
    first_free, last_free = keep_busy(plan.busy, after["pe_free"])
    settled = [keep_changes(getattr(before, name), after[name]) for name in STATE_FIELDS if name != "pe_free"]
    spans = span(asked.ramp_first, asked.ramp_last), span(asked.link_first, asked.link_last)
    return Effect(
        State(plan.columns, plan.rows, **after),
        asked,
        outcome.end_cycles,
        first_free,
        (last_free, *settled),
        min(begin for begin, _ in spans),
        max(end for _, end in spans),
        outcome.link_events,
        outcome.pieces,
    )
