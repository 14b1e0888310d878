"""AlphaDev as one system: how games start, what is remembered of them, and what is learned.

`alphajax.training` runs it.  No program is given to it: the programs that it learns from again are
those that the run itself has found.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, and DeepMind's pseudocode.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from alphajax import games, replay
from alphajax.alphadev import beam
from alphajax.alphadev.beam import BeamConfig
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import PAPER_POTENTIALS
from alphajax.alphadev.game.states import State
from alphajax.alphadev.learning import archive, batches
from alphajax.alphadev.learning.archive import Pool
from alphajax.alphadev.learning.batches import Item, MixConfig
from alphajax.alphadev.network.network import NetworkConfig
from alphajax.alphadev.network.policy import Batch, NetworkPolicy, UniformPolicy
from alphajax.search import SearchConfig
from alphajax.training import AXIS, Metrics, System, TrainingConfig

POOL_SIZE = 64
"""Programs in the archive of each device."""
NEAR_BENCHMARK = 1.5
"""A move limit of at most so many times the human benchmark's length is prior knowledge."""


class Memory(NamedTuple):
    """What the system remembers beside the replay buffer."""

    length: Int[Array, ""]
    """Actions of the shortest correct program of the run; T + 1: none."""
    actions: Int[Array, " T"]
    """This program, -1 after its end."""
    pool: Pool
    """The archive of the present network, one part on each device."""
    best_is_current: Bool[Array, ""]
    """Whether the present network found the shortest program: only then is it in the archive."""
    stagnation: Int[Array, ""]
    """Iterations without a shorter program in the archive; 0 while it has no correct program."""
    num_resets: Int[Array, ""]
    """Networks before the present one."""


