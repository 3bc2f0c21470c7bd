"""State: when each PE, ramp and link of a rectangle is free. It is all that one run leaves to the next.

Kernels take a State and Requests as they are: both are named tuples of arrays.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from wsesim.engine.graph.taskgraph import Int64

NEVER: Final = -(2**62)

STATE_FIELDS: Final = {"pe_free": 1, "ramp_out_free": 1, "ramp_in_free": 1, "link_free": 4}
"""The arrays of a State, and their values per PE."""
REQUEST_FIELDS: Final = {"ramp": 1, "link": 4}
"""What messages request, and the values per PE."""


class State(NamedTuple):
    """Cycles from which each part of columns x rows PEs is free.

    `pe_free`, `ramp_out_free` and `ramp_in_free` have one value per PE: [PEs]. `link_free` has one value per directed
    link: [4 * PEs]. The link that leaves `pe` in `direction` has the number `4 * pe + direction`.
    """

    columns: int
    rows: int
    pe_free: Int64
    ramp_out_free: Int64
    ramp_in_free: Int64
    link_free: Int64

    @staticmethod
    def idle(columns: int, rows: int, cycle: int = 0) -> State:
        """Everything free from `cycle` on."""
        pes = columns * rows
        return State(columns, rows, *(np.full(width * pes, cycle, np.int64) for width in STATE_FIELDS.values()))

    def copy(self) -> State:
        """A State with arrays of its own."""
        return State(self.columns, self.rows, *(getattr(self, name).copy() for name in STATE_FIELDS))


class Requests(NamedTuple):
    """Cycles of the first and the last request for each ramp in [PEs] and each link [4 * PEs]; NEVER if none."""

    ramp_first: Int64
    ramp_last: Int64
    link_first: Int64
    link_last: Int64

    @staticmethod
    def none(pes: int) -> Requests:
        """No requests yet."""
        return Requests(*(np.full(width * pes, NEVER, np.int64) for width in REQUEST_FIELDS.values() for _ in range(2)))

    def copy(self) -> Requests:
        """Requests with arrays of their own."""
        return Requests(*(field.copy() for field in self))
