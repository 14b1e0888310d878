"""The agent: how games start, what is remembered, what is learned from, and the whole loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import games, replay, runs, training
from alphajax.alphadev import latency_reward, presets
from alphajax.alphadev.agent import AlphaDev, MixConfig
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.learning import archive
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.network.policy import NetworkConfig
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


def numbers(triples, size=11):
    actions = [GAME.number(*triple) for triple in triples]
    return jnp.array(actions + [-1] * (size - len(actions)), jnp.int16)


remember = jax.jit(SYSTEM._remember)


def remembered(*programs):
    """A memory of one device with these programs in it."""
    memory = SYSTEM.init_memory(1)
    actions = jnp.stack([numbers(program) for program in programs])
    length = jnp.array([len(program) for program in programs], jnp.int32)
    return remember(memory, actions, length)


def test_games_start_empty_or_with_random_legal_moves():
    memory = SYSTEM.init_memory(1)
    states, prefix = jax.jit(lambda key: SYSTEM.start(key, memory, 64))(jax.random.key(0))
    lengths = np.asarray(states.length)
    assert set(lengths) == {0, 1, 2, 3} and 20 < (lengths == 0).sum() < 60
    np.testing.assert_array_equal((np.asarray(prefix) >= 0).sum(1), lengths)
    keys = jax.random.split(jax.random.key(0), len(prefix))
    again = jax.jit(jax.vmap(GAME.replay))(keys, prefix, states.length, states.limit)
    np.testing.assert_array_equal(again.machine.held, states.machine.held)
    np.testing.assert_array_equal(again.legal, states.legal)
    assert len(np.unique(np.asarray(prefix), axis=0)) > 5


def test_redundant_instructions_are_deleted():
    useless = [*SORT2[:4], (Op.CMOVLE, 0, 2), *SORT2[4:6], (MOV, 2, 0), *SORT2[6:]]
    wordy = [*SORT2[:6], (MOV, 0, 2), *SORT2[6:]]
    shorten = jax.jit(lambda program, right: archive.without_redundant(GAME, program, right, False))
    right = jnp.bool_(True)
    assert shorten(numbers(wordy), right).tolist() == numbers(SORT2).tolist()
    assert shorten(numbers(SORT2), right).tolist() == numbers(SORT2).tolist()
    wrong = numbers(useless)
    assert shorten(wrong, jnp.bool_(False)).tolist() == wrong.tolist()


def test_the_shortest_programs_are_remembered_once():
    longer = [*SORT2[:6], (MOV, 0, 2), *SORT2[6:]]
    memory = remembered(longer, SORT2, SORT2, longer)
    assert int(memory.length) == 8
    assert memory.actions.tolist() == numbers(SORT2).tolist()
    assert memory.pool.length.tolist() == [8, 9, *[12] * 62]
    assert not memory.pool.speed.any()


EXPLORER = dataclasses.replace(
    SYSTEM,
    mix=dataclasses.replace(SYSTEM.mix, unfinished=True, archive_share=1.0, random_share=0.0),
)


def test_promising_beginnings_are_remembered_behind_the_right_programs():
    """Each state once, whatever its registers are called: the shorter way, in order of merit."""
    ahead = [(MOV, 3, 0), (MOV, 4, 1), (CMP, 0, 1)]
    renamed = [(MOV, 3, 1), (MOV, 4, 2), (CMP, 1, 2)]
    around = [*ahead[:1], (MOV, 0, 2), (MOV, 4, 1), (MOV, 1, 2), (CMP, 0, 1)]
    programs = jnp.stack([numbers(x) for x in (around, renamed, ahead, SORT2, SORT2[:6])])
    length = jnp.array([12, 12, 12, 8, 12], jnp.int32)
    merit = jnp.array([0.1, 0.3, 0.2, -jnp.inf, 0.4])
    memory = jax.jit(EXPLORER._remember)(EXPLORER.init_memory(1), programs, length, merit)
    assert memory.pool.length.tolist() == [8, *[12] * 63]
    np.testing.assert_allclose(memory.pool.merit[1:4], [0.4, 0.3, 0.1])
    assert not np.isfinite(memory.pool.merit[4:]).any() and int(archive.filled(memory.pool)) == 4
    assert memory.pool.actions[2].tolist() == numbers(renamed).tolist()
    found = jax.jit(lambda key: EXPLORER._from_best(key, memory, 64))(jax.random.key(0))
    # Moves are learned from unfinished programs too, their worth is not known.
    right = np.asarray(found.value_weight) > 0
    assert 5 < right.sum() < 40 and found.policy_weight.sum() > right.sum()
    _, begun = jax.jit(lambda key: EXPLORER.start(key, memory, 64))(jax.random.key(1))
    begun = {tuple(x for x in row if x >= 0) for row in np.asarray(begun).tolist()}
    assert (
        tuple(numbers(SORT2[:6], 6).tolist()) in begun
        and tuple(numbers(SORT2).tolist()[:8]) not in begun
    )


def test_what_a_game_reached_is_kept_without_its_useless_instructions():
    idle = [*SORT2[:2], (MOV, 1, 2), *SORT2[2:6], (CMP, 0, 2)]

    @jax.jit
    def play(actions):
        state = GAME.init(jax.random.key(0))

        def step(state, action):
            after, reward = GAME.step(state, jnp.maximum(action, 0))
            after = jax.tree.map(lambda old, new: jnp.where(action >= 0, new, old), state, after)
            return after, (jnp.where(action >= 0, reward, 0.0), action >= 0)

        state, (rewards, mask) = jax.lax.scan(step, state, actions)
        return jax.tree.map(lambda x: x[None], (state, rewards, mask, actions))

    state, rewards, mask, actions = play(numbers(idle))
    played = games.Trajectories(None, rewards, mask, jnp.arange(1))
    nothing = jnp.full_like(actions, -1)
    value = games.returns(rewards)
    kept, potential = archive.most_promising(GAME, state, nothing, played, value, actions)
    assert kept[0].tolist() == numbers(idle[:7]).tolist()  # the last compare earned nothing
    np.testing.assert_allclose(potential, GAME.potential(state), rtol=1e-6)
    clean = jax.jit(
        lambda program: archive.without_redundant(GAME, program, jnp.bool_(False), True)
    )(kept[0])
    assert clean.tolist() == numbers(SORT2[:6]).tolist()


def test_marks_tell_programs_apart():
    actions = np.random.default_rng(0).integers(-1, 30, (3000, 11)).astype(np.int16)
    assert len(np.unique(np.asarray(archive.marks(jnp.asarray(actions))))) == 3000


def test_what_was_played_follows_what_it_started_with():
    prefix = jnp.array([[5, 6, -1, -1], [-1, -1, -1, -1]], jnp.int16)
    played = jnp.array([[7, 8, -1, -1], [1, -1, -1, -1]], jnp.int16)
    assert archive.join(prefix, played).tolist() == [[5, 6, 7, 8], [1, -1, -1, -1]]


def test_positions_of_the_best_programs_teach_their_next_instruction():
    learn = jax.jit(SYSTEM._from_best, static_argnums=2)
    found = learn(jax.random.key(0), remembered(SORT2), 32)
    assert found.policy_weight.all()
    place = np.asarray(found.observation.length)
    assert set(place) == set(range(8))
    np.testing.assert_array_equal(found.weights.argmax(1), np.asarray(numbers(SORT2))[place])
    assert (np.asarray(found.weights.sum(1)) == 1).all()
    np.testing.assert_allclose(found.latency, 0.1 * 3, rtol=1e-6)
    first = np.asarray(found.correctness)[place == 0]
    start = jax.jit(GAME.init)(jax.random.key(0))
    np.testing.assert_allclose(first, 2 - float(GAME.potential(start)), rtol=1e-6)
    nothing = learn(jax.random.key(0), SYSTEM.init_memory(1), 32)
    assert not nothing.policy_weight.any() and not nothing.value_weight.any()


def test_targets_of_temporal_differences_telescope():
    """Rewards of two moves, then what the network says of the position there."""
    rewards = jnp.array([[1.0, 2.0, 4.0, 8.0], [1.0, 1.0, 0.0, 0.0]])
    mask = jnp.array([[True] * 4, [True, True, False, False]])
    value = jnp.where(mask, games.returns(rewards), 0.0)
    seen = jnp.arange(8).reshape(2, 4)
    target, later, bootstrap = SYSTEM._ahead(value, seen, mask)
    assert target.tolist() == [[3, 6, 12, 8], [2, 1, 0, 0]]
    assert bootstrap.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert later.tolist() == [[2, 3, 0, 0], [6, 7, 0, 0]]


@functools.cache
def mesh(devices):
    return training.make_mesh(devices)


@functools.cache
def run(devices=2, chunks=4):
    state, metrics = training.init(SYSTEM, jax.random.key(0), mesh(devices)), []
    for _ in range(chunks):
        state, found = training.run(SYSTEM, state, 1, mesh(devices))
        metrics.append(jax.device_get(found))
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
    assert metrics["limit"].tolist() == [11] * 4
    lengths = np.asarray(state.memory.pool.length).reshape(2, -1)
    assert (np.diff(lengths, axis=1) >= 0).all()  # each device's own pool, the shortest first


def test_replay_holds_positions_that_were_played():
    state, _ = run()
    filled = int(state.replay.filled.min())
    items = jax.tree.map(lambda x: np.asarray(x)[:filled], state.replay.items)
    assert filled > 20
    np.testing.assert_allclose(items.weights.sum(1), 1, rtol=1e-4)
    for legal, actions, weights in zip(
        items.observation.legal, items.actions, items.weights, strict=True
    ):
        assert legal[actions[weights > 1e-6]].all()
    assert ((items.bootstrap == 0) | (items.bootstrap == 1)).all()
    batch = jax.jit(lambda m, b: SYSTEM._played(jax.random.key(0), b, 16))(
        None, jax.tree.map(lambda x: x[: len(x) // 2], jax.device_get(state.replay))
    )
    np.testing.assert_allclose(batch.weights.sum(1), 1, rtol=1e-4)
    assert (np.asarray(batch.candidates) <= np.asarray(batch.observation.legal)).all()


def test_the_target_network_lags():
    state, _ = run()
    assert int(state.learner_step) == 8  # the first copy is at step 100
    first = training.init(SYSTEM, jax.random.key(0), mesh(2)).params
    leaves = [jax.tree.leaves(x) for x in (first["online"], *state.params.values())]
    assert set(state.params) == {"online", "target"}
    for begun, online, target in zip(*leaves, strict=True):
        np.testing.assert_array_equal(target, begun)
        assert (np.asarray(online) != begun).any()


def test_an_empty_replay_teaches_nothing():
    buffer = replay.empty(SYSTEM.item(), 16)
    make_batch = jax.jit(SYSTEM.make_batch, static_argnums=4)
    batch = make_batch(jax.random.key(0), SYSTEM.init_memory(1), buffer, jnp.int32(0), 8)
    assert not batch.policy_weight.any()


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("network", presets.NETWORKS)
def test_every_preset_goes_with_every_network(preset, network):
    system = presets.make(preset, network=network)
    assert isinstance(system, training.System)
    assert bool(system.network.program_layers) <= system.game.keep_program


def test_the_paper_preset_has_the_papers_settings():
    system = presets.make("paper")
    n = system.network
    assert (n.program_layers, n.program_width, n.program_heads, n.program_head_width) == (
        6,
        512,
        4,
        128,
    )
    assert (n.blocks, n.bins, n.td_steps) == (8, 301, 5)
    assert (system.search.simulations, system.search.dirichlet_alpha) == (800, 0.03)
    assert not system.game.restrictions.viable and system.game.rewards.potential == "fraction"


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: presets.make("sort9"), "preset: received 'sort9'"),
        (lambda: presets.make(network="huge"), "network: received 'huge'"),
        (lambda: presets.make(overrides={"mix.patience": -1}), "patience: received -1"),
        (lambda: presets.make(overrides={"mix.nothing": 1}), "no setting 'nothing'"),
        (lambda: presets.make(overrides={"mix": 1}), "is a group"),
        (lambda: presets.make(overrides={"mix.random_moves": 22}), "random_moves: received 22"),
        (
            lambda: presets.make(network="tiny", overrides={"game.keep_program": False}),
            "keep_program",
        ),
        (lambda: dataclasses.replace(SYSTEM, uniform=True), "uniform: received True"),
        (lambda: MixConfig(best_share=2.0), "best_share: received 2.0"),
    ],
)
def test_nonsense_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_measured_speeds_are_kept_and_learned(monkeypatch):
    """A program's speed stays with it, and is part of what its positions are worth."""
    rewards = dataclasses.replace(GAME.rewards, speed=2.0)
    system = dataclasses.replace(SYSTEM, game=dataclasses.replace(GAME, rewards=rewards))
    longer = [*SORT2[:6], (MOV, 0, 2), *SORT2[6:]]
    state, _ = run()
    state = state._replace(memory=remembered(longer))
    monkeypatch.setattr("alphajax.alphadev.cpu.sandbox.unavailable", lambda: "")
    between = latency_reward.Speeds(system)
    monkeypatch.setattr(between, "measured", lambda new: dict.fromkeys(new, 0.25))
    state = between(state, runs.Progress())
    assert state.memory.pool.speed.tolist() == [0.25, *[0.0] * 63]
    actions, length = numbers(SORT2)[None], jnp.array([8], jnp.int32)
    memory = jax.jit(system._remember)(state.memory, jnp.tile(actions, (2, 1)), jnp.tile(length, 2))
    assert memory.pool.length.tolist()[:3] == [8, 9, 12]
    assert memory.pool.speed.tolist()[:3] == [0.0, 0.25, 0.0]
    only = memory._replace(pool=jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), memory.pool))
    only = only._replace(pool=only.pool._replace(length=only.pool.length.at[1:].set(12)))
    found = jax.jit(system._from_best, static_argnums=2)(jax.random.key(0), only, 4)
    np.testing.assert_allclose(found.latency, 0.1 * 2 + 2.0 * 0.25, rtol=1e-6)


