"""Symmetry groups and orbits, against the symmetries of the matrix product in plain NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring, canonical
from alphajax.alphatensor.game.rank_profiles import probes, rank_profiles
from alphajax.alphatensor.game.symmetry import (
    SYMMETRIES,
    TRIVIAL,
    SymmetryGroup,
    generator,
    group,
    index_permutation,
    mode_cycle,
    product_transpose,
)

RINGS = [Ring(), Ring(2), Ring(3)]


def reversed_orders(*sizes):
    return [np.arange(size)[::-1] for size in sizes]


GROUPS = {
    "cyclic": group(mode_cycle(9)),
    "transpose": group(product_transpose(2, 3, 9)),
    "cyclic and transpose": group(mode_cycle(9), product_transpose(3, 3, 9)),
    "reverse": group(index_permutation(reversed_orders(2, 3, 3), 9)),
    "cyclic, transpose and reverse": group(
        mode_cycle(9), product_transpose(3, 3, 9), index_permutation(reversed_orders(3, 3, 3), 9)
    ),
}
groups = pytest.mark.parametrize("name", GROUPS)
rings = pytest.mark.parametrize("ring", RINGS, ids="{0.name}".format)
# Compiled as a whole: otherwise each operation is compiled by itself.
symmetrise = jax.jit(SymmetryGroup.symmetrise, static_argnums=0)
canonical_form = jax.jit(canonical, static_argnums=1)
orbit = jax.jit(SymmetryGroup.orbit, static_argnums=(0, 2))
orbit_sizes = jax.jit(SymmetryGroup.orbit_sizes, static_argnums=(0, 2))
representative = jax.jit(SymmetryGroup.canonical_representative, static_argnums=(0, 2))


def sum_of_terms(factors, ring):
    """The sum of terms `[R, 3, S]`, reduced into the ring; plain NumPy."""
    u, v, w = np.moveaxis(np.asarray(factors, int), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def is_cyclic(name):
    return "cyclic" in name


def random_moves(ring, name, count=40, side=9):
    """Canonical moves of 3 x 3 times 3 x 3, or of 2 x 3 times 3 x 3 without a cycle of modes.

    Four of five are symmetric under a subgroup; each subgroup occurs. One of five has a negated
    third factor.
    """
    symmetry = GROUPS[name]
    numbers = np.random.default_rng(0)
    factors = numbers.integers(ring.lowest, ring.lowest + ring.base, (count, 3, side))
    factors[..., 0] = np.where(factors.any(axis=-1), factors[..., 0], 1)
    if not is_cyclic(name):
        factors[:, ::2, 6:] = 0
        factors[..., 0] = 1
    index = np.arange(count)
    subgroup = (index // 5 * 4 + index % 5 - 1) % len(symmetry.stabilisers)
    symmetric = np.asarray(symmetrise(symmetry, jnp.asarray(factors), jnp.asarray(subgroup)))
    factors = np.where((index % 5 > 0)[:, None, None], symmetric, factors)
    factors[::5, 2] *= -1
    return np.asarray(canonical_form(jnp.asarray(ring.reduce(factors), jnp.int8), ring))


def transpose_tensor(tensor, n, m):
    """The tensor of the n x m times m x m product after A, B, C are replaced by C', B', A'."""
    out = np.zeros_like(tensor)
    for (i, j), (k, h), (p, q) in itertools.product(
        *(np.ndindex(x) for x in ((n, m), (m, m), (m, n)))
    ):
        out[q * m + p, h * m + k, j * n + i] = tensor[i * m + j, k * m + h, p * n + q]
    return out


def renumber_tensor(tensor, orders):
    """The tensor of the n x m times m x p product after rows and columns are renumbered."""
    out = np.zeros_like(tensor)
    n, m, p = (len(order) for order in orders)
    rows, inner, columns = orders
    for (i, j), (k, h), (q, r) in itertools.product(
        *(np.ndindex(x) for x in ((n, m), (m, p), (p, n)))
    ):
        out[i * m + j, k * p + h, q * n + r] = tensor[
            rows[i] * m + inner[j], inner[k] * p + columns[h], columns[q] * n + rows[r]
        ]
    return out


def pad(product):
    side = max(product.shape)
    return np.pad(product, [(0, side - size) for size in product.shape])


def test_transposing_leaves_the_product_unchanged():
    for n, m in ((2, 3), (3, 2), (3, 3)):
        product = tensors.matmul(n, m, m).array
        np.testing.assert_array_equal(transpose_tensor(product, n, m), product)
        assert group(product_transpose(n, m, max(product.shape))).leaves_invariant(pad(product))


