"""Benchmarks reach the returns of exactly the positions of the games that earned them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import games, training
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam.beam import BeamConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.tensor_game import Observation, State, TensorGame
from alphajax.alphatensor.learning.archive import Start
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.policy import NetworkConfig
from alphajax.alphatensor.tailored_agent import played_basis, settle, tailored
from alphajax.search import SearchConfig, SearchResult
from alphajax.training import Step, TrainingConfig

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
TUNED = tailored(SYSTEM, 2)
PLAIN = tailored(SYSTEM, 2, basis=None)


def test_the_agent_plays_what_is_measured():
    assert TUNED.mix.canonical_share == 0 and PLAIN.mix.canonical_share == 1 and TUNED.mix.pool == 8
    # A trained network is never given up for a new one, and no game takes another's place.
    eager = replace(
        SYSTEM,
        mix=replace(SYSTEM.mix, patience=1, mastery=0.5, archive_share=0.5),
        training=replace(SYSTEM.training, winners=0.1),
        beam=BeamConfig(width=64),
    )
    tuned = tailored(eager, 2)
    assert tuned.renew(tuned.init_memory(1)) is None and tuned.training.winners == 0
    assert (tuned.mix.mastery, tuned.mix.archive_share, tuned.beam.width) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"beam\.width: received 64"):
        replace(tuned, beam=BeamConfig(width=64))
    matrices = played_basis(TUNED).matrices
    states, begun = jax.jit(TUNED.start, static_argnums=2)(
        jax.random.key(7), TUNED.init_memory(1), 3
    )
    for b in range(3):  # the same for all, whatever the key
        np.testing.assert_array_equal(begun.basis.matrices[b], matrices)
        np.testing.assert_array_equal(states.residual[b], states.residual[0])
    np.testing.assert_array_equal(played_basis(PLAIN).matrices, bases.identity(2).matrices)
    assert TUNED.limits(TUNED.init_memory(1)).tolist() == [2]
    memory = TUNED.init_memory(1)._replace(rank=jnp.array([2]))
    assert TUNED.limits(memory).tolist() == [2]  # a faster one of the same rank is wanted
    with pytest.raises(ValueError, match=r"moves: received 3; expected 1\.\.2"):
        tailored(SYSTEM, 3)
    with pytest.raises(ValueError, match="targets: received 2"):
        targets = (tensors.matmul(1, 2, 1), tensors.matmul(1, 1, 2))
        tailored(replace(SYSTEM, game=TensorGame(targets=targets)), 2)
    with pytest.raises(ValueError, match="given cubes"):
        part = tensors.matmul_without_cubes(2, [[1], [2]])
        tailored(replace(SYSTEM, game=TensorGame(targets=(part,))), 2)
    for changed in (dict(canonical_share=0.5), dict(best_share=0.5), dict(pool=4)):
        with pytest.raises(ValueError, match=next(iter(changed))):
            replace(TUNED, mix=replace(TUNED.mix, **changed))


def trajectories(factors, rewards, mask):
    b, t, _, side = factors.shape
    seen = Observation(
        jnp.zeros((b, t, side, side, side), jnp.int8),
        jnp.zeros((b, t, 0, 3, side), jnp.int8),
        jnp.zeros((b, t, 3), jnp.int8),
        jnp.zeros((b, t), jnp.int16),
    )
    moves = Move(jnp.asarray(factors, jnp.int8))
    candidates = Move(jnp.repeat(moves.factors[:, :, None], 3, axis=2))
    found = SearchResult(moves, candidates, jnp.full((b, t, 3), 1 / 3), jnp.zeros((b, t)))
    return games.Trajectories(
        Step(seen, moves, found), jnp.asarray(rewards), jnp.asarray(mask), jnp.arange(b)
    )


def test_rewards_reach_the_positions_of_their_games_once():
    """Four games on each of two shards; games 1 and 2 of the first, and 0 of the second, end at zero."""
    solved = np.array([[False, True, True, False], [True, False, False, False]])
    schemes = np.zeros((2, 2, 3, 2), int)  # the naive scheme, and one of opposite signs
    for r in range(2):
        schemes[:, r, :2, r] = [[1, 1], [-1, -1]]
        schemes[:, r, 2, 0] = 1
    mask = np.ones((4, 2), bool)
    parts, buffers, before = [], [], []
    finish = jax.jit(PLAIN.finish)
    for shard in range(2):
        memory = PLAIN.init_memory(1)
        memory = memory._replace(
            finished=jax.tree.map(
                lambda x: x[: len(x) // 2] if x.shape[0] > 1 else x, memory.finished
            )
        )
        two = jnp.full(4, 2, jnp.int16)
        residual = jnp.asarray(
            np.where(solved[shard], 0, 1)[:, None, None, None] * np.ones((2, 2, 2)), jnp.int8
        )
        states = State(
            residual, jnp.zeros((4, 0, 3, 2), jnp.int8), jnp.full((4, 3), 2, jnp.int8), two, two
        )
        basis = jax.tree.map(lambda x: jnp.stack([x] * 4), bases.identity(2))
        zeros = jnp.zeros(4, jnp.int32)
        context = Start(zeros, basis, jnp.zeros((4, 2, 3, 2), jnp.int8), zeros)
        rewards = np.full((4, 2), -1, np.float32)
        played = trajectories(schemes[np.array([0, 0, 1, 0])], rewards, mask)
        memory, items, kept, _ = finish(memory, states, context, played)
        assert items.game.reshape(4, 2)[:, 0].tolist() == [[0, 1, 2, 0], [1, 0, 0, 0]][shard]
        buffer = training.replay.write(training.replay.empty(PLAIN.item(), 16), items, kept)
        parts.append(memory)
        buffers.append(buffer)
        before.append(np.asarray(buffer.items.item.value))
    both = lambda *x: jnp.concatenate(x)  # noqa: E731
    memory = parts[0]._replace(finished=jax.tree.map(both, parts[0].finished, parts[1].finished))
    state = training.RunState(
        *[jnp.int32(0)] * 6, replay=jax.tree.map(both, *buffers), memory=memory
    )
    state, found = settle(PLAIN, state, lambda schemes: [float(s.u.sum() + 10) for s in schemes])
    assert [scheme.rank for scheme in found] == [2, 2, 2]
    assert [int(scheme.u.sum()) for scheme in found] == [2, -2, 2]
    added = np.asarray(state.replay.items.item.value) - np.concatenate(before)
    np.testing.assert_array_equal(added[:8].reshape(4, 2), [[0, 0], [12, 12], [8, 8], [0, 0]])
    np.testing.assert_array_equal(added[16:24].reshape(4, 2), [[12, 12], [0, 0], [0, 0], [0, 0]])
    assert not added[8:16].any() and not added[24:].any()
    again, none = settle(PLAIN, state, lambda schemes: pytest.fail("nothing is new"))
    assert none == []
    np.testing.assert_array_equal(again.replay.items.item.value, state.replay.items.item.value)


def test_it_trains_on_several_devices_without_compiling_again(no_compilation):
    """The state that `settle` gives back lies where the compiled chunk expects it."""
    system = replace(TUNED, game=replace(SYSTEM.game, ring=Ring(2)))
    mesh = training.make_mesh(2)
    state = training.init(system, jax.random.key(0), mesh)
    paid = []
    for iteration in range(3):
        if iteration == 2:
            with no_compilation():
                state, metrics = training.run(system, state, 1, mesh)
        else:
            state, metrics = training.run(system, state, 1, mesh)
        state, found = settle(system, state, lambda schemes: [0.5] * len(schemes))
        assert len(found) == metrics["play/solved"][0]
        paid += found
    assert paid and all(scheme.sizes == (1, 2, 1) for scheme in paid)
    value = np.asarray(state.replay.items.item.value)
    # Returns are whole numbers; those of the finished games carry the half.
    halves = np.sum(value % 1 == 0.5)
    assert halves == sum(scheme.rank for scheme in paid)
