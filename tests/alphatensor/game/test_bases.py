"""Symmetries are exact, undo themselves, and leave padding alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Ring

RINGS = [Ring(0, 1), Ring(2), Ring(17)]
SIDE = 4
DIMS = np.array([4, 3, 2], np.int8)


def plain_tensor(factors, ring):
    u, v, w = np.moveaxis(np.asarray(factors, np.int64), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def random_factors(ring, count=3):
    inside = np.arange(SIDE) < DIMS[:, None]
    x = np.random.default_rng(0).integers(-1, 2, (count, 3, SIDE)) * inside
    return ring.reduce(x)


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
def test_a_change_of_basis_and_back(ring):
    keys = jax.random.split(jax.random.key(0), 16)
    draw = jax.jit(jax.vmap(lambda key: bases.random_basis(key, ring, SIDE, jnp.array(DIMS), 0.5)))
    found = draw(keys)
    matrices, inverses = np.asarray(found.matrices, np.int64), np.asarray(found.inverses, np.int64)
    eye = np.broadcast_to(np.eye(SIDE, dtype=int), matrices.shape)
    np.testing.assert_array_equal(ring.reduce(matrices @ inverses), eye)
    np.testing.assert_array_equal(ring.reduce(inverses @ matrices), eye)
    assert len({m.tobytes() for m in matrices}) == 16
    if ring.modulus:
        assert set(np.unique(matrices)) == set(range(ring.modulus))
    for mode, length in enumerate(DIMS):  # padding stays padding
        for x in (matrices, inverses):
            outside = x[:, mode].copy()
            outside[:, :length, :length] = np.eye(length)
            np.testing.assert_array_equal(outside, eye[:, mode])

    factors = random_factors(ring)
    tensor = jnp.asarray(plain_tensor(factors, ring), jnp.int32)
    change = jax.jit(bases.change_tensor, static_argnums=2)
    change_factors = jax.jit(bases.change_factors, static_argnums=2)
    for matrix, inverse in zip(found.matrices[:4], found.inverses[:4], strict=True):
        changed = change(tensor, matrix, ring)
        a, b, c = np.asarray(matrix, np.int64)
        by_hand = np.einsum("ai,bj,ck,ijk->abc", a, b, c, np.asarray(tensor, np.int64))
        np.testing.assert_array_equal(changed, ring.reduce(by_hand))
        # What decomposes one, changed, decomposes the other; and the inverses undo both.
        terms = change_factors(jnp.asarray(factors), matrix, ring)
        np.testing.assert_array_equal(plain_tensor(terms, ring), changed)
        np.testing.assert_array_equal(change_factors(terms, inverse, ring), factors)
        np.testing.assert_array_equal(change(changed, inverse, ring), tensor)


def test_a_shared_basis_is_the_same_for_every_mode():
    dims = jnp.array([4, 4, 4])
    draw = jax.jit(lambda key: bases.random_basis(key, Ring(), 4, dims, 0.5, shared=True))
    basis = draw(jax.random.key(0))
    for x in basis:
        assert (x == x[:1].repeat(3, 0)).all()
    product = jnp.einsum("mab,mbc->mac", *basis)
    np.testing.assert_array_equal(product, bases.identity(4).matrices)


def test_over_the_integers_a_basis_is_unimodular_and_sparse():
    draw = jax.vmap(lambda key: bases.random_basis(key, Ring(), 6, jnp.array([6, 6, 6])))
    matrices = np.asarray(jax.jit(draw)(jax.random.split(jax.random.key(1), 20)).matrices)
    np.testing.assert_allclose(np.abs(np.linalg.det(matrices.astype(float))), 1, atol=1e-6)
    assert 6 < (matrices != 0).sum(axis=(-2, -1)).mean() < 15
    assert np.abs(matrices).max() < 16


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
def test_signed_permutations(ring):
    dims = jnp.array(DIMS)
    draw = jax.jit(jax.vmap(lambda key: bases.signed_permutation(key, ring, SIDE, dims)))
    many = draw(jax.random.split(jax.random.key(0), 20))
    np.testing.assert_array_equal(
        np.sort(many.order, axis=-1), np.broadcast_to(np.arange(SIDE), many.order.shape)
    )
    units = {1} if ring.modulus == 2 else {1, int(ring.reduce(np.int64(-1)))}
    assert set(np.unique(many.sign)) == units
    padding = np.arange(SIDE) >= DIMS[:, None]
    assert (np.asarray(many.order) == np.arange(SIDE))[:, padding].all()
    assert (np.asarray(many.sign) == 1)[:, padding].all()
    assert len({x.tobytes() for x in np.asarray(many.order)}) == 20

    factors = jnp.asarray(random_factors(ring), jnp.int8)
    tensor = jnp.asarray(plain_tensor(factors, ring), jnp.int8)
    for index in range(2):
        one = jax.tree.map(lambda x, i=index: x[i], many)
        turned = bases.permute_factors(factors, one, ring)
        assert turned.dtype == jnp.int8
        moved = bases.permute_tensor(tensor, one, ring)
        np.testing.assert_array_equal(plain_tensor(turned, ring), moved)
        np.testing.assert_array_equal(bases.unpermute_factors(turned, one, ring), factors)
