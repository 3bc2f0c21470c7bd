"""Where values live while a step runs: arrays handed on from value to value, so that a layer stays in the
cache."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.program import Program
from wsesim.program.kernels import Kernel, Sample, Score, Softmax
from wsesim.program.layout import Layout
from wsesim.program.parts import Transfer

Floats = NDArray[np.float32]
Item = Kernel | Transfer
Place = tuple[str, str]
"""A value on a block."""


def row_of(layout: Layout) -> int:
    """Places of one token's vector, padding included."""
    return layout.used * layout.width


def in_order(program: Program) -> Iterator[Item]:
    """The kernels, and after each the transfers of what it made."""
    leaving = defaultdict(list)
    for transfer in program.transfers:
        leaving[transfer.value, transfer.source].append(transfer)
    for kernel in program.kernels:
        yield kernel
        pending = [(value, kernel.block) for value, _, _ in kernel.makes]
        while pending:
            for transfer in leaving[pending.pop()]:
                yield transfer
                pending.append((transfer.value, transfer.target))


def inputs(item: Item) -> tuple[Place, ...]:
    if isinstance(item, Transfer):
        return ((item.value, item.source),)
    return tuple((value, item.block) for value, _, _ in item.reads)


def outputs(item: Item) -> tuple[Place, ...]:
    if isinstance(item, Transfer):
        return ((item.value, item.target),)
    return tuple((value, item.block) for value, _, _ in item.makes)


def output_layouts(item: Item) -> tuple[Layout, ...]:
    """Layouts of the vectors that an item makes. Scores, probabilities and a sampled id are no vectors."""
    if isinstance(item, Transfer):
        return (item.target_layout,)
    return () if isinstance(item, Score | Softmax | Sample) else tuple(layout for _, layout, _ in item.makes)


@dataclass(slots=True, eq=False)
class Positions:
    """Scores or probabilities [chunk, heads, capacity], flat; grows with the sequence that needs it."""

    chunk: int
    heads: int
    array: Floats

    def reserve(self, capacity: int) -> Floats:
        size = self.chunk * self.heads * capacity
        if len(self.array) < size:
            self.array = np.zeros(size, np.float32)
        return self.array


class Buffers:
    """Arrays for the outputs of each item, [chunk, row] a value and those of one item side by side.

    An array goes back when every value in it has been read for the last time.
    """

    def __init__(self, items: tuple[Item, ...], chunk: int) -> None:
        self._chunk = chunk
        self._reads = Counter(place for item in items for place in inputs(item))
        self._free: dict[int, list[Floats]] = defaultdict(list)
        self._free_positions: dict[int, list[Positions]] = defaultdict(list)
        self._whole: dict[Place, Floats | Positions] = {}
        self._living: Counter[int] = Counter()
        self._value: dict[Place, Floats] = {}
        self._positions: dict[Place, Positions] = {}

    def value(self, place: Place) -> Floats:
        return self._value[place]

    def positions(self, place: Place) -> Positions:
        return self._positions[place]

    def make(self, item: Item) -> Floats:
        """One array for all outputs of `item`; `value` then gives each one's part."""
        rows = [row_of(layout) for layout in output_layouts(item)]
        size = self._chunk * sum(rows)
        whole = self._free[size].pop() if self._free[size] else np.zeros(size, np.float32)
        first = 0
        for place, row in zip(outputs(item), rows, strict=True):
            self._value[place] = whole[first : first + self._chunk * row]
            self._hold(place, whole)
            first += self._chunk * row
        return whole

    def make_positions(self, item: Score | Softmax, heads: int) -> Positions:
        free = self._free_positions[heads]
        made = free.pop() if free else Positions(self._chunk, heads, np.zeros(0, np.float32))
        (place,) = outputs(item)
        self._positions[place] = made
        self._hold(place, made)
        return made

    def alias(self, transfer: Transfer) -> None:
        """The value on the target's block is the array on the source's."""
        (source,), (target,) = inputs(transfer), outputs(transfer)
        self._value[target] = self._value[source]
        self._hold(target, self._whole[source])

    def done(self, item: Item) -> None:
        """Frees every array that no later item reads, after `item` has read its inputs."""
        for place in inputs(item):
            self._reads[place] -= 1
        for place in {*inputs(item), *outputs(item)}:
            if self._reads[place] <= 0 and place in self._whole:
                self._release(place)

    def _hold(self, place: Place, whole: Floats | Positions) -> None:
        self._whole[place] = whole
        self._living[id(whole)] += 1

    def _release(self, place: Place) -> None:
        whole = self._whole.pop(place)
        self._living[id(whole)] -= 1
        if self._living[id(whole)]:
            return
        if isinstance(whole, Positions):
            self._free_positions[whole.heads].append(whole)
        else:
            self._free[len(whole)].append(whole)
