"""AlphaDev as one system: how games start, what is kept of them, and what a batch is made of.

Mankowitz et al., Nature 618:257 (2023), Methods, and DeepMind's pseudocode.  `alphajax.training`
runs it.  No program is ever given: the best ones that are learned from again are those that this
run has written itself.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from alphajax import games, replay
from alphajax.alphadev import beam
from alphajax.alphadev.beam import BeamConfig
from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame, Observation, State
from alphajax.alphadev.learning import archive
from alphajax.alphadev.learning.archive import Pool
from alphajax.alphadev.network.policy import Batch, NetworkConfig, NetworkPolicy, UniformPolicy
from alphajax.search import SearchConfig
from alphajax.training import AXIS, TrainingConfig

POOL = 64
"""Programs that each device's pool holds."""


class Item(NamedTuple):
    """A played position in the replay buffer."""

    observation: Observation
    actions: Int[Array, "*#B K"]
    weights: Float[Array, "*#B K"]
    correctness: Float[Array, "*#B"]
    latency: Float[Array, "*#B"]
    later: Observation | None
    bootstrap: Float[Array, "*#B"]


class Memory(NamedTuple):
    """The shortest right program, and each device's pool of short ones.

    `length` is T + 1 while there is none; `actions` are -1 behind the end.
    """

    length: Int[Array, ""]
    actions: Int[Array, " T"]
    pool: Pool
    own: Bool[Array, ""]
    """Whether the shortest program is the present network's: only then is it in the pools."""
    waited: Int[Array, ""]
    """Iterations since the present network found a shorter program than its others."""
    networks: Int[Array, ""]
    """The present network's number, from 1."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Where the positions of a batch come from, and how games vary."""

    best_share: float = 0.0
    """Of each batch, positions of the best programs so far; beyond the paper."""
    random_share: float = 0.0
    """Of the games, those that start with random legal moves; beyond the paper."""
    random_moves: int = 0
    """The most of them."""
    archive_share: float = 0.0
    """Of the games, those that start inside one of the best programs so far, at a random place;
    some with random moves from there.  Beyond the paper."""
    unfinished: bool = False
    """While there are few right programs, the most promising beginnings that were played, or kept
    by a beam, stand in for them in the archive, and moves are learned from them: those with the
    highest potential for their length (first return, then explore: Ecoffet et al., Nature 590:580,
    2021).  Beyond the paper."""
    rename: bool = False
    """Rename registers at random in positions to learn from (`symmetries`); beyond the paper."""
    patience: int = 0
    """A network that has found right programs, but in so many iterations none that is shorter, has
    settled: the next one begins with nothing, and no program is handed on.  0: never.
    Beyond the paper."""

    def __post_init__(self):
        for name in ("best_share", "random_share", "archive_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: received {value}; expected 0..1")
        for name, low in (("random_moves", 0), ("patience", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")


@dataclass(frozen=True, kw_only=True)
class AlphaDev:
    """The whole agent as one hashable configuration; a `System` for `alphajax.training`."""

    game: AssemblyGame
    network: NetworkConfig = NetworkConfig()
    search: SearchConfig = SearchConfig(dirichlet_alpha=0.03)
    training: TrainingConfig = TrainingConfig()
    mix: MixConfig = MixConfig()
    beam: BeamConfig = BeamConfig()
    """Beyond the paper: after each iteration's games, a beam looks for a shorter program."""
    uniform: bool = False
    """The control: candidates drawn uniformly, no network."""

    def __post_init__(self):
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
        if self.mix.unfinished and not self.game.rewards.weight:
            raise ValueError(
                "unfinished: received True with rewards.weight 0; expected a weight above 0"
            )

    @property
    def policy(self):
        if self.uniform:
            return UniformPolicy(game=self.game)
        return NetworkPolicy(game=self.game, config=self.network)

    @property
    def max_steps(self) -> int:
        return self.game.max_moves

    def init_memory(self, devices: int) -> Memory:
        moves, size = self.game.max_moves, POOL * devices
        return Memory(
            length=jnp.int32(moves + 1),
            actions=jnp.full(moves, -1, jnp.int16),
            pool=archive.empty(size, moves),
            own=jnp.bool_(False),
            waited=jnp.int32(0),
            networks=jnp.int32(1),
        )

    def memory_spec(self):
        whole = P()
        return Memory(whole, whole, P(AXIS), whole, whole, whole)

    def renew(self, memory: Memory) -> tuple[Bool[Array, ""], Memory] | None:
        """Whether the network has settled, and the memory that the next one begins with."""
        if not self.mix.patience:
            return None
        size = memory.pool.length.shape[0]
        return memory.waited >= self.mix.patience, memory._replace(
            pool=archive.empty(size, self.game.max_moves),
            own=jnp.bool_(False),
            waited=jnp.int32(0),
            networks=memory.networks + 1,
        )

    def item(self) -> Item:
        state = jax.eval_shape(self.game.init, jax.random.key(0))
        seen = jax.eval_shape(self.game.observe, state)
        k = self.search.candidates
        number = jax.ShapeDtypeStruct((), jnp.float32)
        return Item(
            observation=seen,
            actions=jax.ShapeDtypeStruct((k,), jnp.int16),
            weights=jax.ShapeDtypeStruct((k,), jnp.float32),
            correctness=number,
            latency=number,
            later=seen if self._looks_ahead else None,
            bootstrap=number,
        )

    @property
    def _looks_ahead(self) -> bool:
        return bool(self.network.td_steps) and not self.uniform

    def start(self, key: jax.Array, memory: Memory, count: int) -> tuple[State, Any]:
        """Empty programs, some with a few random legal moves, some inside the best programs."""
        game, mix = self.game, self.mix
        limit = jnp.int32(game.max_moves)
        share_key, count_key, key = jax.random.split(key, 3)
        chosen = jax.random.bernoulli(share_key, mix.random_share, (count,))
        moves = jax.random.randint(count_key, (count,), 0, mix.random_moves + 1)
        moves = jnp.where(chosen, moves, 0)
        emphasis = jax.random.split(jax.random.fold_in(key, mix.random_moves + 1), count)
        states = jax.vmap(lambda key: game.emphasised(key, game.empty(limit)))(emphasis)
        prefix = jnp.full((count, game.max_moves), -1, jnp.int16)
        if mix.archive_share:
            inside_key = jax.random.fold_in(key, mix.random_moves + 2)
            prefix = archive.beginnings(inside_key, memory.pool, mix.archive_share, count)
            states = jax.vmap(game.append_all)(states, prefix)
        place = jnp.sum(prefix >= 0, axis=1)
        if not (mix.random_moves and mix.random_share):
            return jax.vmap(game.surveyed)(states), prefix
        rows = jnp.arange(count)

        def append(t, carry):
            # Surveyed first, so that the rules are compiled here only once.
            states, prefix = carry
            states = jax.vmap(game.surveyed)(states)
            draw = jax.random.uniform(jax.random.fold_in(key, t), states.legal.shape)
            action = jnp.argmax(jnp.where(states.legal, draw, -1.0), axis=-1).astype(jnp.int16)
            go = (t < moves) & ~jax.vmap(game.is_terminal)(states)
            prefix = prefix.at[rows, place + t].set(
                jnp.where(go, action, jnp.int16(-1)), mode="drop"
            )
            after = jax.vmap(game.advance)(states, action)
            pick = jax.vmap(lambda go, new, old: jnp.where(go, new, old))
            return jax.tree.map(lambda new, old: pick(go, new, old), after, states), prefix

        return jax.lax.fori_loop(0, mix.random_moves + 1, append, (states, prefix))

    def groups(self, count: int) -> tuple[int, ...]:
        """All games are rivals."""
        return (count,)

    def finish(self, memory: Memory, states: State, context, played: games.Trajectories):
        """Right programs into the memory, all positions into the replay with their returns."""
        game, steps = self.game, played.steps
        context = context[played.origin]
        programs = archive.join(context, jnp.where(played.mask, steps.action, jnp.int16(-1)))
        value = games.returns(played.rewards)
        potential = jnp.full(programs.shape[0], -jnp.inf)
        if self.mix.unfinished:
            programs, potential = archive.most_promising(
                game, states, context, played, value, programs
            )
        programs = jax.lax.cond(
            jnp.any(states.right) | self.mix.unfinished,
            jax.vmap(
                lambda x, right: archive.without_redundant(game, x, right, self.mix.unfinished)
            ),
            lambda x, right: x,
            programs,
            states.right,
        )
        length = jnp.sum(programs >= 0, axis=1, dtype=jnp.int32)
        merit = archive.merit(game, potential, length)
        length = jnp.where(states.right, length, game.max_moves + 1)
        memory = self._remember(memory, programs, length, merit)

        latency = jax.vmap(game.latency_reward)(states)[:, None]
        correctness = jnp.where(played.mask, value - latency, 0.0)
        later, bootstrap, target = None, jnp.zeros_like(value), correctness
        if self._looks_ahead:
            target, later, bootstrap = self._ahead(correctness, steps.observation, played.mask)
        items = Item(
            steps.observation,
            steps.search.actions,
            steps.search.weights,
            target,
            jnp.broadcast_to(latency, value.shape),
            later,
            bootstrap,
        )
        flat = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), items)
        error = jnp.where(played.mask, jnp.abs(steps.search.value - value), 0.0)
        sums = {
            "solved": jnp.sum(states.right, dtype=jnp.int32),
            "return": jnp.sum(value[:, 0]),
            "length": jnp.sum(jnp.where(states.right, states.length, 0), dtype=jnp.int32),
            "root_value_error": jnp.sum(error),
            "ended_early": jnp.sum(~states.right & (states.length < states.limit), dtype=jnp.int32),
        }
        return memory, flat, played.mask.reshape(-1), sums

    def explore(self, params, key: jax.Array, memory: Memory):
        """A beam for a shorter program than the best of this network, from the beginning or, as
        often as games, inside one of the archive's; what it finds is remembered as played games are
        (as are, with `mix.unfinished`, the most promising beginnings that it kept)."""
        if not self.beam.width:
            return memory, None, {}
        game, none = self.game, self.game.max_moves + 1
        start_key, inside_key, key = jax.random.split(key, 3)
        limit = jnp.maximum(memory.pool.length[0] - 1, 1)
        begun = archive.beginnings(inside_key, memory.pool, self.mix.archive_share, 1)[0]
        start = game.append_all(game.emphasised(start_key, game.empty(limit)), begun)
        found = beam.search(params, key, game.surveyed(start), begun, game, self.policy, self.beam)
        right = found.length > 0
        programs = jax.lax.cond(
            jnp.any(right),
            jax.vmap(lambda x, right: archive.without_redundant(game, x, right, False)),
            lambda x, right: x,
            found.programs,
            right,
        )
        length = jnp.where(right, jnp.sum(programs >= 0, axis=1, dtype=jnp.int32), none)
        merit = jnp.full(length.shape, -jnp.inf)
        if self.mix.unfinished:
            programs = jnp.concatenate([programs, found.promising])
            length = jnp.concatenate([length, jnp.full_like(length, none)])
            merit = jnp.concatenate([merit, found.merit])
        after = self._remember(memory, programs, length, merit)
        # An iteration is counted when its games are over.
        memory = after._replace(waited=jnp.minimum(after.waited, memory.waited))
        return (
            memory,
            None,
            {"beam_solved": jnp.sum(right, dtype=jnp.int32), "beam_moves": found.sampled},
        )

    def _ahead(self, correctness, observation, mask):
        """TD targets: rewards of the next `td_steps` moves, the state then, and its weight."""
        steps = self.network.td_steps

        def shift(x):
            return jnp.concatenate([x[:, steps:], jnp.zeros_like(x[:, :steps])], axis=1)

        later = jax.tree.map(shift, observation)
        running = shift(mask)
        # Returns telescope: the rewards in between are the difference of two of them.
        target = correctness - jnp.where(running, shift(correctness), 0.0)
        return target, later, running.astype(jnp.float32)

    def _remember(self, memory: Memory, programs, length, merit=None) -> Memory:
        """The memory with these programs in it."""
        none = self.game.max_moves + 1
        merit = jnp.full(length.shape, -jnp.inf) if merit is None else merit
        # What another device has found is there, but not in this one's pool.
        shared = jnp.where(memory.own, memory.length, none)
        programs = jnp.concatenate([memory.actions[None], programs])
        length = jnp.concatenate([shared[None], length])
        merit = jnp.concatenate([jnp.full(1, -jnp.inf), merit])
        pool = archive.add(memory.pool, self.game, programs, length, merit, self.mix.unfinished)
        # The first program of its length stays the best: a resumed run must name the same one.
        better = pool.length[0] < memory.length
        shorter = (pool.length[0] < memory.pool.length[0]) | (pool.length[0] == none)
        return memory._replace(
            length=jnp.where(better, pool.length[0], memory.length),
            actions=jnp.where(better, pool.actions[0], memory.actions),
            pool=pool,
            own=memory.own | better,
            waited=jnp.where(shorter, 0, memory.waited + 1),
        )

    def agree(self, memory: Memory):
        """Every device takes the shortest program that any of them has."""
        lengths = jax.lax.all_gather(memory.length, AXIS)  # [devices]
        mine = jax.lax.axis_index(AXIS) == jnp.argmin(lengths)
        actions = jnp.where(mine, memory.actions.astype(jnp.int32), 0)
        actions = jax.lax.psum(actions, AXIS).astype(jnp.int16)
        memory = memory._replace(
            length=jnp.min(lengths),
            actions=actions,
            own=jax.lax.pmax(memory.own.astype(jnp.int32), AXIS) > 0,
            waited=jax.lax.pmin(memory.waited, AXIS),
        )
        return memory, {
            "best_length": memory.length,
            "limit": jnp.int32(self.game.max_moves),
            "networks": memory.networks,
        }

    def make_batch(self, key, memory: Memory, buffer: replay.Replay, step, count: int) -> Batch:
        """Played positions, and positions of the best programs, in fixed shares."""
        best = round(count * self.mix.best_share)
        best_key, played_key, rename_key = jax.random.split(key, 3)
        parts = []
        if best:
            parts.append(self._from_best(best_key, memory, best))
        if count - best:
            parts.append(self._played(played_key, buffer, count - best))
        batch = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        if not self.mix.rename:
            return batch
        table = symmetries.renamings(self.game)
        return symmetries.rename(table, symmetries.draw(table, rename_key, count), batch)

    def _played(self, key, buffer, count) -> Batch:
        item = replay.sample(buffer, key, count)
        there = jnp.broadcast_to(buffer.filled > 0, (count,)).astype(jnp.float32)
        rows = jnp.arange(count)[:, None]
        shape = (count, self.game.action_count)
        weights = jnp.zeros(shape).at[rows, item.actions].max(item.weights)
        candidates = jnp.zeros(shape, bool).at[rows, item.actions].set(True)
        return Batch(
            item.observation,
            candidates & item.observation.legal,
            weights,
            item.correctness,
            item.latency,
            item.later,
            item.bootstrap,
            there,
            there,
        )

    def _from_best(self, key, memory: Memory, count) -> Batch:
        """Positions of the best programs: the next instruction is the target, over all legal moves.

        What an unfinished one will be worth is not known; so its positions teach no value."""
        game, pool = self.game, memory.pool
        program_key, place_key = jax.random.split(key)
        emphasis = jax.random.split(jax.random.fold_in(key, 2), count)
        filled = archive.filled(pool)
        index = jax.random.randint(program_key, (count,), 0, jnp.maximum(filled, 1))
        actions, right = pool.actions[index], pool.length[index] <= game.max_moves
        length = jnp.sum(actions >= 0, axis=1)
        place = jax.random.randint(place_key, (count,), 0, jnp.maximum(length, 1))
        limit = jnp.int32(game.max_moves)
        states = jax.vmap(game.replay, (0, 0, 0, None))(emphasis, actions, place, limit)
        action = jnp.take_along_axis(actions, place[:, None], axis=1)[:, 0].astype(jnp.int32)
        hot = jax.nn.one_hot(jnp.maximum(action, 0), game.action_count)
        # Deleting instructions may have left one that the restrictions forbid.
        there = (filled > 0) & (jnp.sum(hot * states.legal, axis=1) > 0)
        weight = there.astype(jnp.float32)
        done = states._replace(
            placed=jnp.full_like(states.placed, int(game.looked_at.task.items.sum())),
            reached=game.whole(states),
            arrangements=jnp.ones_like(states.arrangements),
            right=jnp.ones(count, bool),
            length=length.astype(states.length.dtype),
        )
        correctness = jax.vmap(game.correctness_reward)(states, done)
        latency = jax.vmap(game.latency_reward)(done)
        if game.rewards.speed:
            latency = latency + game.rewards.speed * pool.speed[index]
        seen = jax.vmap(game.observe)(states)
        return Batch(
            seen,
            states.legal,
            hot,
            correctness,
            latency,
            seen if self._looks_ahead else None,
            jnp.zeros(count),
            weight,
            weight * right,
        )
