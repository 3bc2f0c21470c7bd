"""walk: messages followed one after the other do what the whole graph does, cycle for cycle."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import numpy as np
import pytest

from tests.engine_graphs import FABRICS
from tests.programs import program
from tests.test_wafer import PLACES
from wsesim.engine.exact import reference_walk
from wsesim.engine.exact import walk as walk_kernels
from wsesim.engine.exact.effect import Effect
from wsesim.engine.exact.fold import RunOptions, run_plan, walked
from wsesim.engine.exact.reference_walk import Grant
from wsesim.engine.exact.wafer import EffectCache, SegmentRun
from wsesim.engine.exact.walk import Walk, begin, line_order
from wsesim.engine.expand.paths import Paths
from wsesim.engine.expand.segment import Plan
from wsesim.engine.expand.transfer import Key, expand_feedback, expand_transfer, plan_of_paths
from wsesim.engine.flow import reference
from wsesim.engine.flow.records import Constants
from wsesim.engine.flow.reference import Hold
from wsesim.engine.flow.simulate import constants
from wsesim.engine.flow.state import STATE_FIELDS, Requests, State
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


def past_some(paths: tuple[Path, ...], rng: np.random.Generator) -> tuple[Path, ...]:
    """The paths without copies on some PEs, as on those that a target leaves out. None of them is the end of a path."""
    places = {path.position(hop) for path in paths for hop in range(path.first_drop, path.total_hops)}
    ends = {path.position(path.total_hops) for path in paths}
    left_out = {place for place in sorted(places - ends) if rng.random() < 0.3}
    hops = ((path, range(path.first_drop, path.total_hops)) for path in paths)
    return tuple(
        dataclasses.replace(path, passed=tuple(hop for hop in own if path.position(hop) in left_out))
        for path, own in hops
    )


def followed(plan: Plan, fabric: Fabric, state: State, free_links: bool) -> Effect | None:
    assert isinstance(plan.parts, Paths)
    return walked(plan, plan.parts, constants(fabric, free_links, state), state)


def assert_as_the_whole_graph(effect: Effect, plan: Plan, fabric: Fabric, state: State, free_links: bool) -> None:
    whole = run_plan(plan, state, RunOptions(fabric, free_links, fold=False), {})
    assert plan.counts == (plan.graph.task_count, plan.graph.message_count)
    for name in STATE_FIELDS:
        np.testing.assert_array_equal(getattr(effect.after, name), getattr(whole.after, name), err_msg=name)
    for name, one, other in zip(Requests._fields, effect.requests, whole.requests, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert (effect.end_cycles, effect.link_events) == (whole.end_cycles, whole.link_events)


@pytest.mark.parametrize("free_links", [False, True])
@pytest.mark.parametrize("fabric", FABRICS)
def test_random_messages_do_what_the_whole_graph_does(fabric: Fabric, free_links: bool) -> None:
    """Those that meet so that they cannot be followed are given up, never wrong."""
    rng = np.random.default_rng(11)
    machine = dataclasses.replace(TOY, fabric=fabric)
    given_up = 0
    for _ in range(150):
        paths = past_some(tuple(random_path(rng) for _ in range(int(rng.integers(1, 7)))), rng)
        plan = plan_of_paths(paths, Key(machine, Rect(0, 0, COLUMNS, ROWS), "fp16", 1))
        state = random_state(rng, COLUMNS, ROWS, int(rng.choice([1, 8, 60])))
        effect = followed(plan, fabric, state, free_links)
        if effect is None:
            given_up += 1
        else:
            assert_as_the_whole_graph(effect, plan, fabric, state, free_links)
    assert given_up == 0 if free_links else 0 < given_up < 110


@dataclasses.dataclass(frozen=True)
class Walked:
    """A walk by the kernel or by its twin."""

    done: bool
    walk: Walk
    end: int
    grants: list[Grant]


def walked_by(module: ModuleType, paths: Paths, fabric: Constants, state: State) -> Walked:
    walk = begin(paths, state, state.copy(), Requests.none(state.columns * state.rows))
    module.send(paths, walk, fabric)
    order, ends = line_order(paths, walk, fabric)
    trace: list[Grant] = []
    arguments = (trace,) if module is reference_walk else ()
    done = module.follow(paths, walk, fabric, order, ends, *arguments)
    return Walked(done, walk, module.receive(paths, walk) if done else 0, trace)


def event(grant: Grant | Hold) -> tuple[tuple[str, int], int, int, int]:
    return grant.place, grant.message, grant.requested, grant.granted


@pytest.mark.parametrize("free_links", [False, True])
@pytest.mark.parametrize("fabric", FABRICS)
def test_the_kernel_does_what_its_twin_does_and_the_twin_what_every_event_is(fabric: Fabric, free_links: bool) -> None:
    """Random messages, and some on one line whose order only waiting decides."""
    rng = np.random.default_rng(23)
    machine, window, done = dataclasses.replace(TOY, fabric=fabric), Rect(0, 0, COLUMNS, ROWS), 0
    for number in range(80):
        paths = past_some(tuple(random_path(rng) for _ in range(int(rng.integers(1, 6)))), rng)
        if number % 4 == 0:
            paths = tuple(Path(2, y, 3, 5 - y, 0, 3, 5 - y, int(rng.integers(1, 40)), 0) for y in range(4))
        plan = plan_of_paths(paths, Key(machine, window, "fp16", 1))
        state = random_state(rng, COLUMNS, ROWS, int(rng.choice([1, 12, 60])))
        assert isinstance(plan.parts, Paths)
        how = constants(fabric, free_links, state)
        compiled, twin = (walked_by(module, plan.parts, how, state) for module in (walk_kernels, reference_walk))
        assert compiled.done == twin.done
        if not twin.done:
            continue
        done += 1
        assert compiled.end == twin.end
        for one, other in ((compiled.walk.now[2:], twin.walk.now[2:]), (compiled.walk.requests, twin.walk.requests)):
            np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))
        for name in ("head", "tail", "arrived"):
            np.testing.assert_array_equal(getattr(compiled.walk, name), getattr(twin.walk, name), err_msg=name)
        trace: list[Hold] = []
        reference.simulate(plan.graph, fabric, state=state, free_links=free_links, trace=trace)
        assert sorted(map(event, twin.grants)) == sorted(map(event, trace))
    assert done > 30


@pytest.mark.parametrize("words", [1, 40])
def test_a_line_of_senders_whose_order_only_waiting_decides(words: int) -> None:
    """All on one column send past one another to one row: by when they would come, and by who waited for whom."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        paths = tuple(Path(2, y, 3, 5 - y, 0, 3, 5 - y, int(rng.integers(1, words + 2)), 0) for y in range(4))
        plan = plan_of_paths(paths, Key(TOY, Rect(0, 0, COLUMNS, ROWS), "fp16", 1))
        state = random_state(rng, COLUMNS, ROWS, 12)
        effect = followed(plan, TOY.fabric, state, False)
        assert effect is not None
        assert_as_the_whole_graph(effect, plan, TOY.fabric, state, False)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_transfer_can_be_followed(place: tuple[str, str, str]) -> None:
    made = program(*place)
    segments = [expand_transfer(made, transfer, 2) for transfer in made.transfers]
    back = expand_feedback(made)
    rng = np.random.default_rng(5)
    for segment in [*segments, *([back] if back else [])]:
        plan = segment.plan
        state = random_state(rng, plan.columns, plan.rows, 9)
        effect = followed(plan, made.machine.fabric, state, False)
        assert effect is not None, segment.name
        assert_as_the_whole_graph(effect, plan, made.machine.fabric, state, False)


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
