"""Beam search over residual tensors, with a policy for proposals and a value for ranking.

A beam keeps the `width` best distinct residuals after each move.  From all of them it samples
`samples` moves, merges equal successors, and ranks the successors by

    score = value + log_prob_weight * log-probability.

The value is the number of terms that a game through the residual is expected to leave unused.  The
log-probability is that of reaching the residual by the policy, summed over all known paths; it
ranks down residuals that no game reaches, for which the value head has learned nothing.

Beyond the papers, in which games are independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import resampling
from alphajax.alphatensor.beam.config import MOVES_PER_VISIT, BeamConfig
from alphajax.alphatensor.beam.equivalence_hash import hash_classes
from alphajax.alphatensor.beam.mutations import Candidates, mutate_factors
from alphajax.alphatensor.beam.selection import normalise_per_group, top_k_per_group
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.moves import Move, one_term
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.blocks import map_blocks
from alphajax.hashing import hash_rows, keep_best_per_key, salt, top_k_unique

MUTATION_TEMPERATURE = 0.25
"""As `BeamConfig.sampling_temperature`, for the choice of the moves that are mutated, in terms.  It
must not be below the error of the values."""
REVALUED_WIDTHS = 8
"""Number of residuals whose value is averaged over bases, in multiples of the beam's width."""


@runtime_checkable
class BeamPolicy(Protocol):
    """The part of a policy that a beam search uses; batched."""

    def sample_moves(
        self, params: Any, key: jax.Array, observation: Observation, k: int, temperature: float, /
    ) -> tuple[Move, Float[Array, "B K"]]:
        """K moves sampled at a temperature, and their log-probabilities at temperature 1."""
        ...

    def values(self, params: Any, observation: Observation, /) -> Float[Array, " B"]:
        """The expected return of each observation: minus the terms that it still needs."""
        ...


class Beam(NamedTuple):
    """The distinct residuals kept after some number of moves, the best first."""

    observation: Observation
    score: Float[Array, " B"]
    log_prob: Float[Array, " B"]
    """Of reaching the residual by the policy, over all known paths."""
    hashes: Int[Array, "B 2"]
    """Of the residuals, salted by root."""
    moves: Int[Array, "B M 3 S"]
    """Moves of one path to the residual; null moves after its end."""
    valid: Bool[Array, " B"]
    """Whether the entry is in use; otherwise its other fields mean nothing."""
    root: Int[Array, " B"]
    """Index of the subproblem that the entry comes from."""


class FinishedGames(NamedTuple):
    """Games that reached the zero tensor."""

    moves: Int[Array, "N M 3 S"]
    """Null moves after the end."""
    remaining: Int[Array, " N"]
    """Terms of the limit that are left at the end; -1: this entry is unused."""
    root: Int[Array, " N"]
    """Index of the subproblem that the game solves."""


class BeamResult(NamedTuple):
    """The games that a beam search finished, and the number of moves that it sampled."""

    games: FinishedGames
    num_sampled: Int[Array, ""]


class _Ranking(NamedTuple):
    """Candidates with distinct residuals, their scores, and their classes' hashes (or None)."""

    candidates: Candidates
    score: Array
    classes: Array | None


@dataclass(frozen=True)
class _Setting:
    """What stays the same during a search."""

    params: Any
    game: TensorGame
    policy: BeamPolicy
    config: BeamConfig
    random_basis: Callable[[jax.Array], Basis]
    quota: Array
    """Beam entries of each subproblem."""


