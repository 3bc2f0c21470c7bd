"""The twins of `line_kernels.py` in NumPy: same names and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsesim.engine.exact.line_kernels import Fields
from wsesim.engine.flow.state import NEVER


def gather(fields: Fields, members: Any, busy: Any, starters: Any, directions: Any, bases: Any, states: Any) -> None:
    free = fields.pe_free[members]
    bases[:] = free[:, starters].min(axis=1)
    values = [
        np.where(busy[None, :], free, bases[:, None]),
        fields.ramp_out_free[members],
        fields.ramp_in_free[members],
        fields.link_free[_links(members, directions)],
    ]
    states[:] = np.maximum(np.concatenate(values, axis=1) - bases[:, None], 0)


def hash_rows(states: Any, multipliers: Any, hashes: Any) -> None:
    hashes[:] = states @ multipliers


def rows_equal(states: Any, other: Any) -> bool:
    return bool((states == states[other]).all())


def scatter(
    fields: Fields, members: Any, lines: Any, bases: Any, directions: Any, after: Any, first: Any, last: Any
) -> bool:
    own, since = members[lines], bases[lines][:, None]
    links, pes = _links(own, directions), members.shape[1]
    places = {"pe_free": own, "ramp_out_free": own, "ramp_in_free": own, "link_free": links}
    for number, (name, place) in enumerate(places.items()):
        value = np.broadcast_to(after[number * pes : (number + place.shape[1] // pes) * pes], place.shape)
        there = value != NEVER
        getattr(fields, name)[place[there]] = (value + since)[there]
    for name, place, values in (("ramp", own, slice(0, pes)), ("link", links, slice(pes, None))):
        begun, ended = getattr(fields, f"{name}_first"), getattr(fields, f"{name}_last")
        there = np.broadcast_to(first[values] != NEVER, place.shape)
        asked, until = (first[values] + since)[there], (last[values] + since)[there]
        place = place[there]
        if (asked < ended[place]).any():
            return False
        begun[place] = np.where(begun[place] == NEVER, asked, begun[place])
        ended[place] = until
    return True


def _links(members: Any, directions: Any) -> Any:
    """Numbers of the lines' own links: [lines, 2 PEs]."""
    return (4 * members[:, :, None] + directions).reshape(len(members), 2 * members.shape[1])
