"""State: when each PE, ramp and link of a rectangle is free; what one segment of a run leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from wsesim.engine.taskgraph import Int64

NEVER: Final = -(2**62)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Cycles. Per PE [PEs]: `pe_free`, `ramp_out_free`, `ramp_in_free`, `ramp_last_request` (of the ramp in).

    Per directed link [4 * PEs], number `4 * pe + direction` for the link that leaves `pe`: `link_free`, and
    `link_last_request`, the latest cycle at which a message asked for it (NEVER if none did).
    """

    columns: int
    rows: int
    pe_free: Int64
    ramp_out_free: Int64
    ramp_in_free: Int64
    ramp_last_request: Int64
    link_free: Int64
    link_last_request: Int64

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
            ramp_last_request=np.full(pes, NEVER, np.int64),
            link_free=np.full(4 * pes, cycle, np.int64),
            link_last_request=np.full(4 * pes, NEVER, np.int64),
        )
