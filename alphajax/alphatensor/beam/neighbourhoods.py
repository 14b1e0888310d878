"""Large neighbourhood search with a learned eye: beams that begin inside finished games.

Not in the paper.  A network that knows what to do with ten terms does not know how to begin with fifty.  But a game
that has been finished is full of small problems: take a few of its terms back, and what they leave is a tensor whose
rank is at most their number.  If it is less, the game gets shorter; if it is the same in another way, the game becomes
another one, from which others can be reached.

And it is a *small* tensor: terms that have much in common span little.  If their factors span d vectors in a mode,
they are, in coordinates of those, a tensor of length d there, and so are its best decompositions.  So one network that
knows tensors of a few terms and sides of at most six plays for every target, however large: it never sees more.

* Neighbourhoods are drawn term by term, each the likelier the more of its factors are in the span of those before,
  until no other fits into as much space as they may take, or there are `moves` of them (`neighbourhood`).
* Of many in a game, those with no term in common can be done again at once, and those that the value head likes are
  more often among them: value + terms is 0 for a sum of terms that cannot be done better, and 1 where one term too
  many was taken for it (`begin`).
* A beam does all of them again in all games of a generation.  Where it finds nothing shorter, a game goes on with
  any decomposition of as many terms, its own or another, rather one whose factors occur elsewhere in the game: by chance
  alone terms come to have nothing in common, and then nothing is left to be found (`settled`).
* Each game is followed by one that is no longer, and longer ones give way, slowly (`choose`).
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

from alphajax import replay, resampling
from alphajax.alphatensor.beam.beam import Ended, in_blocks
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import live_first
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.learning.archive import Finished
from alphajax.alphatensor.learning.batches import Item

EAGERNESS = 4.0
"""A neighbourhood whose value is one term better is exp(this) times as likely to be chosen."""
SHARING = 4.0
"""A term is exp(b) times as likely to be taken back for each of its factors that the factors of the
others span already.  Each neighbourhood draws its own b between 0 and this."""
LIKENESS = 3.0
"""Of decompositions with equally few terms, one with one more pair of equal factors, among its own
or with the rest of the game, is exp(l) times as likely to be chosen.  Each beginning draws its own
l between 0 and this.  Games whose terms share no factors cannot be improved; a game with the most
shared factors no longer changes."""
BASIS_DENSITY = 0.5
"""Largest off-diagonal density of the random bases in which neighbourhoods are seen."""


@dataclass(frozen=True, kw_only=True)
class InsideConfig:
    """How beams begin inside finished games."""

    moves: int = 0
    """Terms that are taken back at once, or as many as fit into the space that they may take: few can seldom be done in
    fewer.  0: beams begin with the target itself."""
    side: int = 6
    """The most dimensions that they span in a mode: the side of the network's game.  Each neighbourhood draws its own
    limit, above half of it: many terms in little space are soon done better, but not all that can be is there."""
    games: int = 32
    """A generation: finished games that a beam begins in, on each device; each is followed by one that is no longer.
    No more are kept, whatever `mix.pool` says."""
    draws: int = 64
    """Neighbourhoods of each that are valued."""
    beginnings: int = 8
    """Of them, at most so many that have no term in common are begun with."""
    patience: float = 2.0
    """A game of so many terms more than the best of its generation is begun in exp(-1) times as often."""

    def __post_init__(self):
        for name, low in (("moves", 0), ("side", 1), ("games", 1), ("draws", 1), ("beginnings", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")
        if self.moves == 1:
            raise ValueError(
                "moves: received 1; expected 0, or 2 or more, as one term cannot be done better"
            )
        if not self.patience > 0:
            raise ValueError(f"patience: received {self.patience}; expected above 0")
        if self.moves >= self.side**3:
            raise ValueError(
                f"moves: received {self.moves}; expected fewer than side ** 3, {self.side**3}"
            )


def small_game(game: TensorGame, config: InsideConfig) -> TensorGame:
    """The game that is played inside another: tensors of at most `side`, of one more term than are taken back.

    Its target is a placeholder, with as many entries as it has moves."""
    entries = np.zeros(config.side**3, np.int8)
    entries[:: max(len(entries) // (config.moves + 1), 1)][: config.moves + 1] = 1
    name = f"neighbourhood{config.side}"
    return TensorGame(
        targets=(tensors.from_array(entries.reshape((config.side,) * 3), name),),
        ring=game.ring,
        history=0,
        side=config.side,
    )


class Begun(NamedTuple):
    """Residuals to begin with: `beginnings` of each of `games` games, one game's after another's."""

    seen: Observation
    """In coordinates of `vectors`."""
    score: Float[Array, " B"]
    """Value plus terms; minus infinity where there is none, whatever the rest says."""
    vectors: Int[Array, "B 3 s S"]
    """Of each mode, what the coordinates stand for."""
    back: Int[Array, "B M 3 s"]
    """The terms that were taken back, in those coordinates, null ones last."""
    taken: Bool[Array, "B R"]
    """Which of the game's they are."""


