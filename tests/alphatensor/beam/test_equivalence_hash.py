"""Hashes of equivalence classes: invariant under change of basis, different otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax.alphatensor.beam.equivalence_hash import hash_classes, is_supported
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame

SHAPE = (4, 6, 6)  # of 2x2 by 2x3: the modes of length 6 may be exchanged


@jax.jit
def hash_batch(residual):
    return hash_classes(residual, SHAPE)


@jax.jit
def change_bases(keys, residual):
    def change(key, tensor):
        basis = bases.random_basis(key, Ring(2), 6, jnp.array(SHAPE, jnp.int8), 0.5)
        return bases.change_tensor(tensor, basis.matrices, Ring(2)).astype(jnp.int8)

    return jax.vmap(change)(keys, residual)


def random_residuals(seed, count, num_terms):
    rng = np.random.default_rng(seed)
    residuals = np.zeros((count, 6, 6, 6), np.int8)
    for _ in range(num_terms):
        u, v, w = (rng.integers(0, 2, (count, size)) for size in SHAPE)
        residuals[:, :4] ^= np.einsum("bi,bj,bk->bijk", u, v, w).astype(np.int8)
    return residuals


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31 - 1), num_terms=st.integers(1, 9))
def test_hash_is_invariant_under_change_of_basis_and_exchange_of_modes(seed, num_terms):
    residuals = random_residuals(seed, 32, num_terms)
    changed = change_bases(jax.random.split(jax.random.key(seed), 32), jnp.asarray(residuals))
    assert np.any(np.asarray(changed) != residuals)
    expected = np.asarray(hash_batch(residuals))
    np.testing.assert_array_equal(hash_batch(changed), expected)
    np.testing.assert_array_equal(hash_batch(jnp.swapaxes(changed, 2, 3)), expected)


def test_sums_of_independent_terms_have_one_hash_per_rank():
    residuals = np.zeros((32, 6, 6, 6), np.int8)
    for r in range(4):
        residuals[r + 1 :, r, r, r] = 1
    assert len(np.unique(np.asarray(hash_batch(residuals)), axis=0)) == 5


def test_first_moves_of_a_game_lead_to_few_classes():
    # The class depends on the matrix ranks of the factors and on how these matrices meet.
    start = np.zeros((6, 6, 6), np.int8)
    start[:4] = tensors.matmul(2, 2, 3).array
    after = random_residuals(0, 32, 1) ^ start
    assert 3 <= len(np.unique(np.asarray(hash_batch(after)), axis=0)) < 20


def test_long_modes_are_refused():
    with pytest.raises(
        ValueError, match=r"shape: received \(16, 16, 16\); expected modes of at most 12"
    ):
        hash_classes(jnp.zeros((1, 16, 16, 16), jnp.int8), (16, 16, 16))


@pytest.mark.parametrize(
    "name, settings_, expected",
    [
        ("2,2,3", dict(ring=Ring(2)), True),
        ("2,2,3", dict(), False),
        ("2,2,3", dict(ring=Ring(3)), False),
        ("2,2,2", dict(ring=Ring(2), symmetries=("cyclic",)), False),
        ("4,4,4", dict(ring=Ring(2)), False),
    ],
)
def test_classes_are_supported_over_z2_with_short_modes_and_single_terms(name, settings_, expected):
    assert is_supported(TensorGame(targets=(tensors.parse(name),), **settings_)) is expected
