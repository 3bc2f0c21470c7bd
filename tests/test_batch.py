"""Batches: tokens of several sequences in the same kernels; refused if cache or buffers have room for fewer."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from tests.programs import UNTIED, program
from tests.test_wafer import assert_equals_full_graph
from wsesim.engine.errors import SequencesError
from wsesim.engine.expand.transfer import expand_feedback
from wsesim.engine.steps.timing import Timing
from wsesim.errors import InvalidInputError
from wsesim.program import Program, parse_program
from wsesim.report.bounds import lower_bounds, multiply_adds
from wsesim.report.report import report
from wsesim_compiler.options import Options

MOST = 4
PLACES = [
    *(("tiny", machine, strategy) for machine in ("toy4x4", "wse3") for strategy in ("pipelined", "shared")),
    (UNTIED, "toy4x4", "pipelined"),
]


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    return program(*request.param, sequences=MOST, batch=MOST)


def test_a_batch_of_one_is_the_plain_step(made: Program) -> None:
    timing = Timing(made)
    assert timing.decode(16, batch=1).runs is timing.decode(16).runs
    plain = dataclasses.replace(made, batch=1, sequences=1)
    assert Timing(plain).decode(16).cycles == timing.decode(16).cycles


def test_a_batch_costs_more_than_one_token_and_less_than_its_tokens_one_by_one(made: Program) -> None:
    cycles = [Timing(made).decode(16, batch=batch).cycles for batch in (1, 2, 3, 4)]
    assert all(a < b for a, b in pairwise(cycles))
    assert all(cycles[batch - 1] < batch * cycles[0] for batch in (2, 3, 4))


def test_attention_of_every_sequence_is_over_its_own_context(made: Program) -> None:
    """Each sequence pays for its context: four pay 1.5 to 5 times as much as one. They share launches."""
    timing = Timing(made)
    grown = [timing.decode(200, batch=batch).cycles - timing.decode(0, batch=batch).cycles for batch in (1, MOST)]
    assert 3 * grown[0] < 2 * grown[1] < 10 * grown[0]


@pytest.mark.parametrize("candidates", [1, 8])
def test_a_batch_equals_the_full_graph(made: Program, candidates: int) -> None:
    assert_equals_full_graph(made, Timing(made).decode(100, candidates, batch=3))


def test_all_tokens_of_a_batch_visit_the_head(made: Program) -> None:
    """Every sequence of a batch needs logits; of a chunk, only the last token. So a batch's logits take longer."""
    one, four = (Timing(made).decode(0, batch=batch) for batch in (1, MOST))
    spans = [step.runs[-1 - has_way_back(made)].end - step.logits_cycles for step in (one, four)]
    assert spans[0] < spans[1]
    heads = [next(r for r in step.runs if r.segment.name == "head") for step in (one, four)]
    assert heads[0].effect.end_cycles < heads[1].effect.end_cycles


def has_way_back(made: Program) -> bool:
    return expand_feedback(made) is not None


def test_the_ids_of_a_batch_go_back_in_one_message() -> None:
    made = program(UNTIED, "wse3", sequences=MOST, batch=MOST)
    one, four = (expand_feedback(made, tokens) for tokens in (1, MOST))
    assert one is not None and four is not None
    assert four.plan.graph.wavelets.tolist() == [MOST * w for w in one.plan.graph.wavelets.tolist()]


def test_report_counts_the_batch(made: Program) -> None:
    shown = report(made, Timing(made).decode(16, batch=MOST))
    assert (shown.tokens, shown.batch) == (MOST, MOST)
    assert shown.cycles_per_token == shown.cycles / MOST
    assert shown.tokens_per_second == pytest.approx(MOST * made.machine.clock_hz / shown.cycles, rel=1e-12)
    assert shown.to_json()["batch"] == MOST
    assert sum(share.cycles for share in shown.shares) == shown.cycles


def test_bounds_of_a_batch_count_all_its_multiply_adds(made: Program) -> None:
    step = Timing(made).decode(16, batch=MOST)
    bounds = lower_bounds(made, step)
    rate = made.machine.op("fma").rate_fp16
    assert bounds.arithmetic_cycles == int(MOST * multiply_adds(made) / (made.pes * rate))
    assert max(dataclasses.astuple(bounds)) <= step.cycles


@pytest.mark.parametrize(
    ("options", "batch", "said"),
    [
        ({"sequences": 2, "batch": 2}, 3, "places for 2; compile with `sequences=3`"),
        ({"sequences": 8, "batch": 2}, 4, "buffers are for a batch of 2; compile with `batch=4`"),
        ({"sequences": 8}, 0, "each is at least 1"),
    ],
)
def test_a_batch_that_the_program_is_not_made_for_is_refused(options: dict[str, int], batch: int, said: str) -> None:
    with pytest.raises(SequencesError, match=said):
        Timing(program("tiny", "toy4x4", **options)).decode(16, batch=batch)


def test_options_refuse_more_tokens_than_sequences() -> None:
    with pytest.raises(InvalidInputError, match="give `sequences=4`"):
        Options(sequences=2, batch=4).check()
    with pytest.raises(InvalidInputError, match="`batch` is 0"):
        Options(batch=0).check()


def test_buffers_grow_with_the_batch_and_only_they() -> None:
    """The head's buffers grow with the batch; a layer's do if the batch is larger than a prompt's chunk."""
    one, four = (program("tiny", "toy4x4", sequences=MOST, batch=b, prefill_chunk=2) for b in (1, MOST))
    for before, after in zip(one.memory, four.memory, strict=True):
        assert (before.weight_bytes, before.kv_bytes) == (after.weight_bytes, after.kv_bytes)
        assert before.buffer_bytes < after.buffer_bytes
    wide = program("tiny", "toy4x4", sequences=MOST, batch=2, prefill_chunk=4)
    narrow = program("tiny", "toy4x4", sequences=MOST, batch=1, prefill_chunk=4)
    layers = [
        (a.buffer_bytes, b.buffer_bytes) for a, b in zip(wide.memory, narrow.memory, strict=True) if "layer" in a.block
    ]
    assert all(a == b for a, b in layers)


def test_the_text_of_a_program_holds_its_batch() -> None:
    made = program("tiny", "toy4x4", sequences=MOST, batch=3)
    assert parse_program(made.text()) == made
    assert made.fingerprint() != dataclasses.replace(made, batch=2).fingerprint()
