"""One spelling for every move, none for a null move."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game.moves import (
    Alphabet,
    Ring,
    canonical,
    distinct,
    one_term,
    parse_ring,
)

RINGS = [Ring(0, 1), Ring(0, 2), Ring(2), Ring(3), Ring(17)]
ring_id = "{0.name} {0.bound}".format


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


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_canonical_keeps_the_term_and_is_idempotent(ring):
    moves = random_moves(ring)
    found = np.asarray(canonical(jnp.asarray(moves), ring))
    assert found.dtype == np.int8
    np.testing.assert_array_equal(terms(found, ring), terms(moves, ring))
    np.testing.assert_array_equal(canonical(jnp.asarray(found), ring), found)
    for factor in found[:, :2].reshape(-1, found.shape[-1]):
        lead = factor[np.flatnonzero(factor)[:1]]
        assert lead.size == 0 or (lead == 1 if ring.modulus else lead > 0)
    assert set(np.unique(found)) <= set(entries(ring))


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_a_tensor_that_is_one_term_is_found(ring):
    """And only such a one: of sums of two, those that are again one term, by the ranks of their unfoldings."""
    moves = random_moves(ring)
    moves = moves[moves.any(-1).all(-1)]
    find = jax.jit(jax.vmap(lambda x: one_term(x, ring)))
    tensors = np.asarray(terms(moves, ring)).reshape(-1, 4, 4, 4)
    found, there = find(jnp.asarray(tensors))
    known = np.ones(len(moves), bool) if ring.modulus else (np.abs(tensors) == 1).any((1, 2, 3))
    np.testing.assert_array_equal(there, known)
    np.testing.assert_array_equal(
        np.asarray(found)[known], np.asarray(canonical(jnp.asarray(moves), ring))[known]
    )
    assert not np.asarray(found)[~known].any()
    sums = ring.reduce(tensors + np.roll(tensors, 1, axis=0))
    found, there = find(jnp.asarray(sums))
    there = np.asarray(there)
    np.testing.assert_array_equal(terms(found, ring).reshape(sums.shape)[there], sums[there])
    assert (~there).sum() > len(moves) // 2 and not np.asarray(find(sums[:1] * 0)[1]).any()
    if not ring.modulus:
        for tensor in sums[~there & (np.abs(sums).max((1, 2, 3)) == 1)]:
            ranks = [
                np.linalg.matrix_rank(np.moveaxis(tensor, m, 0).reshape(len(tensor), -1))
                for m in range(3)
            ]
            assert max(ranks) > 1


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_tokens_spell_moves(ring, width):
    if ring.base**width > 2**15:
        pytest.skip("no such alphabet")
    alphabet = Alphabet(ring, 4, width)
    moves = random_moves(ring, 20)
    tokens = alphabet.encode(jnp.asarray(moves))
    assert tokens.shape == (20, alphabet.count)
    assert tokens.min() >= 0 and tokens.max() < alphabet.size
    np.testing.assert_array_equal(alphabet.decode(tokens), moves)
    # The table is the same spelling, token by token.
    np.testing.assert_array_equal(alphabet.table[tokens].reshape(moves.shape), moves)


def spelled(alphabet, mode, dims):
    """Every factor of a mode that the masks let through, token by token."""
    first = mode * alphabet.per_factor
    masks = {
        (position, empty): np.asarray(
            alphabet.legal(first + position, jnp.bool_(empty), jnp.array(dims, jnp.int8))
        )
        for position in range(alphabet.per_factor)
        for empty in (False, True)
    }
    for tokens in itertools.product(range(alphabet.size), repeat=alphabet.per_factor):
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
def test_masks_let_through_exactly_the_canonical_factors(ring, side, width, short):
    length = side - short
    if length < 1:
        pytest.skip("nothing left")
    dims = (length, length, length)
    counts = []
    for mode in range(3):
        expected = set()
        for values in itertools.product(entries(ring), repeat=length):
            lead = next((x for x in values if x), 0)
            good = lead if mode == 2 else lead == 1 if ring.modulus else lead > 0
            if good:
                expected.add((*values, *[0] * short))
        found = list(spelled(Alphabet(ring, side, width), mode, dims))
        assert len(found) == len(set(found))
        assert set(found) == expected
        counts.append(len(found))
    assert np.prod(counts) == distinct(Alphabet(ring, side, width), dims)


@pytest.mark.parametrize("ring", [Ring(0, 1), Ring(2), Ring(3)], ids=ring_id)
def test_distinct_moves_are_distinct_terms(ring):
    """Where every entry is a unit, one spelling for each term (over -2..2, 2u v = u 2v)."""
    dims = (2, 1, 2)
    spellings = itertools.product(entries(ring), repeat=sum(dims))
    moves = np.array([[*s[:2], s[2], 0, *s[3:]] for s in spellings]).reshape(-1, 3, 2)
    rows = terms(moves, ring)
    different = {tuple(row) for row in rows[rows.any(axis=1)]}
    assert len(different) == distinct(Alphabet(ring, 2, 1), dims)


def test_masks_of_a_batch_are_those_of_its_games():
    alphabet = Alphabet(Ring(0, 1), 4, 2)
    empty = jnp.array([[True, False, True], [False, True, True]])
    dims = jnp.array([[3, 2, 4], [1, 4, 2]], jnp.int8)
    for position in (0, 1, 5):
        batch = np.asarray(alphabet.legal(position, empty, dims[:, None]))
        for b, k in np.ndindex(2, 3):
            alone = np.asarray(alphabet.legal(position, empty[b, k], dims[b]))
            np.testing.assert_array_equal(batch[b, k], alone)


@pytest.mark.parametrize(
    "build, says",
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
def test_nonsense_is_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_rings_by_name():
    assert [parse_ring(name) for name in ("Z", "Z2", "Z17")] == [Ring(), Ring(2), Ring(17)]
    assert parse_ring("Z", 2).name == "Z" and parse_ring("Z", 2).base == 5
