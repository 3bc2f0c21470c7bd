"""Every kernel against its NumPy twin and its uncompiled form, bit for bit."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsesim.execute import keys, reference, tiles, values, vectors
from wsesim.execute.merges import schedule, split_schedule
from wsesim.execute.tiles import PANEL
from wsesim.program.collectives import ALGORITHMS, COLLECTIVES, reduction
from wsesim.program.kv import POLICIES, KVCache

F = np.float32
Floats = NDArray[np.float32]
Arguments = tuple[Any, ...]  # of a kernel
NONE = np.empty(0, F)
WEIGHTS = ("fp32", "bf16", "fp16", "int8")


@dataclass
class Case:
    """A kernel, its arguments, which of them it fills, and a name. Workers that compute alike share `outputs`."""

    name: str
    module: ModuleType
    kernel: str
    make: Callable[[], Arguments]
    filled: tuple[int, ...] = field(default=(-1,))

    def run(self, function: Callable[..., object]) -> list[NDArray[Any]]:
        arguments = self.make()
        function(*arguments)
        return [arguments[i] for i in self.filled]


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def floats(*shape: int, scale: float = 1.0) -> Floats:
    return (rng().standard_normal(shape) * scale).astype(F).reshape(-1)


def stored(kind: str, *shape: int) -> NDArray[Any]:
    """Random weights as they are stored in a dtype of WEIGHTS."""
    x = rng().standard_normal(shape).astype(F)
    if kind == "bf16":
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    if kind == "fp16":
        x.reshape(-1)[:3] = (1e-6, -3e-8, 0)  # subnormal
        return x.astype(np.float16).view(np.int16)
    return np.clip(x * 40, -127, 127).astype(np.int8) if kind == "int8" else x


def shuffled(count: int) -> NDArray[np.int32]:
    """Which tile each visit reads."""
    return np.random.default_rng(count).permutation(count).astype(np.int32)


def linear_case(
    tokens: int, positions: int, k: int, panels: int, algorithm: str, kind: str = "fp32", workers: int = 1
) -> Case:
    def make() -> Arguments:
        merges = split_schedule(positions, algorithm)
        x = floats(tokens, positions, k)
        x[:k] = 0  # padding
        scales = np.abs(floats(panels * PANEL)) if kind == "int8" else NONE
        row = panels * PANEL - 5
        places = np.array([(p * PANEL, row, min(PANEL, row - p * PANEL)) for p in range(panels)])
        stack = np.zeros(workers * tokens * merges.depth * PANEL, F)
        scratch = np.zeros(workers * k * PANEL, F)
        weights = stored(kind, panels, positions, k, PANEL).reshape(-1)
        starts = merges.first(np.arange(panels * PANEL) % 37)
        order = (merges.order, merges.children, shuffled(positions), starts, places, workers, merges.depth)
        return (tokens, x, weights, scales, k, *order, stack, scratch, np.full(tokens * row + 3, 9, F))

    name = f"linear-{tokens}x{positions}x{k}x{panels}-{algorithm}-{kind}-{workers}"
    return Case(name, tiles, "linear", make)


def embed_case(kind: str) -> Case:
    def make() -> Arguments:
        ids, places = np.array([3, 0, 6]), np.array([0, 1, -1, 2, 3, -1], np.int32)
        scales = np.abs(floats(7)) if kind == "int8" else NONE
        return 3, ids, stored(kind, 7, 4), scales, places, np.full(20, 9, F)

    return Case(f"embed-{kind}", tiles, "embed", make)


GROUPS, REPEAT, SEGMENT, FEATURES = 2, 3, 3, 2


def score_case(
    tokens: int, context: int, algorithm: str, policy: str = "interleaved", workers: int = 1, window: int = 0
) -> Case:
    def make() -> Arguments:
        merges = split_schedule(SEGMENT, algorithm)
        capacity = 3 * PANEL
        width = REPEAT * FEATURES
        row = GROUPS * SEGMENT * width
        group, member = np.divmod(np.arange(GROUPS * REPEAT), REPEAT)
        starts = (group * SEGMENT * width + member * FEATURES).astype(np.int32)
        keys = floats(capacity * GROUPS * SEGMENT * FEATURES)
        shape = (starts, REPEAT, row, width, FEATURES, keys, F(0.3), merges.order, merges.children, shuffled(SEGMENT))
        spans = (*spans_of(tokens, context, 5, policy, window), 5 if merges.split else 0, 2)
        stack = np.zeros(workers * merges.depth * PANEL, F)
        target = np.full(tokens * GROUPS * REPEAT * capacity, 9, F)
        return (
            tokens,
            context,
            window,
            floats(tokens * row),
            *shape,
            *spans,
            workers,
            merges.depth,
            stack,
            capacity,
            target,
        )

    return Case(f"score-{tokens}-{context}-{algorithm}-{policy}-{workers}-{window}", keys, "score", make)


def append_case(module: ModuleType, kernel: str, context: int) -> Case:
    def make() -> Arguments:
        places = np.array([4, 0, 2, 1, 3, 5], np.int32)
        return 4, context, floats(4 * 7), 7, places, np.zeros(6 * 3 * PANEL, F)

    return Case(f"{kernel}-{context}", module, kernel, make)


def spans_of(tokens: int, context: int, along: int, policy: str, window: int = 0) -> tuple[NDArray[Any], int]:
    """The arguments that a kernel takes from `KVCache`: the flat spans of each token, and the step."""
    cache = KVCache(policy, window=window or None)
    return cache.spans(np.arange(context + 1, context + tokens + 1), along).reshape(-1), cache.step(along)


def softmax_case(
    tokens: int, context: int, along: int, algorithm: str, policy: str = "interleaved", window: int = 0
) -> Case:
    def make() -> Arguments:
        merges = split_schedule(along, algorithm)
        capacity = context + tokens + 2
        source = floats(tokens * 3 * capacity, scale=30)
        sums = np.zeros(along + merges.depth, F)
        spans, starts = spans_of(tokens, context, along, policy, window), merges.first(np.array([0, 1, 0]))
        order = (*spans, merges.order, merges.children, starts, sums)
        return tokens, context, window, source, 3, capacity, *order, np.full(source.shape, 9, F)

    return Case(f"softmax-{tokens}-{context}-{along}-{algorithm}-{policy}-{window}", vectors, "softmax", make)


def weighted_case(
    tokens: int, context: int, along: int, algorithm: str, policy: str = "interleaved", workers: int = 1
) -> Case:
    def make() -> Arguments:
        merges = split_schedule(along, algorithm)
        heads, size, capacity = GROUPS * REPEAT, 5, context + tokens + 2
        row = heads * size + 4
        places = rng().permutation(row)[: heads * size].astype(np.int32)
        starts = merges.first(np.arange(heads * size) % 13)
        order = (merges.order, merges.children, starts, workers, merges.depth)
        stack = np.zeros(workers * merges.depth * size, F)
        cached = floats(capacity * GROUPS * size)
        p = np.abs(floats(tokens * heads * capacity))
        target = np.full(tokens * row, 9, F)
        spans = spans_of(tokens, context, along, policy)
        return (tokens, p, heads, capacity, *spans, cached, REPEAT, row, places, *order, stack, target)

    name = f"weighted_sum-{tokens}-{context}-{along}-{algorithm}-{policy}-{workers}"
    return Case(name, values, "weighted_sum", make)


def exponentials_case(tokens: int, context: int, along: int, policy: str = "interleaved") -> Case:
    def make() -> Arguments:
        capacity = context + tokens + 2
        source = floats(tokens * 3 * capacity, scale=30)
        factors = np.full(tokens * 3 * along, 9, F)
        return tokens, source, 3, capacity, *spans_of(tokens, context, along, policy), along, factors, source * 0 + 9

    return Case(f"line_exponentials-{tokens}-{context}-{along}-{policy}", vectors, "line_exponentials", make, (-2, -1))


def flash_case(
    tokens: int, context: int, along: int, algorithm: str, policy: str = "interleaved", workers: int = 1
) -> Case:
    def make() -> Arguments:
        weighted = list(weighted_case(tokens, context, along, algorithm, policy, workers).make())
        merges, heads = split_schedule(along, algorithm), GROUPS * REPEAT
        weighted[-5] = merges.first(np.arange(heads * (5 + 1)) % 13)
        weighted[-2] = np.zeros(workers * merges.depth * (5 + 1), F)
        factors = np.exp(-np.abs(floats(tokens * heads * along)))
        return (*weighted[:2], factors, *weighted[2:])

    return Case(f"flash_sum-{tokens}-{context}-{along}-{algorithm}-{policy}-{workers}", values, "flash_sum", make)


def rmsnorm_case(tokens: int, positions: int, width: int, algorithm: str) -> Case:
    def make() -> Arguments:
        merges = schedule(positions, algorithm)
        x, weight = floats(tokens, positions, width), floats(positions * width)
        shape = (width, positions * width - 1, 1e-5, merges.order, merges.children)
        return tokens, x, weight, *shape, np.zeros(merges.depth, F), np.full(x.shape, 9, F)

    return Case(f"rmsnorm-{tokens}-{positions}x{width}-{algorithm}", vectors, "rmsnorm", make)


def folded_norm_case(tokens: int, positions: int, width: int, algorithm: str) -> Case:
    def make() -> Arguments:
        tokens_, *others, target = rmsnorm_case(tokens, positions, width, algorithm).make()
        return tokens_, *others, np.full(tokens, 9, F), target

    return Case(f"folded_norm-{tokens}-{positions}x{width}-{algorithm}", vectors, "folded_norm", make, (-2, -1))


def qk_norm_case(tokens: int, algorithm: str) -> Case:
    def make() -> Arguments:
        merges = split_schedule(SEGMENT, algorithm)
        width, row = REPEAT * FEATURES, GROUPS * SEGMENT * REPEAT * FEATURES + 4
        group, member = np.divmod(np.arange(GROUPS * REPEAT), REPEAT)
        starts = (group * SEGMENT * width + member * FEATURES).astype(np.int32)
        geometry = (starts, row, width, FEATURES, SEGMENT * FEATURES - 1, 1e-5)
        entries = merges.first(np.arange(GROUPS * REPEAT) % 4)
        order = (merges.order, merges.children, entries, np.zeros(merges.depth, F))
        weight = floats(SEGMENT * FEATURES)
        return tokens, floats(tokens * row), weight, *geometry, *order, np.full(tokens * row + 3, 9, F)

    return Case(f"qk_norm-{tokens}-{algorithm}", vectors, "qk_norm", make)


def rope_make() -> Arguments:
    pairs = np.array([0, 2, -1, 1, 2], np.int32)
    angles = floats(3 * 4)
    return 3, floats(3 * 10), pairs, np.cos(angles), np.sin(angles), 4, np.full(32, 9, F)


def awkward() -> Floats:
    """Ties, limits of fp16, subnormal numbers, signed zeros, and ordinary values."""
    edges = [0, -0.0, 1, -1, 65504, 65519.996, 65520, -1e6, 6e-8, 2.9e-8, 3e-8, 2**-14, 6.1e-5, 1e-40]
    ties = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11]
    return np.concatenate([np.array(edges + ties, F), floats(30), floats(30, scale=1e-5), floats(30, scale=1e5)])


def elementwise(kernel: str, make: Callable[[], Arguments], filled: tuple[int, ...] = (-1,)) -> Case:
    return Case(kernel, vectors, kernel, make, filled)


CASES = [
    *(linear_case(t, p, k, 2, a) for t, p, k in ((1, 1, 1), (1, 7, 4), (3, 9, 5), (2, 16, 11)) for a in ALGORITHMS),
    *(linear_case(t, 4, 6, 3, "two_phase", kind, 2) for t in (1, 3) for kind in WEIGHTS),
    *(embed_case(kind) for kind in WEIGHTS),
    *(score_case(t, c, a) for t, c in ((1, 0), (1, 64), (5, 62)) for a in ALGORITHMS),
    *(score_case(t, c, "ring", k) for t, c in ((1, 2), (5, 62), (2, 130)) for k in POLICIES),
    *(score_case(t, c, a, k, window=w) for k in POLICIES for a in ("two_phase", "ring")
      for t, c, w in ((1, 2, 4), (5, 130, 1), (5, 62, 9), (3, 126, 70))),
    *(softmax_case(t, c, p, a, k, w) for k in POLICIES for a in ("two_phase", "ring")
      for t, c, p, w in ((1, 0, 5, 3), (3, 4, 6, 4), (2, 40, 7, 10), (2, 40, 7, 1))),
    score_case(5, 126, "chain", workers=3),
    score_case(5, 126, "chain", workers=3, window=70),
    score_case(5, 126, "ring", "shift", workers=3),
    *(append_case(m, k, c) for m, k in ((keys, "append_keys"), (values, "append_values")) for c in (0, 62)),
    *(softmax_case(t, c, p, a) for t, c, p in ((1, 0, 5), (3, 4, 6), (2, 40, 7)) for a in ALGORITHMS),
    *(weighted_case(t, c, p, a) for t, c, p in ((1, 0, 5), (3, 4, 6), (2, 40, 7)) for a in ALGORITHMS),
    *(make(t, c, p, a, k) for make in (softmax_case, weighted_case) for k in ("shift", "concat")
      for a in ("two_phase", "ring") for t, c, p in ((1, 0, 5), (3, 4, 6), (2, 40, 7))),
    *(exponentials_case(t, c, p, k) for k in POLICIES for t, c, p in ((1, 0, 5), (3, 4, 6), (2, 40, 7))),
    *(flash_case(t, c, p, a, k) for a in ALGORITHMS for k in POLICIES
      for t, c, p in ((1, 0, 5), (3, 4, 6), (2, 40, 7))),
    flash_case(3, 20, 4, "two_phase", workers=2),
    flash_case(3, 20, 4, "ring", workers=2),
    weighted_case(3, 20, 4, "two_phase", workers=2),
    *(rmsnorm_case(t, p, w, a) for t, p, w in ((1, 1, 6), (3, 9, 2)) for a in ALGORITHMS),
    *(folded_norm_case(t, p, w, a) for t, p, w in ((1, 1, 6), (3, 9, 2)) for a in ALGORITHMS),
    elementwise("scale_rows", lambda: (2, floats(2), 12, np.ones(30, F))),
    *(qk_norm_case(t, a) for t in (1, 3) for a in ALGORITHMS),
    elementwise("rope", rope_make),
    elementwise("swiglu", lambda: (2, floats(24, scale=40), floats(24), 12, np.full(30, 9, F))),
    elementwise("add", lambda: (2, floats(24), floats(30), 12, np.full(30, 9, F))),
    elementwise("add_bias", lambda: (2, floats(12), np.full(30, 9, F))),
    elementwise("reslice", lambda: (3, floats(12), 4, np.array([3, -1, 0], np.int32), np.full(12, 9, F))),
    elementwise("round_bf16", lambda: (1, awkward(), 100), (1,)),
    elementwise("round_fp16", lambda: (1, awkward(), 100), (1,)),
    elementwise("narrow_bf16", lambda: (awkward(), np.zeros(len(awkward()), np.uint16))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_twin_and_python_agree_bit_for_bit(case: Case) -> None:
    kernel = getattr(case.module, case.kernel)
    compiled = case.run(kernel)
    twin = case.run(getattr(reference, case.kernel))
    with np.errstate(over="ignore"):
        uncompiled = case.run(kernel.py_func)
    untouched = case.make()
    for got, expected, python, index in zip(compiled, twin, uncompiled, case.filled, strict=True):
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(got, python)
        assert not np.array_equal(got, untouched[index])


def test_a_twin_takes_the_same_arguments() -> None:
    for case in CASES:
        kernel = getattr(case.module, case.kernel).py_func
        twin = getattr(reference, case.kernel)
        assert list(inspect.signature(kernel).parameters) == list(inspect.signature(twin).parameters)


def public_kernels() -> dict[str, Any]:
    return {
        name: item
        for module in (vectors, tiles, keys, values)
        for name, item in vars(module).items()
        if hasattr(item, "py_func") and not item.targetoptions.get("forceinline") and not name.startswith("_")
    }


def test_every_public_kernel_has_a_case() -> None:
    assert set(public_kernels()) == {case.kernel for case in CASES}


def test_other_threads_run_beside_every_kernel() -> None:
    assert all(kernel.targetoptions.get("nogil") for kernel in public_kernels().values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 37, 164])
def test_schedule_is_the_reduction_bit_for_bit(length: int, algorithm: str) -> None:
    partials = np.random.default_rng(length).standard_normal((length, 50)).astype(F)
    merges, merging = schedule(length, algorithm), reduction(length, algorithm)
    expected = partials.copy()
    for merge in merging.merges:
        expected[merge.target] += expected[merge.source]
    got = reference.merged(partials, merges.order, merges.children)
    np.testing.assert_array_equal(got, expected[merging.root])
    if algorithm != "star":  # whose root adds all of them itself
        assert merges.depth <= 2 + length**0.5 * 2  # live partial sums: few, though positions are many


@pytest.mark.parametrize("length", [2, 3, 5, 16, 37])
def test_a_split_schedule_sums_each_element_in_its_own_order(length: int) -> None:
    """In a ring each element has its own order of merges; the other collectives merge whole vectors."""
    partials = np.random.default_rng(length).standard_normal((length, 50)).astype(F)
    for collective in COLLECTIVES:
        merges = split_schedule(length, collective)
        got = reference.merged(partials, merges.order, merges.children, merges.first(np.arange(50)))
        for element in range(50):
            plan, sums = reduction(length, collective, element), partials[:, element].copy()
            for merge in plan.merges:
                sums[merge.target] += sums[merge.source]
            assert got[element] == sums[plan.root]
        np.testing.assert_allclose(got, partials.astype(np.float64).sum(0), atol=1e-5)


def test_the_algorithms_round_differently() -> None:
    partials = np.random.default_rng(0).standard_normal((40, 50)).astype(F)
    sums = [reference.merged(partials, s.order, s.children) for s in (schedule(40, a) for a in ALGORITHMS)]
    for one, other in combinations(sums, 2):
        assert (one != other).any()
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_more_tokens_and_threads_change_no_bit(tokens: int) -> None:
    whole = linear_case(tokens, 9, 7, 4, "two_phase", "bf16").make()
    tiles.linear(*whole)
    for t in range(tokens):
        alone = linear_case(1, 9, 7, 4, "two_phase", "bf16", workers=3).make()
        alone[1][:] = whole[1].reshape(tokens, -1)[t]
        tiles.linear(*alone)
        row = 4 * PANEL - 5
        np.testing.assert_array_equal(alone[-1][:row], whole[-1][t * row : (t + 1) * row])


def test_exp32_is_exp() -> None:
    x = np.linspace(-86, 87, 20001).astype(F)
    np.testing.assert_allclose(reference.exp32(x), np.exp(x.astype(np.float64)), rtol=2e-7)
    assert vectors.exp32(F(-1000)) == reference.exp32(np.array([-87], F))[0]


def test_qk_norm_is_the_norm_of_each_head() -> None:
    """A head is three positions of two features, all of one group's heads side by side on each."""
    case = qk_norm_case(1, "chain").make()
    vectors.qk_norm(*case)
    heads = case[1][:-4].astype(np.float64).reshape(GROUPS, SEGMENT, REPEAT, FEATURES).swapaxes(1, 2)
    weight = case[2].reshape(SEGMENT, FEATURES)
    mean = (heads * heads).sum((-1, -2), keepdims=True) / (SEGMENT * FEATURES - 1)
    expected = (heads / np.sqrt(mean + 1e-5) * weight).swapaxes(1, 2).reshape(-1)
    np.testing.assert_allclose(case[-1][:-7], expected, rtol=1e-5)
    assert not case[-1][-7:-3].any() and (case[-1][-3:] == 9).all()


