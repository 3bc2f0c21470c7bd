"""Execute: a matrix-vector product (GEMV) in the wafer's order, beside the plain order and the memory's read limit.

The read limit is the highest rate that any kernel here reaches: several that only read and add, and both products.
Every kernel reads all weights, which is asserted. The kernels take turns in every round, so other load on the machine
meets them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numba
import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from benchmarks.row import Row
from wsesim.execute import tiles
from wsesim.execute.merges import schedule
from wsesim.execute.threads import prange
from wsesim.execute.tiles import PANEL

TILE = 256  # k and m of a PE's tile
SHAPES = ((14336, 4096), (4096, 14336))  # outputs, inputs: the feed-forward layers of an 8B Llama
ROUNDS = 9
COPIES = 4  # of the weights, so that no cache holds them
WAFER, PLAIN = "the GEMV in the wafer's order", "the GEMV in the plain order"
WORDS = 1 << 64  # sums of 64-bit words are modulo this


@dataclass(frozen=True, slots=True)
class GemvFigures:
    """Medians of one shape: `gb_s` is the rate of each kernel by its name, WAFER and PLAIN among them."""

    outputs: int
    inputs: int
    algorithm: str
    bytes_read: int
    gb_s: dict[str, float]

    @property
    def fastest(self) -> str:
        """The kernel that reads fastest."""
        return max(self.gb_s, key=lambda name: self.gb_s[name])

    @property
    def fraction(self) -> float:
        """Rate of the wafer's order over the read limit, at most 1."""
        return self.gb_s[WAFER] / self.gb_s[self.fastest]

    @property
    def slowdown(self) -> float:
        """Time of the wafer's order over that of the plain order."""
        return self.gb_s[PLAIN] / self.gb_s[WAFER]


