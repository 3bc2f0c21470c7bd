"""Protocols: a store of weights by name, and oracles that price kernels and stages for the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wsesim.machine import Machine
    from wsesim.program.kernels import Kernel
    from wsesim.program.parts import Block
    from wsesim.software import Form, Software


class WeightStore(Protocol):
    """Tensors of one model by the name that its graph uses; nothing is read before it is asked for."""

    def names(self) -> tuple[str, ...]:
        """Every tensor's name."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, without reading its data."""
        ...

    def load(self, name: str) -> NDArray[np.float32]:
        """One tensor as a float32 array, dequantised where the file is quantised."""
        ...


@dataclass(frozen=True, slots=True)
class LineUse:
    """A sum over a line of `length` PEs, of which the first `used` have `elements` of `dtype` each.

    `everybody`: an AllReduce, else the sum stays on one PE.
    """

    length: int
    used: int
    elements: int
    dtype: str
    everybody: bool


class CostOracle(Protocol):
    """Prices collectives and operations for the compiler's passes."""

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        """Cycles on an idle line with its routes in place, all PEs ready at once."""
        ...

    def form_cycles(
        self,
        machine: Machine,
        software: Software,
        form: Form,
        sizes: Mapping[str, int],
        outputs: tuple[int, ...],
        dtype: str,
    ) -> int:
        """Cycles of a form's operations one after the other on one PE, without its collectives.

        `sizes` are those of its steps, `outputs` those of a Linear's outputs on the PE.
        """
        ...


class StageOracle(CostOracle, Protocol):
    """Prices whole stages too, for the placement search."""

    def stage_cycles(
        self, machine: Machine, software: Software, block: Block, kernels: Sequence[Kernel], context: int, dtype: str
    ) -> int:
        """Cycles of a decode step's kernels one after the other on an idle block, over `context` positions."""
        ...
