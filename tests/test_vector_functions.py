"""Vector functions: their counts are those that the forms of `wsesim` state, their errors those that the docs state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsesim.software import load_software
from wsesim.software import vector_functions as vf
from wsesim.software.form import parse_step
from wsesim.software.vector_functions import Half, VectorUnit

ALL = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
FINITE = ALL[np.isfinite(ALL)]
NEGATIVE, NORMAL = FINITE[FINITE <= 0], FINITE[FINITE >= 2**-14]
Exact = NDArray[np.float64]


def computed(function: Callable[[VectorUnit, Half], Half], x: Half) -> Exact:
    """Every number on its own: a vector of all of them."""
    found = function(VectorUnit(), x)
    assert found.dtype == np.float16 and np.isfinite(found).all()
    return found.astype(np.float64)


def test_the_exponential_of_every_number_up_to_zero() -> None:
    x, found = NEGATIVE.astype(np.float64), computed(vf.exponential, NEGATIVE)
    near = x > -9.7  # below, the result is no normal number
    assert np.abs(found[near] / np.exp(x[near]) - 1).max() < 0.0007
    assert np.abs(found - np.exp(x)).max() < 0.0005
    assert not found[x < -10.06].any(), "far below the maximum, a score counts nothing, however many there are"


def test_the_sigmoid_of_every_number() -> None:
    with np.errstate(over="ignore"):
        exact = 1 / (1 + np.exp(-FINITE.astype(np.float64)))
    found = computed(vf.sigmoid, FINITE)
    assert np.abs(found - exact).max() < 0.0013
    near = np.abs(FINITE) < 10
    silu = np.abs(found - exact) * np.abs(FINITE.astype(np.float64))
    assert silu[near].max() < 0.011


@pytest.mark.parametrize(
    ("function", "exact", "x", "bound"),
    [
        (vf.reciprocal, lambda x: 1 / x, NORMAL[NORMAL <= 16384], 0.0010),
        (vf.reciprocal_root, lambda x: 1 / np.sqrt(x), NORMAL, 0.0011),
    ],
    ids=["reciprocal", "reciprocal_root"],
)
def test_every_reciprocal(function: Any, exact: Any, x: Half, bound: float) -> None:
    assert np.abs(computed(function, x) / exact(x.astype(np.float64)) - 1).max() < bound


COUNTS = {
    vf.exponential: ("exp", "Softmax", "vector_exp"),
    vf.reciprocal: ("divide", "Softmax", "vector_exp"),
    vf.reciprocal_root: ("rsqrt", "RMSNorm", "two_pass"),
}


@pytest.mark.parametrize("function", COUNTS, ids=lambda function: function.__name__)
def test_a_form_counts_the_operations_of_its_function(function: Any) -> None:
    unit, (op, kind, name) = VectorUnit(), COUNTS[function]
    function(unit, np.array([1.0, 2.0], np.float16))
    steps = map(parse_step, load_software("wsesim").form(kind, name).steps)
    assert {step.vector for step in steps if step.name == op} == {str(unit.operations)}


def test_swiglu_counts_a_sigmoid_and_two_products() -> None:
    unit = VectorUnit()
    vf.sigmoid(unit, np.array([1.0], np.float16))
    for name in ("vector_exp", "sliced_exp"):
        (step,) = map(parse_step, load_software("wsesim").form("SwiGLU", name).steps)
        assert step.times == str(unit.operations + 2)


def test_one_count_stands_for_each_function_in_all_forms() -> None:
    counts: dict[str, set[str]] = {}
    for form in load_software("wsesim").forms:
        for step in map(parse_step, form.steps):
            if step.vector:
                counts.setdefault(step.name, set()).add(step.vector)
    assert counts == {"exp": {"12"}, "divide": {"7"}, "rsqrt": {"8"}}


def test_scores_of_a_softmax_in_vector_operations() -> None:
    """8,192 scores: the probabilities against float64. Those of the scores 10 below the maximum are lost."""
    scores = np.random.default_rng(5).normal(0, 4, 8192).astype(np.float16)
    shifted = (scores - scores.max()).astype(np.float16)
    powers = computed(vf.exponential, shifted)
    exact = np.exp(scores.astype(np.float64) - float(scores.max()))
    assert np.abs(powers / powers.sum() - exact / exact.sum()).max() < 4e-3 * (exact / exact.sum()).max()
