"""Effect: what a segment does to its window, in cycles after the segment's base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand.segment import Plan
from wsesim.engine.fold import REQUEST_FIELDS, STATE_FIELDS, Outcome, Piece
from wsesim.engine.state import NEVER, Requests, State
from wsesim.engine.taskgraph import Int64


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
    """What `outcome` changed of `before`. A PE with tasks is changed even if it is free as early as before."""
    changed = {name: outcome.after[name] != getattr(before, name) for name in STATE_FIELDS} | {"pe_free": plan.busy}
    after = {name: np.where(changed[name], values, NEVER) for name, values in outcome.after.items()}
    lasts = [int(getattr(outcome.requests, f"{name}_last").max()) for name in REQUEST_FIELDS]
    return Effect(
        State(plan.columns, plan.rows, **after),
        outcome.requests,
        outcome.end_cycles,
        int(outcome.after["pe_free"][plan.busy].min()),
        tuple(max(int(values.max()), 0) for values in after.values()),
        min(_earliest(getattr(outcome.requests, f"{name}_first")) for name in REQUEST_FIELDS),
        max(0, *lasts),
        outcome.link_events,
        outcome.pieces,
    )


def _earliest(first: Int64) -> int:
    """The first of the requests; 0 if there are none."""
    there = first[first != NEVER]
    return int(there.min()) if there.size else 0
