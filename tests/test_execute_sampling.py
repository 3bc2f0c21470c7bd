"""Sampling: greedy, seeded, cut, and refused outside its ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsesim.execute.errors import SamplingRangeError
from wsesim.execute.sampling import History, SamplingOptions, likeliest, logprob, sample

LOGITS = np.array([0.5, 2.0, -1.0, 2.0, 1.0, -30.0], np.float32)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    e = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    shares: NDArray[np.float64] = e / e.sum()
    return shares


def draws(options: SamplingOptions, logits: NDArray[np.float32] = LOGITS, count: int = 400) -> NDArray[np.int64]:
    return np.array([sample(logits, options, History(step)).id for step in range(count)])


def test_greedy_takes_the_lowest_id_of_the_highest() -> None:
    token = sample(LOGITS, SamplingOptions(), History())
    assert token.id == 1
    assert token.logprob == pytest.approx(np.log(softmax(LOGITS)[1]))


def test_a_draw_depends_on_seed_and_step_alone() -> None:
    options = SamplingOptions(temperature=1.0, seed=7)
    forwards = draws(options, count=50)
    backwards = [sample(LOGITS, options, History(step)).id for step in reversed(range(50))][::-1]
    assert list(forwards) == backwards
    assert (draws(SamplingOptions(temperature=1.0, seed=8), count=50) != forwards).any()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    shares = np.bincount(draws(SamplingOptions(temperature=temperature), count=4000), minlength=6) / 4000
    np.testing.assert_allclose(shares, softmax(LOGITS, temperature), atol=0.03)


def test_top_p_keeps_the_shortest_prefix_that_reaches_it() -> None:
    p = softmax(LOGITS)
    assert set(draws(SamplingOptions(temperature=1.0, top_p=float(p[1]) * 0.9))) == {1}
    assert set(draws(SamplingOptions(temperature=1.0, top_p=float(p[1]) * 1.1))) == {1, 3}
    assert set(draws(SamplingOptions(temperature=1.0, top_p=float(p[1] + p[3] + p[4] * 0.5)))) == {1, 3, 4}


@pytest.mark.filterwarnings("error")
def test_the_least_temperature_draws_the_likeliest() -> None:
    assert set(draws(SamplingOptions(temperature=5e-324), LOGITS[2:], count=20)) == {1}


def test_only_the_candidates_are_drawn() -> None:
    assert set(draws(SamplingOptions(temperature=1.5, candidates=2))) == {1, 3}
    assert set(draws(SamplingOptions(temperature=1.5, candidates=1))) == {1}
    ties = np.zeros(10, np.float32)
    assert set(draws(SamplingOptions(temperature=1.0, candidates=3), ties)) == {0, 1, 2}


def test_logprob_is_of_the_whole_softmax() -> None:
    token = sample(LOGITS, SamplingOptions(temperature=1.5, candidates=2, seed=3), History(4))
    assert token.logprob == pytest.approx(np.log(softmax(LOGITS)[token.id]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": 1.51},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"frequency_penalty": 2.1},
        {"presence_penalty": float("nan")},
        {"logit_bias": ((1, 101.0),)},
        {"choice": -1},
        {"top_p": 1.01},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 1.5},
        {"candidates": 0},
    ],
    ids=str,
)
def test_options_outside_their_ranges_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(SamplingRangeError, match=f"{name} is"):
        SamplingOptions(**wrong)


def test_choices_of_one_seed_are_drawn_independently() -> None:
    texts = [list(draws(SamplingOptions(temperature=1.0, seed=7, choice=choice), count=50)) for choice in range(3)]
    assert texts[0] == list(draws(SamplingOptions(temperature=1.0, seed=7), count=50))
    assert texts[0] != texts[1] != texts[2] != texts[0]


def test_a_bias_forces_or_bans() -> None:
    assert sample(LOGITS, SamplingOptions(logit_bias=((5, 100.0),)), History()).id == 5
    assert set(draws(SamplingOptions(temperature=1.0, logit_bias=((1, -100.0), (3, -100.0))))) <= {0, 2, 4}
    assert sample(LOGITS, SamplingOptions(logit_bias=((99, 100.0),)), History()).id == 1  # beyond the vocabulary


def test_penalties_count_what_was_drawn() -> None:
    history = History(3, {1: 2, 3: 1})
    assert sample(LOGITS, SamplingOptions(frequency_penalty=0.4), history).id == 3  # 2 - 0.8, 2 - 0.4
    assert sample(LOGITS, SamplingOptions(frequency_penalty=0.4, presence_penalty=1.0), history).id == 4
    assert sample(LOGITS, SamplingOptions(frequency_penalty=-0.1), history).id == 1


def test_what_is_banned_never_comes() -> None:
    banned = [sample(LOGITS, SamplingOptions(temperature=1.5, seed=s), History(banned={1, 3})).id for s in range(200)]
    assert set(banned) <= {0, 2, 4, 5}
    assert sample(LOGITS, SamplingOptions(), History(banned={1})).id == 3


def test_log_probabilities_are_of_the_logits_as_they_were() -> None:
    options = SamplingOptions(logit_bias=((2, 50.0),), presence_penalty=1.0)
    expected = np.log(softmax(LOGITS))
    assert sample(LOGITS, options, History(counts={2: 1})).logprob == pytest.approx(expected[2])
    assert [(t.id, pytest.approx(t.logprob)) for t in likeliest(LOGITS, 3)] == [(i, expected[i]) for i in (1, 3, 4)]
    assert likeliest(LOGITS, 0) == ()
    assert logprob(LOGITS, 4) == pytest.approx(expected[4])
