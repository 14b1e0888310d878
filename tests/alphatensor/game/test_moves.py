"""Moves have one canonical form and one encoding; null moves have none."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alphajax.alphatensor.game.moves import (
    Alphabet,
    Move,
    Ring,
    canonical,
    check_move,
    null_moves_last,
    num_distinct_moves,
    one_term,
    parse_ring,
)

RINGS = [Ring(0, 1), Ring(0, 2), Ring(2), Ring(3), Ring(17)]
ring_id = "{0.name} {0.bound}".format
rings = pytest.mark.parametrize("ring", RINGS, ids=ring_id)


def entries(ring):
    return range(ring.modulus) if ring.modulus else range(-ring.bound, ring.bound + 1)


def terms(factors, ring):
    """Rank-one tensors as flat rows, reduced into the ring; plain NumPy."""
    u, v, w = np.moveaxis(np.asarray(factors, np.int64), -2, 0)
    tensor = np.einsum("...i,...j,...k->...ijk", u, v, w)
    tensor = tensor.reshape(*tensor.shape[:-3], -1)
    return tensor % ring.modulus if ring.modulus else tensor


def random_moves(ring, count=200, side=4):
    generator = np.random.default_rng(0)
    values = np.array(list(entries(ring)))
    x = generator.choice(values, (count, 3, side)) * generator.integers(0, 2, (count, 3, side))
    return x.astype(np.int8)


def factors_of(ring, side=3):
    """Moves `[3, side]` with entries of the ring, null ones as well."""
    values = (
        st.integers(0, ring.modulus - 1) if ring.modulus else st.integers(-ring.bound, ring.bound)
    )
    return hnp.arrays(np.int8, (3, side), elements=values)


canonical_form = jax.jit(canonical, static_argnums=1)
find_term = jax.jit(one_term, static_argnums=1)


@rings
@given(data=st.data())
def test_canonical_is_idempotent_and_keeps_the_outer_product(ring, data):
    move = data.draw(factors_of(ring))
    form = np.asarray(canonical_form(move, ring))
    assert form.dtype == np.int8
    np.testing.assert_array_equal(terms(form, ring), terms(move, ring))
    np.testing.assert_array_equal(canonical_form(form, ring), form)
    for factor in form[:2]:
        lead = factor[np.flatnonzero(factor)[:1]]
        assert lead.size == 0 or (lead == 1 if ring.modulus else lead > 0)
    assert set(np.unique(form)) <= set(entries(ring))


@rings
@given(data=st.data())
def test_one_term_recovers_a_rank_one_tensor(ring, data):
    move = data.draw(factors_of(ring))
    tensor = terms(move, ring).reshape(3, 3, 3)
    recovered, is_term = find_term(jnp.asarray(tensor, jnp.int32), ring)
    has_unit = (tensor != 0 if ring.modulus else np.abs(tensor) == 1).any()
    assert is_term == has_unit
    expected = canonical_form(move, ring) if has_unit else np.zeros((3, 3))
    np.testing.assert_array_equal(recovered, expected)


@rings
def test_one_term_refuses_sums_of_two_terms(ring):
    """Unless the sum has rank one again, which the ranks of its unfoldings show."""
    moves = random_moves(ring)
    moves = moves[moves.any(-1).all(-1)]
    tensors = terms(moves, ring).reshape(-1, 4, 4, 4)
    sums = ring.reduce(tensors + np.roll(tensors, 1, axis=0))
    find = jax.jit(jax.vmap(lambda x: one_term(x, ring)))
    recovered, is_term = (np.asarray(x) for x in find(jnp.asarray(sums)))
    np.testing.assert_array_equal(
        terms(recovered, ring).reshape(sums.shape)[is_term], sums[is_term]
    )
    assert not recovered[~is_term].any()
    assert (~is_term).sum() > len(moves) // 2
    assert not find(jnp.asarray(sums[:1] * 0))[1].any()
    if not ring.modulus:
        for tensor in sums[~is_term & (np.abs(sums).max((1, 2, 3)) == 1)]:
            ranks = [
                np.linalg.matrix_rank(np.moveaxis(tensor, m, 0).reshape(len(tensor), -1))
                for m in range(3)
            ]
            assert max(ranks) > 1


@rings
@pytest.mark.parametrize("width", [1, 2, 4])
def test_tokens_encode_moves(ring, width):
    if ring.base**width > 2**15:
        pytest.skip("an alphabet has at most 32768 tokens")
    alphabet = Alphabet(ring, 4, width)
    moves = random_moves(ring, 20)
    tokens = alphabet.encode(jnp.asarray(moves))
    assert tokens.shape == (20, alphabet.count)
    assert tokens.min() >= 0 and tokens.max() < alphabet.size
    np.testing.assert_array_equal(alphabet.decode(tokens), moves)
    # The table holds the same encoding, token by token.
    np.testing.assert_array_equal(alphabet.table[tokens].reshape(moves.shape), moves)


def legal_factors(alphabet, mode, dims):
    """Every factor of a mode whose tokens are all legal."""
    first = mode * alphabet.tokens_per_factor
    masks = {
        (position, empty): np.asarray(
            alphabet.legal(first + position, jnp.bool_(empty), jnp.array(dims, jnp.int8))
        )
        for position in range(alphabet.tokens_per_factor)
        for empty in (False, True)
    }
    for tokens in itertools.product(range(alphabet.size), repeat=alphabet.tokens_per_factor):
        empty = True
        for position, token in enumerate(tokens):
            if not masks[position, empty][token]:
                break
            empty = empty and token == alphabet.zero
        else:
            yield tuple(np.concatenate([alphabet.table[token] for token in tokens]).tolist())


@pytest.mark.parametrize("ring", RINGS[:4], ids=ring_id)
@pytest.mark.parametrize("side, width", [(2, 1), (2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("short", [0, 1, 2], ids="{} short".format)
def test_exactly_the_canonical_factors_are_legal(ring, side, width, short):
    length = side - short
    if length < 1:
        pytest.skip("a mode has at least one entry")
    dims = (length, length, length)
    counts = []
    for mode in range(3):
        expected = set()
        for values in itertools.product(entries(ring), repeat=length):
            lead = next((x for x in values if x), 0)
            good = lead if mode == 2 else lead == 1 if ring.modulus else lead > 0
            if good:
                expected.add((*values, *[0] * short))
        factors = list(legal_factors(Alphabet(ring, side, width), mode, dims))
        assert len(factors) == len(set(factors))
        assert set(factors) == expected
        counts.append(len(factors))
    assert np.prod(counts) == num_distinct_moves(Alphabet(ring, side, width), dims)


@pytest.mark.parametrize("ring", [Ring(0, 1), Ring(2), Ring(3)], ids=ring_id)
def test_distinct_moves_are_distinct_terms(ring):
    """If every non-zero entry is a unit; over -2..2, (2 u) (x) v = u (x) (2 v)."""
    dims = (2, 1, 2)
    every = itertools.product(entries(ring), repeat=sum(dims))
    moves = np.array([[*x[:2], x[2], 0, *x[3:]] for x in every]).reshape(-1, 3, 2)
    rows = terms(moves, ring)
    different = {tuple(row) for row in rows[rows.any(axis=1)]}
    assert len(different) == num_distinct_moves(Alphabet(ring, 2, 1), dims)


def test_masks_of_a_batch_are_those_of_its_games():
    alphabet = Alphabet(Ring(0, 1), 4, 2)
    empty = jnp.array([[True, False, True], [False, True, True]])
    dims = jnp.array([[3, 2, 4], [1, 4, 2]], jnp.int8)
    for position in (0, 1, 5):
        batch = np.asarray(alphabet.legal(position, empty, dims[:, None]))
        for b, k in np.ndindex(2, 3):
            alone = np.asarray(alphabet.legal(position, empty[b, k], dims[b]))
            np.testing.assert_array_equal(batch[b, k], alone)


def test_null_moves_go_last_and_the_others_keep_their_order():
    moves = np.zeros((5, 3, 2), np.int8)
    moves[[1, 2, 4], 0, 0] = [7, 8, 9]
    ordered = null_moves_last(jnp.asarray(moves))
    np.testing.assert_array_equal(ordered[:, 0, 0], [7, 8, 9, 0, 0])


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: Ring(4), "prime"),
        (lambda: Ring(131), "up to 127"),
        (lambda: Ring(-2), "prime"),
        (lambda: Ring(0, 3), "expected 1 or 2"),
        (lambda: Alphabet(Ring(2), 4, 3), "divisor"),
        (lambda: Alphabet(Ring(2), 4, 0), "divisor"),
        (lambda: Alphabet(Ring(17), 8, 4), "32768"),
        (lambda: parse_ring("Q"), "expected Z"),
        (lambda: parse_ring("Z1"), "expected Z"),
        (lambda: parse_ring("Z9"), "prime"),
    ],
)
def test_wrong_values_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("modulus", ["Z2", 2.0, True, None])
def test_a_modulus_that_is_no_int_is_refused(unchecked_types, modulus):
    with pytest.raises(ValueError, match=r"modulus: received .*; expected an int"):
        Ring(modulus)


@pytest.mark.parametrize(
    "move, error, message",
    [
        (Move(np.ones((3, 2))), TypeError, "dtype float.*expected integers"),
        (Move(np.ones((3, 2), bool)), TypeError, "dtype bool.*expected integers"),
        (np.ones((3, 2), np.int8), TypeError, "received ndarray; expected moves.Move"),
        (Move(np.ones((3, 4), np.int8)), ValueError, r"shape \(3, 4\); expected \(3, 2\)"),
        (Move(np.ones((5, 3, 2), np.int8)), ValueError, "jax.vmap for a batch"),
    ],
)
def test_what_is_not_a_move_is_refused(unchecked_types, move, error, message):
    with pytest.raises(error, match=message):
        check_move(move, 2)


def test_rings_by_name():
    assert [parse_ring(name) for name in ("Z", "Z2", "Z17")] == [Ring(), Ring(2), Ring(17)]
    assert parse_ring("Z", 2).name == "Z" and parse_ring("Z", 2).base == 5
