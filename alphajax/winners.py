"""Go with the winners: games played side by side, of which the promising go on in place of the others.

Where success is rare, and needs one lucky move after another, games on their own find it with the product of
the moves' probabilities.  If after every move the games that drew a lucky one take the places of those that did
not, each move needs its luck only once in the whole batch (D. Aldous and U. Vazirani, "Go with the winners"
algorithms, FOCS 1994; as splitting, H. Kahn and T. Harris, 1951).  Which games are promising a learned value
says.  Not in DeepMind's papers, whose games never meet.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ISLAND = 32
"""Games that meet.  A position that is valued far too high takes the places of its island, not of all games."""


def survivors(key: jax.Array, scores: Float[Array, " B"], temperature: float) -> Int[Array, " B"]:
    """Which game goes on in the place of each, in islands of `ISLAND` neighbours (or all, if B is no multiple).

    An island's places are drawn in proportion to `exp(score / temperature)` by systematic resampling: a game
    with the share p of its N places gets floor(p N) or ceil(p N) of them.

    Args:
      key: consumed.
      scores: expected final returns, larger is better.
      temperature: above 0, in units of the scores.
    """
    count = scores.shape[0]
    size = ISLAND if count % ISLAND == 0 else count
    islands = scores.reshape(-1, size)
    keys = jax.random.split(key, len(islands))
    drawn = jax.vmap(lambda key, scores: _resampled(key, jax.nn.softmax(scores / temperature)))(keys, islands)
    first = jnp.arange(0, count, size, dtype=jnp.int32)[:, None]
    return (first + drawn).reshape(count)


def _resampled(key, share: Float[Array, " N"]) -> Int[Array, " N"]:
    count = share.shape[0]
    marks = (jnp.arange(count) + jax.random.uniform(key)) / count
    # Sums of float32 may end just below 1.
    return jnp.minimum(jnp.searchsorted(jnp.cumsum(share), marks, side="right"), count - 1)
