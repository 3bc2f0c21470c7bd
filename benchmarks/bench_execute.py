"""Execute: a matrix-vector product in the wafer's order beside the plain order and the memory's read limit.

Each function returns figures; nothing is asserted but the bytes that were read. All three are measured in turn, round
after round, so that what else the machine does meets them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numba
import numpy as np
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


@dataclass(frozen=True, slots=True)
class GemvFigures:
    """Medians of one shape. `fraction` is of the read limit; `slowdown` is the time over the plain order's."""

    outputs: int
    inputs: int
    algorithm: str
    threads: int
    bytes_read: int
    wafer_gb_s: float
    plain_gb_s: float
    limit_gb_s: float

    @property
    def fraction(self) -> float:
        return self.wafer_gb_s / self.limit_gb_s

    @property
    def slowdown(self) -> float:
        return self.plain_gb_s / self.wafer_gb_s


def gemv(outputs: int, inputs: int, algorithm: str = "chain") -> GemvFigures:
    """bf16 weights [outputs, inputs] times a float32 vector, all threads."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(outputs * inputs, np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    weights = [bits, *(bits.copy() for _ in range(COPIES - 1))]
    x = rng.standard_normal(inputs, np.float32)
    runs = {
        "wafer": [_wafer(w, x, outputs, algorithm) for w in weights],
        "plain": [_plain(w, x, outputs) for w in weights],
        "limit": [_limit(w) for w in weights],
    }
    bytes_read = COPIES * bits.nbytes
    seconds = _medians(runs)
    _check_products(bits, x, algorithm, runs["wafer"][0](), runs["plain"][0]())
    assert runs["limit"][0]() == bits.view(np.uint64).sum(dtype=np.uint64), "not every word was read"
    rates = {name: bytes_read / time_s / 1e9 for name, time_s in seconds.items()}
    return GemvFigures(
        outputs,
        inputs,
        algorithm,
        numba.get_num_threads(),
        bytes_read,
        rates["wafer"],
        rates["plain"],
        rates["limit"],
    )


def figures() -> list[GemvFigures]:
    """Both shapes, both algorithms."""
    return [gemv(*shape, algorithm) for shape in SHAPES for algorithm in ("chain", "two_phase")]


def rows() -> list[Row]:
    """The figures with their limits."""
    found = []
    for f in figures():
        name = f"GEMV {f.outputs} x {f.inputs} bf16, {f.algorithm}"
        note = f"{f.bytes_read / 1e6:.0f} MB read, {f.threads} threads, limit {f.limit_gb_s:.1f} GB/s"
        found += [
            Row(f"{name}: of the read limit", f.fraction, "x", 0.5, at_most=False, note=note),
            Row(f"{name}: time over the plain order's", f.slowdown, "x", 1.4, note=f"{f.wafer_gb_s:.1f} GB/s"),
        ]
    return found


def _check_products(bits: NDArray[np.uint16], x: NDArray[np.float32], algorithm: str, wafer: Any, plain: Any) -> None:
    """Both multiplied every weight: the same bits, read as tiles by the one and as rows by the other."""
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    order = schedule(len(x) // TILE, algorithm).order
    columns = (order[:, None] * TILE + np.arange(TILE)).reshape(-1)
    tiled = np.tensordot(values.reshape(-1, len(x), PANEL), x[columns], axes=(1, 0)).reshape(-1)
    np.testing.assert_allclose(wafer, tiled, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(plain, values.reshape(-1, len(x)) @ x, rtol=1e-3, atol=1e-2)


def _medians(runs: dict[str, list[Callable[[], object]]]) -> dict[str, float]:
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
        merges.first(np.zeros(0)),
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


def _limit(weights: NDArray[np.uint16]) -> Callable[[], object]:
    words, sums = weights.view(np.uint64), np.zeros(numba.get_num_threads(), np.uint64)

    def total() -> np.uint64:
        read_all(words, sums)
        return sums.sum(dtype=np.uint64)

    return total


@njit(cache=True, parallel=True, fastmath=True)
def plain_gemv(weights: Any, x: Any, out: Any) -> None:
    """A row at a time, summed in whatever order the compiler likes best."""
    for row in prange(weights.shape[0]):
        total = np.float32(0)
        for i in range(weights.shape[1]):
            bits = np.uint32(np.uint32(weights[row, i]) << np.uint32(16))
            total += bits.view(np.float32) * x[i]
        out[row] = total


@njit(cache=True, parallel=True)
def read_all(words: Any, sums: Any) -> None:
    """Reads and adds every word, a part per thread."""
    parts = len(sums)
    for part in prange(parts):
        total = np.uint64(0)
        for i in range(len(words) * part // parts, len(words) * (part + 1) // parts):
            total += words[i]
        sums[part] = total
