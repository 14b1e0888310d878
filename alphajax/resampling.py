"""Go with the winners: games played side by side, of which those that do better than expected go on in place
of others.

Where success is rare, and needs one lucky move after another, games on their own find it with the product of
the moves' probabilities.  If after every move the games that drew a lucky one take the places of those that did
not, each move needs its luck only once in the whole batch (D. Aldous and U. Vazirani, "Go with the winners"
algorithms, FOCS 1994).  Lucky is a move after which a learned value expects a better end than before it.  That
makes a sequential Monte Carlo method of it: were the value exact, the games would end with a return G in
proportion to `exp(G / temperature)` times their own chance of it; and a position that was overrated loses again
what it won, as soon as the value finds out.  Not in DeepMind's papers, whose games never meet.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def survivors(
    key: jax.Array, gains: Float[Array, " B"], temperature: float, groups: tuple[int, ...]
) -> Int[Array, " B"]:
    """Which game goes on in the place of each.

    Places are drawn in proportion to `exp(gain / temperature)` (`systematic`).

    Args:
      key: consumed.
      gains: how much larger each game's expected final return is than it was before its last move.
      temperature: above 0, in units of the gains.
      groups: their sizes, which add up to B; games of one group follow each other, and take places of their
        own group only.
    """
    first = [0, *itertools.accumulate(groups)]
    return jnp.concatenate(
        [
            start
            + systematic(
                jax.random.fold_in(key, start), gains[start:stop] / temperature, stop - start
            )
            for start, stop in itertools.pairwise(first)
        ]
    )


def systematic(key: jax.Array, log_weights: Float[Array, " N"], count: int) -> Int[Array, " count"]:
    """`count` indices in proportion to their weights by systematic resampling, in ascending order.

    One with the share p of all weight is there floor(p count) or ceil(p count) times.  `key` is consumed.
    """
    marks = (jnp.arange(count) + jax.random.uniform(key)) / count
    share = jnp.cumsum(jax.nn.softmax(log_weights))
    # Sums of float32 may end just below 1.
    last = log_weights.shape[0] - 1
    return jnp.minimum(jnp.searchsorted(share, marks, side="right"), last).astype(jnp.int32)
