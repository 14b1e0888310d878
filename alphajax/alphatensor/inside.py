"""Large neighbourhood search with a learned eye: beams that begin inside finished games.

Not in the paper.  A network that knows what to do with ten terms does not know how to begin with fifty.  But a game
that has been finished is full of small problems: take a few of its terms back, and what they leave is a tensor whose
rank is at most their number.  If it is less, the game gets shorter; if it is the same in another way, the game becomes
another one, from which others can be reached.

And it is a *small* tensor: terms that have much in common span little.  If their factors span d vectors in a mode,
they are, in coordinates of those, a tensor of length d there, and so are its best decompositions.  So one network that
knows tensors of a few terms and sides of at most six plays for every target, however large: it never sees more.

* Neighbourhoods are drawn term by term, each the likelier the more factors it has in common with those before, and
  left out if the span would be too large (`neighbourhood`).
* Of many, a beam begins with those that the value head likes most: value + terms is 0 for a sum of terms that cannot
  be done better, and 1 where one term too many was taken for it; and with as many more as they come (`begin`).
* What the beam began with is learned from, as what it was worth to it (`lesson`).

Everything begins with the naive decomposition, one term for each entry of the target: a help, which a result states.
Shaw, *Using constraint programming and local search methods to solve vehicle routing problems* (CP 1998), is where
the name and the relatedness come from; flip graphs (Kauers and Moosbauer, 2022) do this two terms at a time, without
learning.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import replay
from alphajax.alphatensor import archive, bases, tensors
from alphajax.alphatensor.archive import Finished
from alphajax.alphatensor.beam import Ended, hashes, in_blocks, one_of_each
from alphajax.alphatensor.game import Observation, TensorGame
from alphajax.alphatensor.mix import Item


@dataclass(frozen=True, kw_only=True)
class InsideConfig:
    """How beams begin inside finished games."""

    moves: int = 0
    """The most terms that are taken back; each beam draws its number between half of it and all.  0: beams begin with
    the target itself."""
    side: int = 6
    """The most dimensions that they span in a mode: the side of the network's game.  Each neighbourhood draws its own
    limit, above half of it: many terms in little space are soon done better, but not all that can be is there."""
    draws: int = 4096
    """Neighbourhoods valued."""
    beginnings: int = 128
    """Of them, with how many a beam begins, which share its width: one half those of the highest value."""
    sharing: float = 4.0
    """A term is taken back exp(b) times as likely for each factor that it has in common with one that was; each
    neighbourhood draws its own b between 0 and this."""
    basis_density: float = 0.5
    """Largest off-diagonal density of the random bases in which they are seen."""

    def __post_init__(self):
        for name, low in (("moves", 0), ("side", 1), ("draws", 1), ("beginnings", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")
        for name in ("sharing", "basis_density"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected 0 or more")
        if self.moves >= self.side**3:
            raise ValueError(f"moves: received {self.moves}; expected fewer than side ** 3, {self.side**3}")


def small_game(game: TensorGame, config: InsideConfig) -> TensorGame:
    """The game that is played inside another: tensors of at most `side`, of one more term than are taken back.

    Its target is a placeholder, with as many entries as it has moves."""
    entries = np.zeros(config.side**3, np.int8)
    entries[:: max(len(entries) // (config.moves + 1), 1)][: config.moves + 1] = 1
    name = f"neighbourhood{config.side}"
    return TensorGame(
        targets=(tensors.from_array(entries.reshape((config.side,) * 3), name),), ring=game.ring, history=0,
        side=config.side,
    )  # fmt: skip


class Begun(NamedTuple):
    """Different residuals to begin with."""

    seen: Observation
    """In coordinates of `vectors`."""
    score: Float[Array, " B"]
    """Value and terms; minus infinity where there is none."""
    vectors: Int[Array, "B 3 s S"]
    """Of each mode, what the coordinates stand for."""
    back: Int[Array, "B R 3 s"]
    """The terms that were taken back, null ones elsewhere."""
    terms: Int[Array, " B"]
    """How many they are."""
    prefix: Int[Array, "B R 3 S"]
    """The others."""


def begin(
    params: Any,
    key: jax.Array,
    pool: replay.Replay,
    best: Int[Array, " targets"],
    game: TensorGame,
    small: TensorGame,
    policy: Any,
    config: InsideConfig,
    block: int,
) -> Begun:
    """`config.beginnings` residuals inside the finished games of a pool, or inside the naive one while it is empty.

    As many terms may be played as make the game no longer than the best known.

    Args:
      key: consumed.
      pool: of `Finished`, in the canonical basis.
      best: the rank of each target.
      small: the game of `policy`.
      policy: has `values`, as `NetworkPolicy`.
      block: residuals valued at a time; divides `config.draws`.
    """
    place_key, count_key, key = jax.random.split(key, 3)
    count = jax.random.randint(count_key, (), (config.moves + 1) // 2, config.moves + 1)
    filled = jnp.any(pool.filled > 0)
    naive = naive_game(game, pool.items.factors.shape[1])

    def one(key, place):
        kept = jax.tree.map(lambda x, first: jnp.where(filled, x[place], first), pool.items, naive)
        draw_key, basis_key, density_key = jax.random.split(key, 3)
        taken, vectors, dims = neighbourhood(draw_key, kept.factors, count, config)
        density = jax.random.uniform(density_key, maxval=config.basis_density)
        basis = bases.random_basis(basis_key, game.ring, config.side, dims, density)
        coordinates = bases.change_factors(coordinates_in(vectors, kept.factors), basis.matrices, game.ring)
        coordinates = jnp.where(taken[:, None, None], coordinates, 0).astype(jnp.int8)
        entries = vectors[:, :, None] >> np.arange(game.side)[None, None] & 1
        stands_for = game.ring.reduce(jnp.einsum("mij,mis->mjs", basis.inverses, entries))
        residual, terms = small.total(coordinates, taken)
        left = best[kept.target] - (kept.rank - terms)
        left = jnp.where(jnp.any(residual), left, 0).astype(jnp.int16)
        seen = Observation(residual.astype(small.dtype), jnp.zeros((0, 3, config.side), jnp.int8), dims, left)
        prefix = jnp.where(taken[:, None, None], 0, kept.factors)
        return Begun(seen, jnp.float32(0), stands_for.astype(jnp.int8), coordinates, terms, prefix)

    def valued(keys, places):
        seen = jax.vmap(one)(keys, places).seen
        score = policy.values(params, seen) + seen.remaining
        return jnp.where(seen.remaining > 0, score, -jnp.inf), hashes(seen.residual, 1)

    keys, places = jax.random.split(key, config.draws), archive.choose(place_key, pool, best, config.draws)
    score, kinds = in_blocks(valued, block, keys, places)
    score = one_of_each(kinds, score)
    # The value may be wrong where it matters: half of them are as they come.
    half = config.beginnings // 2
    _, chosen = jax.lax.top_k(score.at[:half].set(jnp.where(jnp.isfinite(score[:half]), jnp.inf, -jnp.inf)), config.beginnings)
    return jax.vmap(one)(keys[chosen], places[chosen])._replace(score=score[chosen])


def neighbourhood(
    key: jax.Array, factors: Int[Array, "R 3 S"], count: Int[Array, ""], config: InsideConfig
) -> tuple[Bool[Array, " R"], Int[Array, "3 s"], Int[Array, "3"]]:
    """Which terms of a game over Z_2 are taken back, at most `count`; vectors that span their factors, as bit masks,
    zero beyond the dimensions; and these.

    Each is drawn in proportion to exp(b n), where n counts the factors that it has in common with those before it.
    """
    weight_key, limit_key, key = jax.random.split(key, 3)
    limit = jax.random.randint(limit_key, (), config.side // 2 + 1, config.side + 1)
    masks = as_masks(factors)
    common = jnp.sum(masks[:, None] == masks[None], axis=-1)
    weight = jax.random.uniform(weight_key, maxval=config.sharing)
    used = jnp.any(factors, axis=(-2, -1))

    def take(carry, noise):
        free, taken, shared, vectors, dims = carry
        one = jnp.argmax(jnp.where(free, weight * shared + noise, -jnp.inf))
        rest, _ = reduced(vectors, masks[one])
        grown = dims + (rest != 0)
        go = free[one] & jnp.all(grown <= limit) & (jnp.sum(taken) < count)
        vectors = jnp.where(go & (np.arange(config.side)[None] == dims[:, None]), rest[:, None], vectors)
        taken = taken.at[one].set(go | taken[one])
        return (free.at[one].set(False), taken, shared + go * common[:, one], vectors, jnp.where(go, grown, dims)), None

    start = (used, jnp.zeros_like(used), jnp.zeros(len(used)), jnp.zeros((3, config.side), jnp.int32), jnp.zeros(3, jnp.int8))
    noise = jax.random.gumbel(key, (4 * config.moves, len(used)))
    (_, taken, _, vectors, dims), _ = jax.lax.scan(take, start, noise)
    return taken, vectors, dims


def as_masks(factors: Int[Array, "*B S"]) -> Int[Array, "*B"]:
    """Vectors over Z_2 as bit masks; S is at most 31."""
    return jnp.einsum("...s,s->...", factors.astype(jnp.int32), (1 << np.arange(factors.shape[-1])).astype(np.int32))


def reduced(vectors: Int[Array, "3 s"], masks: Int[Array, "*R 3"]) -> tuple[Int[Array, "*R 3"], Int[Array, "*R 3 s"]]:
    """What of each mask is not in the span of its mode's vectors, and the sum of which of them the rest is.

    The vectors are such as `neighbourhood` makes: each what was left of one after those before it.
    """
    used = []
    for i in range(vectors.shape[1]):
        # As in `ranks.rank_gf2`: this lowers exactly those that have the vector's leading bit.
        lower = masks ^ jnp.broadcast_to(vectors[:, i], masks.shape)
        used.append(lower < masks)
        masks = jnp.minimum(masks, lower)
    return masks, jnp.stack(used, axis=-1).astype(jnp.int8)


def coordinates_in(vectors: Int[Array, "3 s"], factors: Int[Array, "R 3 S"]) -> Int[Array, "R 3 s"]:
    """Of factors in the span of the vectors, which of these they are the sum of."""
    return reduced(vectors, as_masks(factors))[1]


def played(begun: Begun, ended: Ended) -> Int[Array, "N R 3 S"]:
    """Finished games: what was played, in the target's own coordinates, behind what was not taken back."""
    moves = jnp.einsum("nrmj,nmjs->nrms", ended.moves.astype(jnp.int32), begun.vectors[ended.origin].astype(jnp.int32)) % 2
    rows = begun.prefix.shape[1]
    moves = jnp.pad(moves.astype(jnp.int8), ((0, 0), (0, max(rows - moves.shape[1], 0)), (0, 0), (0, 0)))
    return archive.join(begun.prefix[ended.origin], moves[:, :rows])


def lesson(begun: Begun, ended: Ended, labels: int) -> tuple[Item, Bool[Array, " B"]]:
    """Positions to learn from, and which of them are there: what the beam began with, what that is worth by the best
    that is known of it now, and as good moves those that were taken back.
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


def naive_game(game: TensorGame, rows: int) -> Finished:
    """The naive decomposition of the first target as a finished game of so many rows: one term for each entry that is
    not 0 (over Z_2)."""
    target, side = game.targets[0], game.padded.shape[-1]
    places = np.argwhere(game.ring.reduce(target.array))
    factors = np.zeros((rows, 3, side), np.int8)
    factors[np.arange(len(places))[:, None], np.arange(3), places] = 1
    return Finished(
        jnp.asarray(factors), jnp.int32(len(places)), jnp.asarray(np.array(target.shape, np.int8)), jnp.int32(0),
        bases.identity(side),
    )  # fmt: skip
