"""One-step lookahead: of many sampled moves, the k that lead to the best-valued positions.

Beyond the paper. A trained value head separates residuals of rank r and r + 1 better than the
policy head finds the few moves from one to the other. So many moves are sampled at the root and
played, and the search starts from those with the best value. experiments/RESULTS.md has the
ablation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphatensor.game.moves import Move
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.hashing import find_repeats, hash_rows

BLOCK_SIZE = 16
"""Candidates valued at a time: the residuals of all candidates would not fit into a CPU's cache."""


def select_by_value(
    factors: Int[Array, "B M 3 S"],
    observation: Observation,
    k: int,
    game: TensorGame,
    value: Callable[[Observation], Float[Array, " N"]],
) -> Int[Array, "B k 3 S"]:
    """The k distinct moves with the largest sum of reward and value of the next position.

    Args:
      factors: sampled moves; M is a multiple of `BLOCK_SIZE`. If fewer than k of them differ,
        repeats fill up.
      observation: `[B]`, the positions in which the moves are played.
      k: number of moves to select, at most M.
      game: the game.
      value: from observations `[N]` to values `[N]`, in moves. A solved position counts 0 instead.

    Returns:
      The selected moves, the best first.

    Source: beyond the paper (this project).
    """
    batch, samples = factors.shape[:2]
    blocks = jnp.moveaxis(
        factors.reshape(batch, samples // BLOCK_SIZE, BLOCK_SIZE, *factors.shape[2:]), 1, 0
    )

    def q(block):
        rewards, after = jax.vmap(jax.vmap(game.peek, in_axes=(None, 0)))(observation, Move(block))
        flat = jax.tree.map(lambda x: x.reshape(batch * BLOCK_SIZE, *x.shape[2:]), after)
        solved = ~jnp.any(after.residual, axis=(-3, -2, -1))
        return rewards + jnp.where(solved, 0.0, value(flat).reshape(solved.shape))

    scores = jnp.moveaxis(jax.lax.map(q, blocks), 0, 1).reshape(batch, samples)
    scores = jnp.where(find_duplicates(factors), -jnp.inf, scores)
    _, best = jax.lax.top_k(scores, k)
    return jnp.take_along_axis(factors, best[..., None, None], axis=1)


def find_duplicates(factors: Int[Array, "B M 3 S"]) -> Bool[Array, "B M"]:
    """Whether each move equals an earlier one of its batch row, compared by a 32-bit hash."""
    return find_repeats(hash_rows(factors, 2)[..., 0])
