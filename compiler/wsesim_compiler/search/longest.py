"""The longest context for which any placement of the search stands on the wafer."""

from __future__ import annotations

import dataclasses

from wsesim.machine import Machine
from wsesim.program.protocols import StageOracle
from wsesim_compiler.options import Options
from wsesim_compiler.partition import Partition
from wsesim_compiler.passes.place import fits
from wsesim_compiler.search.explore import layer_counts
from wsesim_compiler.search.frames import axes_of, frames
from wsesim_compiler.search.judge import longest
from wsesim_compiler.search.prices import Prices
from wsesim_compiler.search.shelves import Shelves


def longest_that_fits(partition: Partition, machine: Machine, options: Options, cost: StageOracle) -> int:
    """Tokens of a sequence, 0 if there is no placement at all. Shelves of equal blocks and `shared` are tried."""

    def has_room(tokens: int) -> bool:
        return stands(partition, machine, dataclasses.replace(options, max_context=tokens), cost)

    return longest(has_room)


def stands(partition: Partition, machine: Machine, options: Options, cost: StageOracle) -> bool:
    """Whether there is a placement."""
    if fits(partition, machine, dataclasses.replace(options, strategy="shared", layers_per_block=1)):
        return True
    prices = _Room(partition, machine, options, cost, 1)
    shelves = Shelves(prices)
    counts, own = layer_counts(len(partition.layers)), frames(prices, axes=axes_of(machine))
    return any(shelves.best(frame, shelves.catalogue(frame, counts, heights=1)) is not None for frame in own)


class _Room(Prices):
    """Prices that only tell whether stages fit."""

    def _priced(self, stages: object, size: object) -> int:
        return 0
