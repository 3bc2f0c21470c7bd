"""The twins of `line_kernels.py` in NumPy: same names and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsesim.engine.exact.line_kernels import LineEffect
from wsesim.engine.flow.records import Records
from wsesim.engine.flow.state import NEVER, Requests, State


def gather(
    state: State, members: Any, busy: Any, starters: Any, directions: Any, bases: Any, line_states: Records
) -> None:
    free = state.pe_free[members]
    bases[:] = free[:, starters].min(axis=1)
    since = bases[:, None]
    line_states["pe_free"] = np.where(busy[None, :], np.maximum(free - since, 0), 0)
    line_states["ramp_out_free"] = np.maximum(state.ramp_out_free[members] - since, 0)
    line_states["ramp_in_free"] = np.maximum(state.ramp_in_free[members] - since, 0)
    line_states["link_free"] = np.maximum(state.link_free[_links(members, directions)] - since[:, :, None], 0)


def hash_rows(words: Any, multipliers: Any, hashes: Any) -> None:
    hashes[:] = words @ multipliers


def rows_equal(words: Any, other: Any) -> bool:
    return bool((words == words[other]).all())


def scatter(
    state: State, requests: Requests, members: Any, lines: Any, bases: Any, directions: Any, effect: LineEffect
) -> bool:
    own, since = members[lines], bases[lines]
    links = _links(own, directions)
    for name in ("pe_free", "ramp_out_free", "ramp_in_free", "link_free"):
        place, values = (links if name == "link_free" else own), effect.after[name]
        there = np.broadcast_to(values != NEVER, place.shape)
        getattr(state, name)[place[there]] = _since(values, since)[there]
    for name, place in (("ramp", own), ("link", links)):
        begun, ended = getattr(requests, f"{name}_first"), getattr(requests, f"{name}_last")
        first, last = effect.requests[f"{name}_first"], effect.requests[f"{name}_last"]
        there = np.broadcast_to(first != NEVER, place.shape)
        asked, until, place = _since(first, since)[there], _since(last, since)[there], place[there]
        if (asked <= ended[place]).any():
            return False
        begun[place] = np.where(begun[place] == NEVER, asked, begun[place])
        ended[place] = until
    return True


def _since(values: Any, bases: Any) -> Any:
    """The values of one line, counted from each base: [bases, ...]."""
    return values[None] + bases.reshape(-1, *(1 for _ in values.shape))


def _links(members: Any, directions: Any) -> Any:
    """Numbers of the lines' own links: [lines, PEs, 2]."""
    return 4 * members[:, :, None] + directions
