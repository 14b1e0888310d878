"""The ring buffer is a deque of bounded length."""

import functools
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax import replay

N = 4
ITEM = {"x": jax.ShapeDtypeStruct((2,), jnp.int32), "y": jax.ShapeDtypeStruct((), jnp.int8)}
write = jax.jit(replay.write)


def contents(buffer):
    """What is stored, the oldest first."""
    capacity, filled = len(buffer.items["y"]), int(buffer.filled[0])
    slots = (int(buffer.next[0]) - filled + np.arange(filled)) % capacity
    return [(*tuple(map(int, buffer.items["x"][s])), int(buffer.items["y"][s])) for s in slots]


@pytest.mark.parametrize("capacity", [1, 3, 6], ids="capacity {}".format)
@given(masks=st.lists(st.lists(st.booleans(), min_size=N, max_size=N), max_size=6))
def test_like_a_deque(capacity, masks):
    buffer = replay.empty(ITEM, capacity)
    model = deque(maxlen=capacity)  # capacities below N: one write overflows by itself
    for number, mask in enumerate(masks):
        y = number * N + np.arange(N)
        items = {"x": np.stack([y, -y], 1).astype(np.int32), "y": y.astype(np.int8)}
        buffer = write(buffer, items, np.array(mask))
        model.extend((int(v), -int(v), int(v)) for v, kept in zip(y, mask, strict=True) if kept)
        assert contents(buffer) == list(model)


def test_sampling_is_uniform_over_what_is_filled():
    buffer = replay.empty(jax.ShapeDtypeStruct((), jnp.int32), 8)
    buffer = replay.write(buffer, jnp.arange(1, 6), jnp.array([True, True, False, True, True]))
    drawn = np.asarray(replay.sample(buffer, jax.random.key(0), 4000))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [1, 2, 4, 5]
    assert np.abs(counts - 1000).max() < 150  # five standard deviations


def test_an_empty_buffer_gives_zeros():
    assert not np.any(replay.sample(replay.empty(ITEM, 3), jax.random.key(0), 5)["x"])


def test_each_shard_is_a_ring_of_its_own():
    buffer = replay.empty(jax.ShapeDtypeStruct((), jnp.int32), 6, shards=2)
    split = jax.tree.map(lambda x: x.reshape(2, -1), buffer)
    mask = jnp.array([[True, False], [True, True]])
    full = jax.vmap(functools.partial(replay.write))(split, jnp.array([[1, 2], [3, 4]]), mask)
    assert full.filled.tolist() == [[1], [2]]
    assert full.items.tolist() == [[1, 0, 0], [3, 4, 0]]
