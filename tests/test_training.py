"""The loop on four devices: deterministic, traced once, and its results are remembered."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import training
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.search import SearchConfig
from alphajax.system import TrainingConfig

SYSTEM = AlphaTensor(
    # Both have rank 2, which an untrained network finds at once.
    game=TensorGame(
        targets=(tensors.matmul(1, 1, 2), tensors.matmul(1, 2, 1)), ring=Ring(2), history=1
    ),
    network=NetworkConfig(
        torso="dense",
        head="dense",
        width=8,
        blocks=1,
        widening=1,
        policy_width=8,
        policy_layers=1,
        token_entries=2,
        value_width=8,
        # With one, compiled with as few optimizations as tests are (`conftest.py`), a chunk of two
        # iterations differs from two chunks of one in last bits; compiled as usual it does not.
        value_layers=2,
        signed_permutations=False,
    ),
    search=SearchConfig(algorithm="gumbel", simulations=4, candidates=4, max_depth=2),
    training=TrainingConfig(
        games=32,
        learner_steps=2,
        batch=16,
        capacity=128,
        warmup_steps=4,
        learning_rate=1e-2,
    ),
    mix=MixConfig(pool=64, best_share=0.25, shared_basis=False),
)


def bits(tree):
    """Every array as bytes, keys included."""
    return [
        np.asarray(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ).tobytes()
        for x in jax.tree.leaves(tree)
    ]


@functools.cache
def mesh(devices):
    return training.make_mesh(devices)


def play(system, chunks, iterations, devices=4, seed=0):
    """The state after that many chunks, and all metrics."""
    state, metrics = training.init(system, jax.random.key(seed), mesh(devices)), []
    for _ in range(chunks):
        state, found = training.run(system, state, iterations, mesh(devices))
        metrics.append(jax.device_get(found))
    return state, jax.tree.map(lambda *x: np.concatenate(x), *metrics)


@functools.cache
def four_devices():
    return play(SYSTEM, 4, 1)


def test_nothing_is_played_before_the_warm_up_is_over():
    state, metrics = four_devices()
    assert metrics["learner_step"].tolist() == [2, 4, 6, 8]
    assert metrics["games"].tolist() == [0, 32, 64, 96]
    assert (metrics["play/moves"] > 0).tolist() == [False, True, True, True]
    assert state.iteration == 4 and state.learner_step == 8
    assert all(np.isfinite(x).all() for x in metrics.values())


def test_an_advantage_is_the_reward_plus_the_change_of_the_value():
    """The control's value is minus the slice-rank bound: 4 for 1 x 2 by 2 x 2, which is right."""
    system = AlphaTensor(
        game=TensorGame(targets=(tensors.matmul(1, 2, 2),), ring=Ring(2), history=1),
        training=TrainingConfig(learn=False, resampling_temperature=0.5),
        uniform=True,
    )
    game, limit = system.game, jnp.full(3, 4)
    before = jax.vmap(lambda limit: game.start(jnp.int32(0), limit))(limit)
    place = np.argwhere(tensors.matmul(1, 2, 2).array)[0]
    good = np.zeros((3, game.side), np.int8)
    good[range(3), place] = 1
    bad = np.ones((3, game.side), np.int8)
    after, rewards = jax.vmap(game.step)(before, Move(jnp.array([good, bad, good])))
    # The last of the three was at its limit.
    failed, final = jax.vmap(game.step)(
        before._replace(limit=jnp.array([4, 4, 1], before.limit.dtype)),
        Move(jnp.array([good, bad, good])),
    )
    gains = training.advantages(system, {}, rewards, before, after)
    bounds = -system.policy.values({}, jax.vmap(game.observe)(after))
    assert bounds[0] == 3 and bounds[1] > 3
    np.testing.assert_allclose(gains, 3 - bounds)
    np.testing.assert_allclose(training.advantages(system, {}, final, before, failed)[2], 0.0)
    nothing = training.advantages(system, {}, jnp.zeros(3), failed, failed)
    np.testing.assert_allclose(nothing, 0.0)
    with pytest.raises(ValueError, match=r"resampling_temperature: received .* with 2 targets"):
        dataclasses.replace(
            SYSTEM, training=dataclasses.replace(SYSTEM.training, resampling_temperature=0.1)
        )
    with pytest.raises(ValueError, match="resampling_temperature: received -1"):
        TrainingConfig(resampling_temperature=-1.0)


def test_the_best_factors_decompose_their_target_and_lower_the_limit():
    state, metrics = four_devices()
    assert metrics["best_rank"][0].tolist() == [3, 3] and metrics["limit"][0].tolist() == [2, 2]
    assert metrics["best_rank"][-1].tolist() == [2, 2]
    assert metrics["limit"][-1].tolist() == [1, 1]
    for index in range(2):
        u, v, w = np.moveaxis(np.asarray(state.memory.factors[index], int), 1, 0)
        tensor = np.einsum("ri,rj,rk->ijk", u, v, w) % 2
        np.testing.assert_array_equal(tensor, SYSTEM.game.padded_targets[index])


