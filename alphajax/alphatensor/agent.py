"""AlphaTensor as one system: how games start, and what is kept of them.

Fawzi et al., Nature 610:47 (2022), Methods, "Training regime".  `alphajax.training` runs it.

No decomposition of the target is ever given (but the naive one, where beams begin inside finished games: `inside.py`).
The move limit of a target starts at its naive rank and becomes one less than the best rank found so far, at once or
step by step (`MixConfig.mastery`): a game that could still end well with more moves would teach the search to be
content with them.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Int

from alphajax import games, replay
from alphajax.alphatensor.beam import beam, equivalence_hash, neighbourhoods
from alphajax.alphatensor.beam.beam import BeamConfig
from alphajax.alphatensor.beam.neighbourhoods import InsideConfig
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.tensor_game import State, TensorGame
from alphajax.alphatensor.learning import archive, batches
from alphajax.alphatensor.learning.archive import Finished, Start
from alphajax.alphatensor.learning.batches import Item, MixConfig
from alphajax.alphatensor.network.policy import Batch, NetworkConfig, NetworkPolicy, UniformPolicy
from alphajax.search import SearchConfig
from alphajax.training import AXIS, TrainingConfig


class Memory(NamedTuple):
    """The best decomposition of each target in the canonical basis, and the best finished games.

    `rank` is R + 1, one more than the naive rank of the largest target, while there is none.
    """

    rank: Int[Array, " targets"]
    factors: Int[Array, "targets R 3 S"]
    finished: replay.Replay
    limit: Int[Array, " targets"]
    """Moves allowed."""
    tally: Int[Array, "targets R+2"]
    """Of the games of an iteration that began anew, how many ended at each rank, R + 1 where they kept no limit; 0
    until it is played."""
    waited: Int[Array, ""]
    """Iterations of games since the present network lowered a rank or a limit, or began."""
    networks: Int[Array, ""]
    """The present network's number, from 1."""