@dataclass(frozen=True, kw_only=True)
class AlphaDev(System):
    """The whole agent as one hashable configuration.

    Raises:
      ValueError: settings that contradict each other.
    """

    game: AssemblyGame
    """The game of a task."""
    network: NetworkConfig = NetworkConfig()
    """Configuration of the network."""
    search: SearchConfig = SearchConfig(dirichlet_alpha=0.03)
    """Configuration of the tree search."""
    training: TrainingConfig = TrainingConfig()
    """Configuration of the loop; at least 1 game."""
    mix: MixConfig = MixConfig()
    """How games start, and what is learned from."""
    beam: BeamConfig = BeamConfig()
    """Beam search after each iteration's games; beyond the paper."""
    uniform: bool = False
    """True: the control without a network, whose candidates are uniform."""

    def __post_init__(self) -> None:
        if not self.training.games:
            raise ValueError("training.games: received 0; expected 1 or more")
        if self.uniform and self.training.learn:
            raise ValueError(
                "uniform: received True with training.learn True; expected learn False"
            )
        if self.network.program_layers and not self.game.keep_program and not self.uniform:
            raise ValueError(
                "keep_program: received False; expected True for a network with program_layers"
            )
        if self.mix.random_moves >= self.game.max_moves:
            raise ValueError(
                f"random_moves: received {self.mix.random_moves}; expected below the length limit,"
                f" {self.game.max_moves}"
            )
        if self.mix.partial_programs and not self.game.rewards.weight:
            raise ValueError(
                "partial_programs: received True with rewards.weight 0; expected a weight above 0"
            )

    @property
    def policy(self) -> NetworkPolicy | UniformPolicy:
        """The network, or the control."""
        if self.uniform:
            return UniformPolicy(game=self.game)
        return NetworkPolicy(game=self.game, config=self.network)

    @property
    def max_steps(self) -> int:
        """The length limit."""
        return self.game.max_moves

    @property
    def bootstraps(self) -> bool:
        """Whether the network learns by TD."""
        return bool(self.network.td_steps) and not self.uniform

    def prior_knowledge(self) -> tuple[str, ...]:
        """What the search is told beyond the paper's rules, as phrases for `result.json`.

        Masks and the potential of the reward, if they are not the paper's; and a move limit near
        the human benchmark.  Under the paper's masks and potential the task's own move limit is one
        of the rules, and is not mentioned.
        """
        game, task = self.game, self.game.task
        phrases = []
        masks = [name for name, is_on in dataclasses.asdict(game.restrictions).items() if is_on]
        if masks:
            phrases.append(f"masks beyond the paper: {', '.join(masks)}")
        if game.rewards.potential not in PAPER_POTENTIALS:
            phrases.append(f"reward potential beyond the paper: {game.rewards.potential}")
        limit, human = game.max_moves, task.human or 0
        if limit <= NEAR_BENCHMARK * human and (phrases or limit != task.length_limit):
            phrases.append(f"move limit {limit}, near the human benchmark's {human} instructions")
        return tuple(phrases)

    def init_memory(self, devices: int) -> Memory:
        """The memory of a new run, with an archive for each device."""
        moves, size = self.game.max_moves, POOL_SIZE * devices
        return Memory(
            length=jnp.int32(moves + 1),
            actions=jnp.full(moves, -1, jnp.int16),
            pool=archive.empty(size, moves),
            best_is_current=jnp.bool_(False),
            stagnation=jnp.int32(0),
            num_resets=jnp.int32(0),
        )

    def memory_spec(self) -> Any:
        """The archive is sharded, everything else replicated."""
        replicated: Any = P()
        pool: Any = P(AXIS)
        return Memory(replicated, replicated, pool, replicated, replicated, replicated)

    def reset_network(self, memory: Memory) -> tuple[Bool[Array, ""], Memory] | None:
        """Whether to start over with a new network, and the memory that it starts with.

        The shortest program stays, for the result; the archive starts empty.
        """
        if not self.mix.reset_after:
            return None
        size = memory.pool.length.shape[0]
        return memory.stagnation >= self.mix.reset_after, memory._replace(
            pool=archive.empty(size, self.game.max_moves),
            best_is_current=jnp.bool_(False),
            stagnation=jnp.int32(0),
            num_resets=memory.num_resets + 1,
        )

    def item(self) -> Any:
        """Shapes and dtypes of one replay item."""
        state = jax.eval_shape(self.game.init, jax.random.key(0))
        observation: Any = jax.eval_shape(self.game.observe, state)
        k = self.search.candidates
        actions: Any = jax.ShapeDtypeStruct((k,), jnp.int16)
        weights: Any = jax.ShapeDtypeStruct((k,), jnp.float32)
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        return Item(
            observation=observation,
            actions=actions,
            weights=weights,
            correctness=number,
            latency=number,
            bootstrap_observation=observation if self.bootstraps else None,
            bootstrap_weight=number,
        )

    def start(self, key: jax.Array, memory: Memory, count: int) -> tuple[State, Int[Array, "B T"]]:
        """First states: empty programs, prefixes of archive programs, and random legal moves.

        Args:
          key: consumed.
          memory: one device's.
          count: B, number of games.

        Returns:
          States `[B, ...]`, and the programs that lead to them, int16 `[B, T]`.
        """
        game, mix = self.game, self.mix
        limit = jnp.int32(game.max_moves)
        share_key, count_key, key = jax.random.split(key, 3)
        has_moves = jax.random.bernoulli(share_key, mix.random_share, (count,))
        moves = jax.random.randint(count_key, (count,), 0, mix.random_moves + 1)
        moves = jnp.where(has_moves, moves, 0)
        weight_keys = jax.random.split(jax.random.fold_in(key, mix.random_moves + 1), count)
        states = jax.vmap(lambda key: game.draw_cell_weights(key, game.empty(limit)))(weight_keys)
        prefix = jnp.full((count, game.max_moves), -1, jnp.int16)
        if mix.archive_share:
            prefix_key = jax.random.fold_in(key, mix.random_moves + 2)
            prefix = archive.sample_prefixes(prefix_key, memory.pool, mix.archive_share, count)
            states = jax.vmap(game.append_all)(states, prefix)
        if mix.random_moves and mix.random_share:
            return self._append_random_moves(key, states, prefix, moves)
        return jax.vmap(game.survey)(states), prefix

    def _append_random_moves(
        self, key: jax.Array, states: State, prefix: Array, moves: Array
    ) -> tuple[State, Array]:
        """States and programs after up to `moves[b]` random legal moves."""
        game = self.game
        place = jnp.sum(prefix >= 0, axis=1)
        rows = jnp.arange(prefix.shape[0])

        def append(t: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            # The survey comes first, so that the rules are compiled only once.
            states, prefix = carry
            states = jax.vmap(game.survey)(states)
            noise = jax.random.uniform(jax.random.fold_in(key, t), states.legal.shape)
            action = jnp.argmax(jnp.where(states.legal, noise, -1.0), axis=-1).astype(jnp.int16)
            moves_on = (t < moves) & ~jax.vmap(game.is_terminal)(states)
            prefix = prefix.at[rows, place + t].set(
                jnp.where(moves_on, action, jnp.int16(-1)), mode="drop"
            )
            after = jax.vmap(game.advance)(states, action)
            select = jax.vmap(jnp.where)
            states = jax.tree.map(lambda new, old: select(moves_on, new, old), after, states)
            return states, prefix

        return jax.lax.fori_loop(0, self.mix.random_moves + 1, append, (states, prefix))

    def finish(
        self, memory: Memory, states: State, context: Int[Array, "B T"], played: games.Trajectories
    ) -> tuple[Memory, Item, Bool[Array, " N"], Metrics]:
        """Correct programs go into the memory, all positions into the replay buffer.

        Args:
          memory: one device's.
          states: last states, `[B, ...]`.
          context: programs that the games started from.
          played: the games.

        Returns:
          The memory; replay items `[N, ...]`; which of them were played; sums over the games.
        """
        game, steps = self.game, played.steps
        prefix = context[played.origin]
        programs = archive.concatenate(prefix, jnp.where(played.mask, steps.action, jnp.int16(-1)))
        value = games.returns(played.rewards)
        memory = self._remember_games(memory, states, prefix, played, value, programs)

        latency = jax.vmap(game.latency_reward)(states)[:, None]
        correctness = jnp.where(played.mask, value - latency, 0.0)
        target, later, bootstrap_weight = correctness, None, jnp.zeros_like(value)
        if self.bootstraps:
            target, later, bootstrap_weight = batches.td_targets(
                correctness, steps.observation, played.mask, self.network.td_steps
            )
        items = Item(
            steps.observation,
            steps.search.actions,
            steps.search.weights,
            target,
            jnp.broadcast_to(latency, value.shape),
            later,
            bootstrap_weight,
        )
        flat = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), items)
        error = jnp.where(played.mask, jnp.abs(steps.search.value - value), 0.0)
        has_no_move = ~states.correct & (states.length < states.limit)
        sums = {
            "solved": jnp.sum(states.correct, dtype=jnp.int32),
            "return": jnp.sum(value[:, 0]),
            "length": jnp.sum(jnp.where(states.correct, states.length, 0), dtype=jnp.int32),
            "root_value_error": jnp.sum(error),
            "ended_early": jnp.sum(has_no_move, dtype=jnp.int32),
        }
        return memory, flat, played.mask.reshape(-1), sums

    def _remember_games(
        self,
        memory: Memory,
        states: State,
        prefix: Array,
        played: games.Trajectories,
        value: Array,
        programs: Array,
    ) -> Memory:
        """The memory with the correct programs of games, and with the best prefixes of others."""
        game, partial_programs = self.game, self.mix.partial_programs
        potential = jnp.full(programs.shape[0], -jnp.inf)
        if partial_programs:
            programs, potential = archive.best_prefixes(
                game, states, prefix, played, value, programs
            )
        programs = jax.lax.cond(
            jnp.any(states.correct) | partial_programs,
            jax.vmap(
                lambda x, correct: archive.remove_redundant(game, x, correct, partial_programs)
            ),
            lambda x, correct: x,
            programs,
            states.correct,
        )
        length = jnp.sum(programs >= 0, axis=1, dtype=jnp.int32)
        priority = archive.priority(game, potential, length)
        length = jnp.where(states.correct, length, game.max_moves + 1)
        return self.remember(memory, programs, length, priority)

    def explore(self, params: Any, key: jax.Array, memory: Memory) -> tuple[Memory, None, Metrics]:
        """A beam search for a program shorter than the archive's best, after the games.

        It starts from the empty program or, as often as games, from a prefix of an archive program.

        Args:
          params: the policy's parameters.
          key: consumed.
          memory: one device's.

        Returns:
          The memory with the programs found; None, as there are no replay items; sums.
        """
        if not self.beam.width:
            return memory, None, {}
        game, no_program = self.game, self.game.max_moves + 1
        start_key, prefix_key, key = jax.random.split(key, 3)
        limit = jnp.maximum(memory.pool.length[0] - 1, 1)
        share = self.mix.archive_share
        prefix = archive.sample_prefixes(prefix_key, memory.pool, share, 1)[0]
        start = game.append_all(game.draw_cell_weights(start_key, game.empty(limit)), prefix)
        result = beam.search(params, key, game.survey(start), prefix, game, self.policy, self.beam)
        correct = result.length > 0
        programs = jax.lax.cond(
            jnp.any(correct),
            jax.vmap(lambda x, correct: archive.remove_redundant(game, x, correct, False)),
            lambda x, correct: x,
            result.programs,
            correct,
        )
        length = jnp.where(correct, jnp.sum(programs >= 0, axis=1, dtype=jnp.int32), no_program)
        priority = jnp.full(length.shape, -jnp.inf)
        if self.mix.partial_programs:
            programs = jnp.concatenate([programs, result.partial_programs])
            length = jnp.concatenate([length, jnp.full_like(length, no_program)])
            priority = jnp.concatenate([priority, result.priority])
        after = self.remember(memory, programs, length, priority)
        # The games have counted this iteration.
        after = after._replace(stagnation=jnp.minimum(after.stagnation, memory.stagnation))
        sums = {
            "beam_solved": jnp.sum(correct, dtype=jnp.int32),
            "beam_moves": result.num_samples,
            "simulations": result.num_samples,
        }
        return after, None, sums

    def remember(
        self,
        memory: Memory,
        programs: Int[Array, "B T"],
        length: Int[Array, " B"],
        priority: Float[Array, " B"] | None = None,
    ) -> Memory:
        """Inserts programs into the archive, and updates the shortest program and the stagnation.

        Args:
          memory: one device's.
          programs: the programs.
          length: number of actions of a correct program; T + 1 for others.
          priority: of partial programs, minus infinity for others (default: no partial programs).

        Returns:
          The memory.
        """
        no_program = self.game.max_moves + 1
        priority = jnp.full(length.shape, -jnp.inf) if priority is None else priority
        # The shortest program may come from another device, and be missing in this archive.
        shared = jnp.where(memory.best_is_current, memory.length, no_program)
        programs = jnp.concatenate([memory.actions[None], programs])
        length = jnp.concatenate([shared[None], length])
        priority = jnp.concatenate([jnp.full(1, -jnp.inf), priority])
        pool = archive.insert(
            memory.pool, self.game, programs, length, priority, self.mix.partial_programs
        )
        # The first program of its length stays, so that a resumed run reports the same one.
        is_best = pool.length[0] < memory.length
        is_shorter = (pool.length[0] < memory.pool.length[0]) | (pool.length[0] == no_program)
        return memory._replace(
            length=jnp.where(is_best, pool.length[0], memory.length),
            actions=jnp.where(is_best, pool.actions[0], memory.actions),
            pool=pool,
            best_is_current=memory.best_is_current | is_best,
            stagnation=jnp.where(is_shorter, 0, memory.stagnation + 1),
        )

    def agree(self, memory: Memory) -> tuple[Memory, Metrics]:
        """Every device takes the shortest program of all devices (collectives over `AXIS`).

        Args:
          memory: one device's.

        Returns:
          The memory, and metrics of the best result.
        """
        lengths = jax.lax.all_gather(memory.length, AXIS)  # [devices]
        is_shortest = jax.lax.axis_index(AXIS) == jnp.argmin(lengths)
        actions = jnp.where(is_shortest, memory.actions.astype(jnp.int32), 0)
        actions = jax.lax.psum(actions, AXIS).astype(jnp.int16)
        memory = memory._replace(
            length=jnp.min(lengths),
            actions=actions,
            best_is_current=jax.lax.pmax(memory.best_is_current.astype(jnp.int32), AXIS) > 0,
            stagnation=jax.lax.pmin(memory.stagnation, AXIS),
        )
        return memory, {
            "best_length": memory.length,
            "limit": jnp.int32(self.game.max_moves),
            "num_resets": memory.num_resets,
        }

    def make_batch(
        self, key: jax.Array, memory: Memory, buffer: replay.Replay, count: int
    ) -> Batch:
        """Played positions, and positions of the archive's programs; see `batches.make_batch`.

        Args:
          key: consumed.
          memory: one device's.
          buffer: one device's part of the replay buffer.
          count: number of positions.

        Returns:
          The batch.
        """
        return batches.make_batch(
            key,
            memory.pool,
            buffer,
            count,
            game=self.game,
            config=self.mix,
            bootstrap=self.bootstraps,
        )
