"""The engine as the compiler's CostOracle."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsesim.machine import Machine
    from wsesim.program.protocols import LineUse


class EngineOracle:
    """Every answer is a simulation of one line, made once in a process."""

    def collective_cycles(self, machine: Machine, use: LineUse, collective: str) -> int:
        """As CostOracle. The line has no stragglers: where they are, the other lines wait for theirs."""
        return _simulated(dataclasses.replace(machine, slow=()), use, collective)


@lru_cache(maxsize=65536)
def _simulated(machine: Machine, use: LineUse, collective: str) -> int:
    from wsesim.engine.observe.measure import line_cycles

    return line_cycles(machine, use, collective)
