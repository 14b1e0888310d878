"""Cyclic orbits, and the game whose moves they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor import demonstrations, orbits, tensors
from alphajax.alphatensor.agent import AlphaTensor, MixConfig
from alphajax.alphatensor.game import TensorGame
from alphajax.alphatensor.moves import Move, Ring, canonical
from alphajax.alphatensor.network import NetworkConfig

RINGS = [Ring(), Ring(2), Ring(3)]
ring_id = "{0.name}".format
PRODUCT = tensors.matmul(2, 2, 2)

# One cube and two orbits (Strassen 1969, in a basis in which it is symmetric), entries (11, 12, 21, 22).
STRASSEN = np.array(
    [
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]],
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
    ],
    np.int8,
)


def tensor(factors, ring):
    """The sum of terms `[R, 3, S]`."""
    u, v, w = np.moveaxis(np.asarray(factors, int), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def moves(ring, count=40, side=3):
    """Canonical moves, every third a cube, and what multiple of it (over Z: -1 or 1)."""
    generator = np.random.default_rng(0)
    factors = generator.integers(ring.lowest, ring.lowest + ring.base, (count, 3, side))
    factors[..., 0] = np.where(factors.any(axis=-1), factors[..., 0], 1)
    factors[::3] = factors[::3, :1]
    factors[::6, 2] *= -1
    return np.asarray(canonical(jnp.asarray(ring.reduce(factors), jnp.int8), ring))


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_an_orbit_is_symmetric_and_a_cube_is_one_term(ring):
    for index, move in enumerate(moves(ring)):
        terms = orbits.expand(move[None], ring)
        assert orbits.is_symmetric(tensor(terms, ring))
        single = orbits.is_symmetric(tensor(move[None], ring))
        assert len(terms) == (1 if single else 3)
        assert single or index % 3


def test_null_moves_have_no_terms():
    assert orbits.expand(np.zeros((2, 3, 4), np.int8), Ring()).shape == (0, 3, 4)


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_all_spellings_of_an_orbit_have_one_first(ring):
    factors = moves(ring)
    rolled = [jnp.asarray(np.roll(factors, turn, axis=1)) for turn in range(3)]
    spellings = [canonical(orbits.first(x, ring.base), ring) for x in rolled]
    for index, (a, b, c) in enumerate(zip(*spellings, strict=True)):
        total = tensor(orbits.expand(factors[index][None], ring), ring)
        np.testing.assert_array_equal(tensor(orbits.expand(np.asarray(a)[None], ring), ring), total)
        if ring.modulus == 2:  # elsewhere signs are given away to the last factor before and after
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids=ring_id)
def test_strassen_is_three_moves_of_seven_terms(ring):
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=1, cyclic=True)
    played = canonical(jnp.asarray(ring.reduce(STRASSEN), jnp.int8), ring)
    last, rewards = jax.lax.scan(game.step, game.init(jax.random.key(0)), Move(played))
    assert rewards.tolist() == [-1.0, -3.0, -3.0]
    assert not last.residual.any() and last.moves == 7 and game.is_terminal(last)
    terms = orbits.expand(np.asarray(played), ring)
    np.testing.assert_array_equal(tensor(terms, ring), ring.reduce(PRODUCT.array))


@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_demonstrations_are_symmetric_and_end_at_zero(ring):
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=0, cyclic=True)
    count, labels = 64, 4
    limits, dims = jnp.full((count,), 8), jnp.full((count, 3), 4, jnp.int8)
    make = jax.jit(
        lambda key: demonstrations.synthetic(
            key, limits, dims, game, demonstrations.Distribution(), labels
        )
    )
    found = make(jax.random.key(0))
    lengths = set()
    for b in range(count):
        residual = np.asarray(found.observation.residual[b], int)
        assert orbits.is_symmetric(residual)
        taught = np.asarray(found.actions[b])[np.asarray(found.weights[b]) > 0]
        lengths.add(len(taught))
        if len(taught) < labels:  # all that remain are taught
            terms = orbits.expand(taught, ring)
            np.testing.assert_array_equal(tensor(terms, ring), residual)
            assert found.value[b] == -len(terms)
    assert lengths == {1, 2, 3, 4}


def test_a_finished_game_counts_terms_not_moves():
    ring = Ring(2)
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=0, cyclic=True)
    factors = jnp.asarray(np.concatenate([STRASSEN % 2, np.zeros((5, 3, 4), np.int8)]))
    dims = jnp.full((3,), 4, jnp.int8)

    def one(key):
        return demonstrations.from_finished(
            key, factors, jnp.int32(7), jnp.int32(8), dims, game=game, labels=3
        )

    found = jax.vmap(one)(jax.random.split(jax.random.key(0), 32))
    assert set(np.asarray(found.value)) == {-7.0, -6.0, -4.0, -3.0, -1.0}
    for b in range(32):
        assert found.observation.remaining[b] == 1 - found.value[b]  # one term is to spare
        taught = np.asarray(found.actions[b])[np.asarray(found.weights[b]) > 0]
        residual = tensor(orbits.expand(taught, ring), ring)
        np.testing.assert_array_equal(residual, found.observation.residual[b])


def test_an_orbit_that_the_limit_has_no_room_for_is_no_solution():
    game = TensorGame(targets=(PRODUCT,), ring=Ring(2), history=0, cyclic=True)
    state = game.start(jnp.int32(0), jnp.int32(6))
    for move in STRASSEN % 2:
        state, _ = game.step(state, Move(jnp.asarray(move)))
    assert not state.residual.any() and state.moves == 7 > state.limit


def test_what_is_not_symmetric_is_refused():
    with pytest.raises(ValueError, match="cyclic: target 2,2,3"):
        TensorGame(targets=(tensors.matmul(2, 2, 3),), cyclic=True)
    game = TensorGame(targets=(PRODUCT,), cyclic=True)
    still = NetworkConfig(signed_permutations=False, token_entries=4)
    for name, network, mix in (
        ("network.signed_permutations", NetworkConfig(token_entries=4), MixConfig()),
        ("mix.shared_basis", still, MixConfig(shared_basis=False)),
        ("mix.flip_checks", still, MixConfig(flip_checks=1)),
    ):
        with pytest.raises(ValueError, match=name):
            AlphaTensor(game=game, network=network, mix=mix)