def patient(patience):
    return dataclasses.replace(SYSTEM, mix=dataclasses.replace(SYSTEM.mix, patience=patience))


def test_a_network_that_has_settled_makes_room_for_the_next():
    system, longer = patient(2), [*SORT2[:6], (MOV, 0, 2), *SORT2[6:]]
    remember = jax.jit(system._remember)
    none = jnp.array([12], jnp.int32)
    memory = system.init_memory(1)
    for _ in range(5):  # before there is any program, nothing has settled
        memory = remember(memory, numbers([])[None], none)
        assert not system.renew(memory)[0] and bool(~memory.own)
    memory = remember(memory, numbers(SORT2)[None], jnp.array([8], jnp.int32))
    assert int(memory.waited) == 0 and bool(memory.own)
    for waited in (1, 2):
        assert not system.renew(memory)[0]
        memory = remember(memory, numbers(longer)[None], jnp.array([9], jnp.int32))
        assert int(memory.waited) == waited
    due, memory = system.renew(memory)
    assert due and int(memory.networks) == 2 and (np.asarray(memory.pool.length) == 12).all()
    # The best program stays the best, but is not handed on; the new network's longer one counts.
    memory = remember(memory, numbers([])[None], none)
    assert int(memory.length) == 8 and (np.asarray(memory.pool.length) == 12).all()
    memory = remember(memory, numbers(longer)[None], jnp.array([9], jnp.int32))
    assert int(memory.waited) == 0 and memory.pool.length.tolist()[:2] == [9, 12]
    assert int(memory.length) == 8 and memory.actions.tolist() == numbers(SORT2).tolist()
    assert SYSTEM.renew(memory) is None


