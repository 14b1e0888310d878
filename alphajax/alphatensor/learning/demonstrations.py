"""Demonstrations: positions of games whose solution is known.

A sum of R random terms is a tensor with a known decomposition, and each of the terms is a good next
move (Fawzi et al., 2022, Methods, "Synthetic demonstrations"). A decomposition of the target itself
is never among them. Archived games, which the run found itself, are used in the same way.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game.moves import Ring, canonical
from alphajax.alphatensor.game.symmetry import SymmetryGroup
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.config import check_counts, check_fractions

SHARE_OF_TWOS = 0.01
"""Share of 2 and -2 among non-zero entries, over Z with entries up to 2 (the paper: 0.01)."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Distribution of the random terms of synthetic demonstrations.

    The paper's supplement is read as a fixed density of 0.2: entries 1 and -1 with probability
    0.099 each, 2 and -2 with 0.001 each.
    """

    min_density: float = 0.2
    """Lower bound of the probability that an entry is not zero, above 0. The paper: 0.2."""
    max_density: float = 0.5
    """Upper bound of that probability, at most 1. Each demonstration draws its own, uniformly
    between the bounds. The paper: 0.2."""
    max_terms: int = 0
    """The most moves that remain in a demonstration, 0 or more. 0: one more than the move limit,
    but at most the naive rank."""
    all_shapes: bool = False
    """Whether each demonstration has random mode lengths, from 1 to the target's, and no more terms
    than a general tensor of that shape has. The paper: False."""
    small_orbit_share: float = 0.5
    """Symmetry-orbit moves only: upper bound of the share of moves that are made invariant under a
    random subgroup, so that their orbits are smaller. In [0, 1]; each demonstration draws its own
    share. 0: none. Beyond the paper."""

    def __post_init__(self) -> None:
        if not 0 < self.min_density <= self.max_density <= 1:
            raise ValueError(
                f"density: received {self.min_density}..{self.max_density};"
                " expected 0 < min_density <= max_density <= 1"
            )
        check_counts(self, 0, "max_terms")
        check_fractions(self, "small_orbit_share")


class Position(NamedTuple):
    """A position of a known game, with labels."""

    observation: Observation
    actions: Int[Array, "*B L 3 S"]
    """Labelled next moves."""
    weights: Float[Array, "*B L"]
    """Weights of the labels; they sum to 1."""
    value: Float[Array, "*B"]
    """Minus the number of terms that remain."""


def random_factors(
    key: jax.Array,
    shape: tuple[int, ...],
    side: int,
    dims: Int[Array, "*#B 3"],
    ring: Ring,
    distribution: Distribution,
) -> Int[Array, "*B R 3 S"]:
    """Random canonical moves, none of them null.

    All numbers are drawn at once for the whole batch: one call of the generator per game is several
    times slower.

    Args:
      key: consumed.
      shape: `(*B, R)`. The R moves of one demonstration share a density.
      side: S.
      dims: lengths of the three factors; entries beyond them are zero.
      ring: the arithmetic.
      distribution: densities.

    Returns:
      The moves, int8.
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
        is_two = (value >> 1) < SHARE_OF_TWOS * 2**15
        entry = jnp.where(is_two, 2 * sign, sign) if ring.bound == 2 else sign
    used = draw < density
    # A factor that would be zero gets one entry at a random place, which is cheaper than redrawing.
    inside = position < lengths
    spot = jax.random.randint(spot_key, shape[:-1], 0, 2**15)[..., None] % lengths
    used = inside & (used | (~jnp.any(used & inside, axis=-1, keepdims=True) & (position == spot)))
    return canonical(jnp.where(used, entry, 0).astype(jnp.int8), ring)


