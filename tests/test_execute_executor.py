"""A toy Llama on toy blocks against the same model in plain NumPy float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.execute_toy import Bf16Store, Store, Toy, llama64, program, weights
from tests.programs import with_fields
from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.execute.errors import ContextOverflowError, KernelTypeError, TokenIdError, WeightShapeError
from wsesim.execute.executor import Executor
from wsesim.execute.tiles import PANEL
from wsesim.program import Program
from wsesim.program.kernels import DECODE, PREFILL
from wsesim.program.kv import KVCache
from wsesim.program.prompt_kernels import TokenAdd

IDS = [int(i) for i in np.random.default_rng(5).integers(0, 50, 80)]

TOYS = {
    "chain": Toy(),
    "two_phase": Toy(reduce="two_phase"),
    "interleaved": Toy(pairing="interleaved", tied=False),
    "one position": Toy(along=(1, 1), across=1),
    "groups share a position": Toy(heads=6, kv_heads=3, across=2, along=(3, 36)),
    "padded groups": Toy(heads=5, kv_heads=5, across=3, reduce="two_phase"),
    "wider than anything": Toy(along=(50, 60), across=64, kv_heads=3, reduce="two_phase"),
    "one layer": Toy(along=(4,), kv_heads=6),
    "shift": Toy(cache=KVCache("shift"), reduce="two_phase"),
    "concat": Toy(cache=KVCache("concat")),
    "fused": Toy(fused=True, reduce="two_phase"),
    "fused, shift, padded groups": Toy(fused=True, cache=KVCache("shift"), heads=5, kv_heads=5, across=3),
    "normed heads": Toy(qk_norm=True, reduce="two_phase"),
    "normed heads on a padded position": Toy(heads=5, kv_heads=5, across=3, qk_norm=True),
    "ring": Toy(reduce="ring"),
    "ring, groups share a position": Toy(heads=6, kv_heads=3, across=2, along=(3, 36), reduce="streamed_ring"),
    "ring, shift": Toy(reduce="ring", cache=KVCache("shift")),
    "ring, concat": Toy(reduce="ring", cache=KVCache("concat")),
    "ring, fused, normed heads": Toy(reduce="ring", fused=True, qk_norm=True, heads=6, kv_heads=3, across=2),
    "ring, fused, split heads": Toy(reduce="ring", fused=True, qk_norm=True),
    "star": Toy(reduce="star"),
    "window": Toy(cache=KVCache(window=9), reduce="two_phase"),
    "window of one": Toy(cache=KVCache(window=1)),
    "window, fused": Toy(cache=KVCache(window=33), fused=True),
    "window, shift, ring": Toy(cache=KVCache("shift", window=20), reduce="ring"),
    "window, concat, fused": Toy(cache=KVCache("concat", window=12), fused=True, reduce="ring"),
    "biases": Toy(biased=True, reduce="two_phase"),
    "biases, padded groups, ring": Toy(
        biased=True, heads=5, kv_heads=5, across=3, reduce="ring", pairing="interleaved"
    ),
}


def executor(toy: Toy, **options: Any) -> Executor:
    return Executor(program(toy), Store(weights(toy)), **options)


def run(made: Executor, ids: Sequence[int] = IDS) -> NDArray[np.float32]:
    """Logits [T, vocabulary], token by token."""
    sequence = made.new_sequence()
    return np.array([made.step(sequence, [i]) for i in ids])


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_logits_are_the_models(toy: Toy) -> None:
    np.testing.assert_allclose(run(executor(toy)), llama64(toy, weights(toy), IDS), atol=1e-4)


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
@pytest.mark.parametrize("cuts", [(80,), (1, 79), (33, 40, 7), (64, 16)])
def test_prefill_in_chunks_is_token_by_token_bit_for_bit(toy: Toy, cuts: tuple[int, ...]) -> None:
    made = executor(toy)
    sequence, first = made.new_sequence(), 0
    for cut in cuts:
        logits = made.step(sequence, IDS[first : first + cut])
        first += cut
    np.testing.assert_array_equal(logits, run(made)[-1])
    assert sequence.position == len(IDS)


def test_logits_not_asked_for_are_not_made_and_change_nothing() -> None:
    made = executor(TOYS["chain"])
    sequence = made.new_sequence()
    assert made.step(sequence, IDS[:-1], logits=False) is None
    np.testing.assert_array_equal(made.step(sequence, IDS[-1:]), run(made)[-1])


def test_runs_are_bit_identical_and_sequences_apart() -> None:
    first, second = executor(TOYS["two_phase"]), executor(TOYS["two_phase"])
    expected = run(first)
    np.testing.assert_array_equal(expected, run(second))
    one, other = first.new_sequence(), first.new_sequence()
    for position, token in enumerate(IDS[:20]):
        np.testing.assert_array_equal(first.step(one, [token]), expected[position])
        first.step(other, [(token + 1) % 50])


@pytest.mark.parametrize("toy", [Toy(), Toy(fused=True, qk_norm=True)], ids=["two passes", "fused"])
def test_a_prompt_is_summed_in_its_own_order(toy: Toy) -> None:
    """A prompt uses its own collectives, and the next token those of a decode step. Both share one cache."""
    phased = with_prompts(program(toy), "ring")
    made, store = Executor(phased, Store(weights(toy))), Store(weights(toy))
    prompts, tokens = (Executor(phased.in_phase(phase), store) for phase in (PREFILL, DECODE))
    sequence, other, third = made.new_sequence(), prompts.new_sequence(), tokens.new_sequence()
    logits = made.step(sequence, IDS[:40], phase=PREFILL)
    np.testing.assert_array_equal(logits, prompts.step(other, IDS[:40]))
    assert (logits != tokens.step(third, IDS[:40])).any()
    third.keys, third.values = sequence.keys, sequence.values
    np.testing.assert_array_equal(made.step(sequence, IDS[40:41]), tokens.step(third, IDS[40:41]))
    np.testing.assert_allclose(made.step(sequence, IDS[41:]), llama64(toy, weights(toy), IDS)[-1], atol=1e-4)


def with_prompts(made: Program, collective: str) -> Program:
    """Another collective in prompts, for all kernels that may have one."""
    kernels = (
        with_fields(k, prefill_reduce=collective) if hasattr(k, "reduce") and not k.last_token_only else k
        for k in made.kernels
    )
    return dataclasses.replace(made, kernels=tuple(kernels))


@pytest.mark.parametrize(
    "change",
    [
        *({"reduce": "two_phase"}, {"across": 5}, {"along": (3, 5)}, {"fused": True}),
        *({"cache": KVCache(policy)} for policy in ("shift", "concat")),
    ],
)
def test_algorithm_and_placement_reach_the_last_bits_only(change: dict[str, Any]) -> None:
    toy = TOYS["chain"]
    here, there = run(executor(toy)), run(executor(dataclasses.replace(toy, **change)))
    assert (here != there).any()
    np.testing.assert_allclose(here, there, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 5e-3), ("bf16", 4e-2), ("int8", 8e-2)])
def test_stored_dtypes_round_the_weights(dtype: str, tolerance: float) -> None:
    """Relative to the logits' spread. int8 keeps one scale per output row."""
    toy = TOYS["chain"]
    expected = llama64(toy, weights(toy), IDS)
    error = np.abs(run(executor(toy, dtype=dtype)) - expected).max() / expected.std()
    assert 1e-5 < error < tolerance


