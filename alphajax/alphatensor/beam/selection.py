"""Shares and ranks within groups: each subproblem of a beam has its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def normalise_per_group(
    log_weights: Float[Array, " N"], group: Int[Array, " N"]
) -> Float[Array, " N"]:
    """Log-weights normalised within each group: `w_i - log sum_{j in group of i} exp(w_j)`.

    Args:
      log_weights: unnormalised, `[N]`; minus infinity is no weight.
      group: index of each entry's group, `[N]`, below N.

    Returns:
      Normalised log-weights, `[N]`.
    """
    count = log_weights.shape[0]
    top = jax.ops.segment_max(log_weights, group, count)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    summed = jax.ops.segment_sum(jnp.exp(log_weights - top[group]), group, count)
    return log_weights - top[group] - jnp.log(jnp.maximum(summed, 1e-30))[group]


def top_k_per_group(
    score: Float[Array, " N"], group: Int[Array, " N"], k: Int[Array, ""]
) -> Float[Array, " N"]:
    """Masks all but the `k` best scores of each group to minus infinity.

    Args:
      score: `[N]`.
      group: index of each entry's group, `[N]`.
      k: how many to keep; may be traced.

    Returns:
      Masked scores, `[N]`.
    """
    order = jnp.lexsort((-score, group))
    ordered = group[order]
    rank = jnp.arange(len(order)) - jnp.searchsorted(ordered, ordered, side="left")
    masked = jnp.where(rank < k, score[order], -jnp.inf)
    return jnp.full_like(score, -jnp.inf).at[order].set(masked)
