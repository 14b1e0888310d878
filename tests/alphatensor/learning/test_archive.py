"""The archive: games sampled by rank, compared as schemes, and started from, in their own bases."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from alphajax import replay
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Ring, canonical
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.learning import archive
from alphajax.alphatensor.learning.archive import ArchivedGame

PRODUCT = (matmul(2, 2, 2),)
GAMES = {
    "Z": TensorGame(targets=PRODUCT, history=1),
    "Z2": TensorGame(targets=PRODUCT, ring=Ring(2), history=1),
    "Z, cyclic": TensorGame(targets=PRODUCT, history=1, symmetries=("cyclic",)),
    "Z2, cyclic": TensorGame(targets=PRODUCT, ring=Ring(2), history=1, symmetries=("cyclic",)),
}
games = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
seeds = st.integers(0, 2**31 - 1)
ROWS = 8


def naive_moves(game):
    """The naive algorithm's moves, `[8, 3, 4]`: one for each orbit, null moves at the end."""
    moves = np.zeros((ROWS, 3, game.side), np.int8)
    places = np.argwhere(game.padded_targets[0]).tolist()
    if game.symmetries:
        places = sorted(
            {max(place[i:] + place[:i] for i in range(3)) for place in map(tuple, places)}
        )
    for row, place in enumerate(places):
        moves[row, range(3), place] = 1
    return moves


def plain_sum(moves, game):
    """The sum of all terms of moves, and their number, with orbits under cycles of the modes."""
    shifts = range(3) if game.symmetries else (0,)
    terms = []
    for move in np.asarray(moves, int):
        if not move.any():
            continue
        images = [
            game.ring.reduce(np.einsum("i,j,k->ijk", *np.roll(move, shift, axis=0)))
            for shift in shifts
        ]
        terms += {image.tobytes(): image for image in images}.values()
    return game.ring.reduce(sum(terms, np.zeros([game.side] * 3, int))), len(terms)


@functools.cache
def random_basis(ring):
    """A jitted function from keys to bases with one matrix for all modes, which cycles preserve."""
    dims = jnp.full(3, 4, jnp.int8)
    return jax.jit(lambda key: bases.random_basis(key, ring, 4, dims, 0.15, True))


def archived_game(game, basis, moves=None):
    """The naive algorithm (or other moves), in a basis."""
    moves = jnp.asarray(naive_moves(game) if moves is None else moves)
    changed = bases.change_factors(moves, basis.matrices, game.ring)
    return ArchivedGame(
        canonical(changed, game.ring).astype(jnp.int8),
        jnp.int32(8),
        jnp.full(3, 4, jnp.int8),
        jnp.int32(0),
        basis,
    )


def stack(*items):
    return jax.tree.map(lambda *x: jnp.stack(x), *items)


def filled_archive(*items, capacity=4):
    empty = replay.empty(items[0], capacity)
    return replay.write(empty, stack(*items), jnp.ones(len(items), bool))


@games
@settings(max_examples=5)
@given(seed=seeds)
def test_a_basis_change_keeps_the_tensor_of_an_archived_game(game, seed):
    """In its basis a game decomposes the changed target; changed back, the target."""
    basis = random_basis(game.ring)(jax.random.key(seed))
    archived = archived_game(game, basis)
    total, terms = plain_sum(archived.factors, game)
    target = jnp.asarray(game.padded_targets[0])
    np.testing.assert_array_equal(total, bases.change_tensor(target, basis.matrices, game.ring))
    back = bases.change_factors(archived.factors, basis.inverses, game.ring)
    total, same = plain_sum(back, game)
    np.testing.assert_array_equal(total, game.padded_targets[0])
    assert terms == same == archived.rank


@functools.cache
def start(game):
    return jax.jit(lambda key, games, limits: archive.start_from_archive(key, games, game, limits))


@games
@settings(max_examples=5)
@given(seed=seeds, limit=st.integers(1, 8))
def test_a_started_game_and_its_prefix_add_up_to_the_target(game, seed, limit):
    count = 16
    basis = random_basis(game.ring)(jax.random.key(seed))
    one = archived_game(game, basis)
    sampled = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one)
    states, starts = start(game)(jax.random.key(seed), sampled, jnp.array([limit]))
    target = np.asarray(
        bases.change_tensor(jnp.asarray(game.padded_targets[0]), basis.matrices, game.ring)
    )
    known = [move.tobytes() for move in np.asarray(one.factors) if move.any()]
    for b in range(count):
        prefix = np.asarray(starts.prefix[b])
        played, terms = plain_sum(prefix, game)
        np.testing.assert_array_equal(
            game.ring.reduce(played + np.asarray(states.residual[b], int)), target
        )
        assert states.moves[b] == starts.moves[b] == terms
        assert states.limit[b] == min(limit, 7)
        moves = [move.tobytes() for move in prefix if move.any()]
        assert len(set(moves)) == len(moves) <= max(len(known) - 2, 0)
        assert set(moves) <= set(known)
        np.testing.assert_array_equal(starts.basis.matrices[b], basis.matrices)
    # Any number of moves may be played, but none after the limit.
    if limit >= 7:
        assert len(set(np.asarray(starts.moves).tolist())) > 1
    else:
        assert starts.moves.max() <= limit + game.symmetry_group.order - 1