def search(
    params: Any,
    key: jax.Array,
    observation: Observation,
    valid: Bool[Array, " N"],
    game: TensorGame,
    policy: BeamPolicy,
    config: BeamConfig,
    random_basis: Callable[[jax.Array], Basis],
) -> BeamResult:
    """Searches for decompositions of one or several residuals at once.

    Every valid residual (a subproblem) has an equal share of the samples and of the width, because
    a value that overestimates a subproblem also overestimates its successors.  Which samples are
    valued is decided for all subproblems together: the most probable ones.

    Args:
      params: of the policy.
      key: consumed.
      observation: N subproblems, at most `config.width`.  `remaining` is the limit of terms.
      valid: whether each subproblem is to be searched, `[N]`.
      game: the rules; the modes of its first target are those of the residuals.
      policy: proposes moves and values residuals.
      config: with a width above 0.
      random_basis: from a key to a random basis, for basis averaging.

    Returns:
      Finished games within their limits, those of the fewest terms first: at most
      `width / valid subproblems` of each subproblem.  Of several orders of one decomposition, one
      is returned.
    """
    quota = config.width // jnp.maximum(jnp.sum(valid), 1)
    setting = _Setting(params, game, policy, config, random_basis, quota)
    beam = _initial_beam(observation, valid, config)
    games = FinishedGames(beam.moves, jnp.full(config.width, -1, jnp.int32), beam.root)
    # Residuals of earlier depths must not be reached again by more moves.
    visited = jnp.zeros((config.moves, config.width, 2), jnp.int32).at[:].set(beam.hashes[0])

    def is_running(carry):
        depth, beam, *_ = carry
        return (depth < config.moves) & jnp.any(beam.valid)

    def step(carry):
        depth, beam, games, visited = carry
        visited = visited.at[depth].set(jnp.where(beam.valid[:, None], beam.hashes, visited[depth]))
        beam, new = _advance(setting, jax.random.fold_in(key, depth), depth, beam, visited)
        return depth + 1, beam, _best_games(games, new, quota), visited

    carry = (jnp.int32(0), beam, games, visited)
    depth, _, games, _ = jax.lax.while_loop(is_running, step, carry)
    return BeamResult(games, depth * (config.samples + config.mutations))


def _initial_beam(observation: Observation, valid: Array, config: BeamConfig) -> Beam:
    """The beam before the first move: the subproblems, then unused entries."""
    count, width = valid.shape[0], config.width
    root = jnp.asarray(np.minimum(np.arange(width), count - 1), jnp.int32)
    valid = jnp.asarray(np.arange(width) < count) & valid[root]
    observation = jax.tree.map(lambda x: x[root], observation)
    side = observation.residual.shape[-1]
    return Beam(
        observation=observation,
        score=jnp.where(valid, 0.0, -jnp.inf),
        log_prob=jnp.zeros(width),
        hashes=salt(hash_rows(observation.residual, 1), root),
        moves=jnp.zeros((width, config.moves, 3, side), jnp.int8),
        valid=valid,
        root=root,
    )


def _advance(
    setting: _Setting, key: jax.Array, depth: Array, beam: Beam, visited: Array
) -> tuple[Beam, FinishedGames]:
    """Plays one more move: the next beam, and the games that end with this move or the next."""
    visit_key, sample_key, mutation_key, basis_key = jax.random.split(key, 4)
    config, quota = setting.config, setting.quota
    weights = jnp.where(beam.valid, beam.score / config.sampling_temperature, -jnp.inf)
    weights = normalise_per_group(weights, beam.root)
    visits = resampling.systematic(visit_key, weights, config.num_visits)
    sampled = _sample(setting, sample_key, beam, visits)
    games = _finished_games(setting, depth, beam, sampled)
    ranking = _rank(setting, beam, sampled, visited, config.num_valued)
    if config.mutations:
        mutated = _mutate(setting, mutation_key, beam, ranking)
        games = _best_games(games, _finished_games(setting, depth, beam, mutated), quota)
        ranking = _add_mutations(setting, beam, ranking, mutated, visited)
    candidates, score, classes = ranking
    if classes is not None:
        score = keep_best_per_key(classes, score)
    if config.basis_samples:
        score = _average_over_bases(setting, basis_key, beam, candidates, score)
    beam = _next_beam(setting, depth, beam, candidates, score)
    return beam, _best_games(games, _finish_with_one_term(setting, depth, beam), quota)


def _next_beam(
    setting: _Setting, depth: Array, beam: Beam, candidates: Candidates, score: Array
) -> Beam:
    """The best candidates of each subproblem as a beam."""
    score = top_k_per_group(score, beam.root[candidates.parent], setting.quota)
    score, best = jax.lax.top_k(score, setting.config.width)
    candidates = jax.tree.map(lambda x: x[best], candidates)
    return Beam(
        observation=_observe_after(setting, beam, candidates.parent, candidates.factors),
        score=score,
        log_prob=candidates.log_prob,
        hashes=candidates.hashes,
        moves=_moves_after(depth, beam, candidates),
        valid=jnp.isfinite(score),
        root=beam.root[candidates.parent],
    )


def _observe_after(setting: _Setting, beam: Beam, parent: Array, factors: Array) -> Observation:
    """Observations after moves from beam entries."""
    observation = jax.tree.map(lambda x: x[parent], beam.observation)
    return jax.vmap(setting.game.peek)(observation, Move(factors))[1]


