"""Spans of vectors over Z_2 as bit masks: membership and coordinates."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int


def to_bit_masks(factors: Int[Array, "*B S"]) -> Int[Array, "*B"]:
    """Vectors over Z_2 as bit masks: entry i is bit i.  S is at most 31."""
    powers = (1 << np.arange(factors.shape[-1])).astype(np.int32)
    return jnp.einsum("...s,s->...", factors.astype(jnp.int32), powers)


def reduce_by_span(
    vectors: Int[Array, "3 s"], masks: Int[Array, "*R 3"]
) -> tuple[Int[Array, "*R 3"], Int[Array, "*R 3 s"]]:
    """Reduces vectors by a basis of each mode's span: Gaussian elimination over Z_2.

    Args:
      vectors: bases as bit masks, 0 beyond the dimension.  Each vector is reduced by those before
        it, as `neighbourhoods.neighbourhood` makes them.
      masks: the vectors to reduce, as bit masks.

    Returns:
      The remainders, 0 for vectors in the span; and which basis vectors were subtracted, int8.
    """
    used = []
    for i in range(vectors.shape[1]):
        # As in `ranks.rank_gf2`: this lowers exactly those that have the vector's leading bit.
        lower = masks ^ jnp.broadcast_to(vectors[:, i], masks.shape)
        used.append(lower < masks)
        masks = jnp.minimum(masks, lower)
    return masks, jnp.stack(used, axis=-1).astype(jnp.int8)


def coordinates(vectors: Int[Array, "3 s"], factors: Int[Array, "R 3 S"]) -> Int[Array, "R 3 s"]:
    """Coordinates of factors in a basis of each mode's span.

    Args:
      vectors: bases as bit masks, as for `reduce_by_span`.
      factors: in the span.

    Returns:
      Which basis vectors each factor is the sum of, int8.
    """
    return reduce_by_span(vectors, to_bit_masks(factors))[1]
