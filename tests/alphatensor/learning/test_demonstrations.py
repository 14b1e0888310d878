"""Demonstrations: the terms that remain sum to the residual, and the labels are among them."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from alphajax.alphatensor.game.moves import Ring, canonical
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.learning import demonstrations as demos

RINGS = [Ring(0, 1), Ring(0, 2), Ring(2), Ring(3)]
ring_id = "{0.name} {0.bound}".format
LABELS = 3
seeds = st.integers(0, 2**31 - 1)


def plain_tensor(factors, ring):
    u, v, w = np.moveaxis(np.asarray(factors, np.int64), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def plain_orbit(move, game):
    """The distinct terms of a move's orbit under cycles of the modes, as tensors."""
    shifts = range(3) if game.symmetries else (0,)
    images = [plain_tensor(np.roll(move, shift, axis=0)[None], game.ring) for shift in shifts]
    return list({image.tobytes(): image for image in images}.values())


def plain_sum(moves, game):
    """The sum of all orbits' terms, and how many terms these are."""
    terms = [term for move in np.asarray(moves) for term in plain_orbit(move, game)]
    return game.ring.reduce(sum(terms, np.zeros([game.side] * 3, np.int64))), len(terms)


random_factors = jax.jit(demos.random_factors, static_argnums=(1, 2, 4, 5))
make_position = jax.jit(demos.make_position, static_argnames=("game", "labels"))
sample_synthetic = jax.jit(demos.sample_synthetic, static_argnums=(3, 4, 5, 6))


def make(ring, history=2):
    return TensorGame(targets=(matmul(1, 2, 2), matmul(2, 1, 2)), ring=ring, history=history)


GAMES = {
    "Z": make(Ring()),
    "Z up to 2": make(Ring(0, 2)),
    "Z2": make(Ring(2)),
    "Z3": make(Ring(3)),
    "Z, cyclic": TensorGame(targets=(matmul(2, 2, 2),), history=8, symmetries=("cyclic",)),
    "Z2, cyclic": TensorGame(
        targets=(matmul(2, 2, 2),), ring=Ring(2), history=8, symmetries=("cyclic",)
    ),
}
games = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


@games
@settings(max_examples=6)
@given(seed=seeds)
def test_synthetic_terms_that_remain_sum_to_the_residual(game, seed):
    """All of them are labelled here, with equal weights."""
    count = 16
    limits = jnp.asarray(np.random.default_rng(seed).integers(1, game.max_moves + 1, count))
    dims = np.array([target.shape for target in game.targets] * count, np.int8)[:count]
    positions = sample_synthetic(
        jax.random.key(seed),
        limits,
        jnp.asarray(dims),
        game,
        demos.Distribution(),
        game.max_moves,
        True,
    )
    for b in range(count):
        weights = np.asarray(positions.weights[b])
        labels = np.asarray(positions.actions[b])[weights > 0]
        total, terms = plain_sum(labels, game)
        np.testing.assert_array_equal(total, positions.observation.residual[b])
        assert positions.value[b] == -terms
        np.testing.assert_allclose(weights[weights > 0], 1 / len(labels), rtol=1e-6)
        assert 1 <= positions.observation.remaining[b] <= limits[b]


@functools.cache
def archived_positions(game, order_free):
    """A jitted function: positions of one game, for many keys."""
    sample = functools.partial(
        demos.sample_archived, game=game, labels=8 if order_free else 1, order_free=order_free
    )
    return jax.jit(jax.vmap(sample, in_axes=(0, None, None, None, None)))


