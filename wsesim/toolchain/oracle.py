"""The engine as the compiler's CostOracle."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsesim.machine import Machine
    from wsesim.program.kernels import Kernel
    from wsesim.program.parts import Block
    from wsesim.program.protocols import LineUse
    from wsesim.software import Software


class EngineOracle:
    """Each answer is a simulation of one line of PEs, which a process runs once."""

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        """As in CostOracle, for a line without slow PEs."""
        return _simulated(dataclasses.replace(machine, slow=()), software, use, collective)

    def kernel_cycles(
        self,
        machine: Machine,
        software: Software,
        block: Block,
        kernels: tuple[Kernel, ...],
        context: int,
        tokens: int,
    ) -> int:
        """As in CostOracle, on a block without slow PEs, at the wafer's corner."""
        usable = machine.usable
        moved = dataclasses.replace(block, x=usable.x, y=usable.y)
        bare = dataclasses.replace(machine, slow=(), dead=frozenset())
        return _kernels_simulated(bare, software, moved, kernels, context, tokens)


@lru_cache(maxsize=65536)
def _simulated(machine: Machine, software: Software, use: LineUse, collective: str) -> int:
    from wsesim.engine.observe.measure import line_cycles

    return line_cycles(machine, use, collective, software)


@lru_cache(maxsize=4096)
def _kernels_simulated(
    machine: Machine, software: Software, block: Block, kernels: tuple[Kernel, ...], context: int, tokens: int
) -> int:
    from wsesim.engine.observe.measure import kernel_cycles

    return kernel_cycles(machine, block, kernels, context, tokens=tokens, software=software)
