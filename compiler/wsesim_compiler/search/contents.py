"""Contents: what the blocks of a cell may hold, and the least that it costs there.

A block may hold the embedding, the head, whole layers, and halves of layers whose other half lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsesim_compiler.partition import Stage
from wsesim_compiler.search.cells import Cell
from wsesim_compiler.search.least import least_by_operator
from wsesim_compiler.search.prices import Prices
from wsesim_compiler.search.ways import least_way_cycles, send_cycles

Float = NDArray[np.float64]
Int = NDArray[np.int64]

UNLIMITED = 1 << 40  # cycles
EMBED, HEAD, LAYER, ATTENTION, FFN = range(5)
"""Kinds of stages, as the columns of contents."""
TABLES = ((0, 0), (1, 0), (0, 1), (1, 1))
TIED = ((0, 0), (1, 1))
"""Embeddings and heads that may lie on one block."""


class Stays(NamedTuple):
    """Blocks with contents: of each the number of its cell, stages by kind [M, 5], and cycles of a pass at least.

    The cycles contain the transfers to the block.
    """

    cell: Int
    contents: Int
    cycles: Float


@dataclass(frozen=True, slots=True)
class _Least:
    """On a cell: cycles by operator, cycles and bytes of a PE, of one stage of each kind.

    `tied_bytes`: of the table that embedding and head share. `way_cycles`: of a transfer to a block.
    """

    operators: tuple[dict[str, int], ...]
    cycles: tuple[int, ...]
    held_bytes: tuple[int, ...]
    tied_bytes: int
    way_cycles: int


class Contents:
    """Stays on cells. The costs of a stage are worked out once for each cell.

    Layers of unlike kinds count as the cheapest of them.
    """

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        partition = prices.partition
        self.layers = len(partition.layers)
        alike = {prices.probe.kind((layer,)): layer for layer in reversed(partition.layers)}
        self.divisible = all(layer.halves for layer in alike.values())
        halves = [layer.halves for layer in alike.values()] if self.divisible else []
        self._stages: tuple[Sequence[Stage], ...] = (
            (partition.stages[0],),
            (partition.stages[-1],),
            tuple(alike.values()),
            tuple(own[0] for own in halves),
            tuple(own[1] for own in halves),
        )
        self._known: dict[Cell, _Least] = {}

    def stays(self, cells: Sequence[Cell], period_cycles: int = UNLIMITED) -> Stays:
        """Stays on these cells; every other one costs no less than some mixture of these.

        No step holds a block for longer than `period_cycles`.
        """
        tables = TIED if self.prices.partition.tied else TABLES
        found = [own for embeds, heads in tables for own in self._with(cells, embeds, heads, period_cycles)]
        return Stays(*map(np.concatenate, zip(*found, strict=True)))

    def by_operator(self, cell: Cell, content: Sequence[int]) -> dict[str, float]:
        """The cycles of a stay by operator; the rest are transfers."""
        found: dict[str, float] = {}
        for count, operators in zip(content, self._on(cell).operators, strict=True):
            for operator, cycles in operators.items() if count else ():
                found[operator] = found.get(operator, 0) + count * cycles
        return found

    def _with(self, cells: Sequence[Cell], embeds: int, heads: int, period_cycles: int) -> Iterator[Stays]:
        """Beside these tables: each number of layers that fits, alone, with one half, and with as many as fit.

        A pass enters and leaves a block once for each visit. Halves of one kind are never neighbours, so a visit has at
        most one of them. A pass begins with the embedding, which is not entered, and ends with the head.
        """
        least = [self._on(cell) for cell in cells]
        cycles = np.array([own.cycles for own in least], np.int64)
        held = np.array([own.held_bytes for own in least], np.int64)
        way = np.array([own.way_cycles for own in least], np.int64)[:, None]
        leave = send_cycles(self.prices.machine)
        shared = embeds and heads and self.prices.partition.tied
        table = np.array([own.tied_bytes for own in least], np.int64) if shared else held[:, :2] @ (embeds, heads)
        layers = np.arange(self.layers + 1)[None]
        free_bytes = self.prices.machine.room_bytes - table[:, None] - layers * held[:, LAYER, None]
        spent_cycles = (cycles[:, :2] @ (embeds, heads))[:, None] + layers * cycles[:, LAYER, None]
        visits = np.where(layers, 1, embeds + heads)
        alone_cycles = spent_cycles + (visits - embeds) * way
        stands = (free_bytes >= 0) & (visits > 0) & (alone_cycles + (visits - heads) * leave <= period_cycles)
        yield _chosen(stands, (embeds, heads), layers, None, 0, alone_cycles)
        for kind in (ATTENTION, FFN) if self.divisible else ():
            each_cycles = cycles[:, kind, None] + way
            left_cycles = period_cycles - spent_cycles + embeds * way + heads * leave
            most = np.minimum(self.layers - layers, free_bytes // np.maximum(held[:, kind, None], 1))
            most = np.minimum(most, left_cycles // (each_cycles + leave))
            for halves in (np.ones_like(most), most):
                own_cycles = spent_cycles - embeds * way + halves * each_cycles
                yield _chosen((most >= halves) & (halves > 0), (embeds, heads), layers, kind, halves, own_cycles)

    def _on(self, cell: Cell) -> _Least:
        if cell not in self._known:
            probe, prices = self.prices.probe, self.prices
            memory = [[probe.memory((stage,), cell.large) for stage in kind] for kind in self._stages]
            operators = [
                [least_by_operator(prices, stage, cell.small, cell.large) for stage in k] for k in self._stages
            ]
            fastest = tuple(min(kind, key=lambda own: sum(own.values()), default={}) for kind in operators)
            table = probe.memory(probe.embed, cell.large)
            self._known[cell] = _Least(
                fastest,
                tuple(sum(own.values()) for own in fastest),
                tuple(min((m.weight_bytes + m.kv_bytes for m in kind), default=0) for kind in memory),
                table.weight_bytes + table.kv_bytes,
                least_way_cycles(prices.machine, cell.small[0]),
            )
        return self._known[cell]


def _chosen(
    stands: NDArray[np.bool_], tables: tuple[int, int], layers: Int, kind: int | None, halves: Int | int, cycles: Int
) -> Stays:
    """The stays that stand, of a grid of cells x numbers of layers."""
    cell, column = np.nonzero(stands)
    contents = np.zeros((cell.size, 5), np.int64)
    contents[:, :LAYER] = tables
    contents[:, LAYER] = layers[0, column]
    if kind is not None:
        contents[:, kind] = np.broadcast_to(halves, stands.shape)[stands]
    return Stays(cell, contents, cycles[stands].astype(np.float64))