@pytest.mark.parametrize("order_free", [False, True], ids=["own order", "any order"])
@pytest.mark.parametrize("name", ["Z", "Z2", "Z, cyclic", "Z2, cyclic"])
@settings(max_examples=6)
@given(seed=seeds, count=st.integers(1, 8))
def test_archived_moves_that_remain_sum_to_the_residual(name, order_free, seed, count):
    """The moves played and those that remain are the game, each once."""
    game = TensorGame(
        targets=(matmul(2, 2, 2),),
        ring=GAMES[name].ring,
        history=8,
        symmetries=GAMES[name].symmetries,
    )
    generator = np.random.default_rng(seed)
    # Distinct moves in a random order.
    moves = generator.integers(game.ring.lowest, game.ring.lowest + game.ring.base, (64, 3, 4))
    moves = moves[moves.any(axis=-1).all(axis=-1)].astype(np.int8)
    moves = np.asarray(canonical(jnp.asarray(moves), game.ring))
    moves = np.unique(moves, axis=0)
    moves = moves[generator.permutation(len(moves))[:count]]
    whole, rank = plain_sum(moves, game)
    factors = np.zeros((8, 3, 4), np.int8)
    factors[: len(moves)] = moves
    limit = rank + int(generator.integers(3))
    sample = archived_positions(game, order_free)
    positions = sample(
        jax.random.split(jax.random.key(seed), 8),
        jnp.asarray(factors),
        jnp.int32(rank),
        jnp.int32(limit),
        jnp.full(3, 4, jnp.int8),
    )
    known = {move.tobytes() for move in moves}
    for b in range(8):
        residual = np.asarray(positions.observation.residual[b], int)
        past = np.asarray(positions.observation.past[b])
        past = past[past.any(axis=(1, 2))]
        played, cost = plain_sum(past, game)
        np.testing.assert_array_equal(game.ring.reduce(residual + played), whole)
        assert positions.value[b] == cost - rank < 0
        assert positions.observation.remaining[b] == limit - cost
        labels = np.asarray(positions.actions[b])[np.asarray(positions.weights[b]) > 0]
        remaining = known - {move.tobytes() for move in past}
        assert len(remaining) == len(known) - len(past)
        if order_free:
            assert {move.tobytes() for move in labels} == remaining
        else:
            assert len(labels) == 1 and labels[0].tobytes() in remaining


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_random_factors_are_canonical_moves_inside_their_dims(ring):
    dims = jnp.array([[4, 3, 1], [2, 4, 4]], jnp.int8)
    distribution = demos.Distribution(min_density=0.1, max_density=0.2)
    factors = random_factors(jax.random.key(0), (2, 2000), 4, dims, ring, distribution)
    factors = np.asarray(factors)
    assert factors.shape == (2, 2000, 3, 4) and factors.dtype == np.int8
    assert factors.any(axis=-1).all(), "a factor is zero"
    for game in range(2):
        for mode in range(3):
            assert not factors[game, :, mode, dims[game, mode] :].any()
    np.testing.assert_array_equal(canonical(jnp.asarray(factors), ring), factors)
    every = set(range(ring.modulus)) if ring.modulus else set(range(-ring.bound, ring.bound + 1))
    assert set(np.unique(factors)) == every


def test_densities_are_uniform_between_the_bounds():
    dims = jnp.full((64, 3), 16)
    distribution = demos.Distribution(min_density=0.2, max_density=0.6)
    factors = random_factors(jax.random.key(0), (64, 8), 16, dims, Ring(2), distribution)
    densities = np.asarray(factors).mean(axis=(1, 2, 3))  # one for each demonstration
    assert abs(densities.mean() - 0.4) < 0.05
    assert densities.min() > 0.12 and densities.max() < 0.68 and densities.std() > 0.08


@functools.cache
def batch(ring, order_free):
    """Sixteen synthetic positions, with limits 4 and 3, of two sizes."""
    game = make(ring)
    limits = jnp.array([4, 3] * 8)
    dims = jnp.asarray(np.array([t.shape for t in game.targets] * 8, np.int8))
    key = jax.random.key(0)
    positions = sample_synthetic(key, limits, dims, game, demos.Distribution(), LABELS, order_free)
    return limits, dims, positions


@pytest.mark.parametrize("order_free", [False, True], ids=["own order", "any order"])
@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_terms_that_remain_and_moves_allowed_vary_independently(ring, order_free):
    limits, dims, positions = batch(ring, order_free)
    unplayed = -np.asarray(positions.value)
    # Some need one term more than any move limit allows: the value must learn dead ends.
    assert ((unplayed >= 1) & (unplayed <= limits + 1)).all()
    np.testing.assert_allclose(np.asarray(positions.weights).sum(axis=1), 1, rtol=1e-6)
    played = limits - positions.observation.remaining
    assert ((played >= 0) & (played < limits)).all()
    assert (unplayed > positions.observation.remaining).any()
    assert len(set(unplayed)) > 1 and len(set(played.tolist())) > 1
    np.testing.assert_array_equal(positions.observation.dims, dims)
    for b in range(16):
        labels = np.asarray(positions.actions[b])[np.asarray(positions.weights[b]) > 0]
        assert len(labels) == (min(unplayed[b], LABELS) if order_free else 1)
        past = np.asarray(positions.observation.past[b]).any(axis=(1, 2))
        np.testing.assert_array_equal(past, np.arange(2) < played[b])


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
@pytest.mark.parametrize("unplayed, played", [(3, 1), (1, 0), (2, 3), (4, 2)])
def test_a_position_shows_the_newest_moves_and_the_moves_left(ring, unplayed, played):
    game, dims = make(ring), jnp.array([2, 4, 2], jnp.int8)
    key, distribution = jax.random.key(3), demos.Distribution()
    factors = random_factors(key, (1, 6), game.side, dims[None], ring, distribution)[0]
    limit = unplayed + played + 1
    position = make_position(
        jnp.linspace(0, 0.9, 6),
        factors,
        jnp.int32(unplayed),
        jnp.int32(played),
        jnp.int32(limit),
        dims,
        game=game,
        labels=LABELS,
    )
    assert position.value == -unplayed
    assert position.observation.remaining == limit - played
    np.testing.assert_array_equal(
        plain_tensor(factors[:unplayed], ring), position.observation.residual
    )
    newest = [np.asarray(factors[unplayed + i]) for i in range(min(played, 2))]
    for past, term in zip(position.observation.past, newest, strict=False):
        np.testing.assert_array_equal(past, term)