@dataclass(frozen=True, kw_only=True)
class AlphaTensor:
    """The whole agent as one hashable configuration; a `System` for `alphajax.training`."""

    game: TensorGame
    network: NetworkConfig = NetworkConfig()
    search: SearchConfig = SearchConfig()
    training: TrainingConfig = TrainingConfig()
    mix: MixConfig = MixConfig()
    beam: BeamConfig = BeamConfig()
    """Beyond the paper: after each iteration's games, a beam looks for a lower rank than the best."""
    inside: InsideConfig = InsideConfig()
    """Beyond the paper: where beams begin."""
    uniform: bool = False
    """The control: candidates drawn uniformly, no network."""

    def __post_init__(self):
        if self.game.symmetry.order > 1 and self.network.signed_permutations:
            symmetries = ", ".join(f"game.{name}" for name in self.game.symmetries)
            raise ValueError(
                "network.signed_permutations: received True; expected False, because moves are"
                f" orbits ({symmetries}), and a signed permutation does not keep a tensor symmetric"
            )
        if self.training.winners and len(self.game.targets) > 1:
            raise ValueError(
                f"winners: received {self.training.winners} with {len(self.game.targets)} targets; expected 0, because"
                " games on one target would take the places of games on another"
            )
        if self.beam.width and len(self.game.targets) > 1:
            raise ValueError(
                f"beam.width: received {self.beam.width} with {len(self.game.targets)} targets; expected 0, because all"
                " games of a beam begin with one"
            )
        if self.beam.classes and not equivalence_hash.told_apart_in(self.game):
            shapes = ", ".join(str(target.shape) for target in self.game.targets)
            raise ValueError(
                f"beam.classes: received True over {self.game.ring.name}, shape {shapes}, orbits of"
                f" {self.game.symmetry.order}; expected Z2, modes of at most {equivalence_hash.LONGEST}, and moves of one term"
            )
        if not self.training.games and not self.beam.width:
            raise ValueError(
                "training.games: received 0 without a beam; expected 1 or more, or beam.width above 0"
            )
        if self.inside.moves:
            self._check_inside()
        if self.uniform and self.training.learn:
            raise ValueError(
                "uniform: received True with training.learn True; expected learn False"
            )

    def _check_inside(self):
        inside, beam, game = self.inside, self.beam, self.game
        for what, good in (
            (
                "beam.width of at least inside.games * inside.beginnings",
                beam.width >= inside.games * inside.beginnings,
            ),
            (
                "beam.samples of 32 for each beginning or more",
                beam.turns >= inside.games * inside.beginnings,
            ),
            ("beam.moves of at least inside.moves", beam.moves >= inside.moves),
            ("no beam.classes, no beam.views", not beam.classes and not beam.views),
            ("inside.draws of at least inside.beginnings", inside.draws >= inside.beginnings),
            (
                "inside.games * inside.draws that is a multiple of 32",
                inside.games * inside.draws % 32 == 0,
            ),
            (
                "one target, over Z2, and moves of one term",
                len(game.targets) == 1 and game.ring.modulus == 2 and game.symmetry.order == 1,
            ),
            ("modes of at most 31, as vectors are bit masks", game.side <= 31),
            (
                "training.games=0 and mix.best_share=0.0",
                not self.training.games and not self.mix.best_share,
            ),
        ):
            if not good:
                raise ValueError(f"inside.moves: received {inside.moves}; that needs {what}")

    @cached_property
    def playing(self) -> TensorGame:
        """The game that the network plays."""
        return neighbourhoods.small_game(self.game, self.inside) if self.inside.moves else self.game

    @property
    def policy(self):
        policy = NetworkPolicy(game=self.playing, config=self.network)
        return (
            UniformPolicy(game=self.playing, token_entries=self.network.token_entries)
            if (self.uniform)
            else policy
        )

    @property
    def max_steps(self) -> int:
        return self.game.max_moves

    def init_memory(self, devices: int) -> Memory:
        rank, side, count = self.game.max_moves, self.game.side, len(self.game.targets)
        finished = Finished(
            factors=jax.ShapeDtypeStruct((rank, 3, side), jnp.int8),
            rank=jax.ShapeDtypeStruct((), jnp.int32),
            dims=jax.ShapeDtypeStruct((3,), jnp.int8),
            target=jax.ShapeDtypeStruct((), jnp.int32),
            basis=jax.eval_shape(lambda: bases.identity(self.game.side)),
        )
        return Memory(
            rank=jnp.full((count,), rank + 1, jnp.int32),
            factors=jnp.zeros((count, rank, 3, side), jnp.int32),
            # One generation after another.
            finished=replay.empty(
                finished,
                self.inside.games * devices if self.inside.moves else self.mix.pool,
                devices,
            ),
            limit=jnp.array(self._naive, jnp.int32),
            tally=jnp.zeros((count, rank + 2), jnp.int32),
            waited=jnp.int32(0),
            networks=jnp.int32(1),
        )

    @property
    def _naive(self) -> list[int]:
        return [target.naive_rank(self.game.ring.modulus) for target in self.game.targets]

    @property
    def given(self) -> np.ndarray:
        """Terms of each target that every scheme of it begins with; ranks and limits in the memory are without them."""
        return np.array([len(target.cubes) for target in self.game.targets], np.int32)

    def memory_spec(self):
        whole = P()
        return Memory(whole, whole, P(AXIS), whole, whole, whole, whole)

    def renew(self, memory: Memory) -> tuple[Bool[Array, ""], Memory] | None:
        """Whether the network is given up, and the memory that the next one begins with."""
        if not self.mix.patience:
            return None
        pool = memory.finished
        return memory.waited >= self.mix.patience, memory._replace(
            finished=pool._replace(
                next=jnp.zeros_like(pool.next), filled=jnp.zeros_like(pool.filled)
            ),
            limit=jnp.array(self._naive, jnp.int32),
            waited=jnp.int32(0),
            networks=memory.networks + 1,
        )

    def item(self) -> Item:
        state = jax.eval_shape(self.playing.init, jax.random.key(0))
        k = self.search.candidates
        return Item(
            observation=jax.eval_shape(self.playing.observe, state),
            actions=jax.ShapeDtypeStruct((k, 3, self.playing.side), jnp.int8),
            weights=jax.ShapeDtypeStruct((k,), jnp.float32),
            value=jax.ShapeDtypeStruct((), jnp.float32),
        )

    def limits(self, memory: Memory) -> Int[Array, " targets"]:
        """Moves allowed on each target: naive rank, or fewer, down to one less than the best so far."""
        naive = np.array(self._naive, np.int32)
        return jnp.maximum(
            memory.limit if self.mix.mastery else jnp.minimum(naive, memory.rank - 1), 1
        )

    def start(self, key: jax.Array, memory: Memory, count: int) -> tuple[State, Start]:
        """Games on targets drawn uniformly, each in a basis of its own (or the canonical one); some of them inside
        finished ones."""
        limits = self.limits(memory)
        nothing = jnp.zeros((self.game.max_moves, 3, self.game.side), jnp.int8)

        def one(key):
            target_key, canonical_key, basis_key = jax.random.split(key, 3)
            target = jax.random.randint(target_key, (), 0, len(self.game.targets))
            state = self.game.start(target, limits[target])
            basis = bases.identity(self.game.side)
            if self.mix.canonical_share < 1:
                plain = jax.random.bernoulli(canonical_key, self.mix.canonical_share)
                state, basis = self._in_basis(
                    basis_key, state, jnp.where(plain, 0.0, self.mix.basis_density)
                )
            return state, Start(target, basis, nothing, state.moves)

        fresh = jax.vmap(one)(jax.random.split(key, count))
        inside = self._inside(count)
        if not inside:
            return fresh
        draw_key, key = jax.random.split(jax.random.fold_in(key, count))
        kept = archive.draw(draw_key, memory.finished, memory.rank, inside)
        begun = archive.begin(key, kept, self.game, limits)
        there = jnp.any(memory.finished.filled > 0)

        def first(new, old):
            return jnp.concatenate([jnp.where(there, new, old[:inside]), old[inside:]])

        return jax.tree.map(first, begun, fresh)

    def groups(self, count: int) -> tuple[int, ...]:
        """Games that begin inside finished ones, then the others.

        The value of what is almost finished is known, of a beginning it is a guess that most games fall short
        of: were they rivals, no game would go on that began anew."""
        inside = self._inside(count)
        return tuple(size for size in (inside, count - inside) if size)

    def _inside(self, count: int) -> int:
        return round(count * self.mix.archive_share)

    def _in_basis(self, key, state: State, density) -> tuple[State, Basis]:
        """A first state in a random basis of at most that density; 0: in the canonical one."""
        plain = bases.identity(self.game.side)
        basis = self._random_basis(key, state.dims, density)
        tensor = bases.change_tensor(state.residual, basis.matrices, self.game.ring)
        # An entry too large for the residual's dtype: play this one in the canonical basis.
        fits = jnp.all(jnp.abs(tensor) <= self.game.largest_start) & (density > 0)
        basis = jax.tree.map(lambda a, b: jnp.where(fits, a, b), basis, plain)
        tensor = jnp.where(fits, tensor, state.residual).astype(self.game.dtype)
        return state._replace(residual=tensor), basis

    def _random_basis(self, key, dims, most) -> Basis:
        mix, game = self.mix, self.game
        equal = all(len(set(target.shape)) == 1 for target in game.targets)
        shared = mix.shared_basis and equal
        density_key, key = jax.random.split(key)
        density = jax.random.uniform(density_key, maxval=most)
        # What only cycles modes is kept by any basis that is the same in all three: these are more.
        if game.symmetries not in ((), ("cyclic",)):
            return bases.symmetric_basis(key, game.ring, dims, density, game.symmetry)
        return bases.random_basis(key, game.ring, game.side, dims, density, shared or game.cyclic)

    def explore(self, params, key: jax.Array, memory: Memory):
        """A beam for fewer terms than the best known, or inside finished games for as many in another way; what it
        finds is remembered as played games are."""
        if not self.beam.width:
            return memory, None, {}
        if self.inside.moves:
            return self._explore_inside(params, key, memory)
        basis_key, key = jax.random.split(key)
        limit = jnp.minimum(self.limits(memory)[0], jnp.maximum(memory.rank[0] - 1, 1))
        state, basis = self._in_basis(
            basis_key, self.game.start(jnp.int32(0), limit), self.beam.basis_density
        )

        def basis_of_games(key):
            return self._random_basis(key, state.dims, self.mix.basis_density)

        seen = jax.tree.map(lambda x: x[None], self.game.observe(state))
        ended, sampled = beam.search(
            params, key, seen, jnp.ones(1, bool), self.game, self.policy, self.beam, basis_of_games
        )
        rank = self.game.max_moves
        moves = jnp.zeros(
            (self.beam.width, max(rank, self.beam.moves), 3, self.game.side), jnp.int8
        )
        moves = moves.at[:, : self.beam.moves].set(ended.moves)[:, :rank]
        memory, found = self._remember(memory, moves, limit - ended.left, ended.left >= 0, basis)
        return memory, None, {"beam_solved": found, "beam_moves": sampled}

    def _explore_inside(self, params, key: jax.Array, memory: Memory):
        choose_key, begin_key, settle_key, key = jax.random.split(key, 4)
        kept = neighbourhoods.choose(choose_key, memory.finished, self.game, self.inside)
        begun = neighbourhoods.begin(
            params,
            begin_key,
            kept,
            self.game,
            self.playing,
            self.policy,
            self.inside,
            math.gcd(self.inside.games * self.inside.draws, self.beam.block_size()),
        )
        ended, sampled = beam.search(
            params,
            key,
            begun.seen,
            jnp.isfinite(begun.score),
            self.playing,
            self.policy,
            self.beam,
            lambda _: bases.identity(self.playing.side),
        )
        moves = neighbourhoods.settled(settle_key, kept, begun, ended)
        factors = neighbourhoods.played(kept, begun, moves)
        rank = jnp.sum(jnp.any(factors, axis=(-2, -1)), axis=1)
        there = jnp.ones(rank.shape, bool)
        # Also games that stayed as they were: the new generation takes all places of the old one.
        memory, found = self._remember(
            memory, factors, rank, there, bases.identity(self.game.side), again=True
        )
        item = neighbourhoods.lesson(begun, moves, self.search.candidates)
        return memory, item, {"beam_solved": found, "beam_moves": sampled}

    def _remember(self, memory: Memory, factors, rank, there, basis: Basis, again: bool = False):
        """The memory with a beam's games that are there and new, or also those that it has; and how many it had not
        (which may be the last generation's only)."""
        dims, target = np.array(self.game.targets[0].shape, np.int8), np.int32(0)
        found = Finished(
            factors,
            jnp.where(there, rank, self.game.max_moves + 1).astype(jnp.int32),
            *jax.tree.map(
                lambda x: jnp.broadcast_to(x, (factors.shape[0], *x.shape)), (dims, target, basis)
            ),
        )
        new = there & archive.new(found, memory.finished, self.game)
        after = self._record(memory, found)
        lower = jnp.any(after.rank < memory.rank)
        memory = after._replace(
            finished=replay.write(memory.finished, found, there if again else new),
            waited=jnp.where(lower, 0, memory.waited),
        )
        return memory, jnp.sum(new, dtype=jnp.int32)

    def _record(self, memory: Memory, found: Finished) -> Memory:
        """The best of each target, in the canonical basis."""
        # A changed basis cannot make a wrong zero: it is undone on factors, and the host verifies.
        for index in range(len(self.game.targets)):
            ranks = jnp.where(found.target == index, found.rank, self.game.max_moves + 1)
            best = jnp.argmin(ranks)
            back = bases.change_factors(
                found.factors[best], found.basis.inverses[best], self.game.ring
            )
            better = ranks[best] < memory.rank[index]
            memory = memory._replace(
                rank=memory.rank.at[index].min(ranks[best]),
                factors=memory.factors.at[index].set(
                    jnp.where(better, back, memory.factors[index])
                ),
            )
        return memory

    def finish(self, memory: Memory, states: State, context: Start, played: games.Trajectories):
        """Finished games into the memory, all positions into the replay with their observed return."""
        target, basis, prefix, begun = jax.tree.map(lambda x: x[played.origin], context)
        # The last orbit may take more terms than were left.
        solved = ~jnp.any(states.residual, axis=(1, 2, 3)) & (states.moves <= states.limit)
        rank = jnp.where(solved, states.moves, self.game.max_moves + 1).astype(jnp.int32)
        before = memory.rank
        moves = jnp.where(played.mask[..., None, None], played.steps.action.factors, 0)
        factors = (
            archive.join(prefix, moves.astype(jnp.int8)) if self.mix.archive_share else moves
        )  # [B, R, 3, S]
        kept = Finished(factors.astype(jnp.int8), rank, states.dims, target, basis)
        memory = self._record(memory, kept)
        lower = jnp.any(memory.rank < before)
        # Games inside those that kept the limit need only repeat them.
        tally = jnp.zeros_like(memory.tally).at[target, rank].add((begun == 0).astype(jnp.int32))
        memory = memory._replace(waited=jnp.where(lower, 0, memory.waited + 1), tally=tally)
        finished = solved
        if self.mix.archive_share:
            factors, rank, finished = archive.completed(factors, rank, states, self.game)
            kept = kept._replace(factors=factors.astype(jnp.int8), rank=rank)
        memory = memory._replace(finished=replay.write(memory.finished, kept, finished))
        steps, value = played.steps, games.returns(played.rewards)
        items = Item(steps.observation, steps.search.actions.factors, steps.search.weights, value)
        flat = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), items)
        sums = {
            "solved": jnp.sum(solved, dtype=jnp.int32),
            "return": jnp.sum(value[:, 0] - begun),
            "root_value_error": jnp.sum(
                jnp.where(played.mask, jnp.abs(steps.search.value - value), 0.0)
            ),
        }
        return memory, flat, played.mask.reshape(-1), sums

    def agree(self, memory: Memory):
        """Every device takes the best decomposition that any of them has."""
        ranks = jax.lax.all_gather(memory.rank, AXIS)  # [devices, targets]
        winner = jnp.argmin(ranks, axis=0)
        mine = (jax.lax.axis_index(AXIS) == winner)[:, None, None, None]
        factors = jax.lax.psum(jnp.where(mine, memory.factors, 0), AXIS)
        waited = jax.lax.pmin(memory.waited, AXIS)
        memory = memory._replace(rank=jnp.min(ranks, axis=0), factors=factors, waited=waited)
        memory = self._lower_limits(memory._replace(tally=jax.lax.psum(memory.tally, AXIS)))
        given = self.given
        return memory, {
            "best_rank": memory.rank + given,
            "limit": self.limits(memory) + given,
            "networks": memory.networks,
        }

    def _lower_limits(self, memory: Memory) -> Memory:
        """To one less than the rank that enough of an iteration's games reached."""
        reached = jnp.cumsum(memory.tally, axis=1)
        played = reached[:, -1:]
        enough = (reached >= self.mix.mastery * played) & (played > 0) & (self.mix.mastery > 0)
        rank = jnp.argmax(enough, axis=1)
        limit = jnp.where(enough[:, -1], jnp.minimum(memory.limit, rank - 1), memory.limit)
        return memory._replace(
            limit=limit,
            tally=jnp.zeros_like(memory.tally),
            waited=jnp.where(jnp.any(limit < memory.limit), 0, memory.waited),
        )

    def make_batch(self, key, memory: Memory, buffer: replay.Replay, step, count: int) -> Batch:
        """Demonstrations, the best finished games, and played positions, in fixed shares (`mix`)."""
        limits = jnp.array([self.playing.max_moves]) if self.inside.moves else self.limits(memory)
        return batches.make_batch(
            key,
            memory.finished,
            memory.rank,
            limits,
            buffer,
            count,
            game=self.playing,
            config=self.mix,
        )