def _moves_after(depth: Array, beam: Beam, candidates: Candidates) -> Array:
    """All moves of the paths to the candidates."""
    moves = beam.moves[candidates.parent]
    return moves.at[:, depth].set(candidates.factors.astype(jnp.int8))


def _sample(setting: _Setting, key: jax.Array, beam: Beam, visits: Array) -> Candidates:
    """Moves sampled by the policy, `MOVES_PER_VISIT` for each visit of a beam entry."""
    game, config, count = setting.game, setting.config, MOVES_PER_VISIT

    def sample(block):
        entry, key = block
        observation = jax.tree.map(lambda x: x[entry], beam.observation)
        moves, log_probs = setting.policy.sample_moves(
            setting.params, key, observation, count, config.policy_temperature
        )
        factors = game.symmetry_group.canonical_representative(moves.factors, game.ring)
        _, after = jax.vmap(jax.vmap(game.peek, in_axes=(None, 0)))(observation, Move(factors))
        factors, after = jax.tree.map(
            lambda x: x.reshape(x.shape[0] * count, *x.shape[2:]), (factors, after)
        )
        log_probs = (log_probs + beam.log_prob[entry][:, None]).reshape(-1)
        return Candidates(jnp.repeat(entry, count), factors, log_probs, *_summary(after))

    blocks = visits.reshape(-1, config.block_size())
    candidates = jax.lax.map(sample, (blocks, jax.random.split(key, blocks.shape[0])))
    candidates = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), candidates)
    return candidates._replace(hashes=salt(candidates.hashes, beam.root[candidates.parent]))


def _summary(after: Observation) -> tuple[Array, Array, Array]:
    """The remaining terms and hashes of residuals, and whether they are zero."""
    is_zero = ~jnp.any(after.residual, axis=(-3, -2, -1))
    return after.remaining, hash_rows(after.residual, 1), is_zero


def _rank(
    setting: _Setting, beam: Beam, candidates: Candidates, excluded: Array, count: int
) -> _Ranking:
    """Scores of the `count` most probable candidates with distinct, not excluded residuals."""
    config = setting.config
    is_playable = ~candidates.is_zero & (candidates.remaining > 0)
    log_prob = jnp.where(is_playable, candidates.log_prob, -jnp.inf)
    index, log_prob = top_k_unique(
        candidates.hashes, candidates.remaining, candidates.parent, log_prob, excluded, count
    )
    candidates = jax.tree.map(lambda x: x[index], candidates)._replace(log_prob=log_prob)

    def value(parent, factors):
        after = _observe_after(setting, beam, parent, factors)
        shape = setting.game.targets[0].shape
        classes = hash_classes(after.residual, shape) if config.equivalence_classes else None
        return setting.policy.values(setting.params, after) + after.remaining, classes

    score, classes = map_blocks(value, config.block_size(), candidates.parent, candidates.factors)
    score = jnp.where(jnp.isfinite(log_prob), score + config.log_prob_weight * log_prob, -jnp.inf)
    return _Ranking(candidates, score, classes)


def _mutate(setting: _Setting, key: jax.Array, beam: Beam, ranking: _Ranking) -> Candidates:
    """Mutations of the best ranked moves, with an equal share for each subproblem."""
    candidates = ranking.candidates
    weights = ranking.score / MUTATION_TEMPERATURE
    weights = normalise_per_group(weights, beam.root[candidates.parent])
    dims = beam.observation.dims[candidates.parent]
    mutated = mutate_factors(key, candidates, weights, dims, setting.game, setting.config.mutations)

    def summary(parent, factors):
        return _summary(_observe_after(setting, beam, parent, factors))

    remaining, hashes, is_zero = map_blocks(
        summary, setting.config.block_size(), mutated.parent, mutated.factors
    )
    hashes = salt(hashes, beam.root[mutated.parent])
    return mutated._replace(remaining=remaining, hashes=hashes, is_zero=is_zero)


def _add_mutations(
    setting: _Setting, beam: Beam, ranking: _Ranking, mutated: Candidates, visited: Array
) -> _Ranking:
    """The ranking of sampled moves, followed by that of mutations that lead to other residuals."""
    excluded = jnp.concatenate([visited.reshape(-1, 2), ranking.candidates.hashes])[None]
    other = _rank(setting, beam, mutated, excluded, setting.config.mutations)
    return jax.tree.map(lambda *x: jnp.concatenate(x), ranking, other)


