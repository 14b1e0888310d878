"""The agent: how games start, what is remembered, network resets, and the whole loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import training
from alphajax.alphadev import presets
from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.learning import archive, batches
from alphajax.alphadev.learning.batches import MixConfig
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.network.network import NetworkConfig
from alphajax.alphadev.programs.proof import prove
from alphajax.search import SearchConfig
from alphajax.training import TrainingConfig

SYSTEM = AlphaDev(
    game=AssemblyGame(task=tasks.sort(2), length_limit=11, keep_program=False),
    network=NetworkConfig(
        program_layers=0,
        test_widths=(8,),
        width=8,
        blocks=1,
        bins=9,
        value_low=-1.0,
        td_steps=2,
    ),
    search=SearchConfig(algorithm="gumbel", simulations=4, candidates=8, max_depth=3),
    training=TrainingConfig(games=32, learner_steps=2, batch=16, capacity=512),
    mix=MixConfig(best_share=0.5, random_share=0.5, random_moves=3),
)
GAME = SYSTEM.game
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
LONGER = [*SORT2[:6], (MOV, 0, 2), *SORT2[6:]]


def with_mix(**changes):
    return dataclasses.replace(SYSTEM, mix=dataclasses.replace(SYSTEM.mix, **changes))


def encode(program, size=11):
    actions = [GAME.action_index(*row) for row in program]
    return jnp.array(actions + [-1] * (size - len(actions)), jnp.int16)


@functools.cache
def remember(system=SYSTEM):
    return jax.jit(system.remember)


def memory_of(*programs):
    """A memory of one device with these correct programs in it."""
    actions = jnp.stack([encode(program) for program in programs])
    length = jnp.array([len(program) for program in programs], jnp.int32)
    return remember()(SYSTEM.init_memory(1), actions, length)


def assert_replayed(states, prefix):
    """States are those of replayed prefixes."""
    keys = jax.random.split(jax.random.key(0), len(prefix))
    again = jax.jit(jax.vmap(GAME.replay))(keys, prefix, states.length, states.limit)
    np.testing.assert_array_equal(again.machine.contents, states.machine.contents)
    np.testing.assert_array_equal(again.legal, states.legal)


def test_games_start_empty_or_with_random_legal_moves():
    memory = SYSTEM.init_memory(1)
    states, prefix = jax.jit(lambda key: SYSTEM.start(key, memory, 64))(jax.random.key(0))
    lengths = np.asarray(states.length)
    assert set(lengths) == {0, 1, 2, 3} and 20 < (lengths == 0).sum() < 60
    np.testing.assert_array_equal((np.asarray(prefix) >= 0).sum(1), lengths)
    assert_replayed(states, prefix)
    assert len(np.unique(np.asarray(prefix), axis=0)) > 5


def test_some_games_start_from_prefixes_of_archive_programs():
    system = with_mix(archive_share=0.5, random_share=0.25)
    start = jax.jit(system.start, static_argnums=2)
    states, prefix = start(jax.random.key(0), memory_of(SORT2), 128)
    whole = np.asarray(encode(SORT2))
    lengths = (np.asarray(prefix) >= 0).sum(1)
    np.testing.assert_array_equal(lengths, states.length)
    # Number of moves in common with the program.
    common = (np.cumprod(np.asarray(prefix) == whole, axis=1) * (whole >= 0)).sum(1)
    is_prefix = (common > 3) & (lengths == common)
    assert 20 < is_prefix.sum() < 60 and set(common[is_prefix]) == {4, 5, 6, 7}
    assert ((common >= 3) & (lengths > common)).any() and (lengths == 0).sum() > 20
    assert_replayed(states, prefix)
    # With an empty archive there are only random moves.
    _, prefix = start(jax.random.key(0), SYSTEM.init_memory(1), 128)
    assert (np.asarray(prefix) >= 0).sum(1).max() <= 3


def test_games_start_from_partial_programs_too():
    system = with_mix(partial_programs=True, archive_share=1.0, random_share=0.0)
    programs = jnp.stack([encode(SORT2), encode(SORT2[:6])])
    length, priority = jnp.array([8, 12], jnp.int32), jnp.array([-jnp.inf, 0.4])
    memory = remember(system)(system.init_memory(1), programs, length, priority)
    assert int(memory.length) == 8 and int(archive.num_programs(memory.pool)) == 2
    _, prefix = jax.jit(lambda key: system.start(key, memory, 64))(jax.random.key(1))
    prefixes = {tuple(x for x in row if x >= 0) for row in np.asarray(prefix).tolist()}
    assert tuple(encode(SORT2[:6], 6).tolist()) in prefixes
    assert tuple(encode(SORT2, 8).tolist()) not in prefixes


def test_the_shortest_program_is_remembered():
    memory = memory_of(LONGER, SORT2, SORT2, LONGER)
    assert int(memory.length) == 8 and bool(memory.best_is_current)
    assert memory.actions.tolist() == encode(SORT2).tolist()
    assert memory.pool.length.tolist() == [8, 9, *[12] * 62]


def test_a_stagnating_network_is_reset():
    system = with_mix(reset_after=2)
    insert, none = remember(system), jnp.array([12], jnp.int32)
    memory = system.init_memory(1)
    for _ in range(5):  # without a correct program, nothing stagnates
        memory = insert(memory, encode([])[None], none)
        assert not system.reset_network(memory)[0] and not bool(memory.best_is_current)
    memory = insert(memory, encode(SORT2)[None], jnp.array([8], jnp.int32))
    assert int(memory.stagnation) == 0 and bool(memory.best_is_current)
    for stagnation in (1, 2):
        assert not system.reset_network(memory)[0]
        memory = insert(memory, encode(LONGER)[None], jnp.array([9], jnp.int32))
        assert int(memory.stagnation) == stagnation
    assert int(memory.num_resets) == 0
    is_due, memory = system.reset_network(memory)
    assert is_due and int(memory.num_resets) == 1
    assert (np.asarray(memory.pool.length) == 12).all()
    # The shortest program stays, but not in the archive; a longer one of the new network counts.
    memory = insert(memory, encode([])[None], none)
    assert int(memory.length) == 8 and (np.asarray(memory.pool.length) == 12).all()
    memory = insert(memory, encode(LONGER)[None], jnp.array([9], jnp.int32))
    assert int(memory.stagnation) == 0 and memory.pool.length.tolist()[:2] == [9, 12]
    assert int(memory.length) == 8 and memory.actions.tolist() == encode(SORT2).tolist()
    assert SYSTEM.reset_network(memory) is None


@functools.cache
def mesh(devices):
    return training.make_mesh(devices)


@functools.cache
def run(devices=2, chunks=4):
    state, metrics = training.init(SYSTEM, jax.random.key(0), mesh(devices)), []
    for _ in range(chunks):
        state, chunk = training.run(SYSTEM, state, 1, mesh(devices))
        metrics.append(jax.device_get(chunk))
    return state, jax.tree.map(lambda *x: np.concatenate(x), *metrics)


def test_the_loop_finds_programs_and_keeps_the_best():
    state, metrics = run()
    assert metrics["games"].tolist() == [32, 64, 96, 128]
    assert all(np.isfinite(x).all() for x in metrics.values())
    assert metrics["play/solved"].sum() > 0
    best = metrics["best_length"][-1]
    assert best <= 11 and (np.diff(metrics["best_length"]) <= 0).all()
    program = GAME.program(state.memory.actions)
    assert len(program) == best and prove(program, GAME.task)
    assert metrics["limit"].tolist() == [11] * 4 and metrics["num_resets"].tolist() == [0] * 4
    # Each device has an archive of its own, the shortest programs first.
    lengths = np.asarray(state.memory.pool.length).reshape(2, -1)
    assert (np.diff(lengths, axis=1) >= 0).all()


def test_the_replay_buffer_holds_legal_positions():
    state, _ = run()
    filled = int(state.replay.filled.min())
    items = jax.tree.map(lambda x: np.asarray(x)[:filled], state.replay.items)
    assert filled > 20
    np.testing.assert_allclose(items.weights.sum(1), 1, rtol=1e-4)
    for legal, actions, weights in zip(
        items.observation.legal, items.actions, items.weights, strict=True
    ):
        assert legal[actions[weights > 1e-6]].all()
    assert ((items.bootstrap_weight == 0) | (items.bootstrap_weight == 1)).all()
    one_device = jax.tree.map(lambda x: x[: len(x) // 2], jax.device_get(state.replay))
    batch = jax.jit(lambda b: batches.played_positions(jax.random.key(0), b, 16, game=GAME))(
        one_device
    )
    np.testing.assert_allclose(batch.weights.sum(1), 1, rtol=1e-4)
    assert (np.asarray(batch.candidates) <= np.asarray(batch.observation.legal)).all()


def test_the_target_network_lags():
    state, _ = run()
    assert int(state.learner_step) == 8  # the first copy is at step 100
    first = training.init(SYSTEM, jax.random.key(0), mesh(2)).params
    leaves = [jax.tree.leaves(x) for x in (first["online"], *state.params.values())]
    assert set(state.params) == {"online", "target"}
    for initial, online, target in zip(*leaves, strict=True):
        np.testing.assert_array_equal(target, initial)
        assert (np.asarray(online) != initial).any()


def test_a_run_starts_over_when_a_reset_is_due():
    system = with_mix(reset_after=1)
    state = training.init(system, jax.random.key(3), mesh(2))
    before = jax.tree.map(np.asarray, state.params)
    memory = state.memory._replace(stagnation=state.memory.stagnation + 1)
    state, metrics = training.run(
        system, state._replace(memory=memory, games=state.games + 5), 1, mesh(2)
    )
    assert metrics["num_resets"].tolist() == [1] and int(state.games) == 5 + 32
    assert int(state.learner_step) == system.training.learner_steps
    # There was nothing to learn from; so the parameters are those of a new network.
    change = [
        np.abs(a - b).max()
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True)
    ]
    assert max(change) > 0.1
    assert (np.asarray(state.replay.filled) > 0).all()


class TestPriorKnowledge:
    def test_it_names_masks_potential_and_limit(self):
        assert presets.make("sort3").prior_knowledge() == (
            "masks beyond the paper: effective, ordered_compare, viable, right_stores, in_time",
            "reward potential beyond the paper: reached",
            "move limit 22, near the human benchmark's 18 instructions",
        )

    def test_masks_that_are_off_are_not_named(self):
        first, potential, _ = presets.make("sort4").prior_knowledge()
        assert "effective" not in first and potential.endswith("permutations")
        strict = presets.make("sort5").prior_knowledge()
        assert "tie_consistent" in strict[0] and "loads_first" not in strict[0]

    @pytest.mark.parametrize("preset", presets.PRESETS)
    def test_the_papers_rules_are_none(self, preset):
        assert presets.make(preset, plain=True).prior_knowledge() == ()

    def test_the_paper_preset_has_none(self):
        assert presets.make("paper").prior_knowledge() == ()

    def test_a_limit_far_from_the_benchmark_is_not_named(self):
        knowledge = presets.make("varsort3", overrides={"game.length_limit": 100})
        assert not any("limit" in phrase for phrase in knowledge.prior_knowledge())
        assert any("limit 45" in phrase for phrase in presets.make("varsort3").prior_knowledge())

    def test_a_limit_under_the_papers_rules_is_named_if_it_was_lowered(self):
        system = presets.make("varsort3", plain=True, overrides={"game.length_limit": 40})
        assert system.prior_knowledge() == (
            "move limit 40, near the human benchmark's 33 instructions",
        )

    def test_a_single_mask_is_named(self):
        system = presets.make(
            "swap-move", plain=True, overrides={"game.restrictions.loads_first": True}
        )
        assert system.prior_knowledge() == ("masks beyond the paper: loads_first",)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(uniform=True), "uniform: received True"),
        (dict(training=TrainingConfig(games=0)), "training.games: received 0"),
        (dict(network=NetworkConfig()), "keep_program: received False"),
        (dict(mix=MixConfig(random_moves=11)), "random_moves: received 11; expected below"),
        (
            dict(
                mix=MixConfig(partial_programs=True),
                game=dataclasses.replace(
                    GAME, rewards=dataclasses.replace(GAME.rewards, weight=0.0)
                ),
            ),
            "partial_programs: received True with rewards.weight 0",
        ),
    ],
)
def test_contradictory_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SYSTEM, **changes)
