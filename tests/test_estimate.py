"""The compiler's estimate only ranks block shapes. Its order of shapes is compared with the engine's cycles."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from tests.programs import program, recognised_graph
from wsesim.engine.steps.timing import Timing
from wsesim.machine import load_machine
from wsesim.program.collectives import reduction
from wsesim_compiler.options import Options
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.placement.estimate import RECEIVED
from wsesim_compiler.placement.probe import Probe
from wsesim_models.config import CONFIGS, LlamaConfig

SMALL = CONFIGS["tiny"]
WIDE = dataclasses.replace(SMALL, name="tiny-wide", dim=128, ffn_dim=512, heads=8, kv_heads=4, head_dim=16)
NORMED = dataclasses.replace(WIDE, name="tiny-wide-normed", qk_norm=True)
SHAPES = ((6, 6), (8, 8), (8, 16), (16, 8), (32, 16), (32, 64), (64, 32))
CONTEXT = 256


def ranks(values: list[int]) -> list[int]:
    return [sorted(values).index(value) for value in values]


def cycles_of_layer(config: LlamaConfig, shape: tuple[int, int]) -> tuple[int, int]:
    """Estimated and simulated cycles of the first layer on a block of `shape`."""
    options = Options(max_context=CONTEXT, block=shape)
    probe = Probe(partition(recognised_graph(config)), load_machine("wse3"), options)
    made = program(config, "wse3", block=shape, max_context=CONTEXT)
    step = Timing(made).decode(CONTEXT - 1)
    simulated = next(run.end - run.base for run in step.runs if run.segment.name == "layer0")
    return probe.cycles(probe.layer_groups[0], shape), simulated


@pytest.mark.parametrize("config", [SMALL, WIDE, NORMED], ids=lambda config: config.name)
def test_shapes_rank_as_the_engine_ranks_them(config: LlamaConfig) -> None:
    estimated, simulated = map(list, zip(*(cycles_of_layer(config, shape) for shape in SHAPES), strict=True))
    agreement = np.corrcoef(ranks(estimated), ranks(simulated))[0, 1]
    chosen = simulated[estimated.index(min(estimated))]
    assert agreement > 0.85, "the estimate prices wsesim-plain"
    assert chosen <= 1.05 * min(simulated)


def test_the_busiest_pe_receives_as_many_sums_as_the_estimate_says() -> None:
    """Two-phase and tree collectives on lines of 257 to 512 PEs, a chain on any."""
    for length in (257, 300, 512):
        for algorithm, count in RECEIVED.items():
            merges = reduction(length, algorithm).merges
            assert max(Counter(merge.target for merge in merges).values()) == count, (algorithm, length)