def test_a_run_begins_anew_when_it_is_due():
    system = patient(1)
    state = training.init(system, jax.random.key(3), mesh(2))
    before = jax.tree.map(np.asarray, state.params)
    memory = state.memory._replace(waited=state.memory.waited + 1)
    state, metrics = training.run(
        system, state._replace(memory=memory, games=state.games + 5), 1, mesh(2)
    )
    assert metrics["networks"].tolist() == [2] and int(state.games) == 5 + 32
    assert int(state.learner_step) == system.training.learner_steps
    # Nothing was there to learn from: the new network is as it was made, and another one.
    moved = [
        np.abs(a - b).max()
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True)
    ]
    assert max(moved) > 0.1
    assert (np.asarray(state.replay.filled) > 0).all()


def test_some_games_start_inside_the_best_programs():
    mix = dataclasses.replace(SYSTEM.mix, archive_share=0.5, random_share=0.25)
    system = dataclasses.replace(SYSTEM, mix=mix)
    start = jax.jit(system.start, static_argnums=2)
    states, prefix = start(jax.random.key(0), remembered(SORT2), 128)
    prefix, whole = np.asarray(prefix), np.asarray(numbers(SORT2))
    lengths = (prefix >= 0).sum(1)
    np.testing.assert_array_equal(lengths, states.length)
    # So many moves are the program's.
    shared = (np.cumprod(prefix == whole, axis=1) * (whole >= 0)).sum(1)
    inside = (shared > 3) & (lengths == shared)
    assert 20 < inside.sum() < 60 and set(shared[inside]) == {4, 5, 6, 7}
    assert ((shared >= 3) & (lengths > shared)).any() and (lengths == 0).sum() > 20
    again = jax.jit(jax.vmap(GAME.replay))(
        jax.random.split(jax.random.key(0), len(prefix)), prefix, states.length, states.limit
    )
    np.testing.assert_array_equal(again.machine.held, states.machine.held)
    np.testing.assert_array_equal(again.legal, states.legal)
    # Without a program there is nothing to start inside of.
    _, prefix = start(jax.random.key(0), SYSTEM.init_memory(1), 128)
    assert (np.asarray(prefix) >= 0).sum(1).max() <= 3


def test_renamed_positions_are_learned_from():
    system = dataclasses.replace(SYSTEM, mix=dataclasses.replace(SYSTEM.mix, rename=True))
    memory, buffer = remembered(SORT2), replay.empty(SYSTEM.item(), 16)
    key = jax.random.key(0)
    batches = [
        jax.jit(lambda key, s=s: s.make_batch(key, memory, buffer, 0, 32))(key)
        for s in (SYSTEM, system)
    ]
    plain, renamed = (np.asarray(x.observation.held[:, :3]) for x in batches)
    assert (plain != renamed).any()
    np.testing.assert_array_equal(
        np.sort(plain.reshape(32, 3, -1), 1), np.sort(renamed.reshape(32, 3, -1), 1)
    )
    weights = [np.asarray(x.weights).sum(1) for x in batches]
    np.testing.assert_array_equal(*weights)
    assert (np.asarray(batches[1].weights)[~np.asarray(batches[1].candidates)] == 0).all()
