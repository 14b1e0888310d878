"""Training batches: demonstrations, the best finished games, and played positions.

Fawzi et al., Nature 610:47 (2022), Methods, "Synthetic demonstrations" and "Training regime". Read
`MixConfig` first.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax import replay
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.learning import archive, demonstrations
from alphajax.alphatensor.network.policy import Batch
from alphajax.config import check_counts, check_fractions


class Item(NamedTuple):
    """A played position in the replay buffer."""

    observation: Observation
    actions: Int[Array, "*B K 3 S"]
    """The search's candidates."""
    weights: Float[Array, "*B K"]
    """The search's improved policy over them."""
    value: Float[Array, "*B"]
    """The return that was observed from there on, in moves."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Configuration of the training data: sources of a batch, starts of games, network resets.

    Defaults are the paper's values, as read by open reimplementations. A share is in [0, 1].
    """

    demonstration_share: float = 0.5
    """Share of a batch that is synthetic demonstrations; 0: none."""
    best_share: float = 0.05
    """Share of a batch that is positions of archived games; 0: none. The rest of a batch is played
    positions."""
    labels: int = 1
    """Moves labelled in each demonstrated or archived position, 1 or more. The paper: 1."""
    played_labels: int = 0
    """Candidates labelled in each played position, 0 or more, sampled by the search's weights. 0:
    all of them, with these weights (the paper). A batch is as wide as its widest position."""
    order_free: bool = False
    """Whether the terms of a known game are shuffled, and every remaining one is a good next move.
    False: the paper's order, with one move swapped with the last."""
    canonical_share: float = 0.16
    """Share of the games that are played in the canonical basis; 1: all. The others are played in
    random bases."""
    basis_density: float = 0.1
    """Upper bound of the density of non-zero off-diagonal entries in the random triangular
    matrices, in [0, 1]; each game draws its own density. 0: the canonical basis for all games."""
    shared_basis: bool = True
    """Whether all three modes share one matrix (A = B = C) where their lengths are equal. The
    paper: True. With symmetry-orbit moves, bases always keep the tensor symmetric."""
    pool: int = 1024
    """Capacity of the archive over all devices, in games, 1 or more. A neighbourhood search has an
    archive of its own size instead."""
    archive_share: float = 0.0
    """Share of the games that start from an archived game, with some of its moves played already
    and a lower move limit. They are resampled among themselves. 0: none (the paper)."""
    limit_quantile: float = 0.0
    """Curriculum: the move limit drops to one below the rank that this share of an iteration's
    games reached, counting those that started from the target. 0: to one below the best rank so
    far."""
    reset_after: int = 0
    """Network reset: iterations without a lower rank or limit after which a new network replaces
    the old one and the archive is emptied; best ranks stay. 0: never (the paper)."""
    distribution: demonstrations.Distribution = demonstrations.Distribution()
    """Distribution of the synthetic demonstrations."""

    def __post_init__(self) -> None:
        check_fractions(
            self,
            "demonstration_share",
            "best_share",
            "canonical_share",
            "basis_density",
            "archive_share",
            "limit_quantile",
        )
        if self.demonstration_share + self.best_share > 1:
            raise ValueError(
                "demonstration_share + best_share: received"
                f" {self.demonstration_share} + {self.best_share}; expected at most 1 together"
            )
        check_counts(self, 1, "labels", "pool")
        check_counts(self, 0, "played_labels", "reset_after")