def random_orbits(
    key: jax.Array,
    factors: Int[Array, "B R 3 S"],
    ring: Ring,
    distribution: Distribution,
    group: SymmetryGroup,
) -> Int[Array, "B R 3 S"]:
    """Representatives of symmetry orbits, a random share of which are smaller than the group.

    A move that joins this share is made invariant under one of `group.stabilisers`, all equally
    likely, unless a factor would become zero. Where the ring has signs, the terms of a few of these
    orbits cancel (0.2 to 0.4 %): the subgroup maps one to the negative of another.

    Args:
      key: consumed.
      factors: random moves.
      ring: the arithmetic.
      distribution: the share.
      group: the symmetry group of the game.

    Returns:
      The moves, each the canonical representative of its orbit.

    Source: beyond the paper (this project).
    """
    share_key, draw_key, subgroup_key = jax.random.split(key, 3)
    share = jax.random.uniform(
        share_key, (factors.shape[0], 1), maxval=distribution.small_orbit_share
    )
    is_small = jax.random.uniform(draw_key, factors.shape[:2]) < share
    subgroup = jax.random.randint(subgroup_key, factors.shape[:2], 0, len(group.stabilisers))
    factors = jnp.where(is_small[..., None, None], group.symmetrise(factors, subgroup), factors)
    return group.canonical_representative(canonical(factors, ring), ring)


def make_position(
    scores: Float[Array, " R"],
    factors: Int[Array, "R 3 S"],
    unplayed: Int[Array, ""],
    played: Int[Array, ""],
    limit: Int[Array, ""],
    dims: Int[Array, "3"],
    *,
    game: TensorGame,
    labels: int,
    order_free: bool = True,
) -> Position:
    """The position of a known game, unbatched.

    Moves 0 to unplayed - 1 are still to be played. The `played` moves after them have been played,
    the newest of them first in the list.

    Args:
      scores: random, in [0, 1): they choose the labels.
      factors: the game's moves.
      unplayed: number of moves still to be played, 1 or more.
      played: number of moves played.
      limit: the move limit.
      dims: lengths of the target's modes.
      game: the game.
      labels: L, moves to label.
      order_free: True: the labels are drawn without replacement from all unplayed moves, with equal
        weights. False: move 0 alone has weight.

    Returns:
      The position.
    """
    count, history = factors.shape[0], game.history
    index = jnp.arange(count)
    residual, cost = game.total(factors, index < unplayed)
    recent = unplayed + np.arange(history)
    past = jnp.where(
        (np.arange(history) < played)[:, None, None],
        factors[jnp.clip(recent, 0, count - 1)],
        0,
    )
    if order_free:
        _, chosen = jax.lax.top_k(jnp.where(index < unplayed, scores, -1.0), labels)
    else:
        chosen = jnp.arange(labels)
    weights = (jnp.arange(labels) < (unplayed if order_free else 1)).astype(jnp.float32)
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


