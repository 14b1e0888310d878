"""The memory: the curriculum of limits, against a loop over games; agreement of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from alphajax import system, training
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning import memories
from alphajax.alphatensor.learning.archive import ArchivedGame

GAME = TensorGame(
    targets=(tensors.matmul(1, 1, 2), tensors.matmul(1, 2, 2)), ring=Ring(2), history=0
)


@functools.cache
def empty_memory():
    return memories.empty(GAME, 8, 1)


def test_an_empty_memory_has_no_rank_and_naive_limits():
    memory = empty_memory()
    assert memory.rank.tolist() == [5, 5] and memory.limit.tolist() == [2, 4]
    assert memory.factors.shape == (2, 4, 3, 4) and memory.pool.filled.tolist() == [0]
    assert memories.specs()._fields == memory._fields


@settings(max_examples=30)
@given(
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    ranks=st.lists(st.integers(1, 5), max_size=8),
    limit=st.integers(1, 4),
)
def test_the_limit_drops_below_the_rank_that_enough_games_reached(share, ranks, limit):
    histogram = np.zeros((2, 6), np.int32)
    for rank in ranks:
        histogram[1, rank] += 1
    memory = empty_memory()._replace(
        limit=jnp.array([2, limit]),
        rank_histogram=jnp.asarray(histogram),
        stagnation=jnp.int32(2),
    )
    after = memories.lower_limits(memory, share)
    expected = limit
    if share and ranks:
        enough = [r for r in range(6) if sum(x <= r for x in ranks) >= share * len(ranks)]
        expected = min(limit, enough[0] - 1)
    assert after.limit.tolist() == [2, expected]
    assert int(after.stagnation) == (0 if expected < limit else 2)
    assert not after.rank_histogram.any()


def make_games(ranks, targets):
    """Games of given ranks whose factors all equal their index plus one."""
    count = len(ranks)
    factors = np.arange(1, count + 1)[:, None, None, None] * np.ones((count, 4, 3, 4), int)
    basis = jax.tree.map(lambda x: jnp.stack([x] * count), bases.identity(4))
    return ArchivedGame(
        jnp.asarray(factors, jnp.int8),
        jnp.asarray(ranks, jnp.int32),
        jnp.ones((count, 3), jnp.int8),
        jnp.asarray(targets, jnp.int32),
        basis,
    )


def test_the_first_best_game_of_each_target_is_recorded():
    game = TensorGame(targets=GAME.targets, ring=Ring(7), history=0)
    games = make_games([4, 3, 3, 5, 2], [1, 1, 1, 0, 0])
    memory = memories.record_best(empty_memory(), games, game)
    assert memory.rank.tolist() == [2, 3]
    assert memory.factors[:, 0, 0, 0].tolist() == [5, 2]
    # Games that are not better change nothing.
    after = memories.record_best(memory, make_games([2, 3], [0, 1]), game)
    np.testing.assert_array_equal(after.factors, memory.factors)


def test_a_lower_rank_ends_the_stagnation_and_chosen_games_are_stored():
    memory = empty_memory()._replace(stagnation=jnp.int32(4), rank=jnp.array([5, 3]))
    games = make_games([4, 3, 5], [1, 1, 1])
    after = memories.remember(memory, games, jnp.array([True, True, False]), GAME)
    assert int(after.stagnation) == 4 and after.pool.items.rank[:2].tolist() == [4, 3]
    assert after.pool.filled.tolist() == [2]
    after = memories.remember(memory, make_games([2], [1]), jnp.array([False]), GAME)
    assert int(after.stagnation) == 0 and after.pool.filled.tolist() == [0]


def test_a_reset_keeps_ranks_and_forgets_games_and_limits():
    memory = empty_memory()._replace(
        rank=jnp.array([2, 3]), limit=jnp.array([1, 2]), stagnation=jnp.int32(9)
    )
    memory = memory._replace(pool=memory.pool._replace(filled=jnp.array([5])))
    after = memories.reset(memory, GAME)
    assert after.rank.tolist() == [2, 3] and after.limit.tolist() == [2, 4]
    assert after.pool.filled.tolist() == [0]
    assert int(after.stagnation) == 0 and int(after.num_resets) == 1


def test_devices_agree_on_the_best_decomposition():
    mesh = training.make_mesh(2)
    per_device = [
        empty_memory()._replace(
            rank=jnp.array(rank),
            factors=jnp.full((2, 4, 3, 4), index + 1),
            stagnation=jnp.int32(index),
            rank_histogram=jnp.full((2, 6), index + 1),
        )
        for index, rank in enumerate(([2, 4], [2, 3]))
    ]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *per_device)

    def agree(memory):
        memory = memories.agree(jax.tree.map(lambda x: x[0], memory))
        return jax.tree.map(lambda x: x[None], memory)

    spec = P(system.AXIS)
    agreed = jax.jit(jax.shard_map(agree, mesh=mesh, in_specs=spec, out_specs=spec))(stacked)
    for device in range(2):
        assert agreed.rank[device].tolist() == [2, 3]
        assert agreed.factors[device, :, 0, 0, 0].tolist() == [1, 2]
        assert agreed.stagnation[device] == 0
        assert (agreed.rank_histogram[device] == 3).all()