@pytest.mark.parametrize(("activations", "tolerance"), [("fp16", 1e-2), ("bf16", 1e-1)])
def test_activations_are_rounded_where_kernels_end(activations: str, tolerance: float) -> None:
    toy = TOYS["chain"]
    logits, expected = run(executor(toy, activations=activations)), llama64(toy, weights(toy), IDS)
    assert 1e-5 < np.abs(logits - expected).max() / expected.std() < tolerance
    if activations == "fp16":
        np.testing.assert_array_equal(logits, logits.astype(np.float16))
    else:
        assert not (logits.view(np.uint32) & 0xFFFF).any()


def test_rounded_activations_do_not_depend_on_the_chunk_either() -> None:
    made = executor(TOYS["two_phase"], activations="bf16")
    np.testing.assert_array_equal(made.step(made.new_sequence(), IDS), run(made)[-1])


def test_raw_bf16_is_used_as_it_is() -> None:
    toy = TOYS["chain"]
    arrays = {
        name: (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for name, array in weights(toy).items()
    }
    store = Bf16Store(arrays)
    raw = run(Executor(program(toy), store, dtype="bf16"))
    np.testing.assert_array_equal(raw, run(Executor(program(toy), Store(arrays))))
    assert set(store.loads) == {name for name in arrays if "norm" in name}


def test_a_tensor_that_several_outputs_share_is_read_once() -> None:
    store = Store(weights(TOYS["chain"]))
    Executor(program(TOYS["chain"]), store)
    assert len(store.loads) == len(set(store.loads)) == len(store.arrays)


def test_read_only_weights_will_do() -> None:
    arrays = weights(TOYS["chain"])
    for array in arrays.values():
        array.flags.writeable = False
    assert Executor(program(TOYS["chain"]), Store(arrays)) is not None


def test_the_cache_grows_with_the_text() -> None:
    toy = TOYS["one layer"]
    made = executor(toy)
    sequence = made.new_sequence()
    ids = [int(i) for i in np.random.default_rng(2).integers(0, 50, 5 * PANEL)]
    for first in range(0, len(ids), PANEL):
        logits = made.step(sequence, ids[first : first + PANEL])
    assert sequence.capacity >= len(ids)
    np.testing.assert_allclose(logits, llama64(toy, weights(toy), ids)[-1], atol=1e-4)


def test_mistakes_are_named_and_change_nothing() -> None:
    toy = dataclasses.replace(TOYS["chain"], max_context=6)
    made = executor(toy)
    sequence = made.new_sequence()
    with pytest.raises(TokenIdError, match="token id 50 is outside the vocabulary of 50"):
        made.step(sequence, [1, 50])
    with pytest.raises(TokenIdError, match="-1"):
        made.step(sequence, [-1])
    with pytest.raises(TokenIdError, match="at least one"):
        made.step(sequence, [])
    with pytest.raises(ContextOverflowError, match=r"0 tokens and 7 more .* of 6"):
        made.step(sequence, [1] * 7)
    assert sequence.position == 0 and issubclass(ContextOverflowError, InvalidInputError)
    made.step(sequence, [1] * 6)
    with pytest.raises(ContextOverflowError):
        made.step(sequence, [1])


def test_wrong_weights_and_dtypes_are_refused() -> None:
    toy, arrays = TOYS["chain"], weights(TOYS["chain"])
    with pytest.raises(UnknownNameError, match="fp8"):
        executor(toy, dtype="fp8")
    with pytest.raises(UnknownNameError, match="int8"):
        executor(toy, activations="int8")
    for name in ("embed", "0.down", "0.norm1"):
        with pytest.raises(WeightShapeError, match=name):
            Executor(program(toy), Store(arrays | {name: arrays[name][:-1]}))
    arrays = weights(TOYS["biases"])
    with pytest.raises(WeightShapeError, match=r"0\.down_bias"):
        Executor(program(TOYS["biases"]), Store(arrays | {"0.down_bias": arrays["0.down_bias"][:-1]}))


def test_a_kernel_that_is_only_timed_is_refused_by_name() -> None:
    toy = Toy()
    made = program(toy)
    add = TokenAdd("layer0.sum", made.kernels[1].block, "a", "b", "c", 4, 36)
    kernels: tuple[Any, ...] = (*made.kernels[:2], add, *made.kernels[2:])  # no Kernel of a Program
    with_it = dataclasses.replace(made, kernels=kernels)
    with pytest.raises(KernelTypeError, match=r"kernel layer0\.sum is a TokenAdd, which is timed but not executed"):
        Executor(with_it, Store(weights(toy)))
