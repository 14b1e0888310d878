"""A ring buffer on the device, for any pytree of items."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Replay(NamedTuple):
    """Items, the slot of the next one, and the number of filled slots.

    The counters have one entry for each shard, so that a buffer can be sharded along its first axis
    with everything in it.  `write` and `sample` receive one shard, whose counters have length 1.
    """

    items: Any
    """`[capacity, ...]`."""
    next: Int[Array, " shards"]
    filled: Int[Array, " shards"]


def empty(item: Any, capacity: int, shards: int = 1) -> Replay:
    """A buffer without items.

    Args:
      item: a pytree of arrays or `jax.ShapeDtypeStruct`s, the shape of one item.
      capacity: items of all shards together.
      shards: number of shards.

    Returns:
      The buffer.
    """
    items = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), item)
    return Replay(items, jnp.zeros(shards, jnp.int32), jnp.zeros(shards, jnp.int32))


def write(replay: Replay, items: Any, mask: Bool[Array, " N"]) -> Replay:
    """Appends items, over the oldest ones when the buffer is full.

    Args:
      replay: one shard.
      items: `[N, ...]`.
      mask: which of them to write.  If more than `capacity` are set, the last ones stay.

    Returns:
      The buffer with the items.
    """
    capacity = jax.tree.leaves(replay.items)[0].shape[0]
    slot = slots(replay, mask)
    count = jnp.sum(mask, dtype=jnp.int32)
    stored = jax.tree.map(
        lambda old, x: old.at[slot].set(x.astype(old.dtype), mode="drop"), replay.items, items
    )
    return Replay(
        stored, (replay.next + count) % capacity, jnp.minimum(replay.filled + count, capacity)
    )


def slots(replay: Replay, mask: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Where `write` puts each of N items.

    Args:
      replay: one shard.
      mask: which items to write.

    Returns:
      Slots; `capacity` where an item is not written.
    """
    capacity = jax.tree.leaves(replay.items)[0].shape[0]
    rank = jnp.cumsum(mask, dtype=jnp.int32) - 1
    # Of items that would land on one slot only the newest is written: scatter order is undefined.
    is_newest = mask & (rank >= rank[-1] + 1 - capacity)
    return jnp.where(is_newest, (replay.next[0] + rank) % capacity, capacity)


def sample(replay: Replay, key: jax.Array, count: int) -> Any:
    """Items drawn uniformly with replacement; zeros while the buffer is empty.

    Args:
      replay: one shard.
      key: consumed.
      count: how many.

    Returns:
      Items, `[count, ...]`.
    """
    index = jax.random.randint(key, (count,), 0, jnp.maximum(replay.filled[0], 1))
    return jax.tree.map(lambda x: x[index], replay.items)
