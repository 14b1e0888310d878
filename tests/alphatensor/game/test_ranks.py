"""Ranks inside jit against exact elimination on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alphajax.alphatensor.game.ranks import matrix_rank, slice_rank_bound

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
def test_ranks_of_many_matrices_at_once(exact_rank, modulus):
    matrices = np.random.default_rng(0).integers(-1, 2, (5, 2, 3, 4))
    found = rank(jnp.asarray(matrices, jnp.int8), modulus)
    exact = [[exact_rank(matrix, modulus) for matrix in pair] for pair in matrices]
    assert found.tolist() == exact


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
        found = int(bound(jnp.asarray(tensor, jnp.int8), modulus))
        assert found == min(sums)
        assert (found == 0) == (not (tensor % modulus if modulus else tensor).any())


def test_a_slice_is_bounded_by_its_rank_and_not_by_its_entries():
    tensor = np.zeros((3, 3, 3), np.int8)
    tensor[0] = 1  # nine entries, one term
    assert bound(tensor, 0) == 1
