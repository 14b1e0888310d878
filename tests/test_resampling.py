"""Sequential Monte Carlo resampling: shares, groups, and trajectories that stay whole."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alphajax import games, resampling


def resampled(advantages, temperature=1.0, seed=0, groups=None):
    advantages = jnp.array(advantages, jnp.float32)
    return np.asarray(
        resampling.resample(
            jax.random.key(seed), advantages, temperature, groups or advantages.shape
        )
    )


def test_each_game_is_drawn_in_proportion_to_its_weight():
    share = np.array([0.5, 0.25, 0.15, 0.1])
    for seed in range(50):
        counts = np.bincount(resampled(np.log(share), seed=seed), minlength=4)
        assert (np.abs(counts - 4 * share) < 1).all()
    assert resampled([0.0] * 5).tolist() == [0, 1, 2, 3, 4]  # equal weights change nothing
    assert resampled([0.0, 3.0, 0.0], temperature=0.01).tolist() == [1, 1, 1]
    assert set(resampled([-1e9, 0.0, -1e9]).tolist()) == {1}


def test_games_are_resampled_within_their_group():
    assert resampled([0.0, 9.0, 0.0, 0.0, 0.0, 8.0, 0.0], 0.01, groups=(3, 4)).tolist() == [
        1,
        1,
        1,
        5,
        5,
        5,
        5,
    ]
    assert resampled([9.0, 0.0, 0.0], 0.01, groups=(1, 2)).tolist() == [0, 1, 2]


class Sum(NamedTuple):
    """A game that adds what is played, for three moves."""

    def step(self, state, action):
        return state + jnp.array([1, action]), action.astype(jnp.float32)

    def observe(self, state):
        return state

    def is_terminal(self, state):
        return state[0] >= 3


def test_a_resampled_game_keeps_its_whole_trajectory():
    states = jnp.stack([jnp.zeros(4, jnp.int32), jnp.arange(4) * 100], axis=1)

    def act(key, states):
        actions = jnp.arange(4, dtype=jnp.int32) + 1
        return actions, states[:, 1]

    def best(key, rewards, before, states):  # game 3 everywhere, after the second move
        assert before.shape == states.shape and rewards.shape == (4,)
        return jnp.where(states[:, 0] == 2, 3, jnp.arange(4))

    last, played = games.play(jax.random.key(0), Sum(), states, act, 5, best)
    assert played.origin.tolist() == [3] * 4
    assert played.rewards.tolist() == [[4.0, 4.0, own, 0.0, 0.0] for own in (1.0, 2.0, 3.0, 4.0)]
    assert played.mask.tolist() == [[True] * 3 + [False] * 2] * 4
    assert played.steps[:, :3].tolist() == [[300, 304, 308]] * 4
    assert last[:, 1].tolist() == [309, 310, 311, 312]
    alone, played = games.play(jax.random.key(0), Sum(), states, act, 5)
    assert played.origin.tolist() == [0, 1, 2, 3] and alone[:, 1].tolist() == [3, 106, 209, 312]
