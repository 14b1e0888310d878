"""Archive: the best programs of a run, to start games from and to learn from again.

The shortest correct programs come first.  While there are few, partial programs fill the rest:
games return to a state that was reached before, and explore from there (Ecoffet et al., Nature
590:580, 2021).  Partial programs are ranked by `priority`.  Of programs that lead to the same state
one is stored.

Programs are int16 `[T]`: actions of the game, then -1.  Beyond the paper.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import games
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.states import State
from alphajax.alphadev.game.symmetries import state_hash
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import Instruction, Op
from alphajax.hashing import hash_rows


class Pool(NamedTuple):
    """N different programs, correct ones first, by length; then partial ones, by priority."""

    actions: Int[Array, "N T"]
    """The programs; -1 after their ends."""
    length: Int[Array, " N"]
    """Number of actions of a correct program; T + 1 for others and for empty rows."""
    speed: Float[Array, " N"]
    """Measured speed (`alphajax.alphadev.latency_reward`), 0 before it is measured."""
    priority: Float[Array, " N"]
    """Priority of a partial program; minus infinity for others."""


def empty(size: int, moves: int) -> Pool:
    """A pool without programs.

    Args:
      size: N, how many programs it can hold.
      moves: T, maximum number of actions of a program.

    Returns:
      The pool.
    """
    return Pool(
        jnp.full((size, moves), -1, jnp.int16),
        jnp.full(size, moves + 1, jnp.int32),
        jnp.zeros(size, jnp.float32),
        jnp.full(size, -jnp.inf, jnp.float32),
    )


def num_programs(pool: Pool) -> Int[Array, ""]:
    """Number of programs, correct or partial; they are the first rows."""
    return jnp.sum((pool.length <= pool.actions.shape[1]) | jnp.isfinite(pool.priority))


def priority(
    game: AssemblyGame, potential: Float[Array, "*B"], length: Int[Array, "*B"]
) -> Float[Array, "*B"]:
    """Priority of partial programs: potential - length / (2 x length limit).

    Args:
      game: the game.
      potential: of the states that they lead to.
      length: number of actions.

    Returns:
      The priority, float32.
    """
    return potential - 0.5 * length / game.max_moves


def insert(
    pool: Pool,
    game: AssemblyGame,
    programs: Int[Array, "B T"],
    length: Int[Array, " B"],
    priority: Float[Array, " B"],
    partial_programs: bool,
) -> Pool:
    """Inserts programs into a pool, each once; the worst ones are dropped.

    Args:
      pool: N programs.
      game: the game.
      programs: B new programs.
      length: number of actions; T + 1 for a program that is not correct.
      priority: minus infinity for a correct program, and for one that is not to be stored.
      partial_programs: whether any priority may be finite.

    Returns:
      The pool of the N best of all.
    """
    no_program, size = game.max_moves + 1, pool.length.shape[0]
    # Of equal programs the first stays: the pool's own, whose speed is known.
    actions = jnp.concatenate([pool.actions, programs])
    length = jnp.concatenate([pool.length, length])
    speed = jnp.pad(pool.speed, (0, len(programs)))
    priority = jnp.concatenate([pool.priority, priority])
    hashes = hash_programs(actions)
    if partial_programs:
        # Partial programs are equal if they lead to the same state, up to renaming.
        states = jax.vmap(lambda x: game.append_all(game.empty(jnp.int16(game.max_moves)), x))(
            actions
        )
        state_hashes = jax.vmap(lambda state: state_hash(game, state))(states)
        hashes = jnp.where(jnp.isfinite(priority), state_hashes, hashes)
    order = jnp.lexsort((-priority, hashes, length))
    actions, length, hashes, speed, priority = (
        x[order] for x in (actions, length, hashes, speed, priority)
    )
    is_copy = jnp.pad((hashes[1:] == hashes[:-1]) & (length[1:] == length[:-1]), (1, 0))
    length = jnp.where(is_copy, no_program, length)
    priority = jnp.where(is_copy, -jnp.inf, priority)
    order = jnp.lexsort((-priority, length))[:size]
    return Pool(actions[order], length[order], speed[order], priority[order])


def sample_prefixes(key: jax.Array, pool: Pool, share: float, count: int) -> Int[Array, "B T"]:
    """Random prefixes of the pool's programs, for games to start from.

    A correct program is cut before its last action; a partial one may be whole.

    Args:
      key: consumed.
      pool: the programs.
      share: probability that a game starts from a prefix; the others start empty.
      count: B.

    Returns:
      Actions, int16 `[B, T]`; all -1 where the pool is empty.
    """
    share_key, program_key, place_key = jax.random.split(key, 3)
    moves = pool.actions.shape[1]
    total = num_programs(pool)
    index = jax.random.randint(program_key, (count,), 0, jnp.maximum(total, 1))
    num_places = jnp.sum(pool.actions >= 0, axis=1) + (pool.length > moves)
    place = jax.random.randint(place_key, (count,), 0, num_places[index])
    has_prefix = jax.random.bernoulli(share_key, share, (count,)) & (total > 0)
    in_prefix = np.arange(moves)[None] < jnp.where(has_prefix, place, 0)[:, None]
    return jnp.where(in_prefix, pool.actions[index], jnp.int16(-1))


def remove_redundant(
    game: AssemblyGame, actions: Int[Array, " T"], correct: Bool[Array, ""], partial_programs: bool
) -> Int[Array, " T"]:
    """Removes each instruction without which a program is as good, first to last.

    Args:
      game: the game.
      actions: one program.
      correct: whether it is correct; then it stays correct.
      partial_programs: whether a program that is not correct is shortened too.  It keeps its
        potential, and stays completable.

    Returns:
      The shorter program.
    """
    table = jnp.asarray(game.actions)
    # A jump and its label can only be removed together.
    is_branch = jnp.asarray(game.actions[:, 0] >= Op.JMP)

    def is_correct(actions: Array) -> Array:
        rows = jnp.where((actions >= 0)[:, None], table[actions], jnp.int8(0))
        return game.rules.is_correct(emulator.run(game.rules.initial_machine, Instruction(*rows.T)))

    def final_state(actions: Array) -> State:
        return game.survey(game.append_all(game.empty(jnp.int16(game.max_moves)), actions))

    potential = game.potential(final_state(actions)) if partial_programs else None

    def is_as_good(actions: Array) -> Array:
        if potential is None:
            return correct & is_correct(actions)
        state = final_state(actions)
        keeps_potential = (game.potential(state) >= potential) & game.is_completable(state)
        return jnp.where(correct, is_correct(actions), keeps_potential)

    def attempt(t: Array, actions: Array) -> Array:
        shorter = actions.at[t].set(-1)
        drop = is_as_good(shorter) & ~is_branch[jnp.maximum(actions[t], 0)]
        return jnp.where(drop, shorter, actions)

    return compact(jax.lax.fori_loop(0, actions.shape[0], attempt, actions))


def best_prefixes(
    game: AssemblyGame,
    states: State,
    prefix: Int[Array, "B T"],
    played: games.Trajectories,
    value: Float[Array, "B T"],
    programs: Int[Array, "B T"],
) -> tuple[Int[Array, "B T"], Float[Array, " B"]]:
    """The prefix of highest priority of each game that did not end with a correct program.

    Args:
      game: the game.
      states: last states, `[B, ...]`.
      prefix: programs that the games started from.
      played: the games.
      value: returns of `played`.
      programs: whole programs.

    Returns:
      The prefixes, and the potential after each.  A correct program is whole, with a potential of
      minus infinity.
    """
    ahead = jnp.pad(value, ((0, 0), (0, 1))) / game.rewards.weight
    # The potential before each move, and at the end.
    potential = jax.vmap(game.potential)(states)[:, None] - ahead
    num_initial = jnp.sum(prefix >= 0, axis=1)[:, None]
    length = num_initial + np.arange(ahead.shape[1])[None]
    is_state = jnp.pad(played.mask, ((0, 0), (1, 0)), constant_values=True)
    is_state = is_state & ~states.correct[:, None]
    priorities = jnp.where(is_state, priority(game, potential, length), -jnp.inf)
    best = jnp.argmax(priorities, axis=1)[:, None]
    in_prefix = np.arange(programs.shape[1])[None] < num_initial + best
    in_prefix = in_prefix | states.correct[:, None]
    potential = jnp.where(is_state, potential, -jnp.inf)
    prefixes = jnp.where(in_prefix, programs, jnp.int16(-1))
    return prefixes, jnp.take_along_axis(potential, best, 1)[:, 0]


def hash_programs(actions: Int[Array, "N T"]) -> Int[Array, " N"]:
    """Hash of each program, int32 `[N]`."""
    return hash_rows(actions, 1)[:, 0]


def concatenate(first: Int[Array, "B T"], second: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Concatenates programs and drops the padding between them.

    Args:
      first: actions, then -1.
      second: likewise; together at most T actions.

    Returns:
      The programs, int16 `[B, T]`.
    """
    both = jnp.concatenate([first, second], axis=1)
    return jax.vmap(compact)(both)[:, : first.shape[1]]


def compact(actions: Int[Array, " N"]) -> Int[Array, " N"]:
    """Moves all entries of -1 to the end; the others stay in order."""
    place = jnp.where(actions >= 0, jnp.cumsum(actions >= 0) - 1, actions.shape[0])
    return jnp.full_like(actions, -1).at[place].set(actions, mode="drop")
