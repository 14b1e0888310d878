"""One-step lookahead against plain NumPy: the best distinct moves by reward and next value."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.network import lookahead
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.alphatensor.network.policy import NetworkPolicy

GAME = TensorGame(targets=(matmul(1, 2, 2),), ring=Ring(2), history=0)
SAMPLES = 2 * lookahead.BLOCK_SIZE
K = 4


def count_entries(obs):
    """A value that NumPy can compute as well: minus the number of non-zero entries."""
    return -jnp.sum(obs.residual, axis=(1, 2, 3)).astype(jnp.float32)


select = jax.jit(
    lambda factors, obs: lookahead.select_by_value(factors, obs, K, GAME, count_entries)
)
find_duplicates = jax.jit(lookahead.find_duplicates)


@given(st.integers(0, 2**31 - 1))
def test_duplicates_are_moves_equal_to_an_earlier_one(seed):
    factors = np.random.default_rng(seed).integers(-1, 2, (5, 60, 3, 2))
    duplicates = np.asarray(find_duplicates(jnp.asarray(factors, jnp.int8)))
    for row, flags in zip(factors, duplicates, strict=True):
        keys = [move.tobytes() for move in row]
        np.testing.assert_array_equal(flags, [x in keys[:i] for i, x in enumerate(keys)])


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1))
def test_the_best_distinct_moves_are_selected(seed):
    state = GAME.init(jax.random.key(0))
    obs = jax.tree.map(lambda x: jnp.stack([x, x]), GAME.observe(state))
    factors = np.random.default_rng(seed).integers(0, 2, (2, SAMPLES, 3, GAME.side))
    selected = np.asarray(select(jnp.asarray(factors, jnp.int8), obs))

    def entries_after(move):
        u, v, w = move.astype(int)
        return ((np.asarray(state.residual) + np.einsum("i,j,k->ijk", u, v, w)) % 2).sum()

    for row, moves in zip(factors, selected, strict=True):
        distinct = np.unique(row.reshape(SAMPLES, -1), axis=0).reshape(-1, 3, GAME.side)
        best = sorted(entries_after(move) for move in distinct)[:K]
        assert [entries_after(move) for move in moves] == best
        assert len(np.unique(moves.reshape(K, -1), axis=0)) == K


@pytest.mark.parametrize("root_samples", [0, SAMPLES])
def test_the_policy_looks_ahead_at_the_root_only_if_configured(root_samples):
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
    obs = jax.tree.map(lambda x: x[None], GAME.observe(GAME.init(jax.random.key(0))))
    propose_root = jax.jit(policy.propose_root, static_argnums=3)
    moves, log_weights, value = propose_root(params, jax.random.key(1), obs, K)
    assert moves.factors.shape == (1, K, 3, GAME.side) and log_weights.shape == (1, K)
    plain, _, same = jax.jit(policy.propose, static_argnums=3)(params, jax.random.key(1), obs, K)
    np.testing.assert_allclose(value, same, rtol=1e-6)
    assert np.array_equal(moves.factors, plain.factors) == (root_samples == 0)
