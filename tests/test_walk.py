"""walk: messages followed one after the other do what the whole graph does, cycle for cycle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.engine_graphs import FABRICS
from tests.programs import program
from tests.test_wafer import PLACES
from wsesim.engine.exact.fold import REQUEST_FIELDS, Outcome, run_plan, walked
from wsesim.engine.exact.wafer import EffectCache, SegmentRun
from wsesim.engine.expand.paths import Paths
from wsesim.engine.expand.segment import Plan
from wsesim.engine.expand.transfer import Key, expand_feedback, expand_transfer, plan_of_paths
from wsesim.engine.flow.simulate import constants
from wsesim.engine.flow.state import State
from wsesim.engine.steps.timing import Timing
from wsesim.machine import Fabric, Rect, load_machine
from wsesim.program.path import Path

TOY = load_machine("toy4x4")
COLUMNS, ROWS = 7, 6


def random_state(rng: np.random.Generator, columns: int, rows: int, most: int) -> State:
    pes = columns * rows
    free, ramp_out, ramp_in = rng.integers(0, most, (3, pes))
    return State(columns, rows, free, ramp_out, ramp_in, rng.integers(0, most, 4 * pes) * (rng.random(4 * pes) < 0.2))


def random_path(rng: np.random.Generator) -> Path:
    """Straight or with one turn, inside the mesh."""
    while True:
        x, y = int(rng.integers(COLUMNS)), int(rng.integers(ROWS))
        first = int(rng.integers(4))
        turn = int(rng.choice([d for d in range(4) if d // 2 != first // 2]))
        hops, turn_hops = int(rng.integers(1, 6)), int(rng.integers(0, 5))
        first_drop = int(rng.integers(hops if turn_hops else 1, hops + turn_hops + 1))
        elements = int(rng.integers(1, 60))
        path = Path(x, y, first, hops, turn if turn_hops else first, turn_hops, first_drop, elements, 0)
        if all(Rect(0, 0, COLUMNS, ROWS).has(*path.position(hop)) for hop in (hops, path.total_hops)):
            return path


def followed(plan: Plan, fabric: Fabric, state: State, free_links: bool) -> Outcome | None:
    assert isinstance(plan.parts, Paths)
    return walked(plan, plan.parts, constants(fabric, free_links, state), state)


def assert_as_the_whole_graph(outcome: Outcome, plan: Plan, fabric: Fabric, state: State, free_links: bool) -> None:
    whole = run_plan(plan, fabric, state, {}, fold=False, free_links=free_links)
    assert plan.counts == (plan.graph.task_count, plan.graph.message_count)
    for name, after in whole.after.items():
        np.testing.assert_array_equal(outcome.after[name], after, err_msg=name)
    for name in (f"{kind}_{which}" for kind in REQUEST_FIELDS for which in ("first", "last")):
        np.testing.assert_array_equal(getattr(outcome.requests, name), getattr(whole.requests, name), err_msg=name)
    assert (outcome.end_cycles, outcome.link_events) == (whole.end_cycles, whole.link_events)


@pytest.mark.parametrize("free_links", [False, True])
@pytest.mark.parametrize("fabric", FABRICS)
def test_random_messages_do_what_the_whole_graph_does(fabric: Fabric, free_links: bool) -> None:
    """Those that meet so that they cannot be followed are given up, never wrong."""
    rng = np.random.default_rng(11)
    machine = dataclasses.replace(TOY, fabric=fabric)
    given_up = 0
    for _ in range(150):
        paths = tuple(random_path(rng) for _ in range(int(rng.integers(1, 7))))
        plan = plan_of_paths(paths, Key(machine, Rect(0, 0, COLUMNS, ROWS), "fp16", 1))
        state = random_state(rng, COLUMNS, ROWS, int(rng.choice([1, 8, 60])))
        outcome = followed(plan, fabric, state, free_links)
        if outcome is None:
            given_up += 1
        else:
            assert_as_the_whole_graph(outcome, plan, fabric, state, free_links)
    assert given_up == 0 if free_links else 0 < given_up < 110


@pytest.mark.parametrize("words", [1, 40])
def test_a_line_of_senders_whose_order_only_waiting_decides(words: int) -> None:
    """All on one column send past one another to one row: by when they would come, and by who waited for whom."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        paths = tuple(Path(2, y, 3, 5 - y, 0, 3, 5 - y, int(rng.integers(1, words + 2)), 0) for y in range(4))
        plan = plan_of_paths(paths, Key(TOY, Rect(0, 0, COLUMNS, ROWS), "fp16", 1))
        state = random_state(rng, COLUMNS, ROWS, 12)
        outcome = followed(plan, TOY.fabric, state, False)
        assert outcome is not None
        assert_as_the_whole_graph(outcome, plan, TOY.fabric, state, False)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_transfer_can_be_followed(place: tuple[str, str, str]) -> None:
    made = program(*place)
    segments = [expand_transfer(made, transfer, 2) for transfer in made.transfers]
    back = expand_feedback(made)
    rng = np.random.default_rng(5)
    for segment in [*segments, *([back] if back else [])]:
        plan = segment.plan
        state = random_state(rng, plan.columns, plan.rows, 9)
        outcome = followed(plan, made.machine.fabric, state, False)
        assert outcome is not None, segment.name
        assert_as_the_whole_graph(outcome, plan, made.machine.fabric, state, False)


@pytest.mark.parametrize("strategy", ["pipelined", "shared"])
@pytest.mark.parametrize("machine", ["toy4x4", "wse3"])
def test_steps_are_the_same_without_timelines(machine: str, strategy: str) -> None:
    """Without them transfers are followed."""
    made = program("tiny", machine, strategy)
    short, whole = (Timing(made, EffectCache(keep_timelines=False, fold=fold)) for fold in (True, False))
    for one, other in (
        (short.decode(100), whole.decode(100)),
        (short.prefill(2 * made.prefill_chunk + 1), whole.prefill(2 * made.prefill_chunk + 1)),
    ):
        assert all(map(same, one.runs, other.runs))
        assert (one.cycles, one.link_events, one.late_requests) == (
            other.cycles,
            other.link_events,
            other.late_requests,
        )


def same(one: SegmentRun, other: SegmentRun) -> bool:
    return (one.segment.name, one.base, one.end) == (other.segment.name, other.base, other.end)
