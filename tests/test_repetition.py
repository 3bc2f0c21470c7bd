"""Prompts whose chunks repeat get the same cycles without running every chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import wsesim
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import StepCycles, Timing
from wsesim.toolchain import make_timing

CASES = [
    ("tiny", {"machine": "toy4x4"}, (1, 2, 7, 33, 64)),
    ("tiny", {"machine": "toy4x4", "strategy": "shared", "kv": "shift"}, (9, 40)),
    ("smollm2-135m", {}, (5, 96, 97, 130)),  # 96 lines: their positions change after 96 tokens
    ("smollm2-135m", {"strategy": "hybrid", "layers_per_block": 5}, (100,)),
    ("smollm2-135m", {"strategy": "shared"}, (60,)),
    ("llama3.2-1b", {}, (60, 104)),  # repeats after several chunks
]


@pytest.mark.parametrize(("model", "options", "lengths"), CASES, ids=[f"{m} {o}" for m, o, _ in CASES])
def test_times_of_a_prompt_are_those_of_all_its_chunks(
    model: str, options: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    timing = make_timing(wsesim.compile(model, **options), keep_timelines=False)
    for tokens in lengths:
        short, whole = timing.prefill_times(tokens), timing.prefill(tokens)
        assert (short.cycles, short.logits_cycles) == (whole.cycles, whole.logits_cycles)
        assert short.busy_cycles == whole.busy_cycles


@pytest.mark.parametrize(
    ("model", "options", "first", "lengths", "not_run"),
    [
        ("tiny", {"machine": "toy4x4"}, 40, range(34, 62, 3), 0),  # four lines: their positions change too soon
        ("smollm2-135m", {"prefill_chunk": 1}, 60, (2, 3, 8, 95, 96, 97), 3),
        ("smollm2-135m", {"strategy": "shared"}, 60, (2, 5, 56), 1),
    ],
)
def test_a_prompt_that_ends_where_another_did_is_not_run_at_all(
    model: str, options: dict[str, Any], first: int, lengths: Sequence[int], not_run: int
) -> None:
    program = wsesim.compile(model, **options)
    timing, other = (make_timing(program, keep_timelines=False) for _ in range(2))
    timing.prefill_times(first)
    known = 0
    for tokens in lengths:
        before = timing.cache.simulations + timing.cache.recalls
        short, whole = timing.prefill_times(tokens), other.prefill(tokens)
        assert short == StepCycles(whole.cycles, whole.logits_cycles, whole.busy_cycles)
        known += timing.cache.simulations + timing.cache.recalls == before
    assert known == not_run


def test_most_of_a_long_prompt_is_not_run() -> None:
    cache = EffectCache(keep_timelines=False)
    timing = Timing(wsesim.compile("smollm2-135m"), cache)
    timing.prefill_times(400)
    assert cache.simulations + cache.recalls < 60 * 61  # segments of 60 of the 400 chunks


def test_a_prompt_s_embedding_does_not_run_ahead() -> None:
    """The entrance takes a chunk after the one before has left. So an equal chunk is found in the cache."""
    step = make_timing(wsesim.compile("smollm2-135m"), keep_timelines=False).prefill(24)
    embeds = [run for run in step.runs if run.segment.name == "embed"]
    layers = [run for run in step.runs if run.segment.name == "layer0"]
    assert embeds[-1].base > layers[-3].base
    assert embeds[-1].recalled and embeds[-1].effect is embeds[-2].effect


def test_steps_that_were_forgotten_are_run_again_alike() -> None:
    timing = make_timing(wsesim.compile("tiny", machine="toy4x4"), keep_timelines=False)
    first = timing.decode(9)
    timing.forget_steps()
    assert timing.decode(9) is not first and timing.decode(9).cycles == first.cycles