def test_every_remaining_term_is_labelled_equally_often():
    game = make(Ring(2))
    one_hot = jnp.eye(4, dtype=jnp.int8)
    factors = jnp.stack([one_hot, one_hot, one_hot], axis=1)  # four different terms
    build = functools.partial(
        demos.make_position,
        factors=factors,
        unplayed=jnp.int32(3),
        played=jnp.int32(1),
        limit=jnp.int32(4),
        dims=jnp.array([4, 4, 4], jnp.int8),
        game=game,
        labels=1,
    )
    scores = jax.random.uniform(jax.random.key(0), (600, 4))
    chosen = np.asarray(jax.jit(jax.vmap(build))(scores).actions)[:, 0, 0].argmax(axis=-1)
    counts = np.bincount(chosen, minlength=4)
    assert counts[3] == 0, "a term that has been played"
    assert np.abs(counts[:3] - 200).max() < 60


@pytest.mark.parametrize("order_free", [False, True], ids=["own order", "any order"])
def test_every_position_of_a_finished_game_occurs(order_free):
    game = make(Ring(2), history=4)
    one_hot = np.eye(4, dtype=np.int8)
    factors = jnp.asarray(np.stack([one_hot] * 3, axis=1)).at[3].set(0)  # three moves
    build = functools.partial(
        demos.sample_archived,
        factors=factors,
        rank=jnp.int32(3),
        limit=jnp.int32(3),
        dims=jnp.array([4, 4, 4], jnp.int8),
        game=game,
        labels=1,
        order_free=order_free,
    )
    positions = jax.jit(jax.vmap(build))(jax.random.split(jax.random.key(0), 300))
    unplayed = (-np.asarray(positions.value)).astype(int).tolist()
    labels = np.asarray(positions.actions[:, 0, 0]).argmax(axis=-1).tolist()
    assert set(unplayed) == {1, 2, 3}
    pairs = set(zip(unplayed, labels, strict=True))
    if order_free:
        assert pairs == {(count, move) for count in (1, 2, 3) for move in (0, 1, 2)}
    else:  # The first move is next, or the last one swapped with it.
        assert {move for count, move in pairs if count == 3} == {0, 2}


def test_swap_with_last_swaps_one_move_with_the_last():
    factors = jnp.arange(5)[:, None, None] * jnp.ones((1, 3, 2), jnp.int32)
    swap = jax.jit(jax.vmap(lambda key: demos.swap_with_last(key, factors, jnp.int32(4))))
    orders = {tuple(x[:, 0, 0].tolist()) for x in swap(jax.random.split(jax.random.key(0), 64))}
    assert orders == {(3, 1, 2, 0, 4), (0, 3, 2, 1, 4), (0, 1, 3, 2, 4), (0, 1, 2, 3, 4)}


def test_all_shapes_draws_lengths_and_few_terms():
    game = TensorGame(targets=(matmul(2, 2, 2),), ring=Ring(2), history=0)
    dims = jnp.full((256, 3), 4, jnp.int8)
    distribution = demos.Distribution(all_shapes=True, max_terms=5)
    positions = sample_synthetic(
        jax.random.key(0), jnp.full(256, 8), dims, game, distribution, 5, True
    )
    lengths = np.asarray(positions.observation.dims, int)
    assert set(np.unique(lengths)) == {1, 2, 3, 4}
    outside = np.arange(4) >= lengths[:, :, None]
    assert not (np.asarray(positions.actions) * outside[:, None]).any()
    terms = -np.asarray(positions.value)
    # A general tensor of shape (i, j, k) has i j k entries; a term has i + j + k - 2 parameters.
    bound = np.ceil(lengths.prod(axis=1) / np.maximum(lengths.sum(axis=1) - 2, 1))
    assert (terms <= np.minimum(bound, 5)).all() and terms.max() > 2
    assert positions.observation.remaining.max() <= 5, "more moves than can remain"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(min_density=0.0), "0 < min_density"),
        (dict(min_density=0.6, max_density=0.5), "min_density <= max_density"),
        (dict(max_density=1.5), "<= 1"),
        (dict(max_terms=-1), "max_terms: received -1"),
        (dict(small_orbit_share=2.0), "small_orbit_share: received 2.0; expected 0..1"),
    ],
)
def test_invalid_distributions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        demos.Distribution(**arguments)