def make_batch(
    key: jax.Array,
    games: replay.Replay,
    ranks: Int[Array, " targets"],
    limits: Int[Array, " targets"],
    buffer: replay.Replay,
    count: int,
    *,
    game: TensorGame,
    config: MixConfig,
) -> Batch:
    """Sample a batch: demonstrations first, then archived games, then played positions.

    Positions from an empty archive or buffer have weight 0 in both losses. Where sources label
    different numbers of moves, labels of weight 0 fill up.

    Args:
      key: consumed.
      games: the archive, of `archive.ArchivedGame`.
      ranks: the lowest rank known for each target.
      limits: move limit of each target.
      buffer: played positions, of `Item`.
      count: B, number of positions.
      game: the game.
      config: shares and labels.

    Returns:
      `count` positions.
    """
    num_demonstrations = round(count * config.demonstration_share)
    num_archived = round(count * config.best_share)
    num_played = count - num_demonstrations - num_archived
    keys = jax.random.split(key, 3)
    parts = []
    if num_demonstrations:
        parts.append(_sample_demonstrations(keys[0], limits, num_demonstrations, game, config))
    if num_archived:
        parts.append(_sample_archived(keys[1], games, ranks, limits, num_archived, game, config))
    if num_played:
        parts.append(_sample_played(keys[2], buffer, num_played, config))
    if len({part.weights.shape[1] for part in parts}) > 1:
        widest = max(part.weights.shape[1] for part in parts)
        parts = [_pad_labels(part, widest) for part in parts]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def _sample_demonstrations(
    key: jax.Array,
    limits: Int[Array, " targets"],
    count: int,
    game: TensorGame,
    config: MixConfig,
) -> Batch:
    """Positions of synthetic games with the shape and limit of a random target."""
    target_key, key = jax.random.split(key)
    target = jax.random.randint(target_key, (count,), 0, len(game.targets))
    dims = jnp.asarray(np.array([target.shape for target in game.targets], np.int8))
    positions = demonstrations.sample_synthetic(
        key,
        limits[target],
        dims[target],
        game,
        config.distribution,
        config.labels,
        config.order_free,
    )
    ones = jnp.ones(count, jnp.float32)
    return Batch(*positions, ones, ones)


def _sample_archived(
    key: jax.Array,
    games: replay.Replay,
    ranks: Int[Array, " targets"],
    limits: Int[Array, " targets"],
    count: int,
    game: TensorGame,
    config: MixConfig,
) -> Batch:
    """Positions of archived games, which may take as many moves as the game took."""
    sample_key, key = jax.random.split(key)
    sampled = archive.sample_games(sample_key, games, ranks, count)
    limit = jnp.max(limits)

    def sample_one(key, archived):
        return demonstrations.sample_archived(
            key,
            archived.factors,
            jnp.maximum(archived.rank, 1),
            jnp.maximum(limit, archived.rank),
            archived.dims,
            game=game,
            labels=config.labels,
            order_free=config.order_free,
        )

    positions: demonstrations.Position = jax.vmap(sample_one)(jax.random.split(key, count), sampled)
    weight = jnp.broadcast_to(games.filled > 0, (count,)).astype(jnp.float32)
    return Batch(*positions, weight, weight)


def _sample_played(key: jax.Array, buffer: replay.Replay, count: int, config: MixConfig) -> Batch:
    """Played positions, with all candidates or a sample of them as labels."""
    label_key, key = jax.random.split(key)
    item = replay.sample(buffer, key, count)
    weight = jnp.broadcast_to(buffer.filled > 0, (count,)).astype(jnp.float32)
    actions, weights, labels = item.actions, item.weights, config.played_labels
    if 0 < labels < weights.shape[1]:
        chosen = jax.random.categorical(label_key, jnp.log(weights), shape=(labels, count)).T
        actions = jnp.take_along_axis(actions, chosen[..., None, None], axis=1)
        weights = jnp.repeat(jnp.sum(weights, axis=1, keepdims=True) / labels, labels, axis=1)
    return Batch(item.observation, actions, weights, item.value, weight, weight)


def _pad_labels(part: Batch, labels: int) -> Batch:
    """The batch with more labelled moves: repeats of the first, at weight 0."""
    missing = labels - part.weights.shape[1]
    return part._replace(
        actions=jnp.concatenate(
            [part.actions, jnp.repeat(part.actions[:, :1], missing, axis=1)], axis=1
        ),
        weights=jnp.pad(part.weights, ((0, 0), (0, missing))),
    )
