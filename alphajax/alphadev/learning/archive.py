"""The archive: the best programs of a run, to begin games in and to learn from again.

The shortest right programs stand first.  While there are few, the most promising unfinished ones may stand
in for them: return to where a game once got to, then explore from there (Ecoffet et al., Nature 590:580,
2021).  An unfinished program is as good as its *merit*, the potential of the state that it leads to (what the
game pays for getting there) less half the share of the moves that it took; of programs that lead to the same
state one is kept.  Not in DeepMind's paper.

Programs are int16 `[T]`: indices into the game's moves, -1 behind the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import games
from alphajax.alphadev.game.assembly_game import AssemblyGame, State
from alphajax.alphadev.game.symmetries import state_mark
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import Instruction, Op


class Pool(NamedTuple):
    """The shortest right programs, all different; `length` is T + 1 where there is none.

    `speed` is what the host has measured of a program (`alphajax.alphadev.latency_reward`), 0 until then.
    Behind the right ones may stand unfinished ones, whose `merit` is finite.
    """

    actions: Int[Array, "N T"]
    length: Int[Array, " N"]
    speed: Float[Array, " N"]
    merit: Float[Array, " N"]


def empty(size: int, moves: int) -> Pool:
    """Room for `size` programs of at most `moves` moves."""
    return Pool(
        jnp.full((size, moves), -1, jnp.int16),
        jnp.full(size, moves + 1, jnp.int32),
        jnp.zeros(size, jnp.float32),
        jnp.full(size, -jnp.inf, jnp.float32),
    )


def filled(pool: Pool) -> Int[Array, ""]:
    """How many programs there are, right or unfinished; they stand first."""
    return jnp.sum((pool.length <= pool.actions.shape[1]) | jnp.isfinite(pool.merit))


def add(
    pool: Pool,
    game: AssemblyGame,
    programs: Int[Array, "B T"],
    length: Int[Array, " B"],
    merit: Float[Array, " B"],
    unfinished: bool,
) -> Pool:
    """The pool with these programs in it, the shortest first, then by merit; equal ones once.

    Args:
      length: T + 1 for a program that is not right.
      merit: -inf for one that is right, or that is not to be kept.
      unfinished: False: no merit is finite (then nothing is compiled for them).
    """
    none, size = game.max_moves + 1, pool.length.shape[0]
    # Of equal ones the first stays: the pool's own, whose speed is known.
    actions = jnp.concatenate([pool.actions, programs])
    length = jnp.concatenate([pool.length, length])
    speed = jnp.pad(pool.speed, (0, len(programs)))
    merit = jnp.concatenate([pool.merit, merit])
    mark = marks(actions)
    if unfinished:
        # Unfinished ones are equal that lead to the same state, whatever the registers are called.
        after = jax.vmap(lambda x: game.append_all(game.empty(jnp.int16(game.max_moves)), x))(
            actions
        )
        there = jax.vmap(lambda state: state_mark(game, state))(after)
        mark = jnp.where(jnp.isfinite(merit), there, mark)
    order = jnp.lexsort((-merit, mark, length))
    actions, length, mark, speed, merit = (x[order] for x in (actions, length, mark, speed, merit))
    again = jnp.pad((mark[1:] == mark[:-1]) & (length[1:] == length[:-1]), (1, 0))
    length, merit = jnp.where(again, none, length), jnp.where(again, -jnp.inf, merit)
    order = jnp.lexsort((-merit, length))[:size]
    return Pool(actions[order], length[order], speed[order], merit[order])


def beginnings(key: jax.Array, pool: Pool, share: float, count: int) -> Int[Array, "B T"]:
    """For a share of `count` games a program of the pool up to a random place, for the others nothing."""
    share_key, program_key, place_key = jax.random.split(key, 3)
    moves = pool.actions.shape[1]
    there = filled(pool)
    index = jax.random.randint(program_key, (count,), 0, jnp.maximum(there, 1))
    # An unfinished program may also be gone on with from its end.
    places = jnp.sum(pool.actions >= 0, axis=1) + (pool.length > moves)
    place = jax.random.randint(place_key, (count,), 0, places[index])
    inside = jax.random.bernoulli(share_key, share, (count,)) & (there > 0)
    kept = np.arange(moves)[None] < jnp.where(inside, place, 0)[:, None]
    return jnp.where(kept, pool.actions[index], jnp.int16(-1))


def without_redundant(
    game: AssemblyGame, actions: Int[Array, " T"], right: Bool[Array, ""], unfinished: bool
) -> Int[Array, " T"]:
    """The program less every instruction without which it is still right.

    One that is not right stays as it is; or, if `unfinished`, loses what it needs neither for its potential
    nor to be still completed.
    """
    table = jnp.asarray(game.actions)
    # A label or a jump alone would leave the other without its partner.
    branching = jnp.asarray(game.actions[:, 0] >= Op.JMP)

    def is_right(kept):
        rows = jnp.where((kept >= 0)[:, None], table[kept], jnp.int8(0))
        return game.rules.is_right(emulator.run(game.rules.start, Instruction(*rows.T)))

    def after(kept):
        return game.surveyed(game.append_all(game.empty(jnp.int16(game.max_moves)), kept))

    least = game.potential(after(actions)) if unfinished else None

    def is_good(kept):
        if not unfinished:
            return right & is_right(kept)
        state = after(kept)
        promising = (game.potential(state) >= least) & game.viable(state)
        return jnp.where(right, is_right(kept), promising)

    def attempt(t, kept):
        without = kept.at[t].set(-1)
        drop = is_good(without) & ~branching[jnp.maximum(kept[t], 0)]
        return jnp.where(drop, without, kept)

    return compact(jax.lax.fori_loop(0, actions.shape[0], attempt, actions))


def most_promising(
    game: AssemblyGame,
    states: State,
    prefix: Int[Array, "B T"],
    played: games.Trajectories,
    value: Float[Array, "B T"],
    programs: Int[Array, "B T"],
) -> tuple[Int[Array, "B T"], Float[Array, " B"]]:
    """Of each game that did not end right the beginning of most merit, and the potential there.

    Of a game that did end right, all of it, and -inf.

    Args:
      states: the last ones.
      prefix: with what each game started.
      value: the returns of `played`.
      programs: the whole programs.
    """
    ahead = jnp.pad(value, ((0, 0), (0, 1))) / game.rewards.weight
    potential = (
        jax.vmap(game.potential)(states)[:, None] - ahead
    )  # before each move, and at the end
    begun = jnp.sum(prefix >= 0, axis=1)[:, None]
    length = begun + np.arange(ahead.shape[1])[None]
    there = jnp.pad(played.mask, ((0, 0), (1, 0)), constant_values=True) & ~states.right[:, None]
    best = jnp.argmax(jnp.where(there, merit(game, potential, length), -jnp.inf), axis=1)[:, None]
    kept = (np.arange(programs.shape[1])[None] < begun + best) | states.right[:, None]
    potential = jnp.where(there, potential, -jnp.inf)
    return jnp.where(kept, programs, jnp.int16(-1)), jnp.take_along_axis(potential, best, 1)[:, 0]


def merit(game: AssemblyGame, potential, length):
    """How promising unfinished programs of this potential and length are."""
    return potential - 0.5 * length / game.max_moves


def marks(actions: Int[Array, "N T"]) -> Int[Array, " N"]:
    """A number for each program; equal programs have equal ones."""
    factors = (2 * np.arange(actions.shape[1], dtype=np.uint32) + 1) * np.uint32(2654435761)
    mixed = actions.astype(jnp.uint32) * factors[None]
    mixed = (mixed ^ (mixed >> 15)) * np.uint32(2246822519)
    return jnp.sum(mixed, axis=1, dtype=jnp.uint32).astype(jnp.int32)


def join(prefix: Int[Array, "B T"], played: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """What was played, behind what each program started with."""
    both = jnp.concatenate([prefix, played], axis=1)
    return jax.vmap(compact)(both)[:, : prefix.shape[1]]


def compact(actions: Int[Array, " N"]) -> Int[Array, " N"]:
    """The entries from 0 up, in their order, then -1."""
    place = jnp.where(actions >= 0, jnp.cumsum(actions >= 0) - 1, actions.shape[0])
    return jnp.full_like(actions, -1).at[place].set(actions, mode="drop")
