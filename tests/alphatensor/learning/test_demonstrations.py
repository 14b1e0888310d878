"""Demonstrations end at zero, in as many moves as they say, by the moves that they teach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game.moves import Ring, canonical
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.learning import demonstrations as demos

RINGS = [Ring(0, 1), Ring(0, 2), Ring(2), Ring(3)]
ring_id = "{0.name} {0.bound}".format
LABELS = 3


def plain_tensor(factors, ring):
    u, v, w = np.moveaxis(np.asarray(factors, np.int64), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


random_factors = jax.jit(demos.random_factors, static_argnums=(1, 2, 4, 5))
position = jax.jit(demos.position, static_argnames=("game", "labels"))


def make(ring, history=2):
    return TensorGame(targets=(matmul(1, 2, 2), matmul(2, 1, 2)), ring=ring, history=history)


@functools.cache
def batch(ring, order_free):
    """Sixteen synthetic positions, limits 4 and 3, of two sizes."""
    game = make(ring)
    limits = jnp.array([4, 3] * 8)
    dims = jnp.asarray(np.array([t.shape for t in game.targets] * 8, np.int8))
    synthetic = jax.jit(demos.synthetic, static_argnums=(3, 4, 5, 6))
    return (
        game,
        limits,
        dims,
        synthetic(jax.random.key(0), limits, dims, game, demos.Distribution(), LABELS, order_free),
    )


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_random_factors_are_canonical_moves_inside_their_dims(ring):
    dims = jnp.array([[4, 3, 1], [2, 4, 4]], jnp.int8)
    distribution = demos.Distribution(min_density=0.1, max_density=0.2)
    draw = jax.jit(lambda key: demos.random_factors(key, (2, 2000), 4, dims, ring, distribution))
    found = np.asarray(draw(jax.random.key(0)))
    assert found.shape == (2, 2000, 3, 4) and found.dtype == np.int8
    assert found.any(axis=-1).all(), "a factor is zero"
    for game in range(2):
        for mode in range(3):
            assert not found[game, :, mode, dims[game, mode] :].any()
    np.testing.assert_array_equal(canonical(jnp.asarray(found), ring), found)
    every = set(range(ring.modulus)) if ring.modulus else set(range(-ring.bound, ring.bound + 1))
    assert set(np.unique(found)) == every


def test_the_density_is_the_one_asked_for():
    dims = jnp.full((64, 3), 16)
    distribution = demos.Distribution(min_density=0.2, max_density=0.6)
    draw = jax.jit(lambda key: demos.random_factors(key, (64, 8), 16, dims, Ring(2), distribution))
    used = np.asarray(draw(jax.random.key(0))).mean(axis=(1, 2, 3))  # one for each demonstration
    assert abs(used.mean() - 0.4) < 0.05
    assert used.min() > 0.12 and used.max() < 0.68 and used.std() > 0.08


@pytest.mark.parametrize("order_free", [False, True], ids=["in order", "in any order"])
@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_a_position_says_how_it_ends(ring, order_free):
    """Replaying what remains ends at zero, whatever the order; the labels are among it."""
    _game, limits, dims, found = batch(ring, order_free)
    left = -np.asarray(found.value)
    # Some have one term too many for the moves allowed: a network must know a dead end.
    assert ((left >= 1) & (left <= limits + 1)).all()
    np.testing.assert_allclose(np.asarray(found.weights).sum(axis=1), 1, rtol=1e-6)
    played = limits - found.observation.remaining
    assert ((played >= 0) & (played < limits)).all()
    assert (left > found.observation.remaining).any()
    assert len(set(left)) > 1 and len(set(played.tolist())) > 1
    np.testing.assert_array_equal(found.observation.dims, dims)
    for b in range(16):
        good = np.asarray(found.actions[b])[np.asarray(found.weights[b]) > 0]
        assert len(good) == (min(left[b], LABELS) if order_free else 1)
        if left[b] == len(good):  # all that remains is taught: it must be the residual
            np.testing.assert_array_equal(plain_tensor(good, ring), found.observation.residual[b])
        past = np.asarray(found.observation.past[b]).any(axis=(1, 2))
        np.testing.assert_array_equal(past, np.arange(2) < played[b])


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
@pytest.mark.parametrize("remaining, played", [(3, 1), (1, 0), (2, 3), (4, 2)])
def test_replaying_a_demonstration_ends_at_zero(ring, remaining, played):
    game, dims = make(ring), jnp.array([2, 4, 2], jnp.int8)
    draw = random_factors(
        jax.random.key(3), (1, 6), game.side, dims[None], ring, demos.Distribution()
    )
    factors, limit = draw[0], remaining + played + 1
    found = position(
        jnp.linspace(0, 0.9, 6),
        factors,
        jnp.int32(remaining),
        jnp.int32(played),
        jnp.int32(limit),
        dims,
        game=game,
        labels=LABELS,
    )
    residual = np.asarray(found.observation.residual, np.int64)
    assert found.value == -remaining
    assert found.observation.remaining == limit - played
    # The moves already played are the next ones in the list, the newest first.
    newest = [np.asarray(factors[remaining + i]) for i in range(min(played, 2))]
    for past, term in zip(found.observation.past, newest, strict=False):
        np.testing.assert_array_equal(past, term)
    for term in factors[:remaining]:
        residual = ring.reduce(residual - plain_tensor(term[None], ring))
    assert not residual.any()


def test_every_remaining_term_is_taught_equally_often():
    game = make(Ring(2))
    one_hot = jnp.eye(4, dtype=jnp.int8)
    factors = jnp.stack([one_hot, one_hot, one_hot], axis=1)  # four different terms
    build = functools.partial(
        demos.position,
        factors=factors,
        remaining=jnp.int32(3),
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
def test_positions_of_a_finished_game(order_free):
    """Any position of the game must be completed by moves of the game that were not played."""
    ring = Ring(2)
    game = make(ring, history=4)
    one_hot = np.eye(4, dtype=np.int8)
    factors = jnp.asarray(np.stack([one_hot] * 3, axis=1))
    rank = 3  # the fourth is padding: it must never be seen
    factors = factors.at[3].set(0)
    build = functools.partial(
        demos.from_finished,
        factors=factors,
        rank=jnp.int32(rank),
        limit=jnp.int32(3),
        dims=jnp.array([4, 4, 4], jnp.int8),
        game=game,
        labels=1,
        order_free=order_free,
    )
    found = jax.jit(jax.vmap(build))(jax.random.split(jax.random.key(0), 300))
    lefts, nexts = set(), set()
    for b in range(300):
        left = int(-found.value[b])
        residual = np.asarray(found.observation.residual[b])
        diagonal = residual[np.arange(4), np.arange(4), np.arange(4)]
        past = np.asarray(found.observation.past[b])
        seen = past[:, 0].argmax(axis=-1)[past.any(axis=(1, 2))]
        # Played and remaining terms share out the game, with nothing twice.
        assert diagonal.sum() == left == residual.sum()
        assert sorted([*seen, *np.flatnonzero(diagonal)]) == [0, 1, 2]
        assert found.observation.remaining[b] == left
        taught = int(np.asarray(found.actions[b, 0, 0]).argmax())
        assert diagonal[taught]
        lefts.add(left)
        nexts.add((left, taught))
        if not order_free and left == 3:
            assert taught in (0, 2)  # the first move, or the last swapped with it
    assert lefts == {1, 2, 3}
    if order_free:
        assert nexts == {(left, term) for left in (1, 2, 3) for term in (0, 1, 2)}


def test_swap_with_last_swaps_one_move_with_the_last():
    factors = jnp.arange(5)[:, None, None] * jnp.ones((1, 3, 2), jnp.int32)
    swap = jax.jit(jax.vmap(lambda key: demos.swap_with_last(key, factors, jnp.int32(4))))
    orders = {tuple(x[:, 0, 0].tolist()) for x in swap(jax.random.split(jax.random.key(0), 64))}
    assert orders == {(3, 1, 2, 0, 4), (0, 3, 2, 1, 4), (0, 1, 3, 2, 4), (0, 1, 2, 3, 4)}


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(min_density=0.0), "0 < min_density"),
        (dict(min_density=0.6, max_density=0.5), "min_density <= max_density"),
        (dict(max_density=1.5), "<= 1"),
        (dict(cubes=2.0), "expected 0..1"),
    ],
)
def test_nonsense_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        demos.Distribution(**arguments)
