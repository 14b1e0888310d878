"""Classes of residuals: what a change of bases leaves alone, and what it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.beam.equivalence_hash import class_hashes
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring

SHAPE = (4, 6, 6)  # 2x2 by 2x3: the modes of length 6 may be exchanged
hashes = jax.jit(lambda x: class_hashes(x, SHAPE))


def residuals(seed, count, terms):
    rng = np.random.default_rng(seed)
    found = np.zeros((count, 6, 6, 6), np.int8)
    for _ in range(terms):
        u, v, w = (rng.integers(0, 2, (count, size)) for size in SHAPE)
        found[:, :4] ^= np.einsum("bi,bj,bk->bijk", u, v, w).astype(np.int8)
    return found


@pytest.mark.parametrize("terms", [1, 3, 6, 9])
def test_changes_of_bases_and_exchanged_modes_leave_the_hash_alone(terms):
    found = residuals(terms, 32, terms)

    def changed(key, tensor):
        basis = bases.random_basis(key, Ring(2), 6, jnp.array(SHAPE, jnp.int8), 0.5)
        return bases.change_tensor(tensor, basis.matrices, Ring(2)).astype(jnp.int8)

    other = jax.jit(jax.vmap(changed))(
        jax.random.split(jax.random.key(terms), 32), jnp.asarray(found)
    )
    assert np.any(np.asarray(other) != found)
    expected = np.asarray(hashes(found))
    np.testing.assert_array_equal(hashes(other), expected)
    np.testing.assert_array_equal(hashes(jnp.swapaxes(other, 2, 3)), expected)


def test_what_is_not_equivalent_is_told_apart():
    # Sums of r terms with no relation between their factors are one class for each r.
    lone = np.zeros((32, 6, 6, 6), np.int8)
    for r in range(4):
        lone[r + 1 :, r, r, r] = 1
    found = [tuple(x) for x in np.asarray(hashes(lone)).tolist()]
    assert len(set(found)) == 5
    # First moves of a game are of few classes: the ranks of their factors as matrices, and how those lie.
    start = np.zeros((6, 6, 6), np.int8)
    start[:4] = tensors.matmul(2, 2, 3).array
    after = residuals(0, 32, 1) ^ start
    assert 3 <= len(np.unique(hashes(after), axis=0)) < 20


def test_long_modes_are_refused():
    with pytest.raises(
        ValueError, match=r"shape: received \(16, 16, 16\); expected modes of at most 12"
    ):
        class_hashes(jnp.zeros((1, 16, 16, 16), jnp.int8), (16, 16, 16))
