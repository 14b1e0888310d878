"""Beams that begin inside finished games: large neighbourhood search, with a learned eye for where to look.

Not in the paper.  A value head tells what a residual of ten terms is worth better than one of twenty, and a policy
that knows what to play there does not know how to begin.  But a game that has been finished is full of small
residuals: take some of its moves back, and what they leave is a tensor whose rank is at most their number.  If it is
less, the game gets shorter; if it is the same in another way, the game becomes another one, from which others can be
reached.  So a beam begins with many such residuals at once, those of the best finished games that the value head
likes most:

    value + terms that were taken back,

which is 0 for a sum of terms that cannot be done better, and 1 where one term too many was taken for it.

Terms that have factors in common are more likely to be a sum of fewer (a product of 2 x 2 matrices inside a larger
one is), so that moves are taken back one after another, each the likelier the more it shares with those before.

Shaw, *Using constraint programming and local search methods to solve vehicle routing problems* (CP 1998), is where
the name and the relatedness come from; flip graphs (Kauers and Moosbauer, 2022) are what this does two moves at a
time, without learning.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import replay
from alphajax.alphatensor import archive, bases
from alphajax.alphatensor.archive import Finished
from alphajax.alphatensor.bases import Basis
from alphajax.alphatensor.beam import Ended, hashes, in_blocks, one_of_each
from alphajax.alphatensor.game import Observation, TensorGame
from alphajax.alphatensor.mix import Item
from alphajax.alphatensor.moves import canonical


@dataclass(frozen=True, kw_only=True)
class InsideConfig:
    """How beams begin inside finished games."""

    moves: int = 0
    """The most that are taken back; each beam draws its number between half of it and all.  0: beams begin with the
    target itself."""
    draws: int = 16_384
    """Residuals valued."""
    beginnings: int = 16
    """Of them, the best with which a beam begins; they share its width."""
    sharing: float = 2.0
    """A move is taken back exp(b) times as likely for each factor that it has in common with one that was; each
    residual draws its own b between 0 and this."""
    naive: bool = False
    """While no game is finished, beams begin inside the naive decomposition, one term for each entry of the target: a
    help, which a result has to state.  False: with the target until one is."""

    def __post_init__(self):
        for name, low in (("moves", 0), ("draws", 1), ("beginnings", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")
        if not self.sharing >= 0:
            raise ValueError(f"sharing: received {self.sharing}; expected 0 or more")
        if self.naive and not self.moves:
            raise ValueError("naive: received True without moves; expected moves above 0, how many are taken back")


class Begun(NamedTuple):
    """Different residuals to begin with, the most promising first."""

    seen: Observation
    score: Float[Array, " B"]
    """Minus infinity where there is none."""
    prefix: Int[Array, "B R 3 S"]
    """The moves that are not taken back."""
    back: Int[Array, "B R 3 S"]
    """Those that are."""
    terms: Int[Array, " B"]
    """How many they are."""


def begin(
    params: Any,
    key: jax.Array,
    pool: replay.Replay,
    best: Int[Array, " targets"],
    basis: Basis,
    game: TensorGame,
    policy: Any,
    config: InsideConfig,
    block: int,
) -> Begun:
    """Residuals inside the finished games of a pool, as many as the configuration says.

    As many terms may be played as make the game no longer than the best known.

    Args:
      key: consumed.
      pool: of `Finished`.
      best: the rank of each target.
      basis: in which residuals and prefixes are.
      policy: has `values`, as `NetworkPolicy`.
      block: residuals valued at a time; divides `config.draws`.
    """
    place_key, count_key, key = jax.random.split(key, 3)
    count = jax.random.randint(count_key, (), (config.moves + 1) // 2, config.moves + 1)
    filled = jnp.any(pool.filled > 0)
    with jax.ensure_compile_time_eval():
        naive = naive_game(game, pool.items.factors.shape[1]) if config.naive else None

    def one(key, place):
        kept = jax.tree.map(lambda x: x[place], pool.items)
        if naive is not None:
            kept = jax.tree.map(lambda x, first: jnp.where(filled, x, first), kept, naive)
        factors = bases.change_factors(kept.factors, kept.basis.inverses, game.ring)
        factors = bases.change_factors(factors, basis.matrices, game.ring)
        # Over Z an entry may become one that no move has.
        fits = bool(game.ring.modulus) | jnp.all(jnp.abs(factors) <= game.ring.bound)
        factors = game.symmetry.first(canonical(factors.astype(jnp.int8), game.ring), game.ring)
        back = taken_back(key, factors, count, game, config)
        residual, terms = game.total(factors, back)
        fits &= (filled | config.naive) & jnp.any(residual) & jnp.all(jnp.abs(residual) <= game.largest_start)
        left = jnp.where(fits, best[kept.target] - (kept.rank - terms), 0).astype(jnp.int16)
        past = jnp.zeros((game.history, 3, game.side), jnp.int8)
        seen = Observation(residual.astype(game.dtype), past, kept.dims, left)
        kept, back = (jnp.where(x[:, None, None], factors, 0) for x in (~back, back))
        return Begun(seen, jnp.float32(0), kept, back, terms)

    def valued(keys, places):
        seen = jax.vmap(one)(keys, places).seen
        score = policy.values(params, seen) + seen.remaining
        return jnp.where(seen.remaining > 0, score, -jnp.inf), hashes(seen.residual, 1)

    keys, places = jax.random.split(key, config.draws), archive.choose(place_key, pool, best, config.draws)
    score, kinds = in_blocks(valued, block, keys, places)
    score, chosen = jax.lax.top_k(one_of_each(kinds, score), config.beginnings)
    return jax.vmap(one)(keys[chosen], places[chosen])._replace(score=score)


def lesson(begun: Begun, ended: Ended, labels: int) -> tuple[Item, Bool[Array, " B"]]:
    """Positions to learn from, and which of them are there: what the beam began with, what that is worth by the best
    that is known of it now, and as good moves those that were taken back.

    These are the residuals that the value liked most: where it overrates, it is told so here.
    """
    count = begun.score.shape[0]
    there = jnp.isfinite(begun.score)
    left = jax.ops.segment_max(ended.left, ended.origin, count)
    done = begun.seen.remaining - jnp.maximum(left, 0)
    worth = jnp.where(left >= 0, jnp.minimum(begun.terms, done), begun.terms)
    used = jnp.any(begun.back, axis=(-2, -1))
    first = jnp.argsort(~used, axis=1, stable=True)[:, :labels]
    actions = jnp.take_along_axis(begun.back, first[..., None, None], axis=1)
    actions = jnp.pad(actions, ((0, 0), (0, labels - actions.shape[1]), (0, 0), (0, 0)))
    weights = jnp.any(actions, axis=(-2, -1)).astype(jnp.float32)
    weights /= jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
    return Item(begun.seen, actions, weights, -worth.astype(jnp.float32)), there


def taken_back(
    key: jax.Array, factors: Int[Array, "R 3 S"], count: Int[Array, ""], game: TensorGame, config: InsideConfig
) -> Bool[Array, " R"]:
    """Which of a game's moves are taken back: `count`, at most `config.moves`, or all if there are no more.

    Each is drawn in proportion to exp(b n), where n counts the factors that it has in common with those before it
    (orbits: any term's factor of the one with the other as it is spelled).
    """
    weight_key, key = jax.random.split(key)
    own = hashes(factors, 2)[..., 0]
    images = hashes(game.symmetry.images(factors), 3)[..., 0]  # [R, G, 3]
    common = jnp.sum(images[:, None] == own[None, :, None], axis=(-2, -1))  # of each with each
    weight = jax.random.uniform(weight_key, maxval=config.sharing)

    def take(carry, turn):
        (free, shared), (number, noise) = carry, turn
        one = jnp.argmax(jnp.where(free, weight * shared + noise, -jnp.inf))
        return (free.at[one].set(free[one] & (number >= count)), shared + common[:, one]), None

    used = jnp.any(factors, axis=(-2, -1))
    noise = jax.random.gumbel(key, (config.moves, len(used)))
    (free, _), _ = jax.lax.scan(take, (used, jnp.zeros(len(used))), (jnp.arange(config.moves), noise))
    return used & ~free


def naive_game(game: TensorGame, rows: int) -> Finished:
    """The naive decomposition of the first target as a finished game of so many rows: one term for each unit of each
    entry, in orbits where moves are."""
    target = game.targets[0]
    entries = np.asarray(game.ring.reduce(target.array))
    moves = []
    for place in np.argwhere(entries):
        entry = int(entries[tuple(place)])
        term = np.zeros((3, game.side), np.int8)
        term[np.arange(3), place] = (1, 1, entry if game.ring.modulus else np.sign(entry))
        moves += [term] * (1 if game.ring.modulus else abs(entry))
    spelled = game.symmetry.first(canonical(jnp.asarray(np.array(moves)), game.ring), game.ring)
    # An orbit has been met once for each of its terms.
    orbits, met = np.unique(np.asarray(spelled), axis=0, return_counts=True)
    orbits = np.repeat(orbits, met // np.asarray(game.symmetry.terms(jnp.asarray(orbits), game.ring)), axis=0)
    factors = np.zeros((rows, 3, game.side), np.int8)
    factors[: len(orbits)] = orbits
    return Finished(
        jnp.asarray(factors), jnp.int32(target.naive_rank(game.ring.modulus)), jnp.asarray(np.array(target.shape, np.int8)),
        jnp.int32(0), bases.identity(game.side),
    )  # fmt: skip
