"""Arrays of integers as text for a page: exact, compressed, and quick to decode in a browser.

The browser inflates `data` with its own DecompressionStream, and adds up what was stored as differences.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4"))
LEVEL = 9
AXES = {"none": None, "rows": 0, "columns": 1}
"""What each entry is stored as: itself, or its difference from the entry in the row (column) before it."""


def packed(values: NDArray[np.integer]) -> dict[str, Any]:
    """Integers from 0 to 2^32 - 1 in one or two dimensions, as the smallest text of a few.

    `dtype` has `bytes` bytes an entry, little-endian; `differences` are modulo its range; `data` is zlib in base64.
    """
    assert values.min(initial=0) >= 0
    most = int(values.max(initial=0))
    dtype = next(d for d in DTYPES if most <= np.iinfo(d).max)
    stored = values.astype(dtype)
    ways = {way: stored if axis is None else _differences(stored, axis) for way, axis in AXES.items()
            if axis is None or axis < values.ndim}  # fmt: skip
    texts = {way: zlib.compress(np.ascontiguousarray(array).tobytes(), LEVEL) for way, array in ways.items()}
    way = min(texts, key=lambda name: len(texts[name]))
    return {
        "shape": list(values.shape),
        "bytes": dtype.itemsize,
        "differences": way,
        "data": b64encode(texts[way]).decode("ascii"),
    }


def _differences(values: NDArray[Any], axis: int) -> NDArray[Any]:
    before = np.roll(values, 1, axis)
    before[(slice(None),) * axis + (0,)] = 0
    wrapped: NDArray[Any] = values - before  # modulo the range of the dtype
    return wrapped
