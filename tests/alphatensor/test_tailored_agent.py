"""Tailoring: benchmarks reach the returns of exactly the positions that earned them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import games, replay, training
from alphajax.alphatensor import presets
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.tensor_game import Observation, State, TensorGame
from alphajax.alphatensor.learning.archive import Start
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.alphatensor.tailored_agent import add_benchmark_rewards, played_basis, tailored
from alphajax.search import SearchConfig, SearchResult
from alphajax.system import TrainingConfig
from alphajax.training import Step

SYSTEM = AlphaTensor(
    game=TensorGame(targets=(tensors.matmul(1, 2, 1),), ring=Ring(), history=0),
    network=NetworkConfig(
        torso="dense",
        head="dense",
        width=8,
        blocks=1,
        widening=1,
        policy_width=8,
        policy_layers=1,
        token_entries=1,
        value_width=8,
        value_layers=1,
    ),
    search=SearchConfig(simulations=4, candidates=3),
    training=TrainingConfig(learner_steps=2, batch=8, games=8, capacity=64),
    mix=MixConfig(pool=4),
)
TAILORED = tailored(SYSTEM, 2)
CANONICAL = tailored(SYSTEM, 2, basis=None)


def test_a_tailored_agent_plays_independent_games_and_keeps_its_network():
    eager = replace(
        SYSTEM,
        mix=replace(SYSTEM.mix, reset_after=1, limit_quantile=0.5, archive_share=0.5),
        training=replace(SYSTEM.training, resampling_temperature=0.1),
        beam=BeamConfig(width=64),
    )
    system = tailored(eager, 2)
    assert system.reset_network(system.init_memory(1)) is None
    assert system.training.resampling_temperature == 0 and system.mix.limit_quantile == 0
    assert system.mix.archive_share == 0 and system.beam.width == 0
    assert TAILORED.mix.canonical_share == 0 and CANONICAL.mix.canonical_share == 1
    assert TAILORED.mix.pool == 8  # at least the games of an iteration


def test_all_games_are_played_in_one_basis():
    matrices = played_basis(TAILORED).matrices
    start = jax.jit(TAILORED.start, static_argnums=2)
    states, context = start(jax.random.key(7), TAILORED.init_memory(1), 3)
    for b in range(3):
        np.testing.assert_array_equal(context.basis.matrices[b], matrices)
        np.testing.assert_array_equal(states.residual[b], states.residual[0])
    np.testing.assert_array_equal(played_basis(CANONICAL).matrices, bases.identity(2).matrices)


def test_the_move_limit_stays_below_a_found_rank():
    assert TAILORED.limits(TAILORED.init_memory(1)).tolist() == [2]
    memory = TAILORED.init_memory(1)._replace(rank=jnp.array([2]))
    assert TAILORED.limits(memory).tolist() == [2]  # a faster scheme of the same rank is wanted


def with_target(*targets, **settings):
    return replace(SYSTEM, game=TensorGame(targets=targets, **settings))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: tailored(SYSTEM, 3), r"moves: received 3; expected 1\.\.2"),
        (
            lambda: tailored(with_target(tensors.matmul(1, 2, 1), tensors.matmul(1, 1, 2)), 2),
            "targets: received 2",
        ),
        (
            lambda: tailored(with_target(tensors.matmul_without_cubes(2, [[1], [2]])), 2),
            "2 fixed terms; expected none",
        ),
        (lambda: tailored(presets.make("neighbourhood-z2"), 23), "system: received one whose"),
        (
            lambda: replace(TAILORED, beam=BeamConfig(width=64)),
            r"beam\.width: received 64; expected 0",
        ),
        (lambda: replace(TAILORED, mix=replace(TAILORED.mix, canonical_share=0.5)), "0.5, 0.0"),
        (lambda: replace(TAILORED, mix=replace(TAILORED.mix, best_share=0.5)), "0.0, 0.5"),
        (lambda: replace(TAILORED, mix=replace(TAILORED.mix, pool=4)), "pool: received 4"),
    ],
)
def test_invalid_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def make_trajectories(factors, rewards, mask):
    """What `games.play` would return for these moves."""
    b, t, _, side = factors.shape
    observation = Observation(
        jnp.zeros((b, t, side, side, side), jnp.int8),
        jnp.zeros((b, t, 0, 3, side), jnp.int8),
        jnp.zeros((b, t, 3), jnp.int8),
        jnp.zeros((b, t), jnp.int16),
    )
    moves = Move(jnp.asarray(factors, jnp.int8))
    candidates = Move(jnp.repeat(moves.factors[:, :, None], 3, axis=2))
    result = SearchResult(moves, candidates, jnp.full((b, t, 3), 1 / 3), jnp.zeros((b, t)))
    return games.Trajectories(
        Step(observation, moves, result), jnp.asarray(rewards), jnp.asarray(mask), jnp.arange(b)
    )


def play_shard(solved, schemes):
    """The memory and the replay of a shard after four games of two moves."""
    memory = CANONICAL.init_memory(1)
    memory = memory._replace(
        pool=jax.tree.map(lambda x: x[: len(x) // 2] if x.shape[0] > 1 else x, memory.pool)
    )
    two = jnp.full(4, 2, jnp.int16)
    residual = np.where(solved, 0, 1)[:, None, None, None] * np.ones((2, 2, 2))
    states = State(
        jnp.asarray(residual, jnp.int8),
        jnp.zeros((4, 0, 3, 2), jnp.int8),
        jnp.full((4, 3), 2, jnp.int8),
        two,
        two,
    )
    basis = jax.tree.map(lambda x: jnp.stack([x] * 4), bases.identity(2))
    zeros = jnp.zeros(4, jnp.int32)
    context = Start(zeros, basis, jnp.zeros((4, 2, 3, 2), jnp.int8), zeros)
    rewards, mask = np.full((4, 2), -1, np.float32), np.ones((4, 2), bool)
    trajectories = make_trajectories(schemes[np.array([0, 0, 1, 0])], rewards, mask)
    finish = jax.jit(CANONICAL.finish)
    memory, items, item_mask, _ = finish(memory, states, context, trajectories)
    return memory, items, replay.write(replay.empty(CANONICAL.item(), 16), items, item_mask)


def test_rewards_reach_the_positions_of_their_games_once():
    """Of four games on each shard, 1 and 2 of the first and 0 of the second are solved."""
    solved = np.array([[False, True, True, False], [True, False, False, False]])
    schemes = np.zeros((2, 2, 3, 2), int)  # the naive scheme, and one of opposite signs
    for r in range(2):
        schemes[:, r, :2, r] = [[1, 1], [-1, -1]]
        schemes[:, r, 2, 0] = 1
    shards = [play_shard(solved[shard], schemes) for shard in range(2)]
    slots = [items.game.reshape(4, 2)[:, 0].tolist() for _, items, _ in shards]
    assert slots == [[0, 1, 2, 0], [1, 0, 0, 0]]
    before = np.concatenate([np.asarray(buffer.items.item.value) for *_, buffer in shards])

    def join(*x):
        return jnp.concatenate(x)

    memory = shards[0][0]._replace(pool=jax.tree.map(join, shards[0][0].pool, shards[1][0].pool))
    buffer = jax.tree.map(join, shards[0][2], shards[1][2])
    state = training.RunState(*[jnp.int32(0)] * 6, replay=buffer, memory=memory)
    state, new_schemes = add_benchmark_rewards(
        CANONICAL, state, lambda schemes: [float(s.u.sum() + 10) for s in schemes]
    )
    assert [scheme.rank for scheme in new_schemes] == [2, 2, 2]
    assert [int(scheme.u.sum()) for scheme in new_schemes] == [2, -2, 2]
    added = np.asarray(state.replay.items.item.value) - before
    np.testing.assert_array_equal(added[:8].reshape(4, 2), [[0, 0], [12, 12], [8, 8], [0, 0]])
    np.testing.assert_array_equal(added[16:24].reshape(4, 2), [[12, 12], [0, 0], [0, 0], [0, 0]])
    assert not added[8:16].any() and not added[24:].any()
    # Games that have their benchmark are not measured again.
    again, new_schemes = add_benchmark_rewards(
        CANONICAL, state, lambda schemes: pytest.fail("measured again")
    )
    assert new_schemes == []
    np.testing.assert_array_equal(again.replay.items.item.value, state.replay.items.item.value)


def test_rewards_keep_the_sharding_of_the_state(no_compilation):
    """The compiled chunk accepts the state that comes back, on two devices."""
    system = replace(TAILORED, game=replace(SYSTEM.game, ring=Ring(2)))
    mesh = training.make_mesh(2)
    state = training.init(system, jax.random.key(0), mesh)
    rewarded = []
    for iteration in range(3):
        if iteration == 2:
            with no_compilation():
                state, metrics = training.run(system, state, 1, mesh)
        else:
            state, metrics = training.run(system, state, 1, mesh)
        state, new_schemes = add_benchmark_rewards(
            system, state, lambda schemes: [0.5] * len(schemes)
        )
        assert len(new_schemes) == metrics["play/solved"][0]
        rewarded += new_schemes
    assert rewarded and all(scheme.sizes == (1, 2, 1) for scheme in rewarded)
    # Returns are whole numbers; those of the finished games end in one half.
    num_halves = np.sum(np.asarray(state.replay.items.item.value) % 1 == 0.5)
    assert num_halves == sum(scheme.rank for scheme in rewarded)
