"""What the simulator asks of the outside: weights by name, and cycles for a compiler's search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