def choose(key: jax.Array, pool: replay.Replay, game: TensorGame, config: InsideConfig) -> Finished:
    """`config.games` finished games of a pool, in the canonical basis, those of few terms more often; or the naive one
    while it is empty.

    None is chosen more often than by its share, rounded up, so that as many different games as can be go on."""
    there = np.arange(pool.items.rank.shape[0]) < pool.filled
    excess = pool.items.rank - jnp.min(jnp.where(there, pool.items.rank, game.max_moves))
    likely = jnp.where(there, -excess / config.patience, jnp.finfo(jnp.float32).min)
    chosen = resampling.systematic(key, likely, config.games)
    naive = naive_game(game, pool.items.factors.shape[1])
    return jax.tree.map(
        lambda x, first: jnp.where(jnp.any(there), x[chosen], first), pool.items, naive
    )


def begin(
    params: Any,
    key: jax.Array,
    games: Finished,
    game: TensorGame,
    small: TensorGame,
    policy: Any,
    config: InsideConfig,
    block: int,
) -> Begun:
    """Of each game, neighbourhoods that have no term in common, each a sum of at least two that is not zero.

    As many terms may be played as were taken back.

    Args:
      key: consumed.
      games: `config.games` of them.
      small: the game of `policy`.
      policy: has `values`, as `NetworkPolicy`.
      block: residuals valued at a time; divides `config.games * config.draws`.
    """
    noise_key, key = jax.random.split(key)

    def one(key, place):
        factors = games.factors[place]
        draw_key, basis_key, density_key = jax.random.split(key, 3)
        taken, vectors, dims = neighbourhood(draw_key, factors, config)
        density = jax.random.uniform(density_key, maxval=BASIS_DENSITY)
        basis = bases.random_basis(basis_key, game.ring, config.side, dims, density)
        first = jnp.argsort(~taken, stable=True)[: config.moves]
        back = bases.change_factors(
            coordinates_in(vectors, factors[first]), basis.matrices, game.ring
        )
        back = jnp.where(taken[first][:, None, None], back, 0).astype(jnp.int8)
        entries = vectors[:, :, None] >> np.arange(game.side)[None, None] & 1
        stands_for = game.ring.reduce(jnp.einsum("mij,mis->mjs", basis.inverses, entries))
        residual, terms = small.total(back, taken[first])
        left = jnp.where(jnp.any(residual) & (terms > 1), terms, 0).astype(jnp.int16)
        seen = Observation(
            residual.astype(small.dtype), jnp.zeros((0, 3, config.side), jnp.int8), dims, left
        )
        return Begun(seen, jnp.float32(0), stands_for.astype(jnp.int8), back, taken)

    def valued(keys, places):
        begun = jax.vmap(one)(keys, places)
        score = policy.values(params, begun.seen) + begun.seen.remaining
        return begun._replace(score=jnp.where(begun.seen.remaining > 0, score, -jnp.inf))

    keys = jax.random.split(key, config.games * config.draws)
    drawn = in_blocks(valued, block, keys, jnp.repeat(jnp.arange(config.games), config.draws))
    likely = EAGERNESS * drawn.score + jax.random.gumbel(noise_key, drawn.score.shape)
    likely, taken = (
        x.reshape(config.games, config.draws, *x.shape[1:]) for x in (likely, drawn.taken)
    )
    apart, there = jax.vmap(lambda x, y: disjoint(x, y, config.beginnings))(likely, taken)
    chosen = (apart + config.draws * np.arange(config.games)[:, None]).reshape(-1)
    begun = jax.tree.map(lambda x: x[chosen], drawn)
    return begun._replace(score=jnp.where(there.reshape(-1), begun.score, -jnp.inf))


