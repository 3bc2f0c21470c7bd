"""The engine as the compiler's StageOracle."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsesim.machine import Machine
    from wsesim.program.kernels import Kernel
    from wsesim.program.parts import Block
    from wsesim.program.protocols import LineUse
    from wsesim.software import Form, Software


class EngineOracle:
    """A collective's answer is a simulation of one line of PEs, which a process runs once."""

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        """As in CostOracle, for a line without slow PEs."""
        return _simulated(dataclasses.replace(machine, slow=()), software, use, collective)

    def form_cycles(
        self,
        machine: Machine,
        software: Software,
        form: Form,
        sizes: Mapping[str, int],
        outputs: tuple[int, ...],
        dtype: str,
    ) -> int:
        """As in CostOracle. Nothing is simulated: operations on one PE follow each other."""
        from wsesim.engine.expand.forms import own_cycles

        return own_cycles(machine, software, form, sizes, outputs, dtype)

    def stage_cycles(
        self, machine: Machine, software: Software, block: Block, kernels: Sequence[Kernel], context: int, dtype: str
    ) -> int:
        """As in StageOracle, on a block without slow or dead PEs. The stage is simulated."""
        from wsesim.engine.observe.measure import kernel_cycles

        whole = dataclasses.replace(machine, slow=(), dead=frozenset())
        return kernel_cycles(whole, block, kernels, context, software=software, dtype=dtype)


@lru_cache(maxsize=65536)
def _simulated(machine: Machine, software: Software, use: LineUse, collective: str) -> int:
    from wsesim.engine.observe.measure import line_cycles

    return line_cycles(machine, use, collective, software)
