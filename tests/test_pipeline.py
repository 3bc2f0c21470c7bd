"""Tokens of several sequences in different blocks at once: latency, period and their limits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from tests.command_line import TOY, run
from tests.programs import UNTIED, program
from wsesim.engine.errors import DeadlockError, SequencesError, UnsettledError
from wsesim.engine.exact.wafer import EffectCache, Wafer
from wsesim.engine.expand.segment import Segment, plan_of
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, WEST
from wsesim.engine.steps.pipeline import Flow, Visit, pipeline, run_pipeline
from wsesim.engine.steps.timing import Timing
from wsesim.machine import Machine, Rect, load_machine
from wsesim.program import Program
from wsesim.report.report import report
from wsesim.report.tables import report_text

TOY_MACHINE = load_machine("toy4x4")
PLACES = [("tiny", "toy4x4", "pipelined"), ("tiny", "toy4x4", "shared"), (UNTIED, "wse3", "pipelined")]
MOST = 6


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param, sequences=MOST, batch=2)


def work(x: int, cycles: int) -> Segment:
    """A block of one PE that works `cycles` for every token."""
    builder = GraphBuilder(1, 1)
    builder.tasks(0, "work", 0, cycles)
    return Segment(f"block{x}", Rect(x, 0, 1, 1), plan_of(builder.build()))


def move(source: int, target: int) -> Segment:
    """One wavelet from PE to PE of a row, whose sender and receiver work a cycle for it."""
    x, hops = min(source, target), abs(source - target)
    builder = GraphBuilder(hops + 1, 1)
    sent = builder.tasks(source - x, "send", 0, 1)
    received = builder.tasks(target - x, "receive", 1, 0)
    direction = EAST if target > source else WEST
    builder.drops(builder.messages(sent, direction, hops, 1), hops, received)
    return Segment(f"{source}->{target}", Rect(x, 0, hops + 1, 1), plan_of(builder.build()))


def move_cycles(machine: Machine, hops: int) -> int:
    """Send, ramp, hops, ramp with the wavelet's own cycle, receive."""
    fabric = machine.fabric
    return 1 + fabric.ramp_send_cycles + hops * fabric.hop_cycles + fabric.ramp_receive_cycles + 1 + 1


def chain(cycles: Sequence[int]) -> tuple[Visit, ...]:
    """Blocks of one PE in a row, one after the other, and the way back from the last to the first."""
    visits = [Visit("block0", None, None, (work(0, cycles[0]),))]
    for x in range(1, len(cycles)):
        ends = np.array([[x - 1, 0]]), np.array([[x, 0]])
        visits.append(Visit(f"block{x}", move(x - 1, x), ends, (work(x, cycles[x]),)))
    return (*visits, Visit("", None, None, (move(len(cycles) - 1, 0),)))


def flow(cycles: Sequence[int], in_flight: int) -> Flow:
    return run_pipeline(Wafer(TOY_MACHINE, EffectCache()), chain(cycles), (0, 0), in_flight)


# ed_qwen3_4b_thin of the published measurements: attention and FFN of a layer on two blocks, 11,866 cycles a token.
ATTENTION, FFN = 11_886, 5_802


def test_one_token_alone_takes_the_sum_of_its_blocks_and_ways() -> None:
    alone = flow((ATTENTION, FFN), 1)
    assert alone.period_cycles == alone.latency_cycles == ATTENTION + FFN + 2 * move_cycles(TOY_MACHINE, 1)
    assert alone.tokens == 1


@pytest.mark.parametrize("cycles", [(ATTENTION, FFN), (FFN, ATTENTION)])
@pytest.mark.parametrize("in_flight", [2, 3, 4])
def test_the_period_is_that_of_the_slowest_block(cycles: tuple[int, int], in_flight: int) -> None:
    """Exact except for the tasks that receive a token and pass it on."""
    loaded = flow(cycles, in_flight)
    assert loaded.bottleneck.busy_cycles == ATTENTION
    assert loaded.bottleneck.block == f"block{cycles.index(ATTENTION)}"
    assert ATTENTION < loaded.period_cycles <= ATTENTION + 2 * move_cycles(TOY_MACHINE, 1)
    assert loaded.late_requests == 0


def test_two_blocks_by_hand() -> None:
    """The slow block works, sends (1 cycle), and takes the id of the other token, long back (1 cycle): no more."""
    assert flow((100, 10), 2).period_cycles == 100 + 1 + 1


def test_tokens_that_no_block_holds_up_share_the_latency() -> None:
    """Exact except for tasks on PEs where one token leaves just as the next one arrives."""
    alone = flow((50, 50, 50, 50), 1).period_cycles
    for n in (2, 3):
        assert alone / n <= flow((50, 50, 50, 50), n).period_cycles <= alone / n + 4


def test_a_block_holds_its_token_until_the_next_block_is_vacant() -> None:
    """A quick block before a slow one: its token waits there, and its latency is longer than the blocks' sum."""
    loaded = flow((10, 300), 3)
    assert loaded.latency_cycles > 300 + 10 + 2 * move_cycles(TOY_MACHINE, 1)
    assert 300 < loaded.period_cycles <= 300 + 2 * move_cycles(TOY_MACHINE, 1)


