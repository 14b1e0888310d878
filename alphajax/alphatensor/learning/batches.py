"""What a batch is made of: demonstrations, the best finished games, played positions.

Fawzi et al., Nature 610:47 (2022), Methods, "Synthetic demonstrations" and "Training regime".
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


class Item(NamedTuple):
    """A played position in the replay buffer."""

    observation: Observation
    actions: Int[Array, "K 3 S"]
    weights: Float[Array, " K"]
    value: Float[Array, ""]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Where the positions of a batch come from, and how games vary."""

    demonstration_share: float = 0.5
    """Of each batch, synthetic demonstrations."""
    best_share: float = 0.05
    """Of each batch, positions of the best finished games; the rest are played positions."""
    labels: int = 1
    """Good next moves taught at each demonstrated position."""
    played_labels: int = 0
    """Of a played position's candidates, so many are taught, drawn by the weights that the search gave them; 0: all
    of them with their weights, as in the paper.  A batch costs what its widest position does."""
    order_free: bool = False
    """True: the terms of a known game may be played in any order, and all of them are good."""
    canonical_share: float = 0.16
    """Chance that a game is played in the canonical basis, instead of a random one."""
    basis_density: float = 0.1
    """Largest off-diagonal density of the random triangular matrices; each game draws its own."""
    shared_basis: bool = True
    """A = B = C where the target's dimensions are equal, as in the paper.  Where moves are orbits bases are always
    such that tensors stay symmetric."""
    pool: int = 1024
    """Best finished games remembered; where beams begin inside them, `inside.games` are."""
    archive_share: float = 0.0
    """Of the games, those that start inside one of the best finished games: some of its moves, in any order, are
    taken already, and what they leave is to be finished in fewer moves than it took.  Their winners are their own.
    Beyond the paper."""
    mastery: float = 0.0
    """Above 0: a target's limit is one less than the rank that this share of an iteration's games, of those that began
    anew, have reached, so that what one game found by luck is learned by many before they are asked for more.
    0: it is one less than the best rank found so far.  Beyond the paper."""
    patience: int = 0
    """A network whose games have not lowered a rank or a limit in so many iterations gives way to a new one, which
    begins with nothing but the ranks to go below.  0: never, as in the paper."""
    distribution: demonstrations.Distribution = demonstrations.Distribution()

    def __post_init__(self):
        for name in (
            "demonstration_share",
            "best_share",
            "canonical_share",
            "archive_share",
            "mastery",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: received {value}; expected 0..1")
        if self.demonstration_share + self.best_share > 1:
            raise ValueError(
                "demonstration_share + best_share: received"
                f" {self.demonstration_share} + {self.best_share}; expected at most 1 together"
            )
        for name, low in (
            ("labels", 1),
            ("pool", 1),
            ("patience", 0),
            ("played_labels", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")


def make_batch(
    key: jax.Array,
    finished: replay.Replay,
    ranks: Int[Array, " targets"],
    limits: Int[Array, " targets"],
    buffer: replay.Replay,
    count: int,
    *,
    game: TensorGame,
    config: MixConfig,
) -> Batch:
    """`count` positions to learn from.

    Args:
      key: consumed.
      finished: the best finished games (`archive.Finished`).
      ranks: the best of each target.
      limits: moves allowed on each target.
      buffer: played positions (`Item`).
    """
    synthetic = round(count * config.demonstration_share)
    best = round(count * config.best_share)
    keys = jax.random.split(key, 3)
    parts = []
    if synthetic:
        parts.append(_demonstrated(keys[0], limits, synthetic, game, config))
    if best:
        parts.append(_finished(keys[1], finished, ranks, limits, best, game, config))
    if count - synthetic - best:
        parts.append(_played(keys[2], buffer, count - synthetic - best, config))
    if len({part.weights.shape[1] for part in parts}) > 1:
        widest = max(part.weights.shape[1] for part in parts)
        parts = [_widen(part, widest) for part in parts]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def _demonstrated(key, limits, count, game: TensorGame, config: MixConfig) -> Batch:
    target_key, key = jax.random.split(key)
    target = jax.random.randint(target_key, (count,), 0, len(game.targets))
    dims = jnp.asarray(np.array([target.shape for target in game.targets], np.int8))
    found = demonstrations.synthetic(
        key,
        limits[target],
        dims[target],
        game,
        config.distribution,
        config.labels,
        config.order_free,
    )
    weights = jnp.ones(count, jnp.float32)
    return Batch(*found, weights, weights)


def _finished(key, finished, ranks, limits, count, game: TensorGame, config: MixConfig) -> Batch:
    sample_key, key = jax.random.split(key)
    kept = archive.draw(sample_key, finished, ranks, count)
    limit = jnp.max(limits)

    def one(key, kept):
        return demonstrations.from_finished(
            key,
            kept.factors,
            jnp.maximum(kept.rank, 1),
            jnp.maximum(limit, kept.rank),
            kept.dims,
            game=game,
            labels=config.labels,
            order_free=config.order_free,
        )

    found: demonstrations.Position = jax.vmap(one)(jax.random.split(key, count), kept)
    there = jnp.broadcast_to(finished.filled > 0, (count,)).astype(jnp.float32)
    return Batch(*found, there, there)


def _played(key, buffer, count, config: MixConfig) -> Batch:
    draw_key, key = jax.random.split(key)
    item = replay.sample(buffer, key, count)
    there = jnp.broadcast_to(buffer.filled > 0, (count,)).astype(jnp.float32)
    actions, weights, labels = item.actions, item.weights, config.played_labels
    if 0 < labels < weights.shape[1]:
        drawn = jax.random.categorical(draw_key, jnp.log(weights), shape=(labels, count)).T
        actions = jnp.take_along_axis(actions, drawn[..., None, None], axis=1)
        weights = jnp.repeat(jnp.sum(weights, axis=1, keepdims=True) / labels, labels, axis=1)
    return Batch(item.observation, actions, weights, item.value, there, there)


def _widen(part: Batch, labels: int) -> Batch:
    """Pads the labelled moves with repeats of the first, at weight 0."""
    more = labels - part.weights.shape[1]
    return part._replace(
        actions=jnp.concatenate(
            [part.actions, jnp.repeat(part.actions[:, :1], more, axis=1)], axis=1
        ),
        weights=jnp.pad(part.weights, ((0, 0), (0, more))),
    )
