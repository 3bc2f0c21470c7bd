"""Why the search does not vary the KV policy: on the same blocks, none is better than `interleaved` at anything."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.programs import ORACLE
from tests.test_search_prices import judge_of, random_candidates
from wsesim.program.kv import CONCAT, INTERLEAVED, POLICIES, SHIFT, KVCache
from wsesim_compiler.search.goals import Goal, parse_objective
from wsesim_compiler.search.judge import Candidate, Judge


@given(st.integers(1, 100_000), st.integers(1, 1200), st.integers(1, 64), st.none() | st.integers(1, 5000))
def test_no_policy_has_fewer_positions_on_its_fullest_line(
    context: int, along: int, together: int, window: int | None
) -> None:
    least, *others = (KVCache(policy, window=window) for policy in (INTERLEAVED, SHIFT, CONCAT))
    for other in others:
        assert least.positions(context, along) <= other.positions(context, along)
        assert least.stored_positions(context, along, together) <= other.stored_positions(context, along, together)


@pytest.mark.parametrize(("model", "machine", "context"), [("tiny", "toy4x4", 40), ("smollm2-135m", "wse3", 200)])
def test_no_policy_is_better_for_any_objective(model: str, machine: str, context: int) -> None:
    judge = judge_of(model, machine, context)
    goal = Goal(parse_objective("latency,throughput,context,prompt"), context=context, prompt=8)
    compared = 0
    for candidate in random_candidates(judge, seed=5, draws=12)[:4]:
        found: dict[str, Candidate] = {}
        for policy in POLICIES:
            options = dataclasses.replace(judge.options, kv=policy, max_context=context + 8)
            own = Judge(judge.partition, judge.machine, options, ORACLE, goal, simulated=True)
            placed = own.placed(candidate.blocks, policy)
            if placed is not None:
                found[policy] = placed
        best = found.pop(INTERLEAVED).metrics
        for other in (candidate.metrics for candidate in found.values()):
            assert best.seconds_per_token <= other.seconds_per_token
            assert best.tokens_per_second >= other.tokens_per_second
            assert best.context >= other.context
            assert best.prompt_seconds <= other.prompt_seconds
            compared += 1
    assert compared