def test_renumbering_leaves_the_product_unchanged():
    orders = [np.array(x) for x in ([1, 0], [2, 0, 1], [1, 0, 3, 2])]
    product = tensors.matmul(2, 3, 4).array
    np.testing.assert_array_equal(renumber_tensor(product, orders), product)
    symmetry = group(index_permutation(orders, 12))
    assert symmetry.order == 6 and symmetry.leaves_invariant(pad(product))
    other = pad(product)
    other[0, 0, 0] += 1
    assert not symmetry.leaves_invariant(other)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_a_named_generator_leaves_its_product_unchanged(name):
    sizes = (2, 4, 4) if name != "cyclic" else (4, 4, 4)
    product = pad(tensors.matmul(*sizes).array)
    symmetry = group(generator(name, sizes, 16))
    assert symmetry.order == (3 if name == "cyclic" else 2)
    assert symmetry.leaves_invariant(product)


def test_an_unknown_generator_is_refused():
    with pytest.raises(ValueError, match="received 'mirror'; expected one of cyclic, transpose"):
        generator("mirror", (2, 2, 2), 4)


def test_odd_sizes_have_no_halves_to_swap():
    np.testing.assert_array_equal(generator("swap_halves", (3, 3, 3), 9), np.arange(27))


@groups
def test_a_group_is_closed_and_starts_with_the_identity(name):
    symmetry = GROUPS[name]
    np.testing.assert_array_equal(symmetry.table[0], np.arange(27))
    assert len(set(symmetry.elements)) == symmetry.order
    for g, h in np.ndindex(symmetry.order, symmetry.order):
        product = symmetry.table[h][symmetry.table[g]]
        np.testing.assert_array_equal(symmetry.table[symmetry.products[g, h]], product)


def test_without_generators_a_group_is_trivial():
    assert group() == TRIVIAL and TRIVIAL.order == 1
    move = jnp.array([[0, -1], [1, 2], [2, 1]], jnp.int8)
    images, is_term = TRIVIAL.orbit(move, Ring(0, 2))
    np.testing.assert_array_equal(images[0], canonical(move, Ring(0, 2)))
    assert is_term.tolist() == [True]
    assert TRIVIAL.distinct_modes() == [0, 1, 2]
    assert TRIVIAL.leaves_invariant(np.arange(8).reshape(2, 2, 2))


@groups
@rings
@settings(max_examples=15)
@given(data=st.data())
def test_subtracting_an_orbit_keeps_the_symmetry_of_the_target(name, ring, data):
    symmetry, shape = GROUPS[name], (9, 9, 9) if is_cyclic(name) else (6, 9, 6)
    values = st.integers(ring.lowest, ring.lowest + ring.base - 1)
    move = data.draw(hnp.arrays(np.int8, (3, 9), elements=values))
    move *= np.arange(9) < np.array(shape)[:, None]
    target = pad(tensors.matmul(*((3, 3, 3) if is_cyclic(name) else (2, 3, 3))).array)
    images, is_term = orbit(symmetry, jnp.asarray(move), ring)
    terms = np.asarray(images)[np.asarray(is_term)]
    residual = ring.reduce(target - sum_of_terms(terms, ring))
    assert symmetry.leaves_invariant(target) and symmetry.leaves_invariant(residual)
    assert len(terms) == orbit_sizes(symmetry, jnp.asarray(move), ring)
    assert symmetry.order % len(terms) == 0


@groups
@rings
def test_an_orbit_is_symmetric_and_has_each_term_once(ring, name):
    symmetry, played = GROUPS[name], random_moves(ring, name)
    counts = np.asarray(orbit_sizes(symmetry, jnp.asarray(played), ring))
    for index, move in enumerate(played):
        terms = symmetry.expand(move[None], ring)
        assert len(terms) == counts[index] and symmetry.order % len(terms) == 0
        total = sum_of_terms(terms, ring)
        assert symmetry.leaves_invariant(total)
        rows = 3 if is_cyclic(name) else 2
        if is_cyclic(name):
            np.testing.assert_array_equal(np.moveaxis(total, 0, -1), total)
        if "transpose" in name:
            np.testing.assert_array_equal(transpose_tensor(total, rows, 3), total)
        if "reverse" in name:
            orders = reversed_orders(rows, 3, 3)
            np.testing.assert_array_equal(renumber_tensor(total, orders), total)
        different = {sum_of_terms(term[None], ring).tobytes() for term in terms}
        assert len(different) == len(terms)
    assert set(counts) == {n for n in (1, 2, 3, 4, 6, 12) if symmetry.order % n == 0}


