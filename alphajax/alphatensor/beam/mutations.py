"""Mutations: moves with one factor replaced at random.

If T has rank r and one of its terms is u (x) v (x) w, then T - u (x) v (x) x has rank at most r for
every x, while most other moves lead to rank r + 1.  A value head distinguishes the two, even where
the policy does not propose the term itself.  Beyond the papers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import resampling
from alphajax.alphatensor.game.tensor_game import TensorGame


class Candidates(NamedTuple):
    """Moves from beam entries, and the residuals that they lead to."""

    parent: Int[Array, " N"]
    """Index of the beam entry."""
    factors: Int[Array, "N 3 S"]
    log_prob: Float[Array, " N"]
    """Of reaching the residual after the move."""
    remaining: Int[Array, " N"]
    """Terms of the limit that are left after the move."""
    hashes: Int[Array, "N 2"]
    """Of the residual after the move."""
    is_zero: Bool[Array, " N"]
    """Whether the residual after the move is zero."""


def mutate_factors(
    key: jax.Array,
    candidates: Candidates,
    log_weights: Float[Array, " N"],
    dims: Int[Array, "N 3"],
    game: TensorGame,
    count: int,
) -> Candidates:
    """Moves with one factor replaced by a random one.

    Args:
      key: consumed.
      candidates: N moves to start from.
      log_weights: unnormalised, by which they are drawn, `[N]`.
      dims: true lengths of their modes, `[N, 3]`.
      game: the rules.
      count: number of mutations.

    Returns:
      `count` moves, in the order of the moves they come from, with the log-probabilities of these.
      All replacements in all three modes are equally likely; a null factor leaves the move as it
      was. `remaining`, `hashes` and `is_zero` are still those of the original moves.
    """
    source_key, mode_key, key = jax.random.split(key, 3)
    source = resampling.systematic(source_key, log_weights, count)
    old, ring = candidates.factors[source], game.ring
    side = old.shape[-1]
    lengths = dims[source]
    # A mode is drawn in proportion to the number of its factors.
    cumulative = jnp.cumsum(float(ring.base) ** lengths, axis=1)
    draw = jax.random.uniform(mode_key, (count, 1)) * cumulative[:, 2:]
    modes = jnp.sum(draw >= cumulative[:, :2], axis=1)
    low, high = (0, ring.modulus) if ring.modulus else (-ring.bound, ring.bound + 1)
    factor = jax.random.randint(key, (count, side), low, high, jnp.int8)
    length = jnp.take_along_axis(lengths, modes[:, None], axis=1)
    factor = jnp.where(np.arange(side)[None] < length, factor, 0)
    is_replaced = jnp.any(factor, axis=1)[:, None] & (np.arange(3)[None] == modes[:, None])
    factors = jnp.where(is_replaced[:, :, None], factor[:, None], old)
    factors = game.symmetry_group.canonical_representative(factors.astype(old.dtype), ring)
    return jax.tree.map(lambda x: x[source], candidates)._replace(factors=factors)
