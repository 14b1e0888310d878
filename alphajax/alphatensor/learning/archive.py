"""The archive: the best finished games of a run, as training data and as starting points.

The paper learns from the best games as from demonstrations (Fawzi et al., 2022, Methods, "Training
regime"). Beyond the paper, new games also start from them: some moves of an archived game are
played already, and the rest must be done in fewer moves (as "return, then explore" in Go-Explore:
Ecoffet et al., Nature 590:580, 2021).

The archive is a `replay.Replay` of `ArchivedGame`: a ring buffer, the newest games over the oldest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from alphajax import replay
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.moves import Move, canonical, null_moves_last, one_term
from alphajax.alphatensor.game.tensor_game import State, TensorGame
from alphajax.hashing import hash_rows

SAMPLING_TEMPERATURE = 0.25
"""In terms: a game of one term more than the best is sampled exp(-4) times as often."""


class ArchivedGame(NamedTuple):
    """A finished game, in the basis in which it was played."""

    factors: Int[Array, "*B R 3 S"]
    """The moves; null moves fill up. With symmetry-orbit moves, one move stands for its orbit."""
    rank: Int[Array, "*B"]
    """Terms of the decomposition."""
    dims: Int[Array, "*B 3"]
    """Lengths of the target's modes."""
    target: Int[Array, "*B"]
    """Index of the target."""
    basis: Basis
    """The basis in which the moves are written."""


class Start(NamedTuple):
    """How a game started: its target, its basis, and the moves already played."""

    target: Int[Array, "*B"]
    """Index of the target."""
    basis: Basis
    """The basis in which the game is played."""
    prefix: Int[Array, "*B R 3 S"]
    """The moves already played; null moves fill up."""
    moves: Int[Array, "*B"]
    """Terms of the prefix."""


def sample_games(
    key: jax.Array, archive: replay.Replay, best: Int[Array, " targets"], count: int
) -> ArchivedGame:
    """Sample games with replacement, with weights `exp(-(rank - best) / SAMPLING_TEMPERATURE)`.

    Args:
      key: consumed.
      archive: of `ArchivedGame`. Of an empty one, any slots are returned.
      best: the lowest rank known for each target.
      count: B, number of games.

    Returns:
      Games `[B]`.
    """
    is_filled = np.arange(archive.items.rank.shape[0]) < archive.filled
    excess = archive.items.rank - best[archive.items.target]
    log_weights = jnp.where(is_filled, -excess / SAMPLING_TEMPERATURE, jnp.finfo(jnp.float32).min)
    chosen = jax.random.categorical(key, log_weights, shape=(count,))
    return jax.tree.map(lambda x: x[chosen], archive.items)


def is_new(games: ArchivedGame, archive: replay.Replay, game: TensorGame) -> Bool[Array, " N"]:
    """Whether no game of the archive is the same scheme, in any order of terms and any basis.

    Args:
      games: finished games `[N]`.
      archive: of `ArchivedGame`.
      game: the game.

    Returns:
      One flag for each of the N games. They are not compared with each other.
    """
    is_filled = np.arange(archive.items.rank.shape[0]) < archive.filled
    new, old = (jax.vmap(lambda x: _hash_scheme(x, game))(x) for x in (games, archive.items))
    return ~jnp.any(jnp.all(new[:, None] == old[None], axis=-1) & is_filled[None], axis=1)


def _hash_scheme(archived: ArchivedGame, game: TensorGame) -> Int[Array, "2"]:
    """A hash that is invariant to order and basis: a sum over moves in the canonical basis."""
    factors = bases.change_factors(archived.factors, archived.basis.inverses, game.ring)
    factors = game.symmetry_group.canonical_representative(canonical(factors, game.ring), game.ring)
    return jnp.sum(hash_rows(factors, 1), axis=0)


