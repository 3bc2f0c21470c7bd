"""Effect: what a segment does to its window, in cycles after the segment's base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand.segment import Plan
from wsesim.engine.fold import STATE_FIELDS, Outcome, Piece
from wsesim.engine.state import NEVER, State
from wsesim.engine.taskgraph import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """`changes`: of each State field, the places (of the window's array) that changed and their new values.

    `requests`: of ramps in and of links, the places that were asked for, first and last. From `first_free_cycles` on
    the first PE is free again, from `settled_cycles` on everything is; ramps and links are asked for between
    `first_request_cycles` and `last_request_cycles`.
    """

    changes: tuple[tuple[Int64, Int64], ...]
    requests: tuple[tuple[Int64, Int64, Int64], ...]
    end_cycles: int
    first_free_cycles: int
    settled_cycles: int
    first_request_cycles: int
    last_request_cycles: int
    link_events: int
    pieces: tuple[Piece, ...]


def effect_of(plan: Plan, before: State, outcome: Outcome) -> Effect:
    """What `outcome` changed of `before`."""
    changes = []
    for name in STATE_FIELDS:
        after = outcome.after[name]
        places = np.flatnonzero(plan.busy if name == "pe_free" else getattr(before, name) != after)
        changes.append((places, after[places]))
    asked = outcome.requests
    requests = (_asked(asked.ramp_first, asked.ramp_last), _asked(asked.link_first, asked.link_last))
    return Effect(
        tuple(changes),
        requests,
        outcome.end_cycles,
        int(changes[0][1].min()),
        max(int(values.max(initial=0)) for _, values in changes),
        min((int(first.min()) for _, first, _ in requests if first.size), default=0),
        max(int(last.max(initial=0)) for _, _, last in requests),
        outcome.link_events,
        outcome.pieces,
    )


def _asked(first: Int64, last: Int64) -> tuple[Int64, Int64, Int64]:
    places = np.flatnonzero(last != NEVER)
    return places, first[places], last[places]
