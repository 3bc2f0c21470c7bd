"""Sequences that the search chooses: the fewest with which the busiest block always works, if they fit."""

from __future__ import annotations

import dataclasses
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.command_line import run
from tests.programs import ORACLE
from tests.test_search_bound import small_problem
from wsesim_compiler.search.goals import Goal, parse_limits, parse_objective
from wsesim_compiler.search.judge import Candidate, Judge
from wsesim_compiler.search.sequences import explore_sequences

SMALL: dict[str, Any] = {"machine": "toy4x4", "context": 16, "prompt_tokens": 4, "jobs": 1, "max_context": 32}
Capsys = pytest.CaptureFixture[str]


def judge_of(seed: int, *limits: str, objective: str = "throughput") -> Judge:
    """For a small problem, with free sequences."""
    own = small_problem(seed)
    goal = Goal(parse_objective(objective), parse_limits(limits), 32)
    options = dataclasses.replace(own.options, max_context=64)
    return Judge(own.partition, own.machine, options, ORACLE, goal, free_sequences=True)


def candidates(judge: Judge, count: int) -> list[Candidate]:
    return [c for c in islice(explore_sequences(judge, 0), count) if c is not None]


@pytest.mark.parametrize("seed", range(6))
def test_no_number_of_sequences_is_better_for_the_blocks(seed: int) -> None:
    """For every twelfth candidate, all numbers of sequences from 1 to 39 are priced."""
    judge = judge_of(seed)
    for candidate in candidates(judge, 60)[::12]:
        priced: dict[int, Candidate | None] = {}
        for sequences in range(1, 40):
            fixed = Judge(
                judge.partition,
                judge.machine,
                dataclasses.replace(judge.options, sequences=sequences),
                ORACLE,
                judge.goal,
            )
            priced[sequences] = fixed.placed(candidate.blocks, "")
        own = priced[candidate.sequences]
        assert own is not None and own.metrics == candidate.metrics
        assert candidate.cost <= min(c.cost for c in priced.values() if c is not None) + 1e-9


def test_chosen_sequences_are_never_worse_than_stated_ones() -> None:
    free = wsesim.search("tiny", objective="throughput", budget="200", **SMALL)
    stated = [wsesim.search("tiny", objective="throughput", budget="100", sequences=n, **SMALL) for n in (1, 2, 4)]
    assert [found.best.sequences for found in stated] == [found.sequences for found in stated] == [1, 2, 4]
    assert free.best.tokens_per_second >= max(found.best.tokens_per_second for found in stated)
    assert free.sequences == free.best.sequences > 1
    assert free.default is not None and free.default.sequences == 1


def test_a_file_says_with_how_many_sequences_it_goes(tmp_path: Path, capsys: Capsys) -> None:
    found = wsesim.search("tiny", objective="throughput", budget="80", **SMALL)
    best, file = found.best, tmp_path / "best.toml"
    assert f"# with --sequences {best.sequences}:" in found.placement_text()
    file.write_text(found.placement_text(), encoding="utf-8")
    words = ("--placement", str(file), "--sequences", str(best.sequences), "--max-context", "32", "--context", "16")
    told = json.loads(run(capsys, "simulate", "tiny", "--machine", "toy4x4", *words, "--json").out)
    assert told["cycles"] == best.cycles
    assert found.to_json()["found"][0]["sequences"] == best.sequences
    assert str(best.sequences) in str(found)


def test_other_objectives_keep_one_sequence() -> None:
    for objective in ("latency", "context", "prompt", "throughput=1,context=1"):
        found = wsesim.search("tiny", objective=objective, budget="20", **SMALL)
        assert {one.sequences for one in found.found} == {1}


def test_limits_hold_with_the_sequences_that_are_reported() -> None:
    free = wsesim.search("tiny", objective="throughput", budget="120", **SMALL)
    least_s = 0.97 * free.best.seconds_per_token
    limits = ["context>=48", f"seconds_per_token<={least_s}"]
    found = wsesim.search("tiny", objective="throughput", slo=limits, budget="120", **SMALL)
    assert found.best.sequences > 1
    assert all(one.context >= 48 and one.seconds_per_token <= least_s for one in found.found)


def test_a_limit_of_all_tokens_makes_the_search_take_more_sequences() -> None:
    lone = wsesim.search("tiny", budget="60", **SMALL)
    least = 1.2 * lone.best.tokens_per_second
    found = wsesim.search("tiny", slo=f"tokens_per_second>={least}", budget="120", **SMALL)
    assert found.best.sequences > lone.best.sequences == 1
    assert all(one.tokens_per_second >= least for one in found.found)


def test_the_same_seed_finds_the_same_with_any_number_of_jobs() -> None:
    keywords = SMALL | {"objective": "throughput", "budget": "100"}
    one, two = (wsesim.search("tiny", **(keywords | {"jobs": jobs})) for jobs in (1, 2))
    assert one.found == two.found and one.candidates == two.candidates
    assert one.period_bound_cycles == two.period_bound_cycles
