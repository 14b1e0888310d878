"""Changes of basis are exact, can be undone, and leave padding alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.symmetry import (
    group,
    index_permutation,
    mode_cycle,
    product_transpose,
)

RINGS = [Ring(0, 1), Ring(2), Ring(3), Ring(17)]
SIDE = 4
DIMS = np.array([4, 3, 2], np.int8)

rings = pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
random_basis = jax.jit(bases.random_basis, static_argnames=("ring", "side", "shared"))
symmetric_basis = jax.jit(bases.symmetric_basis, static_argnames=("ring", "symmetry"))
signed_permutation = jax.jit(bases.signed_permutation, static_argnames=("ring", "side"))
change_tensor = jax.jit(bases.change_tensor, static_argnames="ring")
change_factors = jax.jit(bases.change_factors, static_argnames="ring")
permute_tensor = jax.jit(bases.permute_tensor, static_argnames="ring")
permute_factors = jax.jit(bases.permute_factors, static_argnames="ring")
unpermute_factors = jax.jit(bases.unpermute_factors, static_argnames="ring")


def sum_of_terms(factors, ring):
    """The sum of terms `[R, 3, S]`, reduced into the ring; plain NumPy."""
    u, v, w = np.moveaxis(np.asarray(factors, np.int64), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def random_factors(ring, count=3):
    is_entry = np.arange(SIDE) < DIMS[:, None]
    x = np.random.default_rng(0).integers(-1, 2, (count, 3, SIDE)) * is_entry
    return ring.reduce(x)


@st.composite
def bases_of(draw, ring):
    """A random basis, shared by the modes or not, of random dims."""
    key = jax.random.key(draw(st.integers(0, 2**31 - 1)))
    shared = draw(st.booleans())
    lengths = st.integers(1, SIDE)
    dims = [draw(lengths)] * 3 if shared else [draw(lengths) for _ in range(3)]
    return random_basis(key, ring, SIDE, jnp.array(dims), 0.5, shared=shared)


def entries(ring, shape):
    """Integer arrays with entries of the ring, small ones over Z."""
    values = st.integers(0, ring.modulus - 1) if ring.modulus else st.integers(-2, 2)
    return hnp.arrays(np.int32, shape, elements=values)


@rings
@given(data=st.data())
def test_a_basis_and_its_inverse_undo_each_other(ring, data):
    basis = data.draw(bases_of(ring))
    tensor = data.draw(entries(ring, (SIDE, SIDE, SIDE)))
    factors = data.draw(entries(ring, (2, 3, SIDE)))
    for forward, backward in (basis, basis[::-1]):
        changed = change_tensor(tensor, forward, ring)
        np.testing.assert_array_equal(change_tensor(changed, backward, ring), tensor)
        changed = change_factors(factors, forward, ring)
        np.testing.assert_array_equal(change_factors(changed, backward, ring), factors)


@rings
@given(data=st.data())
def test_changed_factors_decompose_the_changed_tensor(ring, data):
    basis = data.draw(bases_of(ring))
    factors = data.draw(entries(ring, (2, 3, SIDE)))
    tensor = jnp.asarray(sum_of_terms(factors, ring), jnp.int32)
    changed = change_factors(factors, basis.matrices, ring)
    np.testing.assert_array_equal(
        sum_of_terms(changed, ring), change_tensor(tensor, basis.matrices, ring)
    )


@rings
@given(data=st.data())
def test_a_signed_permutation_can_be_undone(ring, data):
    key = jax.random.key(data.draw(st.integers(0, 2**31 - 1)))
    dims = jnp.array([data.draw(st.integers(1, SIDE)) for _ in range(3)])
    signed = signed_permutation(key, ring, SIDE, dims)
    factors = data.draw(entries(ring, (2, 3, SIDE)))
    permuted = permute_factors(factors, signed, ring)
    np.testing.assert_array_equal(unpermute_factors(permuted, signed, ring), factors)
    tensor = jnp.asarray(sum_of_terms(factors, ring), jnp.int32)
    np.testing.assert_array_equal(
        sum_of_terms(permuted, ring), permute_tensor(tensor, signed, ring)
    )


@rings
def test_random_bases_are_invertible_differ_and_leave_padding_alone(ring):
    keys = jax.random.split(jax.random.key(0), 16)
    draw = jax.vmap(lambda key: random_basis(key, ring, SIDE, jnp.array(DIMS), 0.5))
    basis = draw(keys)
    matrices, inverses = np.asarray(basis.matrices, np.int64), np.asarray(basis.inverses, np.int64)
    eye = np.broadcast_to(np.eye(SIDE, dtype=int), matrices.shape)
    np.testing.assert_array_equal(ring.reduce(matrices @ inverses), eye)
    np.testing.assert_array_equal(ring.reduce(inverses @ matrices), eye)
    assert len({m.tobytes() for m in matrices}) == 16
    if ring.modulus:
        assert set(np.unique(matrices)) == set(range(ring.modulus))
    for mode, length in enumerate(DIMS):
        for x in (matrices, inverses):
            padding = x[:, mode].copy()
            padding[:, :length, :length] = np.eye(length)
            np.testing.assert_array_equal(padding, eye[:, mode])


@rings
def test_a_changed_tensor_is_the_formula_in_plain_numpy(ring):
    basis = random_basis(jax.random.key(0), ring, SIDE, jnp.array(DIMS), 0.5)
    tensor = jnp.asarray(sum_of_terms(random_factors(ring), ring), jnp.int32)
    a, b, c = np.asarray(basis.matrices, np.int64)
    expected = np.einsum("ai,bj,ck,ijk->abc", a, b, c, np.asarray(tensor, np.int64))
    np.testing.assert_array_equal(
        change_tensor(tensor, basis.matrices, ring), ring.reduce(expected)
    )


def test_a_shared_basis_is_the_same_for_every_mode():
    basis = random_basis(jax.random.key(0), Ring(), 4, jnp.array([4, 4, 4]), 0.5, shared=True)
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


@pytest.mark.parametrize("ring", [Ring(2), Ring(3)], ids=lambda ring: ring.name)
def test_a_symmetric_basis_commutes_with_the_group(ring):
    reverse = [np.arange(4)[::-1]] * 3
    swap_halves = [np.array([2, 3, 0, 1])] * 3
    symmetry = group(
        mode_cycle(16),
        product_transpose(4, 4, 16),
        index_permutation(reverse, 16),
        index_permutation(swap_halves, 16),
    )
    assert symmetry.order == 24
    basis = symmetric_basis(jax.random.key(1), ring, jnp.full(3, 16), 0.4, symmetry)
    matrices, inverses = (np.asarray(x) for x in basis)
    np.testing.assert_array_equal(
        ring.reduce(matrices @ inverses), np.broadcast_to(np.eye(16), (3, 16, 16))
    )
    assert (matrices != np.eye(16)).any()
    whole = np.zeros((3, 16, 3, 16), int)
    whole[range(3), :, range(3)] = matrices
    whole = whole.reshape(48, 48)
    for element in symmetry.table:
        np.testing.assert_array_equal(whole[element][:, element], whole)


@rings
def test_signed_permutations_have_units_as_signs_and_leave_padding_alone(ring):
    draw = jax.vmap(lambda key: signed_permutation(key, ring, SIDE, jnp.array(DIMS)))
    batch = draw(jax.random.split(jax.random.key(0), 20))
    np.testing.assert_array_equal(
        np.sort(batch.order, axis=-1), np.broadcast_to(np.arange(SIDE), batch.order.shape)
    )
    units = {1} if ring.modulus == 2 else {1, int(ring.reduce(np.int64(-1)))}
    assert set(np.unique(batch.sign)) == units
    padding = np.arange(SIDE) >= DIMS[:, None]
    assert (np.asarray(batch.order) == np.arange(SIDE))[:, padding].all()
    assert (np.asarray(batch.sign) == 1)[:, padding].all()
    assert len({x.tobytes() for x in np.asarray(batch.order)}) == 20


@rings
def test_signed_permutations_keep_the_dtype(ring):
    signed = signed_permutation(jax.random.key(0), ring, SIDE, jnp.array(DIMS))
    factors = jnp.asarray(random_factors(ring), jnp.int8)
    tensor = jnp.asarray(sum_of_terms(factors, ring), jnp.int8)
    permuted = permute_factors(factors, signed, ring)
    assert permuted.dtype == unpermute_factors(permuted, signed, ring).dtype == jnp.int8
    assert permute_tensor(tensor, signed, ring).dtype == jnp.int8
