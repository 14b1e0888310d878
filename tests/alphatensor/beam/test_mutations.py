"""Mutations of moves: one factor is replaced, and every replacement is reached."""

import jax
import jax.numpy as jnp
import numpy as np

from alphajax.alphatensor.beam.mutations import Candidates, mutate_factors
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame

GAME = TensorGame(targets=(tensors.parse("skew3"),), ring=Ring(2), history=0)


def test_a_mutation_differs_in_one_factor_from_its_source():
    lengths = np.array(GAME.targets[0].shape)
    in_mode = np.arange(GAME.side) < lengths[:, None]
    draws = np.random.default_rng(0).integers(0, 2, (64, 3, GAME.side))
    factors = (draws | (np.arange(GAME.side) == 0)) * in_mode
    zeros = jnp.zeros(64, jnp.int32)
    candidates = Candidates(
        parent=jnp.arange(64),
        factors=jnp.asarray(factors, jnp.int8),
        log_prob=-1.0 * jnp.arange(64),
        remaining=zeros,
        hashes=jnp.zeros((64, 2), jnp.int32),
        is_zero=zeros > 0,
    )
    weights = jnp.where(jnp.arange(64) < 32, 0.0, -jnp.inf)
    dims = jnp.broadcast_to(jnp.asarray(lengths, jnp.int8), (64, 3))
    mutated = jax.tree.map(
        np.asarray, mutate_factors(jax.random.key(1), candidates, weights, dims, GAME, 8192)
    )
    # Moves of equal weight have equally many mutations, moves without weight have none.
    np.testing.assert_array_equal(mutated.parent, np.repeat(np.arange(32), 256))
    np.testing.assert_array_equal(mutated.log_prob, -mutated.parent)
    assert mutated.factors.any(axis=-1).all() and not mutated.factors[:, ~in_mode].any()
    is_changed = (mutated.factors != factors[mutated.parent]).any(axis=-1)
    assert set(is_changed.sum(axis=1)) == {0, 1} and is_changed.any(axis=1).mean() > 0.6
    # Every factor of every mode replaces every move's factor at least once.
    replacements = {
        (parent, mode, *move[mode])
        for parent, move, changed in zip(mutated.parent, mutated.factors, is_changed, strict=True)
        for mode in np.flatnonzero(changed)
    }
    assert len(replacements) == 32 * (2.0**lengths - 2).sum()
