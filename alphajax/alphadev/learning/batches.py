"""Training batches: played positions from the replay buffer, and positions of the best programs.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, for played positions.  Positions of the
best programs of the run itself are beyond the paper.  No other program is ever learned from.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from alphajax import replay
from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.states import Observation, State
from alphajax.alphadev.learning import archive
from alphajax.alphadev.learning.archive import Pool
from alphajax.alphadev.network.policy import Batch
from alphajax.config import check_counts, check_fractions


class Item(NamedTuple):
    """A played position in the replay buffer."""

    observation: Observation
    actions: Int[Array, "*#B K"]
    """Candidates of the search at this position."""
    weights: Float[Array, "*#B K"]
    """The improved policy over them."""
    correctness: Float[Array, "*#B"]
    """Return of correctness; with TD the rewards of the next `td_steps` moves."""
    latency: Float[Array, "*#B"]
    """Return of latency."""
    bootstrap_observation: Observation | None
    """The observation after `td_steps` moves; None without TD."""
    bootstrap_weight: Float[Array, "*#B"]
    """1 if the game was running then, else 0."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Where the positions of a batch come from, and how games start.

    Every field is 0 or False in the paper.
    """

    best_share: float = 0.0
    """Share of each batch, 0 to 1, from the programs of the archive; 0: none."""
    random_share: float = 0.0
    """Share of games, 0 to 1, that start with random legal moves; 0: none."""
    random_moves: int = 0
    """Maximum number of these moves, below the length limit; 0: none."""
    archive_share: float = 0.0
    """Share of games, 0 to 1, that start from a prefix of an archive program; 0: none.  Some have
    random moves after it."""
    partial_programs: bool = False
    """Whether partial programs fill the archive while it has few correct ones.  They are the ones
    of highest priority among those played, or held by a beam.  Moves are learned from them, values
    are not."""
    rename_registers: bool = False
    """Whether positions to learn from have their registers renamed at random."""
    reset_after: int = 0
    """After this many iterations without a shorter program (`Memory.stagnation`) a new network
    starts, with an empty archive and an empty replay buffer; 0: never."""

    def __post_init__(self) -> None:
        check_fractions(self, "best_share", "random_share", "archive_share")
        check_counts(self, 0, "random_moves", "reset_after")


def make_batch(
    key: jax.Array,
    pool: Pool,
    buffer: replay.Replay,
    count: int,
    *,
    game: AssemblyGame,
    config: MixConfig,
    bootstrap: bool,
) -> Batch:
    """A batch of positions: `best_share` from the archive, the others played.

    Args:
      key: consumed.
      pool: the archive.
      buffer: replay buffer of `Item`s.
      count: number of positions.
      game: the game.
      config: where positions come from.
      bootstrap: whether the network learns by TD.

    Returns:
      The batch, `[count, ...]`.
    """
    num_best = round(count * config.best_share)
    best_key, played_key, rename_key = jax.random.split(key, 3)
    parts = []
    if num_best:
        parts.append(best_positions(best_key, pool, num_best, game=game, bootstrap=bootstrap))
    if count - num_best:
        parts.append(played_positions(played_key, buffer, count - num_best, game=game))
    batch = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    if not config.rename_registers:
        return batch
    table = symmetries.register_renamings(game)
    return rename_batch(table, symmetries.sample_renamings(table, rename_key, count), batch)


def rename_batch(table: symmetries.Renamings, index: Int[Array, " B"], batch: Batch) -> Batch:
    """A batch with the registers of each position renamed.

    Args:
      table: the renamings.
      index: renaming of each position, `[B]`.
      batch: the positions.

    Returns:
      The batch of the renamed positions.
    """
    later = batch.bootstrap_observation
    if later is not None:
        later = symmetries.rename_registers(table, index, later)
    return batch._replace(
        observation=symmetries.rename_registers(table, index, batch.observation),
        candidates=symmetries.rename_actions(table, index, batch.candidates),
        weights=symmetries.rename_actions(table, index, batch.weights),
        bootstrap_observation=later,
    )


def played_positions(
    key: jax.Array, buffer: replay.Replay, count: int, *, game: AssemblyGame
) -> Batch:
    """Positions of the replay buffer, with the search's policy as target.

    Args:
      key: consumed.
      buffer: replay buffer of `Item`s.
      count: number of positions.
      game: the game.

    Returns:
      The batch; its loss weights are 0 if the buffer is empty.
    """
    item = replay.sample(buffer, key, count)
    loss_weight = jnp.broadcast_to(buffer.filled > 0, (count,)).astype(jnp.float32)
    rows = jnp.arange(count)[:, None]
    shape = (count, game.action_count)
    weights = jnp.zeros(shape).at[rows, item.actions].max(item.weights)
    candidates = jnp.zeros(shape, bool).at[rows, item.actions].set(True)
    return Batch(
        item.observation,
        candidates & item.observation.legal,
        weights,
        item.correctness,
        item.latency,
        item.bootstrap_observation,
        item.bootstrap_weight,
        loss_weight,
        loss_weight,
    )


def best_positions(
    key: jax.Array, pool: Pool, count: int, *, game: AssemblyGame, bootstrap: bool
) -> Batch:
    """Random positions of the archive's programs; the next instruction is the policy's target.

    The candidates are all legal moves.  Values are those of the correct program; positions of a
    partial program teach no value.

    Args:
      key: consumed.
      pool: the archive.
      count: number of positions.
      game: the game.
      bootstrap: whether the network learns by TD.

    Returns:
      The batch; its loss weights are 0 where there is no program.
    """
    program_key, place_key = jax.random.split(key)
    weight_keys = jax.random.split(jax.random.fold_in(key, 2), count)
    total = archive.num_programs(pool)
    index = jax.random.randint(program_key, (count,), 0, jnp.maximum(total, 1))
    actions, correct = pool.actions[index], pool.length[index] <= game.max_moves
    length = jnp.sum(actions >= 0, axis=1)
    place = jax.random.randint(place_key, (count,), 0, jnp.maximum(length, 1))
    limit = jnp.int32(game.max_moves)
    states = jax.vmap(game.replay, (0, 0, 0, None))(weight_keys, actions, place, limit)
    action = jnp.take_along_axis(actions, place[:, None], axis=1)[:, 0].astype(jnp.int32)
    target = jax.nn.one_hot(jnp.maximum(action, 0), game.action_count)
    # After a redundant instruction was removed, a mask may forbid a later one.
    is_target = (total > 0) & (jnp.sum(target * states.legal, axis=1) > 0)
    loss_weight = is_target.astype(jnp.float32)
    solved = _solved_states(game, states, length)
    correctness = jax.vmap(game.correctness_reward)(states, solved)
    latency = jax.vmap(game.latency_reward)(solved)
    if game.rewards.speed:
        latency = latency + game.rewards.speed * pool.speed[index]
    observation = jax.vmap(game.observe)(states)
    return Batch(
        observation,
        states.legal,
        target,
        correctness,
        latency,
        observation if bootstrap else None,
        jnp.zeros(count),
        loss_weight,
        loss_weight * correct,
    )


def _solved_states(game: AssemblyGame, states: State, length: Int[Array, " B"]) -> State:
    """The fields that rewards read, as they are after a correct program of some length."""
    num_items = int(game.training_rules.task.item_mask.sum())
    return states._replace(
        num_correct=jnp.full_like(states.num_correct, num_items),
        num_reached=game.max_reached(states),
        permutation_counts=jnp.ones_like(states.permutation_counts),
        correct=jnp.ones(length.shape, bool),
        length=length.astype(states.length.dtype),
    )


def td_targets(
    correctness: Float[Array, "B T"], observation: Observation, mask: Bool[Array, "B T"], steps: int
) -> tuple[Float[Array, "B T"], Observation, Float[Array, "B T"]]:
    """Targets of temporal differences: the rewards of the next moves, and what follows them.

    Args:
      correctness: returns, 0 after the end of a game.
      observation: `[B, T, ...]`.
      mask: whether each game was running.
      steps: number of moves whose rewards are summed.

    Returns:
      The rewards of the next `steps` moves; the observation after them; 1 if the game was running
      then, else 0.
    """

    def shift(x: Array) -> Array:
        return jnp.concatenate([x[:, steps:], jnp.zeros_like(x[:, :steps])], axis=1)

    later = jax.tree.map(shift, observation)
    is_running = shift(mask)
    # The rewards in between are the difference of two returns.
    target = correctness - jnp.where(is_running, shift(correctness), 0.0)
    return target, later, is_running.astype(jnp.float32)