def gemv(outputs: int, inputs: int, algorithm: str = "chain") -> GemvFigures:
    """bf16 weights [outputs, inputs] times a float32 vector, all threads."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(outputs * inputs, np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    weights = [bits, *(bits.copy() for _ in range(COPIES - 1))]
    x = rng.standard_normal(inputs, np.float32)
    runs = {
        WAFER: [_wafer(w, x, outputs, algorithm) for w in weights],
        PLAIN: [_plain(w, x, outputs) for w in weights],
    }
    sums = {name: [make(w) for w in weights] for name, make in READERS.items()}
    bytes_read = COPIES * bits.nbytes
    seconds = _medians({**runs, **sums})
    _check_products(bits, x, algorithm, runs[WAFER][0](), runs[PLAIN][0]())
    low, high = (int(half.sum(dtype=np.uint64)) for half in bits.view(np.uint32).reshape(-1, 2).T)
    total = (low + (high << 32)) % WORDS  # little-endian
    for name, calls in sums.items():
        assert all(call() == total for call in calls), f"{name} did not read every word"
    rates = {name: bytes_read / time_s / 1e9 for name, time_s in seconds.items()}
    return GemvFigures(outputs, inputs, algorithm, bytes_read, rates)


def figures() -> list[GemvFigures]:
    """Both shapes, both algorithms."""
    return [gemv(*shape, algorithm) for shape in SHAPES for algorithm in ("chain", "two_phase")]


def rows() -> list[Row]:
    """The figures with their limits."""
    found = []
    for f in figures():
        name = f"GEMV {f.outputs} x {f.inputs} bf16, {f.algorithm}"
        limit = f"{f.gb_s[f.fastest]:.1f} GB/s, by {f.fastest}"
        found += [
            Row(f"{name}: rate of reading weights", f.gb_s[WAFER], "GB/s", note=f"{f.bytes_read / 1e6:.0f} MB"),
            Row(f"{name}: rate over the read limit", f.fraction, "x", 0.5, at_most=False, note=limit),
            Row(f"{name}: time over the plain order's", f.slowdown, "x", 1.4),
        ]
    return found


def _check_products(bits: NDArray[np.uint16], x: NDArray[np.float32], algorithm: str, wafer: Any, plain: Any) -> None:
    """Both multiplied every weight. The wafer's order reads the bits as tiles, the plain order as rows."""
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    order = schedule(len(x) // TILE, algorithm).order
    columns = (order[:, None] * TILE + np.arange(TILE)).reshape(-1)
    tiled = np.tensordot(values.reshape(-1, len(x), PANEL), x[columns], axes=(1, 0)).reshape(-1)
    np.testing.assert_allclose(wafer, tiled, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(plain, values.reshape(-1, len(x)) @ x, rtol=1e-3, atol=1e-2)


def _medians(runs: Mapping[str, Sequence[Callable[[], object]]]) -> dict[str, float]:
    """Median seconds of all calls of a name, one after the other."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, calls in runs.items():
            begin = perf_counter()
            for call in calls:
                call()
            times[name].append(perf_counter() - begin)
    return {name: median(taken[1:]) for name, taken in times.items()}  # the first one compiles


def _wafer(weights: NDArray[np.uint16], x: NDArray[np.float32], outputs: int, algorithm: str) -> Callable[[], object]:
    merges, workers = schedule(len(x) // TILE, algorithm), numba.get_num_threads()
    panels = outputs // PANEL
    places = np.array([(panel * PANEL, outputs, PANEL) for panel in range(panels)])
    stack = np.zeros(workers * merges.depth * PANEL, np.float32)
    scratch, none, out = np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(outputs, np.float32)
    order = (
        merges.order,
        merges.children,
        merges.stored(merges),
        merges.first(np.zeros(0, np.int64)),
        places,
        workers,
        merges.depth,
        stack,
        scratch,
        out,
    )

    def product() -> NDArray[np.float32]:
        tiles.linear(1, x, weights, none, TILE, *order)
        return out

    return product


def _plain(weights: NDArray[np.uint16], x: NDArray[np.float32], outputs: int) -> Callable[[], object]:
    matrix, out = weights.reshape(outputs, -1), np.zeros(outputs, np.float32)

    def product() -> NDArray[np.float32]:
        plain_gemv(matrix, x, out)
        return out

    return product


def _numpy_sum(weights: NDArray[np.uint16]) -> Callable[[], int]:
    words = weights.view(np.uint64)
    return lambda: int(words.sum(dtype=np.uint64))


def _torch_sum(weights: NDArray[np.uint16]) -> Callable[[], int]:
    words = torch.from_numpy(weights.view(np.int64))
    return lambda: int(torch.sum(words)) % WORDS


def _numba_sum(weights: NDArray[np.uint16]) -> Callable[[], int]:
    words, sums = weights.view(np.uint64), np.zeros(numba.get_num_threads(), np.uint64)

    def total() -> int:
        read_all(words, sums)
        return int(sums.sum(dtype=np.uint64))

    return total


@njit(cache=True, parallel=True, fastmath=True)
def plain_gemv(weights: Any, x: Any, out: Any) -> None:
    """A row at a time, summed in the order that the compiler chooses."""
    for row in prange(weights.shape[0]):
        total = np.float32(0)
        for i in range(weights.shape[1]):
            bits = np.uint32(np.uint32(weights[row, i]) << np.uint32(16))
            total += bits.view(np.float32) * x[i]
        out[row] = total


@njit(cache=True, parallel=True)
def read_all(words: Any, sums: Any) -> None:
    """Reads and adds all 64-bit words. Each thread adds one part, into its place of `sums`."""
    parts = len(sums)
    for part in prange(parts):
        total = np.uint64(0)
        for word in words[len(words) * part // parts : len(words) * (part + 1) // parts]:
            total += word
        sums[part] = total


# torch's threads busy-wait for a while after its sum. NumPy's sum comes next, because it needs one core only.
READERS = {"a parallel numba sum": _numba_sum, "torch.sum": _torch_sum, "NumPy's sum": _numpy_sum}