@functools.cache
def is_new(game):
    return jax.jit(lambda games, archived: archive.is_new(games, archived, game))


@games
@settings(max_examples=5)
@given(seed=seeds)
def test_a_scheme_is_known_in_any_order_and_basis(game, seed):
    generator = np.random.default_rng(seed)
    moves = naive_moves(game)
    shuffled = moves[generator.permutation(ROWS)]
    if game.symmetries:  # Any image of a move stands for its orbit.
        shuffled = np.stack([np.roll(move, generator.integers(3), axis=0) for move in shuffled])
    other = shuffled.copy()
    row = generator.choice(np.flatnonzero(other.any(axis=(1, 2))))
    other[row, 0] = 1 + np.arange(4) % 2 * (game.ring.modulus != 2)
    other[row, 0, 0] = 1 - other[row, 0, 0]
    first, second = jax.random.split(jax.random.key(seed))
    stored = archived_game(game, random_basis(game.ring)(first), moves)
    basis = random_basis(game.ring)(second)
    candidates = stack(*(archived_game(game, basis, x) for x in (shuffled, other)))
    assert is_new(game)(candidates, filled_archive(stored)).tolist() == [False, True]
    empty = replay.empty(stored, 4)
    assert is_new(game)(candidates, empty).tolist() == [True, True]


def test_games_are_sampled_by_their_distance_from_the_best_rank():
    game = GAMES["Z2"]
    one = archived_game(game, bases.identity(4))
    ranks, targets = [7, 8, 9, 8], [0, 0, 0, 1]
    stored = [
        one._replace(rank=jnp.int32(rank), target=jnp.int32(target))
        for rank, target in zip(ranks, targets, strict=True)
    ]
    pool = filled_archive(*stored, capacity=6)
    best = jnp.array([7, 8])
    sampled = archive.sample_games(jax.random.key(0), pool, best, 20_000)
    expected = np.exp([-0 / 0.25, -1 / 0.25, -2 / 0.25, -0 / 0.25])
    expected /= expected.sum()
    for (rank, target), share in zip(zip(ranks, targets, strict=True), expected, strict=True):
        hits = (np.asarray(sampled.rank) == rank) & (np.asarray(sampled.target) == target)
        assert abs(hits.mean() - share) < 0.01
    assert set(np.asarray(sampled.rank).tolist()) <= {7, 8, 9}, "an empty slot"


@functools.cache
def complete(game):
    return jax.jit(lambda *args: archive.complete_with_one_term(*args, game))


@settings(max_examples=10)
@given(seed=seeds)
@pytest.mark.parametrize("name", ["Z", "Z2"])
def test_a_game_one_term_short_is_completed(name, seed):
    """Cases: one term short, two short, finished, one short before the limit, no room for it."""
    game, generator = GAMES[name], np.random.default_rng(seed)
    order = generator.permutation(ROWS)
    moves = naive_moves(game)[order]
    lengths, limits = [7, 6, 8, 6, 8], [7, 6, 8, 7, 8]
    factors = np.stack([np.where(np.arange(ROWS)[:, None, None] < n, moves, 0) for n in lengths])
    residual = np.stack([plain_sum(moves[n:], game)[0] for n in lengths])
    residual[3] = plain_sum(moves[7:], game)[0]
    residual[4] = plain_sum(moves[:1], game)[0]
    rank = jnp.array([9, 9, 8, 9, 9])
    states = jax.vmap(game.start)(jnp.zeros(5, int), jnp.array(limits))
    states = states._replace(
        residual=jnp.asarray(residual, game.dtype), moves=jnp.array(lengths, jnp.int16)
    )
    after, ranks, finished = complete(game)(jnp.asarray(factors, jnp.int8), rank, states)
    assert finished.tolist() == [True, False, True, False, False]
    assert ranks.tolist() == [8, 9, 8, 9, 9]
    total, terms = plain_sum(after[0], game)
    np.testing.assert_array_equal(total, game.padded_targets[0])
    assert terms == 8
    np.testing.assert_array_equal(after[1:], factors[1:])


@settings(max_examples=20)
@given(seed=seeds, played=st.integers(0, 4), added=st.integers(0, 4))
def test_moves_are_appended_to_the_prefix_without_gaps(seed, played, added):
    generator = np.random.default_rng(seed)
    moves = generator.integers(1, 3, (1, 8, 3, 4)).astype(np.int8)
    prefix, later = np.zeros((2, 1, 8, 3, 4), np.int8)
    prefix[0, :played] = moves[0, :played]
    later[0, :added] = moves[0, played : played + added]
    joined = np.asarray(archive.join(jnp.asarray(prefix), jnp.asarray(later)))
    np.testing.assert_array_equal(joined[0, : played + added], moves[0, : played + added])
    assert not joined[0, played + added :].any()
