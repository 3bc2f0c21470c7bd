"""Several texts in one pass over the weights: each gives the same bits as alone."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execute_toy import Store, Toy, program, weights
from tests.programs import with_fields
from wsesim.execute.errors import ContextOverflowError, TokenIdError
from wsesim.execute.executor import CHUNK, Executor
from wsesim.execute.memory import LINE_BYTES, aligned_zeros
from wsesim.execute.passes import passes
from wsesim.execute.sequence import Sequence
from wsesim.program.kernels import DECODE, PREFILL
from wsesim.program.kv import KVCache

BASE = Toy(along=(4, 5), reduce="two_phase")
TOYS = {
    "two_phase": (BASE, {}),
    "bf16": (BASE, {"activations": "bf16", "dtype": "bf16"}),
    "fp16, fused": (dataclasses.replace(BASE, fused=True), {"activations": "fp16", "dtype": "fp16"}),
    "int8, shift": (dataclasses.replace(BASE, cache=KVCache("shift")), {"dtype": "int8"}),
    "concat, ring": (dataclasses.replace(BASE, cache=KVCache("concat"), reduce="ring"), {"activations": "bf16"}),
    "window": (dataclasses.replace(BASE, cache=KVCache(window=9)), {}),
    "window, shift, ring, fused": (
        dataclasses.replace(BASE, cache=KVCache("shift", window=20), reduce="ring", fused=True),
        {"activations": "fp16"},
    ),
    "normed heads, padded groups, biases": (
        dataclasses.replace(BASE, heads=5, kv_heads=5, across=3, qk_norm=True, biased=True),
        {},
    ),
}


@cache
def executor(name: str = "two_phase", max_context: int = 512) -> Executor:
    toy, options = TOYS[name]
    return Executor(program(dataclasses.replace(toy, max_context=max_context)), Store(weights(toy)), **options)


def ids(count: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, 50, count)]


def begun(made: Executor, lengths: list[int]) -> list[Sequence]:
    """Texts of so many tokens each."""
    sequences = [made.new_sequence() for _ in lengths]
    for seed, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        if length:
            made.step(sequence, ids(length, seed), logits=False)
    return sequences


def cached(sequence: Sequence) -> tuple[np.ndarray, ...]:
    return tuple(array.copy() for array in (*sequence.keys, *sequence.values))


LENGTHS = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 2 * CHUNK + 6)), min_size=1, max_size=5)


@pytest.mark.parametrize("name", TOYS)
@given(LENGTHS)
@settings(max_examples=8, deadline=None)
def test_each_text_is_what_it_is_alone(name: str, lengths: list[tuple[int, int]]) -> None:
    """Contexts of 0 to 70, then 1 to 70 tokens each, then one more for each."""
    made = executor(name)
    together, alone = (begun(made, [before for before, _ in lengths]) for _ in range(2))
    for seed, counts in enumerate(([after for _, after in lengths], [1] * len(lengths)), start=50):
        given_ids = [ids(count, seed + 9 * i) for i, count in enumerate(counts)]
        logits = made.step_each(together, given_ids)
        for got, sequence, own in zip(logits, alone, given_ids, strict=True):
            np.testing.assert_array_equal(got, made.step(sequence, own))
    for one, other in zip(together, alone, strict=True):
        assert one.position == other.position
        for got, expected in zip(cached(one), cached(other), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_many_texts_take_several_passes() -> None:
    """More of them than rows in a pass."""
    made = executor()
    lengths = [i % 7 for i in range(CHUNK + 5)]
    given_ids = [ids(1 + i % 2, i) for i in range(len(lengths))]
    logits = made.step_each(begun(made, lengths), given_ids)
    for got, sequence, own in zip(logits, begun(made, lengths), given_ids, strict=True):
        np.testing.assert_array_equal(got, made.step(sequence, own))


def test_a_text_much_longer_than_the_others_changes_none() -> None:
    """Rows of scores are as far apart as the longest text asks."""
    made = executor()
    lengths = [3, 400, 0, 65]
    given_ids = [ids(count, count) for count in (1, 40, 2, 1)]
    logits = made.step_each(begun(made, lengths), given_ids)
    for got, sequence, own in zip(logits, begun(made, lengths), given_ids, strict=True):
        np.testing.assert_array_equal(got, made.step(sequence, own))


@given(st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_their_order_does_not_matter(order: list[int]) -> None:
    made, lengths, counts = executor("bf16"), [0, 5, 64, 20, 1], [1, CHUNK + 3, 2, 1, 9]
    given_ids = [ids(count, count) for count in counts]
    expected, sequences = made.step_each(begun(made, lengths), given_ids), begun(made, lengths)
    logits = made.step_each([sequences[i] for i in order], [given_ids[i] for i in order])
    for got, i in zip(logits, order, strict=True):
        np.testing.assert_array_equal(got, expected[i])


def test_prompts_together_are_summed_in_their_own_order() -> None:
    """The phase reaches every text."""
    made = program(BASE)
    kernels = (
        with_fields(k, prefill_reduce="ring") if hasattr(k, "reduce") and not k.last_token_only else k
        for k in made.kernels
    )
    phased = Executor(dataclasses.replace(made, kernels=tuple(kernels)), Store(weights(BASE)))
    given_ids = [ids(40, 1), ids(3, 2)]
    for phase in (PREFILL, DECODE):
        logits = phased.step_each([phased.new_sequence(), phased.new_sequence()], given_ids, phase=phase)
        for got, own in zip(logits, given_ids, strict=True):
            np.testing.assert_array_equal(got, phased.step(phased.new_sequence(), own, phase=phase))
    prompt = phased.step_each([phased.new_sequence()], given_ids[:1], phase=PREFILL)[0]
    assert (prompt != phased.step_each([phased.new_sequence()], given_ids[:1])[0]).any()


def test_nothing_at_all_is_nothing() -> None:
    assert executor().step_each([], []) == []


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        ([], TokenIdError, "at least one"),
        ([7, 50], TokenIdError, "token id 50 is outside the vocabulary of 50"),
        ([-1], TokenIdError, "-1"),
        ([1] * 60, ContextOverflowError, r"10 tokens and 60 more .* of 64"),
    ],
)
def test_mistakes_of_one_are_named_before_any_has_changed(bad: list[int], error: type, match: str) -> None:
    made = executor(max_context=64)
    sequences = begun(made, [5, 10])
    before = [cached(sequence) for sequence in sequences]
    with pytest.raises(error, match=match):
        made.step_each(sequences, [[1, 2], bad])
    assert [sequence.position for sequence in sequences] == [5, 10]
    for sequence, held in zip(sequences, before, strict=True):
        for got, expected in zip(cached(sequence), held, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("length", [0, 1, 64, 70])
def test_a_fork_goes_on_differently(length: int) -> None:
    """The cache also grows beyond its first capacity."""
    made = executor("int8, shift")
    (sequence,) = begun(made, [length])
    fork, held = made.fork(sequence), cached(sequence)
    assert fork.position == length
    one, other = ids(250, 5), ids(250, 6)
    logits = made.step(fork, other)
    for got, expected in zip(cached(sequence), held, strict=True):
        np.testing.assert_array_equal(got, expected)
    again, third = begun(made, [length])[0], begun(made, [length])[0]
    np.testing.assert_array_equal(logits, made.step(again, other))
    np.testing.assert_array_equal(made.step(sequence, one), made.step(third, one))


@given(st.lists(st.integers(1, 20), max_size=8), st.integers(1, 9))
def test_passes_are_full_but_the_last_and_hold_each_token_once(lengths: list[int], size: int) -> None:
    texts = [(Sequence((), ()), [100 * i + t for t in range(length)]) for i, length in enumerate(lengths)]
    made = list(passes(texts, size))
    assert [passed.tokens for passed in made[:-1]] == [size] * (len(made) - 1)
    parts = [part for passed in made for part in passed.parts]
    assert [token for part in parts for token in part.ids] == [token for _, ids in texts for token in ids]
    ended = [part.sequence for passed in made for part in (passed.ended() or passed).parts if part.ends]
    assert ended == [sequence for sequence, _ in texts]
    for passed in made:
        rows = [row for part in passed.parts for row in range(part.first, part.last + 1)]
        assert rows == list(range(passed.tokens))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int8])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_aligned_zeros_begin_a_line(size: int, dtype: type) -> None:
    made = aligned_zeros(size, dtype)
    assert made.ctypes.data % LINE_BYTES == 0 or not size
    assert made.dtype == dtype and len(made) == size and not made.any()
