"""Strategies: the plans of `pipelined`, `shared` and `hybrid`.

Equal blocks stand in rows between the tables: the embedding north, the head south (tied: one block, north).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import groupby

from wsesim_compiler.options import Options
from wsesim_compiler.search.equal import EqualBlocks
from wsesim_compiler.search.frames import COARSE, ENDS, TOP, frames
from wsesim_compiler.search.plans import ROWS, Frame, Plan
from wsesim_compiler.search.prices import Prices


def strategy_plans(prices: Prices, options: Options, axis: str = ROWS) -> list[Plan]:
    """The fastest plan of the options' strategy on each ground of the wafer, the fastest first; [] if none stands."""
    layers = options.layers_of_a_block(len(prices.partition.layers))
    equal = EqualBlocks(prices, layers, size=options.block, order=options.order)
    plans = [plan for own in _by_ground(prices, axis) if (plan := equal.best(own))]
    return sorted(plans, key=lambda plan: _cycles(prices, plan))


def strategies(options: Options, layers: int) -> Iterator[Options]:
    """The options with each strategy: hybrid with all numbers that divide the layers."""
    hybrid = [("hybrid", each) for each in range(2, layers) if layers % each == 0]
    for strategy, each in (("pipelined", 1), *hybrid, ("shared", 1)):
        yield dataclasses.replace(options, strategy=strategy, layers_per_block=each)


def strategy_name(options: Options) -> str:
    """As a user states it: `--strategy hybrid --layers-per-block 4`."""
    each = f" --layers-per-block {options.layers_per_block}" if options.strategy == "hybrid" else ""
    return f"--strategy {options.strategy}{each}"


def _by_ground(prices: Prices, axis: str) -> Iterator[list[Frame]]:
    """The frames of each ground, without those that are neither flatter nor faster than another."""
    own = frames(prices, COARSE, (TOP,) if prices.partition.tied else (ENDS,), (axis,))
    for _, group in groupby(own, key=lambda frame: (frame.x, frame.columns, frame.left_out)):
        kept: list[Frame] = []
        for frame in sorted(group, key=lambda frame: (-frame.rows, frame.cycles)):
            if not kept or frame.cycles < kept[-1].cycles:
                kept.append(frame)
        yield kept


def _cycles(prices: Prices, plan: Plan) -> int:
    blocks = plan.blocks(prices.partition)
    assert blocks is not None, "a plan of equal blocks stands"
    price = prices.pass_price(blocks)
    assert price is not None, "its blocks fit"
    return price.cycles
