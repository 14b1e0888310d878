"""Latency as reward: AlphaTensor trained on for schemes that are fast on a given device.

Fawzi et al., Nature 610:47 (2022), "Rapid tailoring of algorithms": the reward of the last move is
increased by `lambda b`, b the measured benchmark of the scheme that was found. Measuring inside a search
would stop every game of the batch for each simulation, so it happens between chunks, on the host, and
only for schemes that are new:

    a game ends          its positions enter the replay, each with the number of its game
    between two chunks   `settle` measures, and adds `lambda b` to the returns of those positions
    learning             the value head learns returns that hold the benchmark; the search follows it

So the search itself never sees a benchmark, only what the value head makes of it. All games are played in
one basis, because what a position is worth must be told by the position: one move takes different times in
different bases. A random one is as good as the canonical one, and better for an agent that has
learned from random decompositions, to which the canonical tensor, nearly all zeros, is strange. The limit
on moves stays where it is, because a faster scheme of the same rank is what is wanted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from alphajax import replay
from alphajax.alphatensor.agent import AlphaTensor, Memory
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.learning.batches import Item
from alphajax.alphatensor.results import to_scheme
from alphajax.alphatensor.schemes.scheme import Scheme


class Pending(NamedTuple):
    """A played position, and the place of its game among the finished ones, counted from 1.

    It is 0 where the game did not reach zero, where nothing has been written, and again once the
    benchmark has been added.
    """

    item: Item
    game: Int[Array, ""]


@dataclass(frozen=True, kw_only=True)
class TailoredAgent(AlphaTensor):
    """The agent whose finished games wait for a benchmark; see `tailored`."""

    moves: int
    """Moves allowed in a game: the rank that a scheme may have."""
    basis: int = 0
    """Seed of the basis in which all games are played, unless `mix.canonical_share` is 1."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.game.targets) != 1:
            raise ValueError(
                f"targets: received {len(self.game.targets)}; expected one to tailor for"
            )
        if self.game.symmetry.order > 1 or self.given.any():
            raise ValueError(
                "moves that are orbits, or a target with given cubes: tailoring measures schemes whose every"
                " term was played; expected none of these"
            )
        if self.beam.width:
            raise ValueError(
                f"beam.width: received {self.beam.width}; expected 0, because schemes of a beam have no games"
            )
        if not 1 <= self.moves <= self.game.max_moves:
            raise ValueError(f"moves: received {self.moves}; expected 1..{self.game.max_moves}")
        if self.mix.canonical_share not in (0, 1) or self.mix.best_share != 0:
            raise ValueError(
                "canonical_share, best_share: received"
                f" {self.mix.canonical_share}, {self.mix.best_share}; expected 0 or 1, and 0"
            )
        if self.mix.pool < self.training.games:
            raise ValueError(
                f"pool: received {self.mix.pool}; expected at least {self.training.games}, the games"
                " of an iteration, which all may finish"
            )

    def limits(self, memory: Memory) -> Int[Array, " targets"]:
        return jnp.full((1,), self.moves, jnp.int32)

    def _random_basis(self, key, dims, most):
        return super()._random_basis(jax.random.key(self.basis), dims, most)

    def item(self) -> Any:
        return Pending(item=super().item(), game=jax.ShapeDtypeStruct((), jnp.int32))

    def finish(self, memory, states, context, played):
        solved = ~jnp.any(states.residual, axis=(1, 2, 3))
        slots = replay.slots(memory.finished, solved)
        game = jnp.where(solved, slots + 1, 0)
        memory, items, mask, sums = super().finish(memory, states, context, played)
        game = jnp.repeat(game, len(mask) // len(game), total_repeat_length=len(mask))
        return memory, Pending(items, game), mask, sums

    def make_batch(self, key, memory, buffer, step, count):
        return super().make_batch(
            key, memory, buffer._replace(items=buffer.items.item), step, count
        )


def tailored(
    system: AlphaTensor,
    moves: int,
    *,
    learning_rate: float = 1e-3,
    demonstration_share: float = 0.5,
    warm_up: int = 0,
    basis: int | None = 0,
) -> TailoredAgent:
    """The agent of a run, to be trained on for latency: one basis, its own games, `moves` moves.

    Args:
      system: as it was trained; games, search and network stay.
      moves: the rank that a scheme may have.
      learning_rate: of the training from here on.
      demonstration_share: of each batch; what remains are played positions. Demonstrations carry
        no benchmark; they keep the policy from forgetting.
      warm_up: learner steps before the first game, all of them on demonstrations.
      basis: seed of the basis in which all games are played; None for the canonical one.
    """
    fields = {name: getattr(system, name) for name in ("game", "network", "search", "uniform")}
    mix = replace(
        system.mix,
        canonical_share=float(basis is None),
        best_share=0.0,
        archive_share=0.0,
        demonstration_share=demonstration_share,
        pool=max(system.mix.pool, system.training.games),
        mastery=0.0,
        patience=0,  # ranks stay as they are; the trained network is what is tuned
    )
    training = replace(
        system.training,
        learning_rate=learning_rate,
        warmup_steps=warm_up,
        learn=True,
        winners=0.0,  # copies of one scheme would be measured again and again
    )
    return TailoredAgent(**fields, mix=mix, training=training, moves=moves, basis=basis or 0)


@functools.lru_cache(maxsize=4)
def played_basis(system: TailoredAgent) -> Basis:
    """The basis in which all games of the system are played, on the host."""
    _, begun = jax.jit(system.start, static_argnums=2)(jax.random.key(0), system.init_memory(1), 1)
    return jax.tree.map(lambda x: np.asarray(x[0]), begun.basis)


def settle(
    system: TailoredAgent, state: Any, rewards: Callable[[list[Scheme]], list[float]]
) -> tuple[Any, list[Scheme]]:
    """Adds the reward of each game that finished since the last call to its positions' returns.

    Call it between chunks, at least once per `pool / games` iterations: later, a game's place may
    have been taken by another. On the host; what it changes goes back to where it lay.

    Args:
      system: whose state it is.
      state: a RunState of that system; not donated.
      rewards: the terminal rewards `lambda b` of schemes, as numbers in the same order.

    Returns:
      The state, and the finished games' schemes, each verified exactly, one per game.

    Raises:
      NotAScheme: a finished game is not a scheme, which is a defect.
    """
    items: Pending = state.replay.items
    game, value = np.asarray(items.game), np.asarray(items.item.value)
    shards = len(state.replay.next)
    # Places count within a shard; the arrays hold the shards one after the other.
    shard = np.arange(len(game)) // (len(game) // shards)
    place = np.where(game > 0, shard * (system.mix.pool // shards) + game - 1, -1)
    places = np.unique(place[place >= 0])
    finished = state.memory.finished.items
    factors, ranks = np.asarray(finished.factors), np.asarray(finished.rank)
    target, ring = system.game.targets[0], system.game.ring.name
    # On the host: the number of games differs from call to call, and would be compiled each time.
    back = np.einsum("mab,grmb->grma", played_basis(system).inverses, factors[places], dtype=int)
    found = [
        to_scheme(one, int(rank), target, ring)
        for one, rank in zip(back, ranks[places], strict=True)
    ]
    bonus = np.zeros(system.mix.pool + 1, np.float32)  # the last one is for place -1
    if found:
        bonus[places] = rewards(found)
    new = items._replace(
        item=items.item._replace(
            value=jax.device_put(value + bonus[place], items.item.value.sharding)
        ),
        game=jax.device_put(np.zeros_like(game), items.game.sharding),
    )
    return state._replace(replay=state.replay._replace(items=new)), found
