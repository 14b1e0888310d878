"""Ranks inside jit against exact elimination on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alphajax.alphatensor.game.ranks import add_gf3, matrix_rank, rank_gf2, slice_rank_bound

rank = jax.jit(matrix_rank, static_argnums=1)
bound = jax.jit(slice_rank_bound, static_argnums=1)

# Products of thin matrices: uniform entries would nearly always have full rank.
SHAPES = {"square": (4, 4), "wide": (3, 5), "tall and looped": (4, 9)}


@pytest.mark.parametrize("modulus", [0, 2, 3, 17], ids="mod {}".format)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@given(data=st.data())
def test_matrix_rank_is_exact(exact_rank, modulus, shape, data):
    rows, columns = shape
    inner = data.draw(st.integers(1, 3))
    entries = st.integers(-2, 2)
    left = data.draw(hnp.arrays(np.int32, (rows, inner), elements=entries))
    right = data.draw(hnp.arrays(np.int32, (inner, columns), elements=entries))
    assert rank(left @ right, modulus) == exact_rank(left @ right, modulus)


@pytest.mark.parametrize("modulus", [0, 2, 5], ids="mod {}".format)
def test_ranks_of_a_batch_are_those_of_its_matrices(exact_rank, modulus):
    matrices = np.random.default_rng(0).integers(-1, 2, (5, 2, 3, 4))
    ranks = rank(jnp.asarray(matrices, jnp.int8), modulus)
    exact = [[exact_rank(matrix, modulus) for matrix in pair] for pair in matrices]
    assert ranks.tolist() == exact


def test_a_rank_of_packed_rows_is_that_of_the_matrix(exact_rank):
    matrices = np.random.default_rng(0).integers(0, 2, (20, 4, 5))
    packed = (matrices << np.arange(5)).sum(axis=-1)
    ranks = rank_gf2([jnp.asarray(row, jnp.int32) for row in packed.T])
    assert ranks.tolist() == [exact_rank(matrix, 2) for matrix in matrices]


def test_addition_over_gf3_is_that_of_residues():
    a, b = np.divmod(np.arange(9), 3)
    bits = 1 << np.arange(9)
    masks = [tuple(jnp.int32((bits * (x == value)).sum()) for value in (1, 2)) for x in (a, b)]
    ones, twos = (int(x) for x in add_gf3(*masks))
    expected = (a + b) % 3
    assert ones == (bits * (expected == 1)).sum()
    assert twos == (bits * (expected == 2)).sum()


@pytest.mark.parametrize("modulus", [0, 2, 3], ids="mod {}".format)
def test_slice_rank_bound_is_the_smallest_sum_over_the_modes(exact_rank, modulus):
    generator = np.random.default_rng(1)
    for terms in range(6):
        u, v, w = generator.integers(-1, 2, (3, terms, 4))
        tensor = np.einsum("ri,rj,rk->ijk", u, v, w)
        sums = [
            sum(exact_rank(part, modulus) for part in np.moveaxis(tensor, mode, 0))
            for mode in range(3)
        ]
        value = int(bound(jnp.asarray(tensor, jnp.int8), modulus))
        assert value == min(sums)
        assert (value == 0) == (not (tensor % modulus if modulus else tensor).any())


def test_a_slice_counts_by_its_rank_and_not_by_its_entries():
    tensor = np.zeros((3, 3, 3), np.int8)
    tensor[0] = 1  # nine entries, one term
    assert bound(tensor, 0) == 1
