"""The engine as the compiler's CostOracle."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsesim.machine import Machine
    from wsesim.program.protocols import LineUse
    from wsesim.software import Software


class EngineOracle:
    """Each answer is a simulation of one line of PEs, which a process runs once."""

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        """As in CostOracle, for a line without slow PEs."""
        return _simulated(dataclasses.replace(machine, slow=()), software, use, collective)


@lru_cache(maxsize=65536)
def _simulated(machine: Machine, software: Software, use: LineUse, collective: str) -> int:
    from wsesim.engine.observe.measure import line_cycles

    return line_cycles(machine, use, collective, software)
