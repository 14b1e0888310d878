"""Rank profiles against exact elimination, and which vectors they use."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.rank_profiles import (
    largest_weight,
    probe_vectors,
    probes,
    rank_profiles,
)
from alphajax.alphatensor.game.symmetry import group, index_permutation

SIDE = 3
primes = pytest.mark.parametrize("prime", [2, 3, 5], ids="mod {}".format)


def profile(residual, prime, vectors, mode=0, selected=None):
    """`rank_profiles`, compiled as a whole: otherwise each operation is compiled by itself."""
    function = jax.jit(lambda x: rank_profiles(x, prime, vectors, mode, selected))
    return function(jnp.asarray(residual, jnp.int8))


def contractions(tensor, vectors, mode):
    """The matrices of a tensor contracted with each vector, in plain NumPy."""
    slices = np.moveaxis(np.asarray(tensor, int), mode, 0)[: vectors.shape[1]]
    return np.tensordot(vectors, slices, (1, 0))


@pytest.mark.parametrize("prime", [2, 3])
def test_probe_vectors_are_all_of_low_weight_up_to_scale(prime):
    vectors = probe_vectors(4, prime, 2)
    expected = {
        vector
        for vector in np.ndindex(*[prime] * 4)
        if 1 <= np.count_nonzero(vector) <= 2 and vector[np.flatnonzero(vector)[0]] == 1
    }
    assert {tuple(x) for x in vectors} == expected and len(vectors) == len(expected)
    assert (np.diff(np.count_nonzero(vectors, axis=1)) >= 0).all()
    assert len(probe_vectors(2, 2, 4)) == 3  # more weight than entries


def test_the_largest_weight_keeps_the_number_of_vectors_below_the_limit():
    for side, prime, count in ((4, 2, 100), (6, 3, 100), (9, 2, 129), (9, 2, 128), (9, 3, 1)):
        weight = largest_weight(side, prime, count)
        assert weight == 1 or len(probe_vectors(side, prime, weight)) <= count
        assert weight == side or len(probe_vectors(side, prime, weight + 1)) > count


def test_without_a_symmetry_all_vectors_are_selected():
    vectors, selected = probes(4, 2, 10)
    np.testing.assert_array_equal(vectors, probe_vectors(4, 2, 2))
    np.testing.assert_array_equal(selected, np.arange(len(vectors)))


def test_with_a_symmetry_vectors_of_more_weight_fit_the_limit():
    reverse = group(index_permutation([np.arange(3)[::-1]] * 3, 9))
    vectors, selected = probes(9, 2, 25, reverse)
    np.testing.assert_array_equal(vectors, probe_vectors(9, 2, 2))
    assert len(selected) == 25 and set(selected) < set(range(len(vectors)))
    assert largest_weight(9, 2, 25) == 1


@primes
@settings(max_examples=10)
@given(residual=hnp.arrays(np.int8, (2, SIDE, SIDE, SIDE), elements=st.integers(-1, 1)))
def test_rank_profiles_are_ranks_of_contractions(exact_rank, prime, residual):
    for mode in range(3):
        vectors = probe_vectors(SIDE, prime, 2)
        ranks = compiled(prime, mode)(jnp.asarray(residual))
        assert ranks.shape == (2, len(vectors))
        for game, row in enumerate(ranks):
            matrices = contractions(residual[game], vectors, mode)
            assert row.tolist() == [exact_rank(matrix, prime) for matrix in matrices]


@functools.cache
def compiled(prime, mode):
    vectors = probe_vectors(SIDE, prime, 2)
    return jax.jit(lambda x: rank_profiles(x, prime, vectors, mode))


@primes
@pytest.mark.parametrize("shape", [(3, 4, 2), (2, 3, 4), (4, 2, 3)])
def test_rank_profiles_of_modes_of_three_lengths(exact_rank, prime, shape):
    residual = np.random.default_rng(1).integers(-1, 2, (2, *shape))
    for mode, size in enumerate(shape):
        vectors = probe_vectors(size, prime, 2)
        ranks = profile(residual, prime, vectors, mode)
        for game, row in enumerate(ranks):
            matrices = contractions(residual[game], vectors, mode)
            assert row.tolist() == [exact_rank(matrix, prime) for matrix in matrices]


@primes
def test_vectors_may_be_shorter_than_a_padded_mode(exact_rank, prime):
    residual = np.random.default_rng(2).integers(-1, 2, (2, SIDE, SIDE, SIDE))
    residual[:, :, SIDE - 1 :] = 0
    vectors = probe_vectors(SIDE - 1, prime, 2)
    ranks = profile(residual, prime, vectors, 1)
    for game, row in enumerate(ranks):
        matrices = contractions(residual[game], vectors, 1)
        assert row.tolist() == [exact_rank(matrix, prime) for matrix in matrices]


@primes
def test_selected_vectors_have_the_ranks_that_they_have_among_all(prime):
    residual = np.random.default_rng(3).integers(0, prime, (2, 3, 3, 3))
    vectors, selected = probe_vectors(3, prime, 3), np.array([5, 0, 3])
    every = profile(residual, prime, vectors)
    few = profile(residual, prime, vectors, selected=selected)
    np.testing.assert_array_equal(few, every[:, selected])


@pytest.mark.parametrize("prime", [2, 3])
def test_a_change_of_basis_permutes_a_profile_over_all_vectors(prime):
    ring, dims = Ring(prime), jnp.array([SIDE] * 3)
    residual = jnp.asarray(np.random.default_rng(4).integers(0, prime, (3, 3, 3)), jnp.int8)
    draw = jax.jit(bases.random_basis, static_argnames=("ring", "side"))
    basis = draw(jax.random.key(0), ring, SIDE, dims, 0.5)
    change = jax.jit(bases.change_tensor, static_argnames="ring")
    changed = change(residual, basis.matrices, ring).astype(jnp.int8)
    assert (changed != residual).any()
    vectors = probe_vectors(SIDE, prime, SIDE)
    for mode in range(3):
        before, after = profile(jnp.stack([residual, changed]), prime, vectors, mode)
        np.testing.assert_array_equal(np.sort(before), np.sort(after))
