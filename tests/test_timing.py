"""Timing: how a step's cycles depend on its context, its tokens, the machine and the Program."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise, product

import pytest

from tests.programs import UNTIED, on_machine, program, with_fields
from wsesim.engine.exact.wafer import EffectCache
from wsesim.engine.steps.timing import Timing
from wsesim.machine import Rect
from wsesim.machine.parts import SlowPE
from wsesim.machine.values import OPS
from wsesim.program import Program
from wsesim.program.collectives import ALGORITHMS
from wsesim.program.files import parse_program
from wsesim.program.kernels import PREFILL
from wsesim.program.parts import Block
from wsesim.report.bounds import lower_bounds
from wsesim.report.report import report
from wsesim.software import load_software
from wsesim_compiler.options import PlacedBlock

PLACES = [
    *(("tiny", machine, strategy) for machine in ("toy4x4", "wse2", "wse3") for strategy in ("pipelined", "shared")),
    (UNTIED, "wse3", "pipelined"),
]


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param)


def test_a_step_seen_before_is_the_same_step_under_its_own_context() -> None:
    """Contexts that fill the same lines share a simulation, but reports print their own numbers."""
    timing = Timing(program("tiny", "toy4x4"))
    first, simulations = timing.decode(0), timing.cache.simulations
    second = timing.decode(1)
    assert timing.cache.simulations == simulations
    assert (first.context, second.context, timing.decode(0).context) == (0, 1, 0)
    assert first.runs is second.runs


def test_free_links_are_never_slower(made: Program) -> None:
    for context in (0, 100):
        assert 0 < Timing(made, free_links=True).decode(context).cycles <= Timing(made).decode(context).cycles
    for tokens in (2, 17):
        assert Timing(made, free_links=True).prefill(tokens).cycles <= Timing(made).prefill(tokens).cycles


def test_free_links_and_contended_ones_do_not_share_a_cache_by_mistake() -> None:
    small, cache = program("tiny", "toy4x4", "shared"), EffectCache()
    contended, free = Timing(small, cache).prefill(8), Timing(small, cache, free_links=True).prefill(8)
    assert free.cycles == Timing(small, EffectCache(), free_links=True).prefill(8).cycles
    assert contended.cycles == Timing(small, EffectCache()).prefill(8).cycles


def test_decode_never_gets_cheaper_with_context(made: Program) -> None:
    cycles = [Timing(made).decode(context).cycles for context in range(0, 255, 17)]
    assert cycles == sorted(cycles)
    assert cycles[0] < cycles[-1]


def test_all_stages_may_lie_on_one_block() -> None:
    """No transfer leads anywhere; the way is that of the stages alone."""
    stages = ("embed", "layer0", "layer1", "head")
    made = program("tiny", "toy4x4", "explicit", blocks=(PlacedBlock(Block("all", 0, 0, 4, 4, "rows"), stages),))
    assert not made.transfers
    for step in (Timing(made).decode(9), Timing(made).prefill(5)):
        found = report(made, step)
        assert sum(part.cycles for part in found.path) == step.cycles > 0
        assert "transfer" not in {share.operator for share in found.shares}


def test_more_candidates_cost_more_after_the_logits() -> None:
    timing = Timing(program("tiny", "toy4x4"))
    greedy, drawn = timing.decode(16), timing.decode(16, candidates=16)
    assert greedy.logits_cycles == drawn.logits_cycles
    assert greedy.cycles < drawn.cycles


def test_prefill_never_gets_cheaper_with_tokens(made: Program) -> None:
    timing = Timing(made)
    cycles = [timing.prefill(tokens).cycles for tokens in range(1, 20)]
    assert all(a < b for a, b in pairwise(cycles))


def test_one_token_of_prefill_is_a_decode_step_over_nothing(made: Program) -> None:
    prefill, decode = Timing(made).prefill(1), Timing(made.in_phase(PREFILL)).decode(0)
    assert (prefill.cycles, prefill.logits_cycles) == (decode.cycles, decode.logits_cycles)


@pytest.mark.parametrize("tokens", [2, 16])
def test_a_prompt_costs_less_than_its_tokens_one_by_one(made: Program, tokens: int) -> None:
    """Tokens of a prompt go through the blocks one after the other or together. Only the last one visits the head."""
    timing = Timing(made)
    assert timing.prefill(tokens).cycles < sum(timing.decode(context).cycles for context in range(tokens))


def test_only_the_last_token_visits_the_head(made: Program) -> None:
    """Chunks go from the embedding through all layers; the head, the draw and the way to them come once."""
    chunks = 3
    names = Counter(run.segment.name for run in Timing(made).prefill(chunks * made.prefill_chunk).runs)
    to_head = [name for name in names if name.endswith(f"->{made.kernels[-1].block}")]
    assert len(to_head) == 1
    seldom = {"head": 1, "sample": 1, to_head[0]: 1, "feedback": names["feedback"]}
    assert names == {name: seldom.get(name, chunks) for name in names}


def test_logits_come_before_the_id(made: Program) -> None:
    for step in (Timing(made).decode(16), Timing(made).prefill(9)):
        assert 0 < step.logits_cycles < step.cycles
        assert step.cycles == max(run.end for run in step.runs[-2:])


SUBJECTS = [("tiny", "toy4x4"), ("smollm2-135m", "wse3")]
SLOWER = {
    "hop_cycles": 1,
    "ramp_send_cycles": 1,
    "ramp_receive_cycles": 1,
    "turn_cycles": 10,
    "wavelet_numerator": 9,
    "activate_cycles": 1,
}


@pytest.fixture(scope="module", params=SUBJECTS, ids=lambda subject: "-".join(subject))
def subject(request: pytest.FixtureRequest) -> Program:
    return program(*request.param)


def decode_cycles(made: Program) -> int:
    return Timing(made).decode(16).cycles


def more(made: Program, name: str) -> Program:
    """The Program on a machine that needs `SLOWER[name]` more of `name`."""
    fabric = made.machine.fabric
    now: int = getattr(fabric, name) if hasattr(fabric, name) else getattr(made.machine, name)
    return on_machine(made, **{name: now + SLOWER[name]})


@pytest.mark.parametrize("name", SLOWER)
def test_a_slower_machine_is_slower(subject: Program, name: str) -> None:
    assert decode_cycles(more(subject, name)) > decode_cycles(subject)


def test_hops_between_blocks_are_paid_in_full(subject: Program) -> None:
    step = Timing(subject).decode(16)
    hops = lower_bounds(subject, step).distance_cycles // subject.machine.fabric.hop_cycles
    assert hops > 0
    assert decode_cycles(more(subject, "hop_cycles")) >= step.cycles + hops * SLOWER["hop_cycles"]


@pytest.mark.parametrize("software", ["wsesim", "wsesim-plain"])
@pytest.mark.parametrize(("model", "machine"), SUBJECTS)
def test_each_reroute_on_the_path_is_paid(model: str, machine: str, software: str) -> None:
    """It takes more cycles: at least for the reroutes on the old critical path, at most for those on the new one.

    A change costs the software's switch, or the machine's reroute if that is less or nothing is switched.
    """
    subject = program(model, machine, software=load_software(software))
    own, extra = subject.software, 50
    if own.change_cycles(subject.machine) == own.switch_cycles:
        slower = dataclasses.replace(
            subject, software=dataclasses.replace(own, switch_cycles=own.switch_cycles + extra)
        )
    else:
        slower = on_machine(subject, reroute_cycles=subject.machine.reroute_cycles + extra)
    before, after = report(subject, Timing(subject).decode(16)), report(slower, Timing(slower).decode(16))
    counts = [
        r.by_kind()["reroute"] // made.software.change_cycles(made.machine)
        for r, made in ((before, subject), (after, slower))
    ]
    assert 0 < counts[0] * extra <= after.cycles - before.cycles <= counts[1] * extra


def test_shallow_queues_are_never_faster(subject: Program) -> None:
    assert decode_cycles(on_machine(subject, queue_wavelets=1)) >= decode_cycles(subject)


@pytest.mark.parametrize("op", OPS)
def test_every_operation_has_its_part(op: str) -> None:
    """Half the rate of one operation: slower, since each stands somewhere on tiny's way from id to id."""
    made = program("tiny", "toy4x4")
    cost = made.machine.op(op)
    half = dataclasses.replace(cost, rate_fp16=cost.rate_fp16 / 2, rate_fp32=cost.rate_fp32 / 2)
    ops = tuple((name, half if name == op else old) for name, old in made.machine.ops)
    assert decode_cycles(on_machine(made, ops=ops)) > decode_cycles(made)


