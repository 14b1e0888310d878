"""Which of very many residuals, schemes or states are the same.

Not in the papers; what beams and archives need.  Two are told apart by 64 bits of hash, not by all that they are:
if these are as good as random, two of a million are taken for one once in some 30 million times.  All of it is
sorting and sums over segments, of shapes that do not depend on what is found.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def hashes(entries: Int[Array, "..."], axes: int) -> Int[Array, "..."]:
    """Two 32-bit hashes of what stands behind the first `axes` axes."""
    flat = entries.reshape(*entries.shape[:axes], -1).astype(jnp.int32)
    # Odd multipliers, so that every entry counts in every bit above it; sums wrap.
    odd = 2 * np.random.default_rng(flat.shape[-1]).integers(2**30, size=(flat.shape[-1], 2)) + 1
    mixed = jnp.einsum("...i,ih->...h", flat, odd.astype(np.int32))
    # Else the sum of the hashes of some moves would tell of them no more than their sum.
    mixed = (mixed ^ (mixed >> 15)) * np.int32(0x2C1B3C6D)
    return mixed ^ (mixed >> 13)


def apart(hashes: Int[Array, "N 2"], origin: Int[Array, " N"]) -> Int[Array, "N 2"]:
    """Hashes that differ where the beginnings do: each has a search of its own."""
    return hashes + (origin.astype(jnp.int32) * np.int32(0x5BD1E995))[:, None]


def merged(
    hashes: Int[Array, "N 2"],
    left: Int[Array, " N"],
    parent: Int[Array, " N"],
    log_prob: Float[Array, " N"],
    passed: Int[Array, "M B 2"],
    count: int,
) -> tuple[Int[Array, " count"], Float[Array, " count"]]:
    """Which of N sampled moves to go on with: of those that lead to the same residual one, which leaves the most
    terms, and of all these the `count` likeliest.

    Args:
      hashes: of the residuals after the moves.
      left: terms.
      parent: where each was played.
      log_prob: of parent and move together; minus infinity: not to go on with.
      passed: of residuals that are not to be reached again.

    Returns:
      Their indices, and the log of the summed probability of the ways to each: one from each parent, whose moves
      to the same residual are spellings of one.
    """
    known = passed.reshape(-1, 2)
    old = known.shape[0]
    # Those passed stand first among equals.
    keys = (
        jnp.concatenate([jnp.full(old, -1, parent.dtype), parent]),
        -jnp.concatenate([jnp.full(old, np.iinfo(np.int16).max, left.dtype), left]),
        *jnp.concatenate([known, hashes]).T,
    )
    order = jnp.lexsort(keys)
    ways, _, *parts = (key[order] for key in keys)

    def differs(x):
        return jnp.concatenate([jnp.ones(1, bool), x[1:] != x[:-1]])

    new = differs(parts[0]) | differs(parts[1])
    weight = jnp.concatenate([jnp.full(old, -jnp.inf), log_prob])[order]
    weight = jnp.where(new | differs(ways), weight, -jnp.inf)
    group = jnp.cumsum(new) - 1
    total = order.shape[0]
    top = jax.ops.segment_max(weight, group, total)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    summed = jnp.log(jax.ops.segment_sum(jnp.exp(weight - top[group]), group, total)) + top
    likely, place = jax.lax.top_k(jnp.where(new & (ways >= 0), summed[group], -jnp.inf), count)
    return jnp.where(jnp.isfinite(likely), order[place] - old, 0), likely


def one_of_each(kinds: Int[Array, "N K"], score: Float[Array, " N"]) -> Float[Array, " N"]:
    """The scores, but minus infinity for all of a kind except the best."""
    order = jnp.lexsort((-score, *kinds.T))
    ordered = kinds[order]
    first = jnp.concatenate([jnp.ones(1, bool), jnp.any(ordered[1:] != ordered[:-1], axis=1)])
    return jnp.full_like(score, -jnp.inf).at[order].set(jnp.where(first, score[order], -jnp.inf))
