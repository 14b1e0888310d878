"""AlphaTensor as one system: how games start, what a run remembers, and what it learns from.

Fawzi et al., Nature 610:47 (2022), Methods, "Training regime".  `alphajax.training` runs the
system. No decomposition of the target enters the training data.

The move limit of a target is its naive rank at first, and then one less than the best rank found so
far, at once or by a curriculum (`MixConfig.limit_quantile`).  If more moves were allowed, games
would teach the search to be content with them.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import games, replay
from alphajax.alphatensor.beam import beam, equivalence_hash
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.tensor_game import State, TensorGame
from alphajax.alphatensor.learning import archive, batches, memories
from alphajax.alphatensor.learning.archive import ArchivedGame, Start
from alphajax.alphatensor.learning.batches import Item, MixConfig
from alphajax.alphatensor.learning.memories import Memory
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.alphatensor.network.policy import Batch, NetworkPolicy, UniformPolicy
from alphajax.search import SearchConfig
from alphajax.system import Metrics, System, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class AlphaTensor(System):
    """The whole agent as one hashable configuration."""

    game: TensorGame
    """Rules and targets."""
    network: NetworkConfig = NetworkConfig()
    """Sizes of the network."""
    search: SearchConfig = SearchConfig()
    """Tree search of a move."""
    training: TrainingConfig = TrainingConfig()
    """How much is played and learned."""
    mix: MixConfig = MixConfig()
    """How games start and what a batch consists of."""
    beam: BeamConfig = BeamConfig()
    """Beam search for a lower rank after each iteration's games; width 0: none (the paper)."""
    uniform: bool = False
    """Control without a network: candidates are drawn uniformly."""
    preset_knowledge: tuple[str, ...] = ()
    """Prior knowledge that went into the choice of this configuration, a phrase each."""

    def __post_init__(self) -> None:
        game, num_targets = self.game, len(self.game.targets)
        if game.symmetry_group.order > 1 and self.network.signed_permutations:
            raise ValueError(
                "network.signed_permutations: received True with moves that are symmetry orbits"
                f" ({', '.join(game.symmetries)}); expected False, because a signed permutation"
                " does not keep a tensor symmetric"
            )
        if self.training.resampling_temperature and num_targets > 1:
            raise ValueError(
                "training.resampling_temperature: received"
                f" {self.training.resampling_temperature} with {num_targets} targets; expected 0,"
                " because games on different targets would be resampled against each other"
            )
        if self.beam.width and num_targets > 1:
            raise ValueError(
                f"beam.width: received {self.beam.width} with {num_targets} targets; expected 0,"
                " because a beam search has one target"
            )
        if self.beam.equivalence_classes and not equivalence_hash.is_supported(game):
            shapes = ", ".join(str(target.shape) for target in game.targets)
            raise ValueError(
                f"beam.equivalence_classes: received True over {game.ring.name}, shape {shapes},"
                f" symmetry orbits of {game.symmetry_group.order}; expected Z2, modes of at most"
                f" {equivalence_hash.MAX_LENGTH}, and moves of one term"
            )
        if not self.training.games and not self.beam.width:
            raise ValueError(
                "training.games: received 0 without a beam; expected 1 or more, or beam.width"
                " above 0"
            )
        if self.uniform and self.training.learn:
            raise ValueError(
                "uniform: received True with training.learn True; expected learn False"
            )

    @property
    def network_game(self) -> TensorGame:
        """The game whose residuals the network sees."""
        return self.game

    @property
    def policy(self) -> NetworkPolicy | UniformPolicy:
        """The network, or the control without one."""
        game = self.network_game
        if self.uniform:
            return UniformPolicy(game=game, token_entries=self.network.token_entries)
        return NetworkPolicy(game=game, config=self.network)

    @property
    def max_steps(self) -> int:
        """R, the longest possible game."""
        return self.game.max_moves

    @property
    def num_fixed_terms(self) -> Int[np.ndarray, " targets"]:
        """Number of prescribed terms (diagonal cubes) of each target; ranks in memory exclude
        them."""
        return np.array([len(target.cubes) for target in self.game.targets], np.int32)

    def prior_knowledge(self) -> tuple[str, ...]:
        """Prior knowledge that a run is given beyond the rules of the game, a phrase each."""
        phrases = list(self.preset_knowledge)
        if self.game.symmetry_group.order > 1:
            names = ", ".join(self.game.symmetries)
            phrases.insert(0, f"symmetry-orbit moves ({names}): symmetries of the target tensor")
        if self.num_fixed_terms.any():
            phrases.append("fixed terms: cubes of the diagonal")
        return tuple(phrases)

    def pool_size(self, devices: int) -> int:
        """Finished games that are remembered, on all devices together."""
        return self.mix.pool

    def init_memory(self, devices: int) -> Memory:
        """The memory of a run that has found nothing.

        Args:
          devices: over which finished games are sharded.
        """
        return memories.empty(self.game, self.pool_size(devices), devices)

    def memory_spec(self) -> Memory:
        """How each part of the memory is sharded."""
        return memories.specs()

    def reset_network(self, memory: Memory) -> tuple[Bool[Array, ""], Memory] | None:
        """Whether to start over with a new network, and the memory it starts with.

        The best ranks stay; finished games and lowered limits are given up.
        """
        if not self.mix.reset_after:
            return None
        return memory.stagnation >= self.mix.reset_after, memories.reset(memory, self.game)

    def item(self) -> Any:
        """Shapes and dtypes of a replay item (`Item`)."""
        game, k = self.network_game, self.search.candidates
        shape: Any = jax.ShapeDtypeStruct
        state = jax.eval_shape(game.init, jax.random.key(0))
        return Item(
            observation=jax.eval_shape(game.observe, state),
            actions=shape((k, 3, game.side), jnp.int8),
            weights=shape((k,), jnp.float32),
            value=shape((), jnp.float32),
        )

    def limits(self, memory: Memory) -> Int[Array, " targets"]:
        """Terms allowed on each target: at most its naive rank, at least 1."""
        lower = jnp.minimum(memories.naive_ranks(self.game), memory.rank - 1)
        return jnp.maximum(memory.limit if self.mix.limit_quantile else lower, 1)

    def start(self, key: jax.Array, memory: Memory, count: int) -> tuple[State, Start]:
        """First states of games: from targets drawn uniformly, and from archived games.

        Args:
          key: consumed.
          memory: one device's.
          count: number of games.

        Returns:
          States `[count, ...]`, and how each game started.
        """
        limits = self.limits(memory)
        no_moves = jnp.zeros((self.game.max_moves, 3, self.game.side), jnp.int8)

        def one(key):
            target_key, canonical_key, basis_key = jax.random.split(key, 3)
            target = jax.random.randint(target_key, (), 0, len(self.game.targets))
            state = self.game.start(target, limits[target])
            basis = bases.identity(self.game.side)
            if self.mix.canonical_share < 1:
                is_canonical = jax.random.bernoulli(canonical_key, self.mix.canonical_share)
                density = jnp.where(is_canonical, 0.0, self.mix.basis_density)
                state, basis = self.change_basis(basis_key, state, density)
            return state, Start(target, basis, no_moves, state.moves)

        from_target = jax.vmap(one)(jax.random.split(key, count))
        num_archived = self._num_archived(count)
        if not num_archived:
            return from_target
        sample_key, key = jax.random.split(jax.random.fold_in(key, count))
        sampled = archive.sample_games(sample_key, memory.pool, memory.rank, num_archived)
        from_archive = archive.start_from_archive(key, sampled, self.game, limits)
        has_games = jnp.any(memory.pool.filled > 0)

        def join(archived, new):
            first = jnp.where(has_games, archived, new[:num_archived])
            return jnp.concatenate([first, new[num_archived:]])

        return jax.tree.map(join, from_archive, from_target)

    def resampling_groups(self, count: int) -> tuple[int, ...]:
        """Sizes of the groups within which games are resampled: from the archive, from the target.

        Values near the end of a game are exact, values of a first state are optimistic.  In one
        group, no game from the target would be continued.
        """
        num_archived = self._num_archived(count)
        return tuple(size for size in (num_archived, count - num_archived) if size)

    def _num_archived(self, count: int) -> int:
        """Games out of `count` that start from archived ones."""
        return round(count * self.mix.archive_share)

    def change_basis(
        self, key: jax.Array, state: State, max_density: float | Float[Array, ""]
    ) -> tuple[State, Basis]:
        """A first state in a random basis.

        Args:
          key: consumed.
          state: in the canonical basis.
          max_density: as for `random_basis`; 0: the state stays in the canonical basis.

        Returns:
          The state in the new basis, and the basis.
        """
        canonical = bases.identity(self.game.side)
        basis = self.random_basis(key, state.dims, max_density)
        tensor = bases.change_tensor(state.residual, basis.matrices, self.game.ring)
        # An entry that is too large for the residual's dtype: the game is played as it is.
        is_changed = jnp.all(jnp.abs(tensor) <= self.game.max_start_entry) & (max_density > 0)
        basis = jax.tree.map(lambda a, b: jnp.where(is_changed, a, b), basis, canonical)
        tensor = jnp.where(is_changed, tensor, state.residual).astype(self.game.dtype)
        return state._replace(residual=tensor), basis

    def random_basis(
        self, key: jax.Array, dims: Int[Array, "3"], max_density: float | Float[Array, ""]
    ) -> Basis:
        """A random basis under which residuals keep the symmetry of the game.

        Args:
          key: consumed.
          dims: lengths of the modes.
          max_density: the off-diagonal density is uniform from [0, this].
        """
        game = self.game
        has_equal_modes = all(len(set(target.shape)) == 1 for target in game.targets)
        shared = self.mix.shared_basis and has_equal_modes
        density_key, key = jax.random.split(key)
        density = jax.random.uniform(density_key, maxval=max_density)
        # Any basis that is the same in all three modes keeps the cyclic symmetry.
        if game.symmetries not in ((), ("cyclic",)):
            return bases.symmetric_basis(key, game.ring, dims, density, game.symmetry_group)
        shared = shared or "cyclic" in game.symmetries
        return bases.random_basis(key, game.ring, game.side, dims, density, shared)

    def explore(self, params: Any, key: jax.Array, memory: Memory) -> tuple[Memory, Any, Metrics]:
        """A beam search from the target for fewer terms than the best known.

        Args:
          params: of the policy.
          key: consumed.
          memory: one device's; finished games of the beam are added.

        Returns:
          The memory, no replay items, and sums to add up over devices.
        """
        if not self.beam.width:
            return memory, None, {}
        basis_key, key = jax.random.split(key)
        limit = jnp.minimum(self.limits(memory)[0], jnp.maximum(memory.rank[0] - 1, 1))
        state = self.game.start(jnp.int32(0), limit)
        state, basis = self.change_basis(basis_key, state, self.beam.basis_density)
        result = beam.search(
            params,
            key,
            jax.tree.map(lambda x: x[None], self.game.observe(state)),
            jnp.ones(1, bool),
            self.game,
            self.policy,
            self.beam,
            lambda key: self.random_basis(key, state.dims, self.mix.basis_density),
        )
        finished, rank = result.games, self.game.max_moves
        shape = (self.beam.width, max(rank, self.beam.moves), 3, self.game.side)
        moves = jnp.zeros(shape, jnp.int8).at[:, : self.beam.moves].set(finished.moves)[:, :rank]
        is_finished = finished.remaining >= 0
        games = self.archived(moves, limit - finished.remaining, is_finished, basis)
        is_new = is_finished & archive.is_new(games, memory.pool, self.game)
        memory = memories.remember(memory, games, is_new, self.game)
        return memory, None, beam_sums(result, is_new)

    def archived(
        self,
        factors: Int[Array, "N R 3 S"],
        rank: Int[Array, " N"],
        is_finished: Bool[Array, " N"],
        basis: Basis,
    ) -> ArchivedGame:
        """Finished games on the first target, all in one basis.

        Args:
          factors: their moves.
          rank: their terms.
          is_finished: which of them are; the others get rank R + 1.
          basis: of the moves.
        """
        count = factors.shape[0]
        dims, target = np.array(self.game.targets[0].shape, np.int8), np.int32(0)
        dims, target, basis = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (count, *x.shape)), (dims, target, basis)
        )
        rank = jnp.where(is_finished, rank, self.game.max_moves + 1).astype(jnp.int32)
        return ArchivedGame(factors, rank, dims, target, basis)

    def finish(
        self, memory: Memory, states: State, context: Start, played: games.Trajectories
    ) -> tuple[Memory, Any, Bool[Array, " N"], Metrics]:
        """Adds played games to the memory, and their positions to the replay.

        Args:
          memory: one device's.
          states: the last states.
          context: how the games started.
          played: their moves.

        Returns:
          The memory; replay items with the observed return as value, and their mask; and sums to
          add up over devices.
        """
        target, basis, prefix, num_given = jax.tree.map(lambda x: x[played.origin], context)
        # The last orbit may have more terms than were left.
        is_solved = ~jnp.any(states.residual, axis=(1, 2, 3)) & (states.moves <= states.limit)
        rank = jnp.where(is_solved, states.moves, self.game.max_moves + 1).astype(jnp.int32)
        moves = jnp.where(played.mask[..., None, None], played.steps.action.factors, 0)
        factors = moves  # [B, R, 3, S]
        if self.mix.archive_share:
            factors = archive.join(prefix, moves.astype(jnp.int8))
        finished = ArchivedGame(factors.astype(jnp.int8), rank, states.dims, target, basis)
        before = memory.rank
        memory = memories.record_best(memory, finished, self.game)
        is_lower = jnp.any(memory.rank < before)
        # Games from the archive are easier: they do not count.
        from_target = (num_given == 0).astype(jnp.int32)
        histogram = jnp.zeros_like(memory.rank_histogram).at[target, rank].add(from_target)
        is_finished = is_solved
        if self.mix.archive_share:
            factors, rank, is_finished = archive.complete_with_one_term(
                factors, rank, states, self.game
            )
            finished = finished._replace(factors=factors.astype(jnp.int8), rank=rank)
        memory = memory._replace(
            stagnation=jnp.where(is_lower, 0, memory.stagnation + 1),
            rank_histogram=histogram,
            pool=replay.write(memory.pool, finished, is_finished),
        )
        steps, value = played.steps, games.returns(played.rewards)
        items = Item(steps.observation, steps.search.actions.factors, steps.search.weights, value)
        items = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), items)
        error = jnp.where(played.mask, jnp.abs(steps.search.value - value), 0.0)
        sums = {
            "solved": jnp.sum(is_solved, dtype=jnp.int32),
            "return": jnp.sum(value[:, 0] - num_given),
            "root_value_error": jnp.sum(error),
        }
        return memory, items, played.mask.reshape(-1), sums

    def agree(self, memory: Memory) -> tuple[Memory, Metrics]:
        """The memory with the best decomposition of any device, and metrics of it.

        Collectives run over `AXIS`.
        """
        memory = memories.lower_limits(memories.agree(memory), self.mix.limit_quantile)
        return memory, {
            "best_rank": memory.rank + self.num_fixed_terms,
            "limit": self.limits(memory) + self.num_fixed_terms,
            "num_resets": memory.num_resets,
        }

    def demonstration_limits(self, memory: Memory) -> Int[Array, " targets"]:
        """The move limits of the positions that are learned from."""
        return self.limits(memory)

    def make_batch(
        self, key: jax.Array, memory: Memory, buffer: replay.Replay, count: int
    ) -> Batch:
        """A batch of demonstrations, the best finished games, and played positions (`MixConfig`).

        Args:
          key: consumed.
          memory: one device's.
          buffer: of `Item`.
          count: positions in the batch.
        """
        return batches.make_batch(
            key,
            memory.pool,
            memory.rank,
            self.demonstration_limits(memory),
            buffer,
            count,
            game=self.network_game,
            config=self.mix,
        )


def beam_sums(result: beam.BeamResult, is_new: Bool[Array, " N"]) -> Metrics:
    """The sums of one beam search for `explore`.

    Args:
      result: of the search.
      is_new: finished games that the memory did not have.

    Returns:
      "beam_solved", the number of new games; "beam_moves" and "simulations", sampled moves.
    """
    solved, moves = jnp.sum(is_new, dtype=jnp.int32), result.num_sampled
    return {"beam_solved": solved, "beam_moves": moves, "simulations": moves}
