"""Demonstrations: games whose solution is known because the tensor was built from it.

A random tensor of known decomposition is an optimal-looking game for free: sum R random terms, and
each of them is a good next move (Fawzi et al., 2022, Methods, "Synthetic demonstrations").  The
target's own decomposition is never among them.  The best finished games are used the same way.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game.moves import Ring, canonical
from alphajax.alphatensor.game.symmetry import Symmetry
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame

SHARE_OF_TWOS = 0.01
"""Share of +-2 among non-zero entries where the ring's entries reach 2 (the paper's)."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How random factors are drawn."""

    min_density: float = 0.2
    max_density: float = 0.5
    """Each demonstration draws its own probability of a non-zero entry, uniform in between (the
    paper's supplement is read as a fixed 0.2 with entries +-1 at .099 and +-2 at .001)."""
    terms: int = 0
    """The most of a demonstration, in moves; 0: one more than the limit allows, as far as the naive algorithm has
    them.  Who begins inside finished games (`inside.py`) sees no longer ones."""
    all_shapes: bool = False
    """Each demonstration has lengths of its own, between 1 and the target's, and no more terms than a general tensor
    of such a shape."""
    cubes: float = 0.5
    """Where moves are orbits, the largest share of those that are made to be smaller than others; each demonstration
    draws its own."""

    def __post_init__(self):
        if not 0 < self.min_density <= self.max_density <= 1:
            raise ValueError(
                f"density: received {self.min_density}..{self.max_density};"
                " expected 0 < min_density <= max_density <= 1"
            )
        if self.terms < 0:
            raise ValueError(f"terms: received {self.terms}; expected 0 or more")
        if not 0 <= self.cubes <= 1:
            raise ValueError(f"cubes: received {self.cubes}; expected 0..1")


class Position(NamedTuple):
    """A position of a known game: what the policy sees, good next moves, and the moves still needed."""

    observation: Observation
    actions: Int[Array, "L 3 S"]
    weights: Float[Array, " L"]
    value: Float[Array, ""]


def random_factors(
    key: jax.Array,
    shape: tuple[int, ...],
    side: int,
    dims: Int[Array, "*#B 3"],
    ring: Ring,
    distribution: Distribution,
) -> Int[Array, "*B R 3 S"]:
    """Random moves in canonical form, none of them null; int8 of shape `(*shape, 3, side)`.

    The last axis of `shape` counts the moves of one demonstration, which share a density.  All
    numbers are drawn at once for the whole batch: a generator called once per game is several times
    slower.  `key` is consumed.
    """
    density_key, draw_key, value_key, spot_key = jax.random.split(key, 4)
    density = jax.random.uniform(
        density_key,
        (*shape[:-1], 1, 1, 1),
        minval=distribution.min_density,
        maxval=distribution.max_density,
    )
    shape = (*shape, 3, side)
    lengths = dims[..., None, :, None]
    position = jnp.arange(side).reshape((1,) * (lengths.ndim - 1) + (side,))
    draw = jax.random.uniform(draw_key, shape)
    if ring.modulus == 2:
        entry = jnp.ones((), jnp.int8)
    elif ring.modulus:
        entry = jax.random.randint(value_key, shape, 1, ring.modulus, jnp.int8)
    else:
        value = jax.random.bits(value_key, shape, jnp.uint16)
        sign = 1 - 2 * (value & 1).astype(jnp.int8)
        twos = (value >> 1) < SHARE_OF_TWOS * 2**15
        entry = jnp.where(twos, 2 * sign, sign) if ring.bound == 2 else sign
    used = draw < density
    # A factor that would be zero gets one entry at a random place, instead of being drawn again.
    inside = position < lengths
    spot = jax.random.randint(spot_key, shape[:-1], 0, 2**15)[..., None] % lengths
    used = inside & (used | (~jnp.any(used & inside, axis=-1, keepdims=True) & (position == spot)))
    return canonical(jnp.where(used, entry, 0).astype(jnp.int8), ring)


def random_orbits(
    key: jax.Array,
    factors: Int[Array, "B R 3 S"],
    ring: Ring,
    distribution: Distribution,
    symmetry: Symmetry,
) -> Int[Array, "B R 3 S"]:
    """The moves with a share among them that some exchanges take to themselves, each orbit in its one spelling.

    All of `symmetry.kept` are as likely there.  A move of which a factor becomes zero stays what it was, and where signs
    are, a few orbits (.2 to .4 %) are zero in all: an exchange takes a term of theirs to its negative.
    """
    share_key, draw_key, which_key = jax.random.split(key, 3)
    share = jax.random.uniform(share_key, (factors.shape[0], 1), maxval=distribution.cubes)
    alone = jax.random.uniform(draw_key, factors.shape[:2]) < share
    which = jax.random.randint(which_key, factors.shape[:2], 0, len(symmetry.kept))
    factors = jnp.where(alone[..., None, None], symmetry.alone(factors, which), factors)
    return symmetry.first(canonical(factors, ring), ring)


