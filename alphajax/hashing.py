"""64-bit hashing and deduplication of large batches of arrays.

Beams and archives compare residuals, schemes or machine states by two 32-bit hashes.  If these are
as good as random, 2 of 1,000,000 entries collide once in about 30,000,000 batches.  Everything is
sorting and segment sums, of shapes that do not depend on the data.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32


def mix(x: Integer[Array, "..."]) -> UInt32[Array, "..."]:
    """Mixes the bits of each 32-bit integer, so that sums of mixed numbers make good hashes.

    A bijection: each input bit flips each output bit with a probability near 1/2.

    Args:
      x: integers; their lowest 32 bits count.

    Returns:
      Mixed integers, uint32.

    Source: "lowbias32" of C. Wellons' hash prospector (2018).
    """
    x = x.astype(jnp.uint32)
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def hash_rows(entries: Int[Array, "..."], axes: int) -> Int[Array, "..."]:
    """Two 32-bit hashes of each subarray behind the first `axes` axes.

    Args:
      entries: integers, `[*batch, ...]`, with `axes` batch axes.
      axes: number of batch axes.

    Returns:
      Hashes, `[*batch, 2]` int32.
    """
    flat = entries.reshape(*entries.shape[:axes], -1).astype(jnp.int32)
    # Odd multipliers, so that every entry counts in every bit above it; sums wrap.
    odd = 2 * np.random.default_rng(flat.shape[-1]).integers(2**30, size=(flat.shape[-1], 2)) + 1
    linear = jnp.einsum("...i,ih->...h", flat, odd.astype(np.int32))
    # Without mixing, the sum of several rows' hashes would depend on the rows' sum alone.
    return mix(linear).astype(jnp.int32)


def salt(hashes: Int[Array, "N 2"], group: Int[Array, " N"]) -> Int[Array, "N 2"]:
    """Salts hashes by group, so that equal entries of different groups do not collide.

    Args:
      hashes: from `hash_rows`.
      group: number of each row's group.

    Returns:
      Hashes.
    """
    return hashes + mix(group).astype(jnp.int32)[:, None]


def find_repeats(hashes: Int[Array, "*B N"]) -> Bool[Array, "*B N"]:
    """Whether each hash equals an earlier one of its row.

    Args:
      hashes: one hash of each entry.

    Returns:
      A mask.
    """
    order = jnp.argsort(hashes, axis=-1, stable=True)
    ordered = jnp.take_along_axis(hashes, order, axis=-1)
    equal = ordered[..., 1:] == ordered[..., :-1]
    equal = jnp.concatenate([jnp.zeros_like(equal[..., :1]), equal], axis=-1)
    return jnp.take_along_axis(equal, jnp.argsort(order, axis=-1), axis=-1)


def top_k_unique(
    hashes: Int[Array, "N 2"],
    remaining: Int[Array, " N"],
    parent: Int[Array, " N"],
    log_prob: Float[Array, " N"],
    excluded: Int[Array, "M B 2"],
    count: int,
) -> tuple[Int[Array, " count"], Float[Array, " count"]]:
    """The `count` most probable distinct successors among N sampled moves.

    Moves that lead to the same residual are one successor, represented by the move that leaves the
    most terms.  Its probability is the sum over its parents.  Several moves of one parent to the
    same residual count once.

    Args:
      hashes: of the residuals after the moves.
      remaining: terms that are left after each move.
      parent: index of the residual from which each move was played.
      log_prob: of parent and move together; minus infinity excludes a move.
      excluded: hashes of residuals that must not be reached again.
      count: how many successors to select.

    Returns:
      Their indices, and the log of their summed probability (minus infinity: fewer were found).
    """
    known = excluded.reshape(-1, 2)
    num_known = known.shape[0]
    # Excluded residuals sort first among equal ones.
    keys = (
        jnp.concatenate([jnp.full(num_known, -1, parent.dtype), parent]),
        -jnp.concatenate([jnp.full(num_known, np.iinfo(np.int16).max, remaining.dtype), remaining]),
        *jnp.concatenate([known, hashes]).T,
    )
    order = jnp.lexsort(keys)
    parents, _, *parts = (key[order] for key in keys)

    def changes(x: Array) -> Array:
        return jnp.concatenate([jnp.ones(1, bool), x[1:] != x[:-1]])

    is_new = changes(parts[0]) | changes(parts[1])
    weight = jnp.concatenate([jnp.full(num_known, -jnp.inf), log_prob])[order]
    weight = jnp.where(is_new | changes(parents), weight, -jnp.inf)
    group = jnp.cumsum(is_new) - 1
    total = order.shape[0]
    top = jax.ops.segment_max(weight, group, total)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    summed = jnp.log(jax.ops.segment_sum(jnp.exp(weight - top[group]), group, total)) + top
    candidates = jnp.where(is_new & (parents >= 0), summed[group], -jnp.inf)
    best, place = jax.lax.top_k(candidates, count)
    return jnp.where(jnp.isfinite(best), order[place] - num_known, 0), best


def keep_best_per_key(keys: Int[Array, "N K"], score: Float[Array, " N"]) -> Float[Array, " N"]:
    """Masks all but the best-scoring entry of each key to minus infinity.

    Args:
      keys: equal rows are one key.
      score: of each entry.

    Returns:
      Scores.
    """
    order = jnp.lexsort((-score, *keys.T))
    ordered = keys[order]
    first = jnp.concatenate([jnp.ones(1, bool), jnp.any(ordered[1:] != ordered[:-1], axis=1)])
    return jnp.full_like(score, -jnp.inf).at[order].set(jnp.where(first, score[order], -jnp.inf))
