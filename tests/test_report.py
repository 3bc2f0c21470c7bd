"""report: the critical path sums exactly, bounds are never exceeded, and text and JSON state the run."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest

import wsesim
from tests.programs import UNTIED, on_machine, program
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.observe.path import PathStep, step_path
from wsesim.engine.steps.timing import Step, Timing
from wsesim.machine.parts import SlowPE
from wsesim.program import Program
from wsesim.report.bounds import MachineBounds, lower_bounds, machine_bounds, multiply_adds
from wsesim.report.figures import KINDS
from wsesim.report.report import Report, report
from wsesim.report.schema import SCHEMA_VERSION
from wsesim.report.stretches import operator_of, stretches
from wsesim.report.tables import report_text
from wsesim.tables import si_bytes, si_seconds
from wsesim_models.config import CONFIGS

CONFIGURATIONS = [
    ("tiny", "toy4x4", "pipelined", {}),
    ("tiny", "toy4x4", "shared", {"collective": "chain"}),
    ("tiny", "toy4x4", "pipelined", {"timing_dtype": "fp32"}),
    ("tiny", "wse2", "pipelined", {"collective": "two_phase"}),
    ("tiny", "wse2", "shared", {"max_context": 64}),
    ("tiny", "wse3", "shared", {}),
    ("tiny", "wse3", "pipelined", {"block": (16, 2)}),
    ("tiny", "wse3", "pipelined", {"block": (2, 64)}),
    ("tiny", "wse3-nominal", "pipelined", {"sequences": 2}),
    (UNTIED, "wse3", "pipelined", {}),
    (UNTIED, "wse2", "shared", {"collective": "chain"}),
    ("smollm2-135m", "wse3", "pipelined", {}),
]


def name_of(configuration: tuple[Any, Any, Any, dict[str, Any]]) -> str:
    model, machine, strategy, options = configuration
    return "-".join(
        [getattr(model, "name", str(model)), str(machine), str(strategy), *map(str, dict(options).values())]
    )


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=name_of)
def made(request: pytest.FixtureRequest) -> Program:
    model, machine, strategy, options = request.param
    return program(model, machine, strategy, **options)


def steps_of(made: Program) -> list[Step]:
    """Contexts and prompts of all sorts: chunks whole, begun, and more of them than blocks."""
    timing = Timing(made)
    prompts = {1, made.prefill_chunk, made.prefill_chunk + 1, 9}
    return [*map(timing.decode, (0, 13, 63)), timing.decode(13, candidates=8), *map(timing.prefill, sorted(prompts))]


def test_critical_path_has_no_gap_and_sums_to_the_cycles(made: Program) -> None:
    for step in steps_of(made):
        path = step_path(step, made.machine)
        assert path[0].start_cycle == 0
        assert all(a.start_cycle + a.cycles == b.start_cycle for a, b in pairwise(path))
        assert path[-1].start_cycle + path[-1].cycles == step.cycles
        assert all(part.cycles > 0 and part.kind in KINDS for part in path)


def test_critical_path_moves_only_by_messages(made: Program) -> None:
    """The path stays on a PE or follows a message. Every PE on it belongs to a block.

    Only a sender that was held for a credit goes on where the receiving block ended its chunk.
    """
    step = Timing(made).prefill(9)
    path = step_path(step, made.machine)
    at = path[0].pe
    given = {run.credit for run in step.runs}
    for part in path:
        assert part.pe == at or (at in given and part.label == "send")
        assert part.kind in ("network", "wait") or part.to_pe == part.pe
        assert any(block.rect.has(*part.to_pe) for block in made.blocks)
        # a message that waited and then travelled is two parts; the first ends where it began
        at = part.pe if part.kind == "wait" else part.to_pe


def test_no_bound_is_above_the_cycles(made: Program) -> None:
    for step in steps_of(made):
        bounds = lower_bounds(made, step)
        assert 0 < bounds.arithmetic_cycles <= step.cycles
        assert 0 < bounds.dependent_cycles <= step.cycles
        assert 0 < bounds.distance_cycles <= step.cycles
        anywhere = machine_bounds(made, step)
        assert anywhere.arithmetic_cycles <= step.cycles
        assert 0 < anywhere.spread_cycles <= step.cycles


@pytest.mark.parametrize("model", ["tiny", UNTIED])
def test_bounds_of_the_machine_do_not_depend_on_the_placement(model: str) -> None:
    """Strategies, shapes, collectives, softmax and chunk differ; the bounds do not, and those of the placements do."""
    ways: list[tuple[str, dict[str, Any]]] = [
        ("pipelined", {}),
        ("pipelined", {"block": (16, 2), "softmax": "fused"}),
        ("pipelined", {"block": (2, 64), "prefill_chunk": 3}),
        ("shared", {"collective": "chain", "kv": "shift"}),
    ]
    here, anywhere = set(), set()
    for strategy, options in ways:
        made = program(model, "wse3", strategy, **options)
        timing = Timing(made)
        steps = timing.decode(40), timing.prefill(9)
        anywhere.add(tuple(machine_bounds(made, step) for step in steps))
        here.add(tuple(lower_bounds(made, step) for step in steps))
        assert all(machine_bounds(made, s).arithmetic_cycles <= s.cycles for s in steps)
        assert all(machine_bounds(made, s).spread_cycles <= s.cycles for s in steps)
    assert len(anywhere) == 1 and len(here) == len(ways)


def test_bounds_of_the_machine_by_hand() -> None:
    """tiny over 16 cached tokens on sixteen PEs of one multiply-add a cycle: five parts, each around the best PE."""
    made = program("tiny", "toy4x4")
    attention = 2 * 32 * 32 + 2 * 32 * 16 + 2 * 17 * 32
    parts = [attention, 3 * 32 * 64, attention, 3 * 32 * 64, 32 * 256]
    found = machine_bounds(made, Timing(made).decode(16))
    assert found == MachineBounds(16, sum(parts) // 16, int(sum(map(fastest_spread, parts))))
    one_dead = on_machine(made, dead=frozenset({(3, 3)}))
    assert machine_bounds(one_dead, Timing(made).decode(16)).arithmetic_cycles == sum(parts) // 15


def fastest_spread(products: int) -> float:
    """The least T with enough cycles left on all PEs, (T - hops) each, over all PEs of toy4x4 to begin on."""
    best = float("inf")
    for x, y in product(range(4), range(4)):
        hops = sorted(abs(x - a) + abs(y - b) for a, b in product(range(4), range(4)))
        reached = [(products + sum(hops[:n])) / n for n in range(1, 17)]
        best = min(best, min(reached))
    return best


def test_bounds_hold_without_contention_and_with_stragglers(made: Program) -> None:
    """The tightest runs: links free; and all PEs slow but one, whose own work bounds nothing that the others do."""
    free = Timing(made, free_links=True).decode(13)
    assert max(dataclasses.astuple(lower_bounds(made, free))) <= free.cycles
    block = made.blocks[1]
    slow = tuple(
        SlowPE(x, y, Fraction(3))
        for x in range(block.x, block.x + block.columns)
        for y in range(block.y, block.y + block.rows)
        if (x, y) != (block.x, block.y)
    )[:64]
    hurt = on_machine(made, slow=slow)
    step = Timing(hurt).decode(13)
    assert lower_bounds(hurt, step).dependent_cycles <= step.cycles


def test_bounds_by_hand() -> None:
    """tiny: 2 layers of q, o 32 x 32, k, v 32 x 16, three FFN matrices 32 x 64, and the head 32 x 256."""
    made = program("tiny", "toy4x4")
    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 32 * 256
    assert multiply_adds(made) == weights
    bounds = lower_bounds(made, Timing(made).decode(0))
    assert lower_bounds(made, Timing(made, EffectCache(keep_timelines=False)).decode(0)) == bounds
    assert bounds.arithmetic_cycles == weights // 16  # sixteen PEs, one multiply-add a cycle
    # table (0, 0) 4 x 1, layer0 (0, 1) 2 x 3, layer1 (2, 1) 2 x 3: each next to the one before
    assert bounds.distance_cycles == 3


def test_multiply_adds_are_the_matrices() -> None:
    shapes = CONFIGS["smollm2-135m"].shapes().values()
    matrices = sum(math.prod(shape) for shape in shapes if len(shape) == 2)
    assert multiply_adds(program("smollm2-135m", "wse3")) == matrices  # tied: the table, once as the head


@pytest.fixture(scope="module", params=["decode", "prefill"])
def shown(request: pytest.FixtureRequest) -> Report:
    made = program("tiny", "toy4x4")
    timing = Timing(made)
    return report(made, timing.decode(16) if request.param == "decode" else timing.prefill(9))


def test_shares_sum_to_the_cycles(shown: Report) -> None:
    assert sum(share.cycles for share in shown.shares) == shown.cycles
    assert sum(shown.by_kind().values()) == shown.cycles
    assert all(sum(share.by_kind) == share.cycles for share in shown.shares)
    assert [s.cycles for s in shown.shares] == sorted((s.cycles for s in shown.shares), reverse=True)


def test_every_operator_of_the_model_has_a_share() -> None:
    made = program("tiny", "toy4x4")
    shares = {share.operator for share in report(made, Timing(made).decode(16)).shares}
    assert shares == {kernel.name.rpartition(".")[2] for kernel in made.kernels} | {"transfer"}
    untied = program(UNTIED, "wse3")
    assert "feedback" in {share.operator for share in report(untied, Timing(untied).decode(16)).shares}


def test_a_held_sender_leads_to_what_held_it() -> None:
    """A prompt longer than the pipeline: its path is the work of the slowest block, not the others' waiting for it."""
    made = program("tiny", "wse3")
    shown = report(made, Timing(made).prefill(9))
    jumps = [b for a, b in pairwise(shown.path) if a.to_pe != b.pe and a.kind != "wait"]
    assert jumps and all(part.label == "send" for part in jumps)
    assert shown.by_kind()["wait"] < shown.cycles / 20