def position(
    scores: Float[Array, " R"],
    factors: Int[Array, "R 3 S"],
    remaining: Int[Array, ""],
    played: Int[Array, ""],
    limit: Int[Array, ""],
    dims: Int[Array, "3"],
    *,
    game: TensorGame,
    labels: int,
    order_free: bool = True,
) -> Position:
    """The position of a known game in which terms 0..remaining-1 are still to be played.

    Terms remaining..remaining+played-1 have been played, the first of them last.  Every term that
    remains is an equally good next move; `labels` of them are drawn (without replacement) as the
    policy's targets by the random `scores` in [0, 1), or only the first is taken if not `order_free`.
    """
    count, history = factors.shape[0], game.history
    index = jnp.arange(count)
    residual, cost = game.total(factors, index < remaining)
    recent = remaining + np.arange(history)
    past = jnp.where(
        (np.arange(history) < played)[:, None, None],
        factors[jnp.clip(recent, 0, count - 1)],
        0,
    )
    if order_free:
        _, chosen = jax.lax.top_k(jnp.where(index < remaining, scores, -1.0), labels)
    else:
        chosen = jnp.arange(labels)
    weights = (jnp.arange(labels) < (remaining if order_free else 1)).astype(jnp.float32)
    observation = Observation(
        residual=residual.astype(game.dtype),
        past=past.astype(jnp.int8),
        dims=dims,
        remaining=(limit - played).astype(jnp.int16),
    )
    return Position(
        observation=observation,
        actions=factors[chosen],
        weights=weights / jnp.maximum(weights.sum(), 1.0),
        value=-cost.astype(jnp.float32),
    )


def synthetic(
    key: jax.Array,
    limits: Int[Array, " B"],
    dims: Int[Array, "B 3"],
    game: TensorGame,
    distribution: Distribution,
    labels: int,
    order_free: bool = True,
) -> Position:
    """A batch of random positions of random synthetic games.

    The number of terms left is uniform on 1..limit + 1 (where moves are orbits: that of moves, as far as their terms
    are at most limit + G) and, *independently*, that of the moves still allowed uniform on 1..limit.  Were a
    demonstration always solvable in the moves allowed, the value head would learn that every position is, and could
    not tell a dead end from a good position.  `key` is consumed.
    """
    count = limits.shape[0]
    factor_key, left_key, played_key, label_key = jax.random.split(key, 4)
    longest = min(distribution.terms or game.max_moves, game.max_moves)
    terms = longest + game.history
    most = jnp.minimum(limits + 1, longest)
    if distribution.all_shapes:
        dims = jax.random.randint(
            jax.random.fold_in(factor_key, 2), dims.shape, 1, dims + 1, jnp.int8
        )
        side = dims.astype(jnp.int32)
        # Of a general tensor the entries are as many as what its terms can vary in.
        most = jnp.minimum(
            most, -(-jnp.prod(side, axis=1) // jnp.maximum(jnp.sum(side, axis=1) - 2, 1))
        )
    factors = random_factors(factor_key, (count, terms), game.side, dims, game.ring, distribution)
    if game.symmetry.order > 1:
        factors = random_orbits(
            jax.random.fold_in(factor_key, 1), factors, game.ring, distribution, game.symmetry
        )
        spent = jnp.cumsum(game.symmetry.terms(factors, game.ring), axis=1)
        most = jnp.sum(spent <= (limits + game.symmetry.order)[:, None], axis=1)
    left = jax.random.randint(left_key, (count,), 1, most + 1)
    # Where less is taught, no more is allowed either.
    fewest = jnp.maximum(limits - longest * game.symmetry.order, 0)
    played = jax.random.randint(played_key, (count,), fewest, limits)
    # One draw for the whole batch again: the labels' order.
    scores = jax.random.uniform(label_key, factors.shape[:2])
    build = functools.partial(position, game=game, labels=labels, order_free=order_free)
    return jax.vmap(build)(scores, factors, left, played, limits, dims)


def from_finished(
    key: jax.Array,
    factors: Int[Array, "R 3 S"],
    rank: Int[Array, ""],
    limit: Int[Array, ""],
    dims: Int[Array, "3"],
    *,
    game: TensorGame,
    labels: int,
    order_free: bool = True,
) -> Position:
    """A random position of a finished game: its `rank` moves decompose their own sum.

    The terms commute, so the game is replayed in a random order (order_free) or in its own order
    with one random move swapped with the last, as in the paper.  `key` is consumed.
    """
    order_key, left_key, label_key = jax.random.split(key, 3)
    index = jnp.arange(factors.shape[0])
    terms = rank
    if game.symmetry.order > 1:  # in moves from here on
        rank = jnp.sum(jnp.any(factors, axis=(-2, -1)), dtype=jnp.int32)
    if order_free:
        scores = jnp.where(index < rank, jax.random.uniform(order_key, index.shape), 2.0)
        factors = factors[jnp.argsort(scores)]
    else:
        factors = swap_with_last(order_key, factors, rank)
    left = jax.random.randint(left_key, (), 1, rank + 1)
    # `position` wants the moves still to play first, then the played ones from the newest on.
    arranged = jnp.where(index < left, rank - left + index, jnp.maximum(rank - 1 - index, 0))
    scores = jax.random.uniform(label_key, index.shape)
    found = position(
        scores,
        factors[arranged],
        left,
        rank - left,
        limit,
        dims,
        game=game,
        labels=labels,
        order_free=order_free,
    )
    if game.symmetry.order > 1:  # what has been played took terms - (terms left), not one a move
        spent = (terms + found.value).astype(jnp.int16)
        observation = found.observation._replace(remaining=limit.astype(jnp.int16) - spent)
        found = found._replace(observation=observation)
    return found


def swap_with_last(
    key: jax.Array, factors: Int[Array, "R 3 S"], rank: Int[Array, ""]
) -> Int[Array, "R 3 S"]:
    """The same game with a random move and the last one exchanged (the paper's augmentation)."""
    chosen = jax.random.randint(key, (), 0, rank)
    index = jnp.arange(factors.shape[0])
    index = jnp.where(index == chosen, rank - 1, jnp.where(index == rank - 1, chosen, index))
    return factors[index]
