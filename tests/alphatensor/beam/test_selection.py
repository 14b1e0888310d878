"""Weights and ranks within groups, against a loop over the groups."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax.alphatensor.beam.selection import normalise_per_group, top_k_per_group


def random_scores(seed):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 5, 64).astype(np.int32)
    score = np.where(rng.random(64) < 0.2, -np.inf, rng.normal(0, 9, 64)).astype(np.float32)
    return score, group


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_weights_sum_to_one_in_each_group_and_keep_their_ratios(seed):
    score, group = random_scores(seed)
    weights = normalise_per_group(jnp.asarray(score), jnp.asarray(group))
    weights = np.exp(np.asarray(weights, np.float64))
    for one in np.unique(group[np.isfinite(score)]):
        in_group = group == one
        assert weights[in_group].sum() == pytest.approx(1, rel=1e-4)
        np.testing.assert_allclose(
            weights[in_group] / weights[in_group].max(),
            np.exp(score[in_group] - score[in_group].max()),
            rtol=1e-3,
        )


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1), k=st.integers(0, 6))
def test_the_k_best_scores_of_each_group_stay(seed, k):
    score, group = random_scores(seed)
    masked = np.asarray(top_k_per_group(jnp.asarray(score), jnp.asarray(group), jnp.int32(k)))
    for one in range(5):
        expected = np.sort(score[group == one])[::-1]
        expected[k:] = -np.inf
        np.testing.assert_array_equal(np.sort(masked[group == one])[::-1], expected)
    stays = np.isfinite(masked)
    np.testing.assert_array_equal(masked[stays], score[stays])


def test_a_group_without_weight_stays_without_weight():
    weights = normalise_per_group(jnp.array([-jnp.inf, 0.0, 0.0]), jnp.array([1, 0, 0]))
    np.testing.assert_allclose(weights, [-np.inf, -np.log(2), -np.log(2)], rtol=1e-6)