def test_rates_follow_from_the_cycles(shown: Report) -> None:
    """toy4x4 ticks at 1 MHz."""
    assert shown.seconds == shown.cycles / 1e6
    assert shown.cycles_per_token == shown.cycles / shown.tokens
    assert shown.seconds_per_token == pytest.approx(shown.cycles_per_token / 1e6, rel=1e-12)
    assert shown.tokens_per_second == pytest.approx(1 / shown.seconds_per_token, rel=1e-12)
    assert shown.tokens == (1 if shown.phase == "decode" else 9)


def test_json_has_the_figures_at_its_top(shown: Report) -> None:
    said = json.loads(json.dumps(shown.to_json(), allow_nan=False))
    assert said["tokens_per_second"] == shown.tokens_per_second
    assert said["cycles_per_token"] == shown.cycles_per_token
    assert said["seconds_per_token"] == shown.seconds_per_token
    assert said["cycles"] == shown.cycles == sum(said["critical_path_cycles"].values())
    assert sum(operator["cycles"] for operator in said["operators"]) == shown.cycles
    assert set(said["lower_bounds_cycles"]) == {"arithmetic", "dependent", "distance"}
    assert said["machine_lower_bounds_cycles"] == {
        "arithmetic": shown.machine_bounds.arithmetic_cycles,
        "spread": shown.machine_bounds.spread_cycles,
    }
    assert (said["schema_version"], said["wsesim_version"]) == (SCHEMA_VERSION, wsesim.__version__)
    assert (said["model"], said["machine"], said["phase"]) == ("tiny", "toy4x4", shown.phase)
    assert said["program"] == program("tiny", "toy4x4").fingerprint()


