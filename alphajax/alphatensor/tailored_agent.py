"""Latency as reward: AlphaTensor trained on for schemes that are fast on a given device.

The benchmark of a finished game, times a weight lambda, is added to its last reward.  It is
measured on the host between two chunks, once per new scheme: a search that measured would stop its
whole batch at every simulation.  So `finish` stores each position with the number of its game,
`add_benchmark_rewards` adds the benchmarks to the stored returns, and the value head learns them.

Source: Fawzi et al., Nature 610:47 (2022), "Rapid tailoring of algorithms".
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import games, replay
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.certify import to_scheme
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.tensor_game import State
from alphajax.alphatensor.learning.archive import Start
from alphajax.alphatensor.learning.batches import Item
from alphajax.alphatensor.learning.memories import Memory
from alphajax.alphatensor.network.policy import Batch
from alphajax.alphatensor.schemes.scheme import Scheme
from alphajax.system import Metrics
from alphajax.training import RunState


class Pending(NamedTuple):
    """A played position whose return may still lack the benchmark of its game."""

    item: Item
    """The position."""
    game: Int[Array, ""]
    """Slot of its finished game in the pool, counted from 1; 0: nothing is to be added."""


@dataclass(frozen=True, kw_only=True)
class TailoredAgent(AlphaTensor):
    """The agent whose finished games wait for a benchmark; `tailored` makes one.

    All games are played in one basis, because a move takes different times in different bases, and
    the value head sees the position alone.  The move limit stays where it is: a faster scheme of
    the same rank is wanted.
    """

    moves: int
    """Moves allowed in a game: the largest rank of a scheme; at least 1."""
    basis: int = 0
    """Seed of the basis of all games; unused with `mix.canonical_share=1`, the canonical basis."""

    def __post_init__(self) -> None:
        super().__post_init__()
        num_targets, mix = len(self.game.targets), self.mix
        if num_targets != 1:
            raise ValueError(f"targets: received {num_targets}; expected one to tailor for")
        if self.game.symmetries or self.num_fixed_terms.any():
            raise ValueError(
                f"game: received symmetries {self.game.symmetries} and"
                f" {self.num_fixed_terms[0]} fixed terms; expected none, because every term of a"
                " scheme must be a move"
            )
        if self.beam.width:
            raise ValueError(
                f"beam.width: received {self.beam.width}; expected 0, because schemes of a beam"
                " have no played positions"
            )
        if not 1 <= self.moves <= self.game.max_moves:
            raise ValueError(f"moves: received {self.moves}; expected 1..{self.game.max_moves}")
        if mix.canonical_share not in (0, 1) or mix.best_share != 0:
            raise ValueError(
                f"canonical_share, best_share: received {mix.canonical_share}, {mix.best_share};"
                " expected 0 or 1, and 0"
            )
        if mix.pool < self.training.games:
            raise ValueError(
                f"pool: received {mix.pool}; expected at least {self.training.games}, the games"
                " of an iteration, all of which may finish"
            )

    def limits(self, memory: Memory) -> Int[Array, " targets"]:
        """The number of moves, independent of the best rank."""
        return jnp.full((1,), self.moves, jnp.int32)

    def random_basis(
        self, key: jax.Array, dims: Int[Array, "3"], max_density: float | Float[Array, ""]
    ) -> Basis:
        """The one basis of all games.

        Args:
          key: ignored.
          dims: lengths of the modes.
          max_density: the off-diagonal density is uniform from [0, this].
        """
        return super().random_basis(jax.random.key(self.basis), dims, max_density)

    def item(self) -> Any:
        """Shapes and dtypes of a replay item (`Pending`)."""
        shape: Any = jax.ShapeDtypeStruct
        return Pending(item=super().item(), game=shape((), jnp.int32))

    def finish(
        self, memory: Memory, states: State, context: Start, played: games.Trajectories
    ) -> tuple[Memory, Any, Bool[Array, " N"], Metrics]:
        """As `AlphaTensor.finish`; the replay items are `Pending`.

        Args:
          memory: one device's.
          states: the last states.
          context: how the games started.
          played: their moves.
        """
        is_solved = ~jnp.any(states.residual, axis=(1, 2, 3))
        slots = replay.slots(memory.pool, is_solved)
        game = jnp.where(is_solved, slots + 1, 0)
        memory, items, mask, sums = super().finish(memory, states, context, played)
        game = jnp.repeat(game, len(mask) // len(game), total_repeat_length=len(mask))
        return memory, Pending(items, game), mask, sums

    def make_batch(
        self, key: jax.Array, memory: Memory, buffer: replay.Replay, count: int
    ) -> Batch:
        """As `AlphaTensor.make_batch`, from `Pending` positions.

        Args:
          key: consumed.
          memory: one device's.
          buffer: of `Pending`.
          count: positions in the batch.
        """
        return super().make_batch(key, memory, buffer._replace(items=buffer.items.item), count)


def tailored(
    system: AlphaTensor,
    moves: int,
    *,
    learning_rate: float = 1e-3,
    demonstration_share: float = 0.5,
    warm_up: int = 0,
    basis: int | None = 0,
) -> TailoredAgent:
    """The agent of a run, to be trained on for latency.

    Args:
      system: as it was trained; game, search and network stay.
      moves: largest rank of a scheme.
      learning_rate: of the training from here on.
      demonstration_share: of each batch; the rest are played positions.  Demonstrations carry no
        benchmark; they keep the policy from forgetting.
      warm_up: learner steps before the first game, all of them on demonstrations.
      basis: seed of the basis of all games; None: the canonical basis.

    Returns:
      The tailored agent.

    Raises:
      ValueError: a system that does not play whole games on one target, or moves out of range.
    """
    if system.network_game != system.game:
        raise ValueError(
            "system: received one whose network plays subproblems; expected one that plays whole"
            " games"
        )
    mix = replace(
        system.mix,
        canonical_share=float(basis is None),
        best_share=0.0,
        archive_share=0.0,
        demonstration_share=demonstration_share,
        pool=max(system.mix.pool, system.training.games),
        limit_quantile=0.0,
        reset_after=0,  # the trained network is what is tuned
    )
    training = replace(
        system.training,
        learning_rate=learning_rate,
        warmup_steps=warm_up,
        learn=True,
        resampling_temperature=0.0,  # copies of one scheme would be measured again and again
    )
    return TailoredAgent(
        game=system.game,
        network=system.network,
        search=system.search,
        uniform=system.uniform,
        preset_knowledge=system.preset_knowledge,
        mix=mix,
        training=training,
        moves=moves,
        basis=basis or 0,
    )


@functools.lru_cache(maxsize=4)
def played_basis(system: TailoredAgent) -> Basis:
    """The basis in which all games of the system are played, as NumPy arrays."""
    start = jax.jit(system.start, static_argnums=2)
    _, context = start(jax.random.key(0), system.init_memory(1), 1)
    return jax.tree.map(lambda x: np.asarray(x[0]), context.basis)


def add_benchmark_rewards(
    system: TailoredAgent, state: RunState, rewards: Callable[[list[Scheme]], list[float]]
) -> tuple[RunState, list[Scheme]]:
    """Adds the reward of each newly finished game to the returns of its positions; on the host.

    It must be called between chunks, at least once per `pool / games` iterations: after that, a
    game's slot in the pool may hold another game.

    Args:
      system: of the state.
      state: not donated.
      rewards: from schemes to their terminal rewards, lambda times the benchmark, in the same
      order.

    Returns:
      The state, sharded as before; and the schemes of the newly finished games, each verified
      exactly, one per game.

    Raises:
      NotAScheme: a finished game is not a scheme, which is a defect.
    """
    items: Pending = state.replay.items
    game, value = np.asarray(items.game), np.asarray(items.item.value)
    num_shards = len(state.replay.next)
    # Slots count within a shard; the arrays hold one shard after another.
    shard = np.arange(len(game)) // (len(game) // num_shards)
    index = np.where(game > 0, shard * (system.mix.pool // num_shards) + game - 1, -1)
    new = np.unique(index[index >= 0])
    pool = state.memory.pool.items
    factors, ranks = np.asarray(pool.factors)[new], np.asarray(pool.rank)[new]
    target, ring = system.game.targets[0], system.game.ring.name
    # In NumPy, because the number of games differs in each call, and JAX would compile each number.
    inverses = np.asarray(played_basis(system).inverses)
    factors = np.einsum("mab,grmb->grma", inverses, factors, dtype=int)
    schemes = [
        to_scheme(terms, int(rank), target, ring)
        for terms, rank in zip(factors, ranks, strict=True)
    ]
    bonus = np.zeros(system.mix.pool + 1, np.float32)  # the last entry is for index -1
    if schemes:
        bonus[new] = rewards(schemes)
    items = items._replace(
        item=items.item._replace(
            value=jax.device_put(value + bonus[index], items.item.value.sharding)
        ),
        game=jax.device_put(np.zeros_like(game), items.game.sharding),
    )
    return state._replace(replay=state.replay._replace(items=items)), schemes
