"""The archive: the best finished games of a run, to learn from again and to begin games in.

The paper learns from the best games as from demonstrations (Fawzi et al., 2022, Methods).  Beyond it, games
also begin inside them: some of the moves, in any order, are taken already, and what they leave is to be done
in fewer moves than it took.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from alphajax import replay
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.moves import Move, canonical, live_first, one_term
from alphajax.alphatensor.game.tensor_game import State, TensorGame
from alphajax.hashing import hashes

TEMPERATURE = 0.25
"""In terms: of the best finished games, one of one term more is drawn exp(-4) times as often."""


class Finished(NamedTuple):
    """A game that reached zero, in the basis in which it was played."""

    factors: Int[Array, "*B R 3 S"]
    rank: Int[Array, "*B"]
    dims: Int[Array, "*B 3"]
    target: Int[Array, "*B"]
    basis: Basis


class Start(NamedTuple):
    """With what a game began: its target, its basis, and the moves already taken there."""

    target: Int[Array, "*B"]
    basis: Basis
    prefix: Int[Array, "*B R 3 S"]
    """Null behind their end."""
    moves: Int[Array, "*B"]
    """Terms of the prefix."""


def draw(key: jax.Array, pool: replay.Replay, best: Int[Array, " targets"], count: int) -> Finished:
    """`count` games of a pool of `Finished`, with replacement, those nearer to the best rank of their target more often."""
    there = np.arange(pool.items.rank.shape[0]) < pool.filled
    excess = pool.items.rank - best[pool.items.target]
    likely = jnp.where(there, -excess / TEMPERATURE, jnp.finfo(jnp.float32).min)
    chosen = jax.random.categorical(key, likely, shape=(count,))
    return jax.tree.map(lambda x: x[chosen], pool.items)


def new(found: Finished, pool: replay.Replay, game: TensorGame) -> Bool[Array, " N"]:
    """Which of N finished games are schemes that no game of the pool is, in whatever order and basis."""
    there = np.arange(pool.items.rank.shape[0]) < pool.filled
    ours, theirs = (
        jax.vmap(lambda x: _scheme_hash(x, game))(games) for games in (found, pool.items)
    )
    return ~jnp.any(jnp.all(ours[:, None] == theirs[None], axis=-1) & there[None], axis=1)


def _scheme_hash(finished: Finished, game: TensorGame) -> Int[Array, "2"]:
    """The same for all orders and bases: a sum over its moves, as they are in the canonical basis."""
    factors = bases.change_factors(finished.factors, finished.basis.inverses, game.ring)
    factors = game.symmetry.first(canonical(factors, game.ring), game.ring)
    return jnp.sum(hashes(factors, 1), axis=0)


def begin(
    key: jax.Array, kept: Finished, game: TensorGame, limits: Int[Array, " targets"]
) -> tuple[State, Start]:
    """Games that begin inside those kept, one in each: `[B]` states, and what has been taken there.

    Each is asked for fewer terms than the game that it began in took, or for its target's limit if that is lower.
    """

    def one(key, kept: Finished):
        order_key, count_key = jax.random.split(key)
        used = jnp.any(kept.factors, axis=(-2, -1))
        # In a random order, null ones last.
        order = jnp.argsort(jnp.where(used, jax.random.uniform(order_key, used.shape), 2.0))
        # A last move alone cannot be done better.
        count = jax.random.randint(count_key, (), 0, jnp.maximum(jnp.sum(used) - 1, 1))
        wanted = jnp.where((np.arange(len(used)) < count)[:, None, None], kept.factors[order], 0)
        limit = jnp.minimum(limits[kept.target], jnp.maximum(kept.rank - 1, 1))
        state = game.start(kept.target, limit)
        tensor = bases.change_tensor(state.residual, kept.basis.matrices, game.ring)
        state = state._replace(residual=tensor.astype(game.dtype))

        def take(state, factors):
            # A game of many more moves than are allowed now may have its end before them.
            go = jnp.any(factors) & ~game.is_terminal(state)
            after, _ = game.step(state, Move(factors))
            after = jax.tree.map(lambda new, old: jnp.where(go, new, old), after, state)
            return after, jnp.where(go, factors, 0)

        state, prefix = jax.lax.scan(take, state, wanted)
        return state, Start(kept.target, kept.basis, prefix, state.moves)

    return jax.vmap(one)(jax.random.split(key, kept.rank.shape[0]), kept)


def completed(
    factors: Int[Array, "B R 3 S"], rank: Int[Array, " B"], states: State, game: TensorGame
) -> tuple[Int[Array, "B R 3 S"], Int[Array, " B"], Bool[Array, " B"]]:
    """Games' moves, their terms, and whether they are finished: also those that one term more finishes.

    Most games that are asked for less than the best known end one term short of it.  With that term they are no
    better, but different: games that begin inside them have somewhere else to go.

    Args:
      rank: above `game.max_moves` of games that are not finished.
      states: the last ones.
    """

    def one(factors, rank, state):
        term, there = one_term(state.residual, game.ring)
        there &= state.moves == state.limit  # after an orbit it may be more
        there &= game.symmetry.terms(term, game.ring) == 1
        used = jnp.any(factors, axis=(-2, -1))
        there &= ~used[-1]
        place = jnp.where(there, jnp.sum(used), len(factors))
        factors = factors.at[place].set(term.astype(factors.dtype), mode="drop")
        return factors, jnp.where(there, state.moves + 1, rank), there | (rank <= game.max_moves)

    return jax.vmap(one)(factors, rank, states)


def join(prefix: Int[Array, "B R 3 S"], moves: Int[Array, "B R 3 S"]) -> Int[Array, "B R 3 S"]:
    """What was played, behind what each game began with; null moves last."""
    both = jnp.concatenate([prefix, moves], axis=1)
    return live_first(both)[:, : prefix.shape[1]]
