"""What every game must keep to, and the playing of batches."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import games
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import tasks
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.tensor_game import TensorGame


def tensor_game(names, **arguments):
    """A game, and a maker of random moves that do end games now and then."""
    game = TensorGame(targets=tuple(tensors.parse(name) for name in names), **arguments)
    ring = game.ring

    def action(key):
        factors = jax.random.randint(key, (3, game.side), 0, 2, jnp.int8)
        return Move(factors)

    return game, action, game.max_moves + 1, ring


def assembly_game(task, **arguments):
    """A game of instructions, legal or not."""
    game = AssemblyGame(task=task, length_limit=12, **arguments)

    def action(key):
        return jax.random.randint(key, (), 0, game.action_count, jnp.int16)

    return game, action, game.max_moves + 1, None


GAMES = {
    "sort2": functools.partial(assembly_game, tasks.sort(2)),
    "up to two numbers, AlphaDev's rules alone, no history": functools.partial(
        assembly_game, tasks.variable_sort(2), restrictions=Restrictions.paper(), keep_program=False
    ),
    "1x2x2 over Z": functools.partial(tensor_game, ["1,2,2"], history=2),
    "two sizes over Z2": functools.partial(tensor_game, ["1,1,1", "1,2,1"], ring=Ring(2)),
    "cyclic orbits over Z2": functools.partial(
        tensor_game, ["2,2,2"], ring=Ring(2), history=0, symmetries=("cyclic",)
    ),
    "skew over Z3, no history": functools.partial(
        tensor_game, ["skew2"], ring=Ring(3), history=0, side=3
    ),
}


@pytest.fixture(name="kit", params=GAMES.values(), ids=GAMES.keys(), scope="module")
def _kit(request):
    game, action, steps, _ = request.param()
    return game, action, steps, jax.jit(jax.vmap(game.step)), jax.jit(jax.vmap(game.init))


KEYS = 8


class TestConformance:
    """Any game of the package belongs into GAMES."""

    def test_shapes_and_dtypes_are_fixed(self, kit):
        game, action, *_ = kit
        key = jax.random.key(0)
        state = jax.eval_shape(game.init, key)
        after, reward = jax.eval_shape(game.step, state, action(key))
        assert after == state
        assert (reward.shape, reward.dtype) == ((), jnp.float32)
        over = jax.eval_shape(game.is_terminal, state)
        assert (over.shape, over.dtype) == ((), bool)
        for x in jax.tree.leaves((state, jax.eval_shape(game.observe, state))):
            assert x.dtype in (jnp.int8, jnp.int16, jnp.int32, jnp.uint32, jnp.bool_)

    def test_init_is_a_function_of_the_key(self, kit):
        *_, init = kit
        keys = jax.random.split(jax.random.key(1), KEYS)
        chex.assert_trees_all_equal(init(keys), init(keys))

    def test_plain_jit_and_vmap_agree(self, kit):
        game, action, _, step, init = kit
        keys = jax.random.split(jax.random.key(2), KEYS)
        states, actions = init(keys), jax.vmap(action)(keys)
        batch, compiled = step(states, actions), jax.jit(game.step)
        for b in range(2):
            one, move = jax.tree.map(lambda x, b=b: x[b], (states, actions))
            chex.assert_trees_all_equal(game.init(keys[b]), one)
            alone = jax.tree.map(lambda x, b=b: x[b], batch)
            chex.assert_trees_all_close(game.step(one, move), alone, rtol=0, atol=1e-6)
            chex.assert_trees_all_close(compiled(one, move), alone, rtol=0, atol=1e-6)

    def test_games_end_and_stay_ended(self, kit):
        game, action, steps, step, init = kit
        states = init(jax.random.split(jax.random.key(3), KEYS))
        terminal = jax.jit(jax.vmap(game.is_terminal))
        assert not terminal(states).any()
        for t in range(steps):
            over = np.asarray(terminal(states))
            moves = jax.vmap(action)(jax.random.split(jax.random.key(t), KEYS))
            after, reward = step(states, moves)
            assert not np.asarray(reward)[over].any()
            for old, new in zip(jax.tree.leaves(states), jax.tree.leaves(after), strict=True):
                np.testing.assert_array_equal(np.asarray(old)[over], np.asarray(new)[over])
            assert np.isfinite(reward).all()
            states = after
        assert terminal(states).all()


class Countdown(NamedTuple):
    """Each step pays what is left and takes the action from it; over at zero."""

    def init(self, key):
        return jax.random.randint(key, (), 1, 5)

    def step(self, state, action):
        return jnp.maximum(state - action, 0), state.astype(jnp.float32)

    def observe(self, state):
        return state

    def is_terminal(self, state):
        return state <= 0


def test_play_keeps_what_happened_until_the_last_game_ends():
    calls = []

    def act(key, states):
        calls.append(1)
        return jnp.ones_like(states), {"seen": states}

    first = jnp.array([3, 0, 1])
    last, played = games.play(jax.random.key(0), Countdown(), first, act, max_steps=5)
    assert last.tolist() == [0, 0, 0]
    assert played.mask.tolist() == [[1, 1, 1, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]
    assert played.rewards.tolist() == [[3, 2, 1, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]
    assert played.steps["seen"].tolist()[0] == [3, 2, 1, 0, 0]
    assert games.returns(played.rewards).tolist()[0] == [6, 3, 1, 0, 0]


def test_play_stops_at_its_bound():
    def act(key, states):
        return jnp.zeros_like(states), states

    last, played = games.play(jax.random.key(0), Countdown(), jnp.array([2]), act, max_steps=3)
    assert last.tolist() == [2] and played.mask.all()


def test_every_step_gets_its_own_randomness():
    def act(key, states):
        return jnp.ones_like(states), jax.random.bits(key, states.shape)

    _, played = games.play(jax.random.key(0), Countdown(), jnp.array([4, 4]), act, max_steps=4)
    assert len(np.unique(played.steps)) == 8


def test_auto_reset_starts_again_where_a_game_ended():
    step = jax.vmap(functools.partial(games.auto_reset_step, Countdown()))
    keys = jax.random.split(jax.random.key(0), 2)
    states, rewards, ended = step(keys, jnp.array([4, 1]), jnp.array([1, 1]))
    assert ended.tolist() == [False, True]
    assert rewards.tolist() == [4, 1]
    assert states.tolist() == [3, int(Countdown().init(keys[1]))]
