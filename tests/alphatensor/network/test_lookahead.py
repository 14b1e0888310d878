"""Of many moves, those whose next positions are valued highest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.network import lookahead
from alphajax.alphatensor.network.policy import NetworkConfig, NetworkPolicy

GAME = TensorGame(targets=(matmul(1, 2, 2),), ring=Ring(2), history=0)
SAMPLES = 2 * lookahead.BLOCK


def test_repeats_are_those_that_came_before():
    factors = np.random.default_rng(0).integers(-1, 2, (5, 60, 3, 2))
    found = np.asarray(lookahead.repeated(jnp.asarray(factors, jnp.int8)))
    for row, said in zip(factors, found, strict=True):
        spelt = [move.tobytes() for move in row]
        np.testing.assert_array_equal(said, [x in spelt[:i] for i, x in enumerate(spelt)])
    assert found.any() and not found.all()


def test_the_best_by_a_perfect_value_are_kept():
    """The value is minus the number of entries left, which plain NumPy counts too."""
    generator = np.random.default_rng(1)
    state = GAME.init(jax.random.key(0))
    seen = jax.tree.map(lambda x: jnp.stack([x, x]), GAME.observe(state))
    factors = generator.integers(0, 2, (2, SAMPLES, 3, GAME.side)).astype(np.int8)

    def value(seen):
        return -jnp.sum(seen.residual, axis=(1, 2, 3)).astype(jnp.float32)

    k = 4
    keep = jax.jit(lambda factors, seen: lookahead.best_by_value(factors, seen, k, GAME, value))
    kept = np.asarray(keep(jnp.asarray(factors), seen))

    def left(move):
        u, v, w = move.astype(int)
        return ((np.asarray(state.residual) + np.einsum("i,j,k->ijk", u, v, w)) % 2).sum()

    for row, found in zip(factors, kept, strict=True):
        distinct = np.unique(row.reshape(SAMPLES, -1), axis=0).reshape(-1, 3, GAME.side)
        best = sorted(left(move) for move in distinct)[:k]
        assert sorted(left(move) for move in found) == best
        assert len(np.unique(found.reshape(k, -1), axis=0)) == k


@pytest.mark.parametrize("root_samples", [0, SAMPLES])
def test_a_policy_looks_ahead_at_the_root_only_if_asked(root_samples):
    config = NetworkConfig(
        torso="dense",
        head="dense",
        width=8,
        blocks=1,
        widening=1,
        policy_width=8,
        policy_layers=1,
        token_entries=2,
        value_width=8,
        value_layers=1,
        root_samples=root_samples,
    )
    policy = NetworkPolicy(game=GAME, config=config)
    params = jax.jit(policy.init)(jax.random.key(0))
    seen = jax.tree.map(lambda x: x[None], GAME.observe(GAME.init(jax.random.key(0))))
    propose = jax.jit(policy.propose_root, static_argnums=3)
    moves, log_weights, value = propose(params, jax.random.key(1), seen, 4)
    assert moves.factors.shape == (1, 4, 3, GAME.side) and log_weights.shape == (1, 4)
    plain, _, same = jax.jit(policy.propose, static_argnums=3)(params, jax.random.key(1), seen, 4)
    np.testing.assert_allclose(value, same, rtol=1e-6)
    assert np.array_equal(moves.factors, plain.factors) == (root_samples == 0)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="root_samples: received 30; expected a multiple of 16"):
        NetworkConfig(root_samples=30)