@groups
def test_distinct_entries_determine_a_symmetric_tensor(name):
    symmetry = GROUPS[name]
    indices = symmetry.distinct_entries((9, 9, 9), 9)
    every = np.concatenate([symmetry.expand(x[None], Ring()) for x in random_moves(Ring(), name)])
    totals = [
        sum_of_terms(symmetry.expand(move[None], Ring()), Ring()).reshape(-1) for move in every
    ]
    equal = np.all([x[:, None] == x[indices] for x in totals], axis=0)
    assert equal.any(axis=1).all()  # each entry is always equal to one of the selected
    assert len(indices) < 9**3 / symmetry.order * 2 and len(set(indices)) == len(indices)


@pytest.mark.parametrize("prime", [2, 3])
@groups
def test_selected_vectors_have_the_ranks_of_all_vectors(name, prime):
    symmetry, ring = GROUPS[name], Ring(prime)
    dims = (9, 9, 9) if is_cyclic(name) else (6, 9, 6)
    totals = [
        sum(sum_of_terms(symmetry.expand(x[None], ring), ring) for x in some) % prime
        for some in random_moves(ring, name).reshape(8, 5, 3, 9)
    ]
    residual = jnp.asarray(np.stack(totals)[:, : dims[0], : dims[1], : dims[2]], jnp.int8)
    for mode in symmetry.distinct_modes():
        vectors, selected = probes(dims[mode], prime, 60, symmetry, mode)
        assert len(selected) <= 60
        if name not in ("cyclic", "transpose"):
            assert len(selected) < len(vectors)
        ranks = np.asarray(rank_profiles(residual, prime, vectors, mode))
        few = np.asarray(rank_profiles(residual, prime, vectors, mode, selected))
        np.testing.assert_array_equal(few, ranks[:, selected])
        assert np.all(ranks[:, :, None] == few[:, None], axis=0).any(axis=1).all()


@groups
@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids="{0.name}".format)
def test_an_orbit_does_not_depend_on_the_signs_of_two_factors(ring, name):
    symmetry, played = GROUPS[name], random_moves(ring, name)
    negated = np.where(np.arange(3)[:, None] < 2, -played, played)  # as a change of basis may do
    negated = ring.reduce(negated).astype(np.int8)
    np.testing.assert_array_equal(
        orbit_sizes(symmetry, jnp.asarray(negated), ring),
        orbit_sizes(symmetry, jnp.asarray(played), ring),
    )
    for one, two in zip(played, negated, strict=True):
        total = sum_of_terms(symmetry.expand(one[None], ring), ring)
        np.testing.assert_array_equal(sum_of_terms(symmetry.expand(two[None], ring), ring), total)


def test_null_moves_have_no_terms():
    symmetry = GROUPS["cyclic, transpose and reverse"]
    assert symmetry.expand(np.zeros((2, 3, 9), np.int8), Ring()).shape == (0, 3, 9)


@groups
@rings
def test_all_moves_of_an_orbit_have_the_same_canonical_representative(ring, name):
    symmetry, factors = GROUPS[name], random_moves(ring, name)
    images, _ = orbit(symmetry, jnp.asarray(factors), ring)
    representatives = np.stack(
        [
            canonical_form(representative(symmetry, images[:, g], ring), ring)
            for g in range(symmetry.order)
        ]
    )
    for index, move in enumerate(factors):
        total = sum_of_terms(symmetry.expand(move[None], ring), ring)
        first = representatives[0, index]
        np.testing.assert_array_equal(sum_of_terms(symmetry.expand(first[None], ring), ring), total)
        if ring.modulus == 2:  # over other rings, signs may differ before the canonical form
            for other in representatives[1:, index]:
                np.testing.assert_array_equal(first, other)


@groups
def test_a_symmetrised_move_is_fixed_by_its_subgroup_or_unchanged(name):
    symmetry = GROUPS[name]
    numbers = np.random.default_rng(0)
    for k, row in enumerate(symmetry.stabilisers):
        moves = numbers.integers(0, 2, (8, 3, 9))
        result = np.asarray(symmetrise(symmetry, jnp.asarray(moves), jnp.full(8, k)))
        for before, after in zip(moves.reshape(8, 27), result.reshape(8, 27), strict=True):
            is_fixed = (after == after[row]).all()
            is_null = not before[row].reshape(3, 9).any(axis=-1).all()
            np.testing.assert_array_equal(after, before if is_null else before[row])
            assert is_fixed or is_null
