"""Compiled passes over a window's arrays beside their NumPy twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsesim.engine.exact import plane_kernels, reference_planes
from wsesim.engine.flow.state import NEVER


@settings(deadline=None, max_examples=80, derandomize=True)
@given(size=st.integers(1, 60), seed=st.integers(0, 999))
def test_passes_over_planes_do_what_numpy_does(size: int, seed: int) -> None:
    found = []
    for module in (plane_kernels, reference_planes):
        rng = np.random.default_rng(seed)
        before, after, other, first = rng.integers(0, 4, (4, size))
        busy, digest = rng.random(size) < 0.6, np.zeros(2, np.int64)
        first[rng.random(size) < 0.5] = NEVER
        last = np.where(first == NEVER, NEVER, first + 3)
        module.add_to_digest(before, 7, digest)
        module.add_to_digest(after << 40, 8, digest)
        numbers = [module.keep_changes(before, after), *module.keep_busy(busy, other), *module.span(first, last)]
        found.append([digest, after, other, np.array(numbers)])
    for compiled, twin in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, twin)


def test_states_that_differ_in_a_place_or_a_value_have_different_digests() -> None:
    seen = set()
    for place in range(200):
        for value in range(1, 200):
            values, digest = np.zeros(200, np.int64), np.zeros(2, np.int64)
            values[place] = value
            plane_kernels.add_to_digest(values, 0, digest)
            seen.update(digest.tolist())
    assert len(seen) == 2 * 200 * 199