def test_text_contains_the_figures(shown: Report) -> None:
    text = report_text(shown)
    figures = [f"{shown.cycles:,}", f"{shown.tokens_per_second:,.1f}", si_seconds(shown.seconds), shown.timing_dtype]
    figures += [
        f"{bound:,}" for bounds in (shown.bounds, shown.machine_bounds) for bound in dataclasses.astuple(bounds)
    ]
    for figure in figures:
        assert figure in text
    lines = [line.split() for line in text.splitlines()]
    for share in shown.shares:
        row = next(line for line in lines if line and line[0] == share.operator)
        assert row[1] == f"{share.cycles:,}"
        assert row[-len(KINDS) :] == [f"{cycles:,}" for cycles in share.by_kind]
    assert ["sum", f"{shown.cycles:,}", "100.0", "%"] in [line[:4] for line in lines]


def test_stretches_are_grouped_by_operator_and_kind(shown: Report) -> None:
    """Their cycles sum to the step's, and the longest stretch of each row is on the path at the stated place."""
    found = stretches(shown.path)
    assert len({(s.operator, s.kind) for s in found}) == len(found)
    assert sum(s.cycles for s in found) == shown.cycles
    assert [s.cycles for s in found] == sorted((s.cycles for s in found), reverse=True)
    assert max(s.longest_cycles for s in found) == max(longest_stretches(shown.path))
    for share in shown.shares:
        for kind, cycles in zip(KINDS, share.by_kind, strict=True):
            assert sum(s.cycles for s in found if (s.operator, s.kind) == (share.operator, kind)) == cycles
    for s in found:
        begun = [part for part in shown.path if part.start_cycle == s.start_cycle]
        assert [(part.segment, part.kind, part.pe) for part in begun] == [(s.segment, s.kind, s.pe)]
        assert s.longest_cycles * s.count >= s.cycles >= s.longest_cycles + s.count - 1


def test_no_group_of_stretches_is_shown_twice() -> None:
    """Layers are alike: their stretches are one row, with their number."""
    made = program("smollm2-135m", "wse3")
    text = report_text(report(made, Timing(made).decode(16)), groups=5)
    head, *rows = text.partition("longest stretch of each")[2].splitlines()[1:7]
    assert head.split()[:5] == ["operator", "kind", "stretches", "cycles", "longest"]
    assert len({tuple(row.split()[:2]) for row in rows}) == 5
    assert all(int(row.split()[2]) >= 30 for row in rows)


def longest_stretches(path: tuple[PathStep, ...]) -> list[int]:
    """Cycles of neighbouring steps of one segment, operator and kind."""
    found, last = [0], None
    for part in path:
        what = (part.segment, operator_of(part), part.kind)
        if what == last:
            found[-1] += part.cycles
        else:
            found.append(part.cycles)
        last = what
    return found


def test_program_text_names_blocks_and_bytes() -> None:
    made = program("smollm2-135m", "wse3")
    text = str(made)
    for figure in (f"{made.pes:,} PEs", "layer0 .. layer29 (30)", made.fingerprint(), f"{made.machine.room_bytes:,}"):
        assert figure in text
    for memory in made.memory:
        assert f"{memory.total_bytes:,}" in text


def test_units_suit_the_size() -> None:
    assert [si_seconds(s) for s in (2.0, 0.0123, 4.56e-6, 7e-9, 0.0)] == ["2 s", "12.3 ms", "4.56 us", "7 ns", "0 ns"]
    assert [si_bytes(b) for b in (12, 49152, 5 * 10**6, 21_950_000_000)] == ["12 B", "49.15 kB", "5 MB", "21.95 GB"]
