"""What a game is, and how a batch of games is played.

A game is a set of pure functions of one *unbatched* state; callers `vmap` them.  `Game` below is the
whole contract: `alphajax.search` searches anything that keeps it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

State = Any
"""A NamedTuple of small fixed-shape arrays: a search tree stores one per node."""
Action = Any
"""A NamedTuple (or array) of fixed shape."""
Observation = Any
"""What the policy sees of a state: a NamedTuple of fixed-shape arrays."""


@runtime_checkable
class Rules(Protocol):
    """The part of a game that a search uses: how it goes on from a given state.

    Stepping a terminal state changes nothing and pays 0, so that a search or a batch of games can
    run past the end of some of its games.
    """

    def step(self, state: State, action: Action) -> tuple[State, Float[Array, ""]]:
        """The state after `action`, and the float32 reward paid for it."""
        ...

    def observe(self, state: State) -> Observation:
        """What the policy is shown."""
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
    """A batch of games from first state to last, padded to `T` steps.

    `steps` is whatever the actor returned at each step, `[B, T, ...]`; `rewards` are float32
    `[B, T]`; `mask[b, t]` says whether game b was still running before step t.  `origin[b]` is the first
    state with which game b began: b itself, unless games took others' places.
    """

    steps: Any
    rewards: Float[Array, "B T"]
    mask: Bool[Array, "B T"]
    origin: Int[Array, " B"]


def play(
    key: jax.Array,
    game: Rules,
    states: State,
    act: Callable[[jax.Array, State], tuple[Action, Any]],
    max_steps: int,
    survive: Callable[[jax.Array, Float[Array, " B"], State, State], Int[Array, " B"]]
    | None = None,
) -> tuple[State, Trajectories]:
    """Plays a batch of games until the last one ends (or `max_steps`).

    Whole games are played at once, without resetting the ones that end early, because the value
    target of both papers is the *observed return* of the finished game: a position can only be
    learned from when its game is over.  The loop stops as soon as every game of the batch has ended.

    Args:
      key: consumed.
      states: first states, `[B, ...]`.
      act: `(key, states [B, ...]) -> (actions [B, ...], steps [B, ...])`; `steps` is kept.
      max_steps: T, static bound on the number of steps.
      survive: `(key, rewards [B], states before [B, ...], states after) -> [B]`, asked after every step: which
        game goes on, with all its past, in the place of each.  None: every game on its own.

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

    def running(carry):
        t, states, *_ = carry
        return (t < max_steps) & ~jnp.all(jax.vmap(game.is_terminal)(states))

    def advance(carry):
        t, states, past, origin = carry
        mask = ~jax.vmap(game.is_terminal)(states)
        actions, steps = act(jax.random.fold_in(key, t), states)
        before = states
        states, rewards = jax.vmap(game.step)(states, actions)
        new = (steps, rewards, mask)
        past = jax.tree.map(lambda all_, x: all_.at[t].set(x), past, new)
        if survive is not None:
            chosen = survive(
                jax.random.fold_in(jax.random.fold_in(key, t), 1), rewards, before, states
            )
            states, origin = jax.tree.map(lambda x: x[chosen], (states, origin))
            past = jax.tree.map(lambda x: x[:, chosen], past)
        return t + 1, states, past, origin

    first = (jnp.int32(0), states, empty, jnp.arange(batch, dtype=jnp.int32))
    _, states, past, origin = jax.lax.while_loop(running, advance, first)
    steps, rewards, mask = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), past)
    return states, Trajectories(steps, rewards, mask, origin)


def returns(rewards: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """Undiscounted return from each step on: `G_t = r_t + r_{t+1} + ...` (reverse cumulative sum)."""
    return jnp.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]


def auto_reset_step(
    game: Game, key: jax.Array, state: State, action: Action
) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
    """`game.step`, then a fresh game where this one ended: for endless, fixed-length rollouts.

    Returns `(state, reward, ended)`; `key` is consumed.
    """
    state, reward = game.step(state, action)
    ended = game.is_terminal(state)
    fresh = game.init(key)
    state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, state)
    return state, reward, ended
