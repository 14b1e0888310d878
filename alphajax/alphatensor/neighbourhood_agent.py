"""AlphaTensor without games: large neighbourhood search with the network's beam.

Each iteration takes a generation of finished games, destroys related terms in them, and solves the
subproblems again by one beam search (`beam.neighbourhoods`).  The network sees small residuals
only, so one network serves targets of all sizes.  It learns from demonstrations and from the
subproblems.

The first generation is the naive algorithm.  Beyond the paper.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from alphajax.alphatensor.agent import AlphaTensor, beam_sums
from alphajax.alphatensor.beam import beam, neighbourhoods
from alphajax.alphatensor.beam.config import CPU_BLOCK, MOVES_PER_VISIT
from alphajax.alphatensor.beam.neighbourhoods import NeighbourhoodConfig
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning import archive, memories
from alphajax.alphatensor.learning.memories import Memory
from alphajax.system import Metrics

MAX_SIDE = 31
"""Largest length of a mode, because factors are bit masks of 32-bit integers."""


@dataclass(frozen=True, kw_only=True)
class NeighbourhoodAgent(AlphaTensor):
    """The agent that improves finished games by large neighbourhood search."""

    neighbourhoods: NeighbourhoodConfig = NeighbourhoodConfig()
    """The large neighbourhood search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        config, beam, game = self.neighbourhoods, self.beam, self.game
        count = config.games * config.subproblems
        total = config.games * config.samples
        for name, value, is_valid, expected in (
            ("beam.width", beam.width, beam.width >= count, f"at least {count}, the subproblems"),
            (
                "beam.samples",
                beam.samples,
                beam.num_visits >= count,
                f"at least {MOVES_PER_VISIT} for each of {count} subproblems",
            ),
            (
                "beam.moves",
                beam.moves,
                beam.moves >= config.max_terms,
                f"at least neighbourhoods.max_terms, {config.max_terms}",
            ),
            (
                "beam.equivalence_classes",
                beam.equivalence_classes,
                not beam.equivalence_classes,
                "False",
            ),
            ("beam.basis_samples", beam.basis_samples, not beam.basis_samples, "0"),
            (
                "neighbourhoods.samples",
                config.samples,
                config.samples >= config.subproblems,
                f"at least neighbourhoods.subproblems, {config.subproblems}",
            ),
            (
                "neighbourhoods.games * neighbourhoods.samples",
                total,
                total % CPU_BLOCK == 0,
                f"a multiple of {CPU_BLOCK}",
            ),
            ("game.targets", len(game.targets), len(game.targets) == 1, "1"),
            ("game.ring", game.ring.name, game.ring.modulus == 2, "Z2"),
            ("game.symmetries", game.symmetries, not game.symmetries, "none"),
            ("game.side", game.side, game.side <= MAX_SIDE, f"at most {MAX_SIDE}"),
            ("training.games", self.training.games, not self.training.games, "0"),
            ("mix.best_share", self.mix.best_share, not self.mix.best_share, "0.0"),
        ):
            if not is_valid:
                raise ValueError(
                    f"{name}: received {value}; expected {expected}, in a neighbourhood search"
                )

    @cached_property
    def network_game(self) -> TensorGame:
        """The game in which subproblems are solved."""
        return neighbourhoods.subproblem_game(self.game, self.neighbourhoods)

    def prior_knowledge(self) -> tuple[str, ...]:
        """Prior knowledge that a run is given: the naive algorithm among others."""
        return ("starts from the naive algorithm", *super().prior_knowledge())

    def pool_size(self, devices: int) -> int:
        """One generation on each device."""
        return self.neighbourhoods.games * devices

    def demonstration_limits(self, memory: Memory) -> Int[Array, " targets"]:
        """The move limit of subproblems."""
        return jnp.array([self.network_game.max_moves])

    def explore(self, params: Any, key: jax.Array, memory: Memory) -> tuple[Memory, Any, Metrics]:
        """One generation of the large neighbourhood search.

        Args:
          params: of the policy.
          key: consumed.
          memory: one device's.

        Returns:
          The memory with the next generation, replay items of the subproblems with their mask, and
          sums to add up over devices.
        """
        config, game = self.neighbourhoods, self.network_game
        select_key, make_key, replace_key, key = jax.random.split(key, 4)
        games = neighbourhoods.select_games(select_key, memory.pool, self.game, config)
        block = math.gcd(config.games * config.samples, self.beam.block_size())
        subproblems = neighbourhoods.make_subproblems(
            params, make_key, games, self.game, game, self.policy, config, block
        )
        result = beam.search(
            params,
            key,
            subproblems.observation,
            subproblems.valid,
            game,
            self.policy,
            self.beam,
            lambda key: bases.identity(game.side),
        )
        moves = neighbourhoods.select_replacements(replace_key, games, subproblems, result.games)
        factors = neighbourhoods.apply_replacements(games, subproblems, moves)
        rank = jnp.sum(jnp.any(factors, axis=(-2, -1)), axis=1)
        is_finished = jnp.ones(rank.shape, bool)
        improved = self.archived(factors, rank, is_finished, bases.identity(self.game.side))
        is_new = archive.is_new(improved, memory.pool, self.game)
        # Unchanged games are stored too: the new generation replaces the whole old one.
        memory = memories.remember(memory, improved, is_finished, self.game)
        items = neighbourhoods.replay_items(subproblems, moves, self.search.candidates)
        return memory, items, beam_sums(result, is_new)