def sample_synthetic(
    key: jax.Array,
    limits: Int[Array, " B"],
    dims: Int[Array, "B 3"],
    game: TensorGame,
    distribution: Distribution,
    labels: int,
    order_free: bool = True,
) -> Position:
    """Random positions of random synthetic games, one for each limit.

    The number of terms that remain is uniform on 1..limit + 1, and the number of moves still
    allowed is uniform on 1..limit, independently. If every demonstration were solvable in the moves
    allowed, the value head could not learn to recognise dead ends. With symmetry-orbit moves the
    number of moves that remain is uniform, among those whose terms are at most limit + order of the
    group.

    Args:
      key: consumed.
      limits: move limit of each game.
      dims: lengths of the three modes.
      game: the game.
      distribution: distribution of the terms.
      labels: L, moves to label.
      order_free: see `make_position`.

    Returns:
      Positions `[B]`.

    Source: Fawzi et al. (2022), Methods, "Synthetic demonstrations".
    """
    count = limits.shape[0]
    factor_key, unplayed_key, played_key, label_key = jax.random.split(key, 4)
    group = game.symmetry_group
    longest = min(distribution.max_terms or game.max_moves, game.max_moves)
    terms = longest + game.history
    max_unplayed = jnp.minimum(limits + 1, longest)
    if distribution.all_shapes:
        dims = jax.random.randint(
            jax.random.fold_in(factor_key, 2), dims.shape, 1, dims + 1, jnp.int8
        )
        side = dims.astype(jnp.int32)
        # The rank of a general tensor: its entries divided by the free parameters of a term.
        max_unplayed = jnp.minimum(
            max_unplayed, -(-jnp.prod(side, axis=1) // jnp.maximum(jnp.sum(side, axis=1) - 2, 1))
        )
    factors = random_factors(factor_key, (count, terms), game.side, dims, game.ring, distribution)
    if group.order > 1:
        orbit_key = jax.random.fold_in(factor_key, 1)
        factors = random_orbits(orbit_key, factors, game.ring, distribution, group)
        cost = jnp.cumsum(group.orbit_sizes(factors, game.ring), axis=1)
        max_unplayed = jnp.sum(cost <= (limits + group.order)[:, None], axis=1)
    unplayed = jax.random.randint(unplayed_key, (count,), 1, max_unplayed + 1)
    # With `max_terms`, no more moves are allowed than can remain.
    min_played = jnp.maximum(limits - longest * group.order, 0)
    played = jax.random.randint(played_key, (count,), min_played, limits)
    # One draw for the whole batch, as in `random_factors`.
    scores = jax.random.uniform(label_key, factors.shape[:2])
    build = functools.partial(make_position, game=game, labels=labels, order_free=order_free)
    return jax.vmap(build)(scores, factors, unplayed, played, limits, dims)


def sample_archived(
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
    """A random position of a finished game, whose moves decompose their own sum; unbatched.

    Args:
      key: consumed.
      factors: the game's moves; null moves fill up.
      rank: terms of the decomposition.
      limit: the move limit, at least `rank`.
      dims: lengths of the target's modes.
      game: the game.
      labels: L, moves to label.
      order_free: True: the moves are replayed in a random order, as terms commute. False: in their
        own order, with a random move and the last one swapped.

    Returns:
      The position.

    Source: Fawzi et al. (2022), Methods, "Training regime" (data augmentation).
    """
    order_key, unplayed_key, label_key = jax.random.split(key, 3)
    index = jnp.arange(factors.shape[0])
    has_orbits = game.symmetry_group.order > 1
    moves = jnp.sum(jnp.any(factors, axis=(-2, -1)), dtype=jnp.int32) if has_orbits else rank
    if order_free:
        sort_keys = jnp.where(index < moves, jax.random.uniform(order_key, index.shape), 2.0)
        factors = factors[jnp.argsort(sort_keys)]
    else:
        factors = swap_with_last(order_key, factors, moves)
    unplayed = jax.random.randint(unplayed_key, (), 1, moves + 1)
    # `make_position` takes the unplayed moves first, then the played ones from the newest on.
    order = jnp.where(index < unplayed, moves - unplayed + index, jnp.maximum(moves - 1 - index, 0))
    scores = jax.random.uniform(label_key, index.shape)
    position = make_position(
        scores,
        factors[order],
        unplayed,
        moves - unplayed,
        limit,
        dims,
        game=game,
        labels=labels,
        order_free=order_free,
    )
    if has_orbits:  # The played moves cost their terms, not one each.
        cost = (rank + position.value).astype(jnp.int16)
        observation = position.observation._replace(remaining=limit.astype(jnp.int16) - cost)
        position = position._replace(observation=observation)
    return position


def swap_with_last(
    key: jax.Array, factors: Int[Array, "R 3 S"], moves: Int[Array, ""]
) -> Int[Array, "R 3 S"]:
    """The same game with a random move and the last one swapped: the paper's augmentation.

    Args:
      key: consumed.
      factors: the game's moves; null moves fill up.
      moves: number of moves that are not null.

    Returns:
      The moves in the new order.

    Source: Fawzi et al. (2022), Methods, "Training regime".
    """
    chosen = jax.random.randint(key, (), 0, moves)
    index = jnp.arange(factors.shape[0])
    index = jnp.where(index == chosen, moves - 1, jnp.where(index == moves - 1, chosen, index))
    return factors[index]
