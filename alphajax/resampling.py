"""Sequential Monte Carlo over a batch of games.

After each move, trajectories are resampled in proportion to exp(advantage / temperature).  If the
value function were exact, the games would end with a return G in proportion to
exp(G / temperature) times their own probability.  A success that needs several rare moves then
needs each of them only once in the whole batch.

Source: Aldous and Vazirani (FOCS 1994).  Beyond the papers, in which games are independent.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def resample(
    key: jax.Array, advantages: Float[Array, " B"], temperature: float, groups: tuple[int, ...]
) -> Int[Array, " B"]:
    """The game that continues in the place of each, drawn by systematic resampling.

    Args:
      key: consumed.
      advantages: change of each game's expected final return by its last move, `[B]`.
      temperature: above 0, in units of the return.
      groups: sizes of consecutive groups of games, which sum to B.  A game continues only within
        its own group.

    Returns:
      Indices of games, `[B]` int32.
    """
    first = [0, *itertools.accumulate(groups)]
    parts = []
    for start, stop in itertools.pairwise(first):
        log_weights = advantages[start:stop] / temperature
        parts.append(start + systematic(jax.random.fold_in(key, start), log_weights, stop - start))
    return jnp.concatenate(parts)


def systematic(key: jax.Array, log_weights: Float[Array, " N"], count: int) -> Int[Array, " count"]:
    """Systematic resampling: `count` ascending indices, in proportion to their weights.

    An index of probability p is drawn floor(p count) or ceil(p count) times.

    Args:
      key: consumed.
      log_weights: unnormalised, `[N]`.
      count: how many indices to draw.

    Returns:
      Indices, `[count]` int32.
    """
    marks = (jnp.arange(count) + jax.random.uniform(key)) / count
    cumulative = jnp.cumsum(jax.nn.softmax(log_weights))
    # A cumulative sum in float32 may end just below 1.
    last = log_weights.shape[0] - 1
    return jnp.minimum(jnp.searchsorted(cumulative, marks, side="right"), last).astype(jnp.int32)