def test_fp32_is_slower_and_bf16_is_not() -> None:
    made = program("tiny", "toy4x4")
    fp32, bf16 = (dataclasses.replace(made, timing_dtype=dtype) for dtype in ("fp32", "bf16"))
    assert decode_cycles(bf16) == decode_cycles(made) < decode_cycles(fp32)


@pytest.mark.parametrize("number", [0, 1, -1])
def test_one_slow_pe_in_a_block_slows_the_token(subject: Program, number: int) -> None:
    """The block's collectives wait for a slow PE, also in the middle, where twice as slow is no slower: the ends of the
    lines are later. Only a PE of an embedding may be slow without effect: it only copies,
    and the PEs farther from the entry have their rows later anyway.
    """
    block, unhurried = subject.blocks[number], decode_cycles(subject)
    places = (0, 0), (block.columns // 2, block.rows // 2), (block.columns - 1, block.rows - 1)
    slowed = [
        decode_cycles(on_machine(subject, slow=(SlowPE(block.x + x, block.y + y, Fraction(4)),))) for x, y in places
    ]
    assert min(slowed) >= unhurried and max(slowed) > unhurried
    if number != 0:
        assert min(slowed[:2]) > unhurried


def test_one_slow_pe_outside_all_blocks_changes_nothing() -> None:
    """This holds between two blocks too: messages pass the PE's router, not its core."""
    made = program("tiny", "wse3", block=(4, 8))
    windows = [one.rect.hull(other.rect) for one, other in pairwise(made.blocks)]
    covered = next(pe for window in windows for pe in pes_of(window) if not has_block(made, *pe))
    corner = made.machine.columns - 1, made.machine.rows - 1
    assert not has_block(made, *corner)
    slow = tuple(SlowPE(x, y, Fraction(100)) for x, y in (covered, corner))
    assert decode_cycles(on_machine(made, slow=slow)) == decode_cycles(made)


def pes_of(rect: Rect) -> Iterator[tuple[int, int]]:
    return product(range(rect.x, rect.x + rect.columns), range(rect.y, rect.y + rect.rows))


def has_block(made: Program, x: int, y: int) -> bool:
    return any(block.rect.has(x, y) for block in made.blocks)


def test_the_clock_changes_seconds_only() -> None:
    made = program("tiny", "toy4x4")
    twice = on_machine(made, clock_hz=2 * made.machine.clock_hz)
    now, then = (report(p, Timing(p).decode(16)) for p in (made, twice))
    assert then.cycles == now.cycles
    assert then.seconds == now.seconds / 2
    assert then.tokens_per_second == 2 * now.tokens_per_second


def test_chains_are_slower_than_two_phases_on_long_lines() -> None:
    """On lines of 50 to 400 PEs, a chain has P stages and two phases about 2 sqrt(P)."""
    made = program("smollm2-135m", "wse3")
    cycles = {name: decode_cycles(with_collective(made, name)) for name in ALGORITHMS}
    assert cycles["chain"] > 1.5 * cycles["two_phase"]


def with_collective(made: Program, algorithm: str) -> Program:
    kernels = tuple(with_fields(k, reduce=algorithm) if hasattr(k, "reduce") else k for k in made.kernels)
    return dataclasses.replace(made, kernels=kernels)


def test_a_prompt_has_its_own_collectives() -> None:
    """A prompt uses prefill_reduce for all kernels before the head. The head sees one token, as in a decode step."""
    made = program("tiny", "toy4x4", "shared")

    def changed(**fields: str) -> Program:
        own = [k for k in made.kernels if "prefill_reduce" in {field.name for field in dataclasses.fields(k)}]
        body = (k for k in own if getattr(k, "broadcast", True))
        new = {k.name: with_fields(k, **fields) for k in body}
        return dataclasses.replace(made, kernels=tuple(new.get(k.name, k) for k in made.kernels))

    phased, ring = changed(prefill_reduce="ring"), changed(reduce="ring", prefill_reduce="")
    assert decode_cycles(phased) == decode_cycles(made) != decode_cycles(ring)
    prompts = [Timing(each).prefill(2 * made.prefill_chunk + 1).cycles for each in (phased, ring, made)]
    assert prompts[0] == prompts[1] != prompts[2]
    assert parse_program(phased.text()) == phased


def test_rows_that_all_begin_in_the_west_are_slower_than_serpentine_ones() -> None:
    """smollm2-135m takes several rows of blocks on wse3; row-major, each row's end is a wafer's width from the next."""
    serpentine = program("smollm2-135m", "wse3")
    row_major = program("smollm2-135m", "wse3", order="row_major")
    shapes = [[(b.columns, b.rows, b.y) for b in made.blocks] for made in (serpentine, row_major)]
    assert shapes[0] == shapes[1] and len({y for _, _, y in shapes[0]}) > 2
    assert decode_cycles(row_major) > decode_cycles(serpentine)


def test_chunks_pay_on_a_shared_block() -> None:
    """Eight tokens through a block together share its launches, relaunches and messages' ways."""
    made = program("tiny", "wse3", "shared")
    assert made.prefill_chunk > 1
    one_by_one = dataclasses.replace(made, prefill_chunk=1)
    assert Timing(made).prefill(16).cycles < Timing(one_by_one).prefill(16).cycles
    whole = dataclasses.replace(made, prefill_chunk=64)
    assert Timing(made).prefill(made.prefill_chunk).cycles == Timing(whole).prefill(made.prefill_chunk).cycles