def test_each_device_plays_its_own_games():
    state, _ = four_devices()
    filled, actions = np.asarray(state.replay.filled), np.asarray(state.replay.items.actions)
    assert filled.shape == (4,) and (filled > 8).all()
    shards = actions.reshape(4, -1, *actions.shape[1:])
    assert len({shard[: filled.min()].tobytes() for shard in shards}) == 4
    assert len(state.replay.items.actions.sharding.device_set) == 4
    assert state.learner_step.sharding.is_fully_replicated
    for x in jax.tree.leaves(state.params):  # gradients were averaged: every copy is the same
        assert x.sharding.is_fully_replicated
        assert len({np.asarray(shard.data).tobytes() for shard in x.addressable_shards}) == 1


def test_chunks_are_compiled_once(no_compilation):
    state, _ = play(SYSTEM, 2, 1)
    with no_compilation():
        for _ in range(2):
            state, _ = training.run(SYSTEM, state, 1, mesh(4))
        jax.block_until_ready(state)


def test_the_same_seed_gives_the_same_bits():
    again, metrics = play(SYSTEM, 4, 1)
    assert bits(again) == bits(four_devices()[0])
    assert bits(metrics) == bits(four_devices()[1])
    other, _ = play(SYSTEM, 4, 1, seed=1)
    assert bits(other.params) != bits(again.params)


def test_how_a_run_is_cut_into_chunks_does_not_matter():
    """Bit for bit: a resumed run must be the run that was never interrupted."""
    whole, metrics = play(SYSTEM, 2, 2)
    assert bits(whole) == bits(four_devices()[0])
    assert bits(metrics) == bits(four_devices()[1])


def test_donated_states_are_gone():
    state = training.init(SYSTEM, jax.random.key(0), mesh(4))
    training.run(SYSTEM, state, 1, mesh(4))
    assert state.replay.items.actions.is_deleted()


def test_an_abstract_state_is_the_shape_of_a_real_one():
    state, shapes = four_devices()[0], training.abstract(SYSTEM, jax.random.key(0), mesh(4))
    for real, shape in zip(jax.tree.leaves(state), jax.tree.leaves(shapes), strict=True):
        assert (real.shape, real.dtype) == (shape.shape, shape.dtype)
        assert real.sharding.is_equivalent_to(shape.sharding, real.ndim)


CONTROL = dataclasses.replace(SYSTEM.training, learn=False)


@pytest.mark.parametrize("uniform", [False, True], ids=["untrained", "uniform"])
def test_controls_play_without_learning(uniform):
    """On one device: a mesh of one."""
    mix = dataclasses.replace(SYSTEM.mix, canonical_share=1.0)
    system = dataclasses.replace(SYSTEM, training=CONTROL, uniform=uniform, mix=mix)
    start = training.init(system, jax.random.key(0), mesh(1)).params
    state, metrics = play(system, 2, 1, devices=1)
    assert bits(state.params) == bits(start) and state.learner_step == 0
    assert metrics["games"].tolist() == [32, 64]
    assert metrics["best_rank"][-1].tolist() == [2, 2]
    assert not any(name.startswith("learn/") for name in metrics)


def test_learning_rate_schedule_and_clipping():
    config = TrainingConfig(learning_rate=1.0, decay_step=104, clip=1e-3, weight_decay=0.0)
    update = training.optimizer(config)
    params = jnp.zeros(2)

    def step(state, _):
        change, state = update.update(jnp.array([30.0, 40.0]), state, params)
        return state, -change[0]

    state, sizes = jax.lax.scan(step, update.init(params), length=106)
    expected = [*np.linspace(0, 1, 101), 1, 1, 1, 0.1, 0.1]  # a hundred steps of warm-up
    np.testing.assert_allclose(sizes, expected, rtol=1e-4)
    clipped = optax_momentum(state)
    np.testing.assert_allclose(np.linalg.norm(clipped), 1e-3, rtol=1e-3)


def optax_momentum(state):
    """Adam's running mean of gradients, which shows what reached it."""
    return next(
        leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state) if "mu" in str(path)
    )


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(games=-1), "games: received -1; expected a whole number, 0 or more"),
        (dict(learner_steps=-1), "learner_steps: received -1"),
        (dict(batch=0), "batch: received 0"),
        (dict(capacity=0), "capacity: received 0"),
        (dict(learning_rate=float("nan")), "learning_rate: received nan; expected a finite number"),
        (dict(learning_rate=0.0), "learning_rate: received 0.0"),
        (dict(clip=float("inf")), "clip: received inf"),
        (dict(weight_decay=-1.0), "weight_decay: received -1.0"),
    ],
)
def test_impossible_values_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        TrainingConfig(**arguments)


@pytest.mark.parametrize("field", ["games", "batch", "capacity"])
def test_counts_must_divide_over_the_devices(field):
    config = dataclasses.replace(SYSTEM.training, **{field: 66})
    system = dataclasses.replace(SYSTEM, training=config)
    with pytest.raises(ValueError, match=f"{field}: received 66; expected a multiple .* 4"):
        training.init(system, jax.random.key(0), mesh(4))


@pytest.mark.parametrize("count", [0, 5])
def test_a_mesh_of_missing_devices_is_refused(count):
    with pytest.raises(ValueError, match=f"devices: received {count}; expected 1 to 4"):
        training.make_mesh(count)
