"""Token distributions: masks, log-probabilities and sampling against plain NumPy."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from alphajax.alphatensor.game.moves import Alphabet, Ring, num_distinct_moves
from alphajax.alphatensor.network import tokens

ALPHABETS = {
    "Z": Alphabet(Ring(), 2, 1),
    "Z, one token per factor": Alphabet(Ring(), 2, 2),
    "Z2": Alphabet(Ring(2), 2, 1),
    "Z3": Alphabet(Ring(3), 2, 2),
}


@functools.cache
def score(name):
    alphabet = ALPHABETS[name]
    return jax.jit(functools.partial(tokens.log_probabilities, alphabet))


@pytest.mark.parametrize("name", ALPHABETS)
@pytest.mark.parametrize("dims", [(2, 2, 2), (1, 2, 1)])
def test_probabilities_of_all_token_sequences_sum_to_1(name, dims):
    """Only canonical moves that are not null have probability."""
    alphabet = ALPHABETS[name]
    sequences = np.array(list(np.ndindex(*[alphabet.size] * alphabet.count)), np.int32)
    # One table per position, so that logits do not depend on earlier tokens.
    table = np.random.default_rng(0).standard_normal((alphabet.count, alphabet.size))
    logits = jnp.broadcast_to(jnp.asarray(table, jnp.float32), (1, len(sequences), *table.shape))
    log_probs = score(name)(logits, jnp.asarray(sequences)[None], jnp.array([dims], jnp.int8))
    probabilities = np.exp(np.asarray(log_probs[0], np.float64))
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)
    assert (probabilities > 0).sum() == num_distinct_moves(alphabet, dims)


def test_select_takes_one_value_per_row_or_from_a_shared_row():
    table = jnp.arange(12.0).reshape(2, 2, 3)
    assert tokens.select(table, jnp.array([[0, 2], [1, 1]])).tolist() == [[0, 5], [7, 10]]
    assert tokens.select(table[:, :1], jnp.array([[0, 2], [1, 1]])).tolist() == [[0, 2], [7, 7]]


draw = jax.jit(tokens.sample_categorical, static_argnums=2)


def test_samples_have_the_frequencies_of_a_softmax():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.0, 0.25]], [[0.1, 0.2, 0.3, 0.4]]]))
    logits = jnp.maximum(logits, jnp.finfo(jnp.float32).min)
    samples = np.asarray(draw(jax.random.key(0), logits, 20_000))
    for row, expected in zip(samples, ([0.5, 0.25, 0, 0.25], [0.1, 0.2, 0.3, 0.4]), strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=4) / 20_000, expected, atol=0.015)


def test_each_sample_may_have_its_own_logits():
    lowest = jnp.finfo(jnp.float32).min
    logits = jnp.where(jnp.eye(3, dtype=bool)[None], 0.0, lowest)
    assert draw(jax.random.key(0), logits, 3).tolist() == [[0, 1, 2]]


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 9, 33]), st.floats(0.05, 1), st.floats(0, 30))
def test_masked_values_are_never_sampled(seed, size, density, scale):
    generator = np.random.default_rng(seed)
    legal = generator.random((4, 1, size)) < density
    legal[:, 0, generator.integers(size)] = True
    logits = scale * generator.standard_normal((4, 1, size)).astype(np.float32)
    logits = np.where(legal, logits, np.finfo(np.float32).min).astype(np.float32)
    samples = np.asarray(draw(jax.random.key(seed), jnp.asarray(logits), 64))
    assert np.take_along_axis(legal[:, 0], samples, axis=1).all()


@pytest.mark.parametrize("size", [9, 625])
def test_rounding_never_selects_a_masked_value(monkeypatch, size):
    """Rounding may make the cumulative sum rise or fall at a masked value.

    Such draws are rare. So the generator is replaced by one that returns the numbers at and beside
    each step of the cumulative sum.
    """
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((40, 1, size)).astype(np.float32)
    legal = generator.random((40, 1, size)) < 0.5
    legal[:, 0, generator.integers(size)] = True
    logits = np.where(legal, logits, np.finfo(np.float32).min)
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    # The ways in which a sum may be computed.
    sums = [jax.jit(lambda x: jnp.cumsum(x, axis=-1))(weights), np.cumsum(weights, axis=-1)]
    sums.append(weights @ jnp.triu(jnp.ones((size, size)))[None])
    steps = np.concatenate([s[:, 0] / np.max(s, axis=-1) for s in sums], axis=-1)
    beside = [np.nextafter(steps, np.float32(x)) for x in (0.0, 2.0)]
    numbers = np.concatenate([steps, *beside], axis=-1).astype(np.float32)
    numbers = np.clip(numbers, 0, 1 - 2.0**-24)
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape: jnp.asarray(numbers).reshape(shape)
    )
    samples = np.asarray(
        tokens.sample_categorical(jax.random.key(0), jnp.asarray(logits), numbers.shape[1])
    )
    assert np.take_along_axis(legal[:, 0], samples, axis=1).all()