def test_softmax_is_softmax() -> None:
    case = softmax_case(2, 40, 7, "chain").make()
    vectors.softmax(*case)
    scores = case[3].astype(np.float64).reshape(2, 3, -1)[1, :, :42]
    expected = np.exp(scores - scores.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(case[-1].reshape(2, 3, -1)[1, :, :42], expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("policy", POLICIES)
def test_exponentials_and_flash_sum_are_a_softmax_over_the_values(policy: str) -> None:
    """Heads and scores as in the cases: 42 positions on 7 lines, the last token's; float64 of the whole row."""
    tokens, context, along, heads = 2, 40, 7, GROUPS * REPEAT
    sums = list(flash_case(tokens, context, along, "two_phase", policy).make())
    capacity, spans, step, cached, row, places = *sums[4:8], *sums[9:11]
    scores = floats(tokens * heads * capacity, scale=30)
    sums[1], sums[2] = np.zeros_like(scores), np.zeros(tokens * heads * along, F)
    vectors.line_exponentials(tokens, scores, heads, capacity, spans, step, along, sums[2], sums[1])
    values.flash_sum(*sums)
    p = np.exp(scores.astype(np.float64).reshape(tokens, heads, capacity)[1, :, :42])
    p /= p.sum(-1, keepdims=True)
    v = cached.astype(np.float64).reshape(-1, GROUPS, 5)[:42, np.arange(heads) // REPEAT]
    expected = np.einsum("hc,chd->hd", p, v).reshape(-1)
    np.testing.assert_allclose(sums[-1][row + places], expected, rtol=1e-5, atol=1e-6)


def test_lines_without_positions_add_nothing() -> None:
    """With one position on five lines, the result is its value, whatever its score."""
    sums = list(flash_case(1, 0, 5, "chain").make())
    heads, capacity, spans, step, cached, places = GROUPS * REPEAT, *sums[4:8], sums[10]
    scores = np.full(heads * capacity, -3e4, F)
    sums[1], sums[2] = np.zeros_like(scores), np.zeros(heads * 5, F)
    vectors.line_exponentials(1, scores, heads, capacity, spans, step, 5, sums[2], sums[1])
    values.flash_sum(*sums)
    expected = cached.reshape(-1, GROUPS, 5)[0, np.arange(heads) // REPEAT].reshape(-1)
    np.testing.assert_array_equal(sums[-1][places], expected)
