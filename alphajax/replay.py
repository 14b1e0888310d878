"""A ring buffer on the device, for any pytree of items."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Replay(NamedTuple):
    """Items `[capacity, ...]`, the slot of the next one, and how many slots are filled.

    The counters have one entry for each shard, so that a buffer can be sharded along its first axis
    with everything in it; `write` and `sample` see one shard, whose counters have length one.
    """

    items: Any
    next: Int[Array, " shards"]
    filled: Int[Array, " shards"]


def empty(item: Any, capacity: int, shards: int = 1) -> Replay:
    """A buffer for `capacity` items (all shards together) shaped like `item`.

    `item` is a pytree of arrays or `jax.ShapeDtypeStruct`s.
    """
    items = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), item)
    return Replay(items, jnp.zeros(shards, jnp.int32), jnp.zeros(shards, jnp.int32))


def write(replay: Replay, items: Any, mask: Bool[Array, " N"]) -> Replay:
    """Appends the items `[N, ...]` whose mask is set, over the oldest ones when full.

    If more than `capacity` are set, the last ones stay.
    """
    capacity = jax.tree.leaves(replay.items)[0].shape[0]
    slot = slots(replay, mask)
    count = jnp.sum(mask, dtype=jnp.int32)
    stored = jax.tree.map(
        lambda all_, x: all_.at[slot].set(x.astype(all_.dtype), mode="drop"), replay.items, items
    )
    return Replay(
        stored, (replay.next + count) % capacity, jnp.minimum(replay.filled + count, capacity)
    )


def slots(replay: Replay, mask: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Where `write` puts each of N items: its slot, or `capacity` where it is not written."""
    capacity = jax.tree.leaves(replay.items)[0].shape[0]
    rank = jnp.cumsum(mask, dtype=jnp.int32) - 1
    # Of items that would land on one slot only the newest is written: scatter order is undefined.
    kept = mask & (rank >= rank[-1] + 1 - capacity)
    return jnp.where(kept, (replay.next[0] + rank) % capacity, capacity)


def sample(replay: Replay, key: jax.Array, count: int) -> Any:
    """`count` items drawn uniformly with replacement; zeros while the buffer is empty.

    `key` is consumed.
    """
    index = jax.random.randint(key, (count,), 0, jnp.maximum(replay.filled[0], 1))
    return jax.tree.map(lambda x: x[index], replay.items)