def start_from_archive(
    key: jax.Array, games: ArchivedGame, game: TensorGame, limits: Int[Array, " targets"]
) -> tuple[State, Start]:
    """Start one game from each archived game, with some of its moves played in a random order.

    The number of moves played is uniform on 0..n - 2 for a game of n moves (0 for n = 1): the last
    move alone could not be improved. The move limit is one less than the game's rank, or the
    target's limit if that is lower. Where it ends a game early, the moves after it are not played.

    Args:
      key: consumed.
      games: archived games `[B]`.
      game: the game.
      limits: move limit of each target.

    Returns:
      States `[B]` in the archived games' bases, and how each game started.

    Source: beyond the paper (this project).
    """

    def start_one(key, archived: ArchivedGame):
        order_key, count_key = jax.random.split(key)
        used = jnp.any(archived.factors, axis=(-2, -1))
        # A random order, null moves last.
        order = jnp.argsort(jnp.where(used, jax.random.uniform(order_key, used.shape), 2.0))
        count = jax.random.randint(count_key, (), 0, jnp.maximum(jnp.sum(used) - 1, 1))
        is_played = (np.arange(len(used)) < count)[:, None, None]
        moves = jnp.where(is_played, archived.factors[order], 0)
        limit = jnp.minimum(limits[archived.target], jnp.maximum(archived.rank - 1, 1))
        state = game.start(archived.target, limit)
        tensor = bases.change_tensor(state.residual, archived.basis.matrices, game.ring)
        state = state._replace(residual=tensor.astype(game.dtype))

        def play(state, factors):
            legal = jnp.any(factors) & ~game.is_terminal(state)
            after, _ = game.step(state, Move(factors))
            after = jax.tree.map(lambda new, old: jnp.where(legal, new, old), after, state)
            return after, jnp.where(legal, factors, 0)

        state, prefix = jax.lax.scan(play, state, moves)
        return state, Start(archived.target, archived.basis, prefix, state.moves)

    return jax.vmap(start_one)(jax.random.split(key, games.rank.shape[0]), games)


def complete_with_one_term(
    factors: Int[Array, "B R 3 S"], rank: Int[Array, " B"], states: State, game: TensorGame
) -> tuple[Int[Array, "B R 3 S"], Int[Array, " B"], Bool[Array, " B"]]:
    """Complete those games whose last residual is a single term.

    Most games that must improve on the best rank end one term short. With that term they only equal
    it, but they are different decompositions, and make the archive more diverse.

    Args:
      factors: the moves of each game; null moves fill up.
      rank: terms of each game, above `game.max_moves` for one that is not finished.
      states: last states `[B]`.
      game: the game.

    Returns:
      Moves and ranks with the term appended where it completes a game, and which games are
      finished.

    Source: beyond the paper (this project).
    """

    def complete_one(factors, rank, state):
        term, completes = one_term(state.residual, game.ring)
        completes &= state.moves == state.limit  # The last symmetry orbit may exceed the limit.
        completes &= game.symmetry_group.orbit_sizes(term, game.ring) == 1
        used = jnp.any(factors, axis=(-2, -1))
        completes &= ~used[-1]
        place = jnp.where(completes, jnp.sum(used), len(factors))
        factors = factors.at[place].set(term.astype(factors.dtype), mode="drop")
        finished = completes | (rank <= game.max_moves)
        return factors, jnp.where(completes, state.moves + 1, rank), finished

    return jax.vmap(complete_one)(factors, rank, states)


def join(prefix: Int[Array, "B R 3 S"], moves: Int[Array, "B R 3 S"]) -> Int[Array, "B R 3 S"]:
    """Append moves to the prefix that each game started with.

    Args:
      prefix: moves already played at the start; null moves fill up.
      moves: moves played since; null moves fill up.

    Returns:
      The first R moves of both, null moves last.
    """
    both = jnp.concatenate([prefix, moves], axis=1)
    return null_moves_last(both)[:, : prefix.shape[1]]