def disjoint(
    likely: Float[Array, " D"], taken: Bool[Array, "D R"], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Which of D sets are chosen when each is that has nothing in common with those before it, the most likely first,
    but at most `count`; and which of these places are filled."""

    def go(used, one):
        free = jnp.isfinite(likely[one]) & ~jnp.any(used & taken[one])
        return used | (free & taken[one]), free

    order = jnp.argsort(-likely)
    _, free = jax.lax.scan(go, jnp.zeros_like(taken[0]), order)
    first = jnp.argsort(~free, stable=True)[:count]
    return order[first], free[first]


def neighbourhood(
    key: jax.Array, factors: Int[Array, "R 3 S"], config: InsideConfig
) -> tuple[Bool[Array, " R"], Int[Array, "3 s"], Int[Array, "3"]]:
    """Which terms of a game over Z_2 are taken back, at most `config.moves`; vectors that span their factors, as bit masks,
    zero beyond the dimensions; and these.

    Of those that still fit, each is drawn in proportion to exp(b n), where n counts its factors in the span of those
    before it.
    """
    weight_key, limit_key, key = jax.random.split(key, 3)
    limit = jax.random.randint(limit_key, (), config.side // 2 + 1, config.side + 1)
    weight = jax.random.uniform(weight_key, maxval=SHARING)
    masks, used = as_masks(factors), jnp.any(factors, axis=(-2, -1))

    def take(carry, noise):
        taken, vectors, dims = carry
        rest, _ = reduced(vectors, masks)
        new = rest != 0
        fits = used & ~taken & jnp.all(dims[None] + new <= limit, axis=1)
        one = jnp.argmax(jnp.where(fits, weight * jnp.sum(~new, axis=1) + noise, -jnp.inf))
        grows = fits[one] & new[one]
        here = grows[:, None] & (np.arange(config.side)[None] == dims[:, None])
        taken = taken.at[one].set(fits[one] | taken[one])
        return (taken, jnp.where(here, rest[one][:, None], vectors), dims + grows), None

    start = (jnp.zeros_like(used), jnp.zeros((3, config.side), jnp.int32), jnp.zeros(3, jnp.int8))
    (taken, vectors, dims), _ = jax.lax.scan(
        take, start, jax.random.gumbel(key, (config.moves, len(used)))
    )
    return taken, vectors, dims


def as_masks(factors: Int[Array, "*B S"]) -> Int[Array, "*B"]:
    """Vectors over Z_2 as bit masks; S is at most 31."""
    return jnp.einsum(
        "...s,s->...",
        factors.astype(jnp.int32),
        (1 << np.arange(factors.shape[-1])).astype(np.int32),
    )


def reduced(
    vectors: Int[Array, "3 s"], masks: Int[Array, "*R 3"]
) -> tuple[Int[Array, "*R 3"], Int[Array, "*R 3 s"]]:
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


def settled(key: jax.Array, games: Finished, begun: Begun, ended: Ended) -> Int[Array, "B N 3 s"]:
    """What takes the place of what was taken back: the fewest terms known, which is what a beam found or these
    themselves; of as few, those with much in common with each other and the rest of the game more often."""
    count, (likeness_key, key) = begun.score.shape[0], jax.random.split(key)
    likeness = jax.random.uniform(likeness_key, (count,), maxval=LIKENESS)
    back = jnp.pad(
        begun.back, ((0, 0), (0, ended.moves.shape[1] - begun.back.shape[1]), (0, 0), (0, 0))
    )
    left = jnp.where(jnp.isfinite(begun.score), 0, -1)
    known = Ended(back, left, jnp.arange(count, dtype=jnp.int32))
    known = jax.tree.map(lambda *x: jnp.concatenate(x), ended, known)
    rest = jnp.where(
        begun.taken[..., None, None],
        0,
        jnp.repeat(games.factors, count // games.rank.shape[0], axis=0),
    )
    common = jax.vmap(in_common)(
        known.moves, begun.vectors[known.origin], as_masks(rest)[known.origin]
    )
    of_each = known.origin[None] == np.arange(count)[:, None]
    most_left = jnp.max(jnp.where(of_each, known.left[None], -1), axis=1)
    fewest = known.left == most_left[known.origin]
    merit = jnp.where(
        fewest, likeness[known.origin] * common + jax.random.gumbel(key, common.shape), -jnp.inf
    )
    return known.moves[jnp.argmax(jnp.where(of_each, merit[None], -jnp.inf), axis=1)]


def in_common(
    moves: Int[Array, "N 3 s"], vectors: Int[Array, "3 s S"], rest: Int[Array, "R 3"]
) -> Int[Array, ""]:
    """How many pairs of factors are equal of which at least one is a move's; `rest` are bit masks."""
    ours = as_masks(
        jnp.einsum("nmj,mjs->nms", moves.astype(jnp.int32), vectors.astype(jnp.int32)) % 2
    )
    after = np.triu(np.ones((len(ours), len(ours)), bool), 1)[..., None]
    among = (ours[:, None] == ours[None]) & (ours != 0)[None] & after
    return jnp.sum(among) + jnp.sum((ours[:, None] == rest[None]) & (rest != 0)[None])


def played(games: Finished, begun: Begun, moves: Int[Array, "B N 3 s"]) -> Int[Array, "G R 3 S"]:
    """The games with such moves instead of what was taken back, in the target's own coordinates; of terms that are now
    there twice, over Z_2 nothing is left."""
    count = games.rank.shape[0]
    there = jnp.isfinite(begun.score)[:, None]
    taken = jnp.any((begun.taken & there).reshape(count, -1, begun.taken.shape[1]), axis=1)
    moves = (
        jnp.einsum("brmj,bmjs->brms", moves.astype(jnp.int32), begun.vectors.astype(jnp.int32)) % 2
    )
    moves = jnp.where(there[..., None, None], moves, 0).astype(jnp.int8)
    rest = jnp.where(taken[..., None, None], 0, games.factors)
    every = jnp.concatenate([rest, moves.reshape(count, -1, *moves.shape[2:])], axis=1)
    masks = as_masks(every)
    equal = jnp.all(masks[:, :, None] == masks[:, None], axis=-1)
    # The first of as many as are equal, if their number is odd.
    first = jnp.argmax(equal, axis=2) == np.arange(every.shape[1])[None]
    odd = first & (jnp.sum(equal, axis=2) % 2 == 1)
    every = jnp.where(odd[..., None, None], every, 0)
    return live_first(every)[:, : rest.shape[1]]


def lesson(
    begun: Begun, moves: Int[Array, "B N 3 s"], labels: int
) -> tuple[Item, Bool[Array, " B"]]:
    """Positions to learn from, and which of them are there: what the beam began with, and what is known of it."""
    worth = jnp.sum(jnp.any(moves, axis=(-2, -1)), axis=1)
    actions = jnp.pad(moves, ((0, 0), (0, max(labels - moves.shape[1], 0)), (0, 0), (0, 0)))[
        :, :labels
    ]
    weights = jnp.any(actions, axis=(-2, -1)).astype(jnp.float32)
    weights /= jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
    return Item(begun.seen, actions, weights, -worth.astype(jnp.float32)), jnp.isfinite(begun.score)


def naive_game(game: TensorGame, rows: int) -> Finished:
    """The naive decomposition of the first target as a finished game of so many rows: one term for each entry that is
    not 0 (over Z_2)."""
    target, side = game.targets[0], game.padded.shape[-1]
    places = np.argwhere(game.ring.reduce(target.array))
    factors = np.zeros((rows, 3, side), np.int8)
    factors[np.arange(len(places))[:, None], np.arange(3), places] = 1
    return Finished(
        jnp.asarray(factors),
        jnp.int32(len(places)),
        jnp.asarray(np.array(target.shape, np.int8)),
        jnp.int32(0),
        bases.identity(side),
    )
