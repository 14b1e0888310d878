"""One step ahead: of many sampled moves, those that lead to the best-valued positions.

Not in the paper.  A trained value head tells a residual of rank r from one of rank r + 1 far better than the
policy head finds the few moves that lead from one to the other: their share of the policy falls by about
one half to two thirds with every term of the residual.  So many moves are sampled, each is played, and the
search begins with those whose positions are valued highest.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphatensor.game.moves import Move
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame

BLOCK = 16
"""Candidates valued at a time: residuals of all of them together would not fit a cache."""


def best_by_value(
    factors: Int[Array, "B M 3 S"],
    observation: Observation,
    k: int,
    game: TensorGame,
    value: Callable[[Observation], Float[Array, " N"]],
) -> Int[Array, "B k 3 S"]:
    """The k of M moves whose reward and next position's value add up to most, repeats left out.

    Args:
      factors: sampled moves; M is a multiple of `BLOCK`.
      observation: `[B]`, where they are to be played.
      value: of observations `[N]`.
    """
    batch, samples = factors.shape[:2]
    blocks = jnp.moveaxis(factors.reshape(batch, samples // BLOCK, BLOCK, *factors.shape[2:]), 1, 0)

    def q(block):
        rewards, after = jax.vmap(jax.vmap(game.peek, in_axes=(None, 0)))(observation, Move(block))
        flat = jax.tree.map(lambda x: x.reshape(batch * BLOCK, *x.shape[2:]), after)
        over = ~jnp.any(after.residual, axis=(-3, -2, -1))
        return rewards + jnp.where(over, 0.0, value(flat).reshape(over.shape))

    scores = jnp.moveaxis(jax.lax.map(q, blocks), 0, 1).reshape(batch, samples)
    scores = jnp.where(repeated(factors), -jnp.inf, scores)
    _, best = jax.lax.top_k(scores, k)
    return jnp.take_along_axis(factors, best[..., None, None], axis=1)


def repeated(factors: Int[Array, "B M 3 S"]) -> Bool[Array, "B M"]:
    """Which moves equal an earlier one, by a 32-bit hash of their entries."""
    # Odd multipliers, so that every entry counts in every bit above it; sums wrap.
    multipliers = 2 * np.random.default_rng(0).integers(2**30, size=factors.shape[2:]) + 1
    hashes = jnp.einsum("bmfs,fs->bm", factors.astype(jnp.int32), multipliers.astype(np.int32))
    order = jnp.argsort(hashes, axis=-1, stable=True)
    ordered = jnp.take_along_axis(hashes, order, axis=-1)
    same = jnp.pad(ordered[:, 1:] == ordered[:, :-1], ((0, 0), (1, 0)))
    return jnp.take_along_axis(same, jnp.argsort(order, axis=-1), axis=-1)