def _average_over_bases(
    setting: _Setting, key: jax.Array, beam: Beam, candidates: Candidates, score: Array
) -> Array:
    """Scores of the best candidates of each subproblem by values averaged over random bases.

    All other scores become minus infinity.
    """
    game, config, size = setting.game, setting.config, setting.config.block_size()
    quota = REVALUED_WIDTHS * setting.quota
    score = top_k_per_group(score, beam.root[candidates.parent], quota)
    whole_blocks = -(-REVALUED_WIDTHS * config.width // size) * size
    old_score, best = jax.lax.top_k(score, min(whole_blocks, config.num_valued))
    keys = jax.random.split(key, config.basis_samples)
    matrices = jnp.stack([setting.random_basis(k).matrices for k in keys])
    largest = np.iinfo(game.dtype).max

    def value(parent, factors):
        after = _observe_after(setting, beam, parent, factors)

        def value_in_basis(matrices):
            change = jax.vmap(bases.change_tensor, in_axes=(0, None, None))
            changed = change(after.residual, matrices, game.ring)
            # Over Z, an entry may become too large for the dtype: that residual stays as it is.
            fits = jnp.all(jnp.abs(changed) <= largest, axis=(1, 2, 3), keepdims=True)
            changed = jnp.where(fits, changed, after.residual).astype(game.dtype)
            return setting.policy.values(setting.params, after._replace(residual=changed))

        return jnp.mean(jax.lax.map(value_in_basis, matrices), axis=0) + after.remaining

    new_score = map_blocks(value, size, candidates.parent[best], candidates.factors[best])
    new_score = jnp.where(
        jnp.isfinite(old_score),
        new_score + config.log_prob_weight * candidates.log_prob[best],
        -jnp.inf,
    )
    return jnp.full_like(score, -jnp.inf).at[best].set(new_score)


def _finished_games(
    setting: _Setting, depth: Array, beam: Beam, candidates: Candidates
) -> FinishedGames:
    """The games that end with a candidate: at most `width`, those of the fewest terms first."""
    remaining = jnp.where(candidates.is_zero, candidates.remaining.astype(jnp.int32), -1)
    remaining, index = jax.lax.top_k(remaining, setting.config.width)
    candidates = jax.tree.map(lambda x: x[index], candidates)
    moves = _moves_after(depth, beam, candidates)
    return FinishedGames(moves, remaining, beam.root[candidates.parent])


def _finish_with_one_term(setting: _Setting, depth: Array, beam: Beam) -> FinishedGames:
    """The games that end with one more term: it is computed, not sampled.

    `depth` counts the moves before the last move of the beam.
    """
    game, last = setting.game, setting.config.moves - 1
    terms, is_one_term = jax.vmap(one_term, in_axes=(0, None))(beam.observation.residual, game.ring)
    is_one_term &= beam.valid & (depth + 1 < setting.config.moves)
    remaining = beam.observation.remaining - game.symmetry_group.orbit_sizes(terms, game.ring)
    moves = beam.moves.at[:, jnp.minimum(depth + 1, last)].set(terms)
    remaining = jnp.where(is_one_term, remaining.astype(jnp.int32), -1)
    return FinishedGames(moves, remaining, beam.root)


def _best_games(one: FinishedGames, other: FinishedGames, quota: Array) -> FinishedGames:
    """The `quota` best games of each subproblem out of both, each decomposition once."""
    games = jax.tree.map(lambda *x: jnp.concatenate(x), one, other)
    # A sum over moves does not depend on their order.
    keys = salt(jnp.sum(hash_rows(games.moves, 2), axis=1), games.root)
    order = jnp.lexsort((*keys.T, -games.remaining))
    games, keys = jax.tree.map(lambda x: x[order], games), keys[order]
    is_duplicate = jnp.concatenate([jnp.zeros(1, bool), jnp.all(keys[1:] == keys[:-1], axis=-1)])
    remaining = jnp.where(is_duplicate, -1, games.remaining)
    # Unused entries must not take the place of a game.
    score = jnp.where(remaining < 0, -jnp.inf, remaining)
    score = top_k_per_group(score, games.root, quota)
    remaining, best = jax.lax.top_k(
        jnp.where(jnp.isfinite(score), score, -1).astype(jnp.int32), one.remaining.shape[0]
    )
    return FinishedGames(games.moves[best], remaining, games.root[best])
