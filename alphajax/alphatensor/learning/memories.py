"""What a run remembers: the best decompositions, the newest finished games, and the move limits.

Pure functions of a `Memory`.  Inside `shard_map` each device has its own pool of finished games;
all other parts are the same on all devices after `agree`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Int

from alphajax import replay
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning.archive import ArchivedGame
from alphajax.system import AXIS


class Memory(NamedTuple):
    """The memory of a run.  R is the naive rank of the largest target.

    Ranks and limits are without the fixed terms of a target (`AlphaTensor.num_fixed_terms`).
    """

    rank: Int[Array, " targets"]
    """Best rank of each target; R + 1: none."""
    factors: Int[Array, "targets R 3 S"]
    """The best decomposition of each target, in the canonical basis."""
    pool: replay.Replay
    """The newest finished games, as `ArchivedGame`."""
    limit: Int[Array, " targets"]
    """Terms allowed by the curriculum (`MixConfig.limit_quantile`)."""
    rank_histogram: Int[Array, "targets R+2"]
    """Histogram of final ranks of games started from the target this iteration; bin R + 1 counts
    unfinished games."""
    stagnation: Int[Array, ""]
    """Iterations since a rank or a limit was lowered, or the network was reset."""
    num_resets: Int[Array, ""]
    """Number of network resets so far."""


def naive_ranks(game: TensorGame) -> Int[np.ndarray, " targets"]:
    """The naive rank of each target, int32."""
    return np.array([t.naive_rank(game.ring.modulus) for t in game.targets], np.int32)


def empty(game: TensorGame, pool_size: int, devices: int) -> Memory:
    """The memory of a run that has found nothing.

    Args:
      game: with the targets.
      pool_size: finished games that are remembered, on all devices together.
      devices: over which they are sharded.

    Returns:
      The memory.
    """
    rank, side, count = game.max_moves, game.side, len(game.targets)
    shape: Any = jax.ShapeDtypeStruct
    item = ArchivedGame(
        factors=shape((rank, 3, side), jnp.int8),
        rank=shape((), jnp.int32),
        dims=shape((3,), jnp.int8),
        target=shape((), jnp.int32),
        basis=jax.eval_shape(lambda: bases.identity(side)),
    )
    return Memory(
        rank=jnp.full((count,), rank + 1, jnp.int32),
        factors=jnp.zeros((count, rank, 3, side), jnp.int32),
        pool=replay.empty(item, pool_size, devices),
        limit=jnp.array(naive_ranks(game)),
        rank_histogram=jnp.zeros((count, rank + 2), jnp.int32),
        stagnation=jnp.int32(0),
        num_resets=jnp.int32(0),
    )


def specs() -> Memory:
    """How each part of a memory is sharded: a `Memory` of partition specs."""
    replicated: Any = P()
    sharded: Any = P(AXIS)
    return Memory(*[replicated] * len(Memory._fields))._replace(pool=sharded)


def reset(memory: Memory, game: TensorGame) -> Memory:
    """The memory for a new network: the best ranks stay, finished games and limits do not.

    Args:
      memory: one device's.
      game: with the targets.

    Returns:
      The memory.
    """
    pool = memory.pool
    return memory._replace(
        pool=pool._replace(next=jnp.zeros_like(pool.next), filled=jnp.zeros_like(pool.filled)),
        limit=jnp.array(naive_ranks(game)),
        stagnation=jnp.int32(0),
        num_resets=memory.num_resets + 1,
    )


def record_best(memory: Memory, games: ArchivedGame, game: TensorGame) -> Memory:
    """The memory with the best decomposition of each target, in the canonical basis.

    Args:
      memory: one device's.
      games: N of them, of rank R + 1 where they are not finished.
      game: with the targets.

    Returns:
      The memory.
    """
    # A changed basis cannot make a wrong zero: it is undone on factors, and the host verifies.
    for index in range(len(game.targets)):
        ranks = jnp.where(games.target == index, games.rank, game.max_moves + 1)
        best = jnp.argmin(ranks)
        factors = bases.change_factors(games.factors[best], games.basis.inverses[best], game.ring)
        is_better = ranks[best] < memory.rank[index]
        factors = jnp.where(is_better, factors, memory.factors[index])
        memory = memory._replace(
            rank=memory.rank.at[index].min(ranks[best]),
            factors=memory.factors.at[index].set(factors),
        )
    return memory


def remember(
    memory: Memory, games: ArchivedGame, is_stored: Bool[Array, " N"], game: TensorGame
) -> Memory:
    """The memory after games that a beam found: the best of them, and some in the pool.

    Args:
      memory: one device's.
      games: N of them, of rank R + 1 where they are not finished.
      is_stored: which of them to add to the pool, `[N]`.
      game: with the targets.

    Returns:
      The memory; a lower rank ends the stagnation.
    """
    after = record_best(memory, games, game)
    is_lower = jnp.any(after.rank < memory.rank)
    return after._replace(
        pool=replay.write(memory.pool, games, is_stored),
        stagnation=jnp.where(is_lower, 0, memory.stagnation),
    )


def lower_limits(memory: Memory, share: float) -> Memory:
    """The curriculum: limits drop to one below the rank that enough games have reached.

    Args:
      memory: with the histogram of an iteration's games on all devices; it is cleared.
      share: of the games, which must have reached the rank; 0: limits stay.

    Returns:
      The memory; a lower limit ends the stagnation.

    Beyond the paper.
    """
    reached = jnp.cumsum(memory.rank_histogram, axis=1)
    num_games = reached[:, -1:]
    is_enough = (reached >= share * num_games) & (num_games > 0) & (share > 0)
    rank = jnp.argmax(is_enough, axis=1)
    limit = jnp.where(is_enough[:, -1], jnp.minimum(memory.limit, rank - 1), memory.limit)
    return memory._replace(
        limit=limit,
        rank_histogram=jnp.zeros_like(memory.rank_histogram),
        stagnation=jnp.where(jnp.any(limit < memory.limit), 0, memory.stagnation),
    )


def agree(memory: Memory) -> Memory:
    """The memory with the best decompositions and the games of all devices (collectives on
    `AXIS`)."""
    ranks = jax.lax.all_gather(memory.rank, AXIS)  # [devices, targets]
    is_best = jax.lax.axis_index(AXIS) == jnp.argmin(ranks, axis=0)
    factors = jnp.where(is_best[:, None, None, None], memory.factors, 0)
    return memory._replace(
        rank=jnp.min(ranks, axis=0),
        factors=jax.lax.psum(factors, AXIS),
        stagnation=jax.lax.pmin(memory.stagnation, AXIS),
        rank_histogram=jax.lax.psum(memory.rank_histogram, AXIS),
    )
