"""Batches: targets of archive programs and of played positions, TD targets, and the mix."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax import games, replay
from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.learning import archive, batches
from alphajax.alphadev.learning.batches import Item, MixConfig
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op

GAME = AssemblyGame(task=tasks.sort(2), length_limit=11, keep_program=False)
MOV, CMP, G = Op.MOV, Op.CMP, Op.CMOVG
SORT2 = [
    (MOV, 3, 0),
    (MOV, 4, 1),
    (MOV, 0, 2),
    (CMP, 0, 1),
    (G, 1, 0),
    (G, 2, 1),
    (MOV, 0, 3),
    (MOV, 1, 4),
]


def pool_of(*programs, partial=()):
    """An archive of correct programs, then partial ones."""
    rows = [*programs, *partial]
    actions = np.full((4, 11), -1, np.int16)
    for number, program in enumerate(rows):
        actions[number, : len(program)] = [GAME.action_index(*row) for row in program]
    lengths = [len(program) for program in programs]
    priority = [-np.inf] * len(programs) + [0.5] * len(partial)
    return archive.Pool(
        jnp.asarray(actions),
        jnp.array(lengths + [12] * (4 - len(lengths)), jnp.int32),
        jnp.zeros(4),
        jnp.array(priority + [-np.inf] * (4 - len(priority)), jnp.float32),
    )


@functools.cache
def best(game=GAME, bootstrap=False):
    return jax.jit(
        lambda key, pool: batches.best_positions(key, pool, 32, game=game, bootstrap=bootstrap)
    )


def test_positions_of_a_correct_program_teach_its_next_instruction():
    batch = best()(jax.random.key(0), pool_of(SORT2))
    assert batch.policy_weight.all() and batch.value_weight.all()
    place = np.asarray(batch.observation.length)
    assert set(place) == set(range(8))
    actions = np.array([GAME.action_index(*row) for row in SORT2])
    np.testing.assert_array_equal(batch.weights.argmax(1), actions[place])
    assert (np.asarray(batch.weights.sum(1)) == 1).all()
    np.testing.assert_array_equal(batch.candidates, batch.observation.legal)
    np.testing.assert_allclose(batch.latency, 0.1 * 3, rtol=1e-6)
    first = np.asarray(batch.correctness)[place == 0]
    initial = jax.jit(GAME.init)(jax.random.key(0))
    np.testing.assert_allclose(first, 2 - float(GAME.potential(initial)), rtol=1e-6)
    assert batch.bootstrap_observation is None and not batch.bootstrap_weight.any()


def test_an_empty_archive_teaches_nothing():
    batch = best(bootstrap=True)(jax.random.key(0), archive.empty(4, 11))
    assert not batch.policy_weight.any() and not batch.value_weight.any()
    assert batch.bootstrap_observation is not None


def test_partial_programs_teach_moves_but_no_values():
    batch = best()(jax.random.key(0), pool_of(SORT2, partial=[SORT2[:6], SORT2[:4]]))
    num_valued = int((np.asarray(batch.value_weight) > 0).sum())
    assert 4 < num_valued < 20 and batch.policy_weight.all()
    partial = best()(jax.random.key(0), pool_of(partial=[SORT2[:6]]))
    assert partial.policy_weight.all() and not partial.value_weight.any()


def test_measured_speed_is_part_of_the_latency():
    rewards = dataclasses.replace(GAME.rewards, speed=2.0)
    game = dataclasses.replace(GAME, rewards=rewards)
    pool = pool_of([*SORT2[:6], (MOV, 0, 2), *SORT2[6:]])
    pool = pool._replace(speed=jnp.array([0.25, 0.0, 0.0, 0.0]))
    batch = best(game)(jax.random.key(0), pool)
    np.testing.assert_allclose(batch.latency, 0.1 * 2 + 2.0 * 0.25, rtol=1e-6)


@functools.cache
def item():
    """A played position: the empty program with 3 candidates."""
    observation = GAME.observe(jax.jit(GAME.init)(jax.random.key(0)))
    legal = np.flatnonzero(observation.legal)
    actions = jnp.array([legal[0], 40, legal[0]], jnp.int16)  # one legal candidate, twice
    return Item(
        observation=observation,
        actions=actions,
        weights=jnp.array([0.75, 0.25, 0.0]),
        correctness=jnp.float32(1.5),
        latency=jnp.float32(0.5),
        bootstrap_observation=None,
        bootstrap_weight=jnp.float32(0.0),
    )


def buffer_of(count):
    items = jax.tree.map(lambda x: x[None], item())
    empty = replay.empty(item(), 8)
    return replay.write(empty, items, jnp.ones(1, bool)) if count else empty


def test_a_played_position_has_the_weights_of_its_search():
    batch = batches.played_positions(jax.random.key(0), buffer_of(1), 5, game=GAME)
    actions = item().actions.tolist()
    expected = np.zeros(GAME.action_count)
    expected[actions[0]], expected[actions[1]] = 0.75, 0.25
    np.testing.assert_allclose(batch.weights, np.tile(expected, (5, 1)))
    assert (np.asarray(batch.candidates) <= np.asarray(batch.observation.legal)).all()
    assert np.asarray(batch.candidates).sum(1).tolist() == [1] * 5
    assert batch.policy_weight.tolist() == [1] * 5 == batch.value_weight.tolist()
    assert batch.correctness.tolist() == [1.5] * 5 and batch.latency.tolist() == [0.5] * 5


def make(config, pool, buffer, key=0):
    run = jax.jit(
        lambda key, pool: batches.make_batch(
            key, pool, buffer, 32, game=GAME, config=config, bootstrap=False
        )
    )
    return run(jax.random.key(key), pool)


def test_an_empty_buffer_teaches_nothing():
    batch = make(MixConfig(best_share=0.5), archive.empty(4, 11), buffer_of(0))
    assert batch.policy_weight.shape == (32,) and not batch.policy_weight.any()


@pytest.mark.parametrize("share, count", [(0.0, 0), (0.25, 8), (1.0, 32)])
def test_the_archive_has_its_share_of_a_batch(share, count):
    batch = make(MixConfig(best_share=share), pool_of(SORT2), buffer_of(1))
    # The played position has another return than all positions of the program.
    assert int((np.asarray(batch.correctness) != 1.5).sum()) == count


def test_registers_are_renamed_in_the_whole_batch():
    pool, buffer = pool_of(SORT2), buffer_of(0)
    config = MixConfig(best_share=1.0)
    plain = make(config, pool, buffer)
    renamed = make(dataclasses.replace(config, rename_registers=True), pool, buffer)
    registers = [np.asarray(x.observation.contents[:, :3]) for x in (plain, renamed)]
    assert (registers[0] != registers[1]).any()
    same = [np.sort(x.reshape(32, 3, -1), 1) for x in registers]
    np.testing.assert_array_equal(*same)
    np.testing.assert_array_equal(plain.weights.sum(1), renamed.weights.sum(1))
    assert (np.asarray(renamed.weights)[~np.asarray(renamed.candidates)] == 0).all()
    np.testing.assert_array_equal(plain.correctness, renamed.correctness)


def test_bootstrap_observations_are_renamed_too():
    table = symmetries.register_renamings(GAME)
    batch = best(bootstrap=True)(jax.random.key(0), pool_of(SORT2))
    index = jnp.arange(32) % len(table.location_sources)
    renamed = jax.jit(lambda x: batches.rename_batch(table, index, x))(batch)
    np.testing.assert_array_equal(
        renamed.bootstrap_observation.contents, renamed.observation.contents
    )


def test_td_targets_telescope():
    rewards = jnp.array([[1.0, 2.0, 4.0, 8.0], [1.0, 1.0, 0.0, 0.0]])
    mask = jnp.array([[True] * 4, [True, True, False, False]])
    value = jnp.where(mask, games.returns(rewards), 0.0)
    observation = jax.tree.map(lambda x: jnp.arange(8).reshape(2, 4), item().observation)
    target, later, weight = batches.td_targets(value, observation, mask, 2)
    assert target.tolist() == [[3, 6, 12, 8], [2, 1, 0, 0]]
    assert weight.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert later.length.tolist() == [[2, 3, 0, 0], [6, 7, 0, 0]]


@given(st.lists(st.integers(-4, 4), min_size=6, max_size=6), st.integers(1, 6), st.integers(1, 5))
def test_td_targets_are_sums_of_the_next_rewards(rewards, length, steps):
    mask = np.arange(6) < length
    rewards = np.where(mask, rewards, 0).astype(np.float32)
    value = np.cumsum(rewards[::-1])[::-1].copy()
    observation = jax.tree.map(lambda x: jnp.zeros((1, 6)), item().observation)
    target, _, weight = batches.td_targets(
        jnp.asarray(value)[None], observation, jnp.asarray(mask)[None], steps
    )
    for t in range(6):
        assert float(target[0, t]) == rewards[t : t + steps].sum()
        assert bool(weight[0, t]) == (t + steps < length)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(best_share=2.0), r"best_share: received 2.0; expected 0..1"),
        (dict(archive_share=-0.5), "archive_share: received -0.5"),
        (dict(random_moves=-1), "random_moves: received -1; expected a whole number, 0 or more"),
        (dict(reset_after=-1), "reset_after: received -1"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MixConfig(**settings)