def test_tokens_that_wait_for_each_other_are_named() -> None:
    """Blocks visited to and fro, one buffer each: each token holds what the other one needs."""
    ends = np.array([[0, 0]]), np.array([[1, 0]])
    first, second = work(0, 10), work(1, 10)
    visits = (
        Visit("a", None, None, (work(2, 1),)),
        Visit("b", move(0, 1), ends, (second,)),
        Visit("c", move(1, 0), ends[::-1], (first,)),
        Visit("b", move(0, 1), ends, (second,)),
    )
    with pytest.raises(DeadlockError, match="sequence 0 on block c waits for the token of sequence 1 on block b"):
        run_pipeline(Wafer(TOY_MACHINE, EffectCache()), visits, (2, 0), 3)


def test_what_does_not_settle_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsesim.engine.steps.pipeline.MOST_ROUNDS", 1)
    with pytest.raises(UnsettledError, match="2 tokens in flight: no round of 1"):
        flow((10, 10), 2)


def test_one_in_flight_is_the_plain_step(made: Program) -> None:
    timing = Timing(made)
    for batch in (1, 2):
        alone = pipeline(timing, 1, 16, batch=batch)
        assert alone.period_cycles == alone.latency_cycles == timing.decode(16, batch=batch).cycles


def test_more_in_flight_is_never_a_longer_period_nor_a_shorter_latency(made: Program) -> None:
    timing = Timing(made)
    alone = timing.decode(16).cycles
    flows = [pipeline(timing, n, 16) for n in (1, 2, 3)]
    assert all(f.latency_cycles >= alone for f in flows)
    for loaded in flows:
        assert loaded.period_cycles <= alone
        assert loaded.period_cycles * loaded.in_flight >= loaded.latency_cycles
        assert loaded.bottleneck.busy_cycles <= loaded.period_cycles


def test_layers_on_blocks_of_their_own_overlap_and_on_one_block_take_turns() -> None:
    apart = program("tiny", "toy4x4", "pipelined", sequences=2)
    together = program("tiny", "toy4x4", "shared", sequences=2)
    assert pipeline(Timing(apart), 2, 16).period_cycles == Timing(apart).decode(16).cycles / 2
    shared = pipeline(Timing(together), 2, 16)
    assert shared.bottleneck.block == "layer0_1"
    assert shared.period_cycles >= shared.bottleneck.busy_cycles > Timing(together).decode(16).cycles / 2


def test_the_steady_state_does_not_depend_on_what_is_remembered() -> None:
    made = program(UNTIED, "wse3", sequences=3)
    assert pipeline(Timing(made), 3, 16) == pipeline(Timing(made, EffectCache(remember=False)), 3, 16)


def test_more_in_flight_than_sequences_is_refused() -> None:
    with pytest.raises(SequencesError, match="places for 2; compile with `sequences=3`"):
        pipeline(Timing(program("tiny", "toy4x4", sequences=2)), 3, 16)
    with pytest.raises(SequencesError, match="compile with `sequences=4`"):
        pipeline(Timing(program("tiny", "toy4x4", sequences=2, batch=2)), 2, 16, batch=2)


def test_a_period_that_more_in_flight_would_shorten_is_said_to_be_so() -> None:
    """Four blocks: up to four tokens. What is promised at most is never less than what more of them save."""
    made = program(UNTIED, "wse3", sequences=6)
    timing = Timing(made)
    alone = timing.decode(16).cycles
    flows = [pipeline(timing, n, 16) for n in range(1, 7)]
    gains = [found.most_gain(alone) for found in flows]
    assert gains[0] > 0 and gains[-1] == 0
    for n, (found, gain) in enumerate(zip(flows, gains, strict=True)):
        saved = [1 - later.period_cycles / found.period_cycles for later in flows[n + 1 :]]
        assert not gain or max(saved) <= gain
    text = report_text(report(made, timing.decode(16), flow=flows[0]))
    assert f"more in flight may shorten the period, by {100 * float(gains[0]):.1f} % at most" in text
    assert "more in flight" not in report_text(report(made, timing.decode(16), flow=flows[-1]))


def test_the_command_prints_period_throughput_and_bottleneck(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("simulate", "tiny", *TOY, "--sequences", "2", "--in-flight", "2", "--context", "16")
    said = json.loads(run(capsys, *words, "--json").out)
    loaded = said["pipeline"]
    assert loaded["period_cycles"] == said["cycles"] / 2
    assert loaded["tokens_per_second"] == pytest.approx(said["clock_hz"] / loaded["period_cycles"])
    assert set(loaded["busy_cycles"]) == {"table", "layer0", "layer1"}
    text = run(capsys, *words).out
    assert "2 in flight" in text and f"bottleneck {loaded['bottleneck']}" in text
    assert "more in flight" not in text  # two blocks of three may be occupied: the table is first and last
    one = run(capsys, "simulate", "tiny", *TOY, "--context", "16").out
    assert "steady state" not in one
    assert json.loads(run(capsys, *words[:4], "--json").out)["pipeline"] is None
    refused = run(capsys, *words[:4], "--in-flight", "2")
    assert (refused.status, refused.out) == (2, "") and "--sequences 2" in refused.err
