"""The contract of a game, and how a batch of games is played.

A game is a set of pure functions of one *unbatched* state; callers `vmap` them.  `Game` is the
whole contract: `alphajax.search` searches any object that satisfies it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

State = Any
"""A NamedTuple of small arrays with fixed shapes: a search tree stores one for each node."""
Action = Any
"""A NamedTuple (or array) with fixed shapes."""
Observation = Any
"""What the policy receives of a state: a NamedTuple of arrays with fixed shapes."""

Act = Callable[[jax.Array, State], tuple[Action, Any]]
Resample = Callable[[jax.Array, Float[Array, " B"], State, State], Int[Array, " B"]]


@runtime_checkable
class Rules(Protocol):
    """The part of a game that a search uses: how it continues from a given state.

    Stepping a terminal state changes nothing and pays 0, so that a search or a batch of games can
    run past the end of some of its games.
    """

    def step(self, state: State, action: Action) -> tuple[State, Float[Array, ""]]:
        """Plays one action.

        Args:
          state: of one game.
          action: to play.

        Returns:
          The next state, and the reward, float32.
        """
        ...

    def observe(self, state: State) -> Observation:
        """What the policy receives of the state."""
        ...

    def is_terminal(self, state: State) -> Bool[Array, ""]:
        """Whether the game is over."""
        ...


@runtime_checkable
class Game(Rules, Protocol):
    """A single-player, deterministic game as pure functions of one state."""

    def init(self, key: jax.Array) -> State:
        """The first state.  `key` is consumed."""
        ...


class Trajectories(NamedTuple):
    """A batch of games from first state to last, padded to `T` steps."""

    steps: Any
    """What the actor returned at each step, `[B, T, ...]`."""
    rewards: Float[Array, "B T"]
    """Rewards, 0 behind the end of a game."""
    mask: Bool[Array, "B T"]
    """Whether game b was still running before step t."""
    origin: Int[Array, " B"]
    """The first state of game b: b itself, unless games were resampled."""


def play(
    key: jax.Array,
    game: Rules,
    states: State,
    act: Act,
    max_steps: int,
    resample: Resample | None = None,
) -> tuple[State, Trajectories]:
    """Plays a batch of games until the last one ends, or for `max_steps` steps.

    Games that end early are not replaced.  The value target of both papers is the return of the
    finished game, so nothing can be learned from a position before its game is over.

    Args:
      key: consumed.
      game: the rules.
      states: first states, `[B, ...]`.
      act: `(key, states [B, ...]) -> (actions [B, ...], steps [B, ...])`; the steps are recorded.
      max_steps: T, static bound on the number of steps.
      resample: `(key, rewards [B], states before, states after) -> indices [B]`, called after each
        step: the game that continues, with its whole trajectory, in the place of each.  None: games
        are independent.

    Returns:
      The last states `[B, ...]` and the `Trajectories`.
    """
    step_shapes = jax.eval_shape(lambda k, s: act(k, s)[1], key, states)
    batch = jax.tree.leaves(states)[0].shape[0]

    def zeros(x):
        return jnp.zeros((max_steps, *x.shape), x.dtype)

    empty = (
        jax.tree.map(zeros, step_shapes),
        jnp.zeros((max_steps, batch), jnp.float32),
        jnp.zeros((max_steps, batch), bool),
    )

    def is_running(carry):
        t, states, *_ = carry
        return (t < max_steps) & ~jnp.all(jax.vmap(game.is_terminal)(states))

    def advance(carry):
        t, states, past, origin = carry
        mask = ~jax.vmap(game.is_terminal)(states)
        actions, steps = act(jax.random.fold_in(key, t), states)
        before = states
        states, rewards = jax.vmap(game.step)(states, actions)
        new = (steps, rewards, mask)
        past = jax.tree.map(lambda stored, x: stored.at[t].set(x), past, new)
        if resample is not None:
            resample_key = jax.random.fold_in(jax.random.fold_in(key, t), 1)
            chosen = resample(resample_key, rewards, before, states)
            states, origin = jax.tree.map(lambda x: x[chosen], (states, origin))
            past = jax.tree.map(lambda x: x[:, chosen], past)
        return t + 1, states, past, origin

    first = (jnp.int32(0), states, empty, jnp.arange(batch, dtype=jnp.int32))
    _, states, past, origin = jax.lax.while_loop(is_running, advance, first)
    steps, rewards, mask = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), past)
    return states, Trajectories(steps, rewards, mask, origin)


def returns(rewards: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """Undiscounted return from each step on, G_t = r_t + r_{t+1} + ... (reverse cumulative sum)."""
    return jnp.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]


def auto_reset_step(
    game: Game, key: jax.Array, state: State, action: Action
) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
    """`game.step`, then a fresh game where this one ended: for endless rollouts of fixed length.

    Args:
      game: the game.
      key: consumed.
      state: of one game.
      action: to play.

    Returns:
      The next state, the reward, and whether the game ended.
    """
    state, reward = game.step(state, action)
    ended = game.is_terminal(state)
    fresh = game.init(key)
    state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, state)
    return state, reward, ended
