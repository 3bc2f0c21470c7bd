"""State: when each PE, ramp and link of a rectangle is free; what one segment of a run leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from wsesim.engine.graph.taskgraph import Int64

NEVER: Final = -(2**62)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Cycles. Per PE [PEs]: `pe_free`, `ramp_out_free`, `ramp_in_free`. Per directed link [4 * PEs], number
    `4 * pe + direction` for the link that leaves `pe`: `link_free`.
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
        return State(
            columns,
            rows,
            pe_free=np.full(pes, cycle, np.int64),
            ramp_out_free=np.full(pes, cycle, np.int64),
            ramp_in_free=np.full(pes, cycle, np.int64),
            link_free=np.full(4 * pes, cycle, np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Cycles at which messages asked first, and last, for each ramp in [PEs] and each link [4 * PEs]; NEVER if none."""

    ramp_first: Int64
    ramp_last: Int64
    link_first: Int64
    link_last: Int64
