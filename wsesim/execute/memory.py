"""Arrays that begin where a cache line does: a row of a panel then lies on as few lines as it can."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE_BYTES = 64


def aligned_zeros(size: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """`np.zeros(size, dtype)`, whose own arrays begin at any multiple of 16 bytes."""
    dtype = np.dtype(dtype)
    room = np.zeros(size * dtype.itemsize + LINE_BYTES, np.uint8)
    begin = -room.ctypes.data % LINE_BYTES
    return room[begin : begin + size * dtype.itemsize].view(dtype)
