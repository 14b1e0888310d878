"""Large neighbourhood search (Shaw, 1998): re-solve small parts of known decompositions.

A neighbourhood is a set of related terms of a finished game.  They are removed (destroyed), and
their sum is a small residual: a subproblem, in coordinates of the space that the terms span.  The
beam solves it again, in fewer terms or in other ones.  Subproblems are small for every target, so
one network serves all sizes.  One iteration of `neighbourhood_agent.NeighbourhoodAgent`:

    select_games -> make_subproblems -> beam.search -> select_replacements -> apply_replacements

It starts from the naive decomposition, which is prior knowledge.  Beyond the AlphaTensor paper:
Shaw, *Using constraint programming and local search methods to solve vehicle routing problems*, CP
1998.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import replay, resampling
from alphajax.alphatensor.beam.beam import BeamPolicy, FinishedGames
from alphajax.alphatensor.beam.spans import coordinates, reduce_by_span, to_bit_masks
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import null_moves_last
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.learning.archive import ArchivedGame
from alphajax.alphatensor.learning.batches import Item
from alphajax.blocks import map_blocks
from alphajax.config import check_counts, check_positive

SELECTION_WEIGHT = 4.0
"""Log-weight per term that the value head expects to save, when subproblems are selected; in
1/terms, 0 or more."""
RELATEDNESS = 4.0
"""Largest log-weight of a term, when a neighbourhood is drawn, per factor in the span of the terms
drawn before; each neighbourhood draws its own, uniform from [0, this]."""
SHARED_FACTOR_BONUS = 3.0
"""Largest log-weight per pair of equal factors, when one of several replacements of equal rank is
selected; drawn uniformly from [0, this] per subproblem.  0: all are equally likely, and factors
that terms share, without which no game can be improved, get lost."""
BASIS_DENSITY = 0.5
"""Largest off-diagonal density of the random basis of a subproblem."""


@dataclass(frozen=True, kw_only=True)
class NeighbourhoodConfig:
    """Configuration of the large neighbourhood search; the papers have none."""

    max_terms: int = 9
    """Largest number of destroyed terms; at least 2, and fewer than `side ** 3`."""
    side: int = 6
    """S of the subproblems: the largest dimension that destroyed terms span in a mode; at least 1.

    Each neighbourhood draws its own limit, uniform from `side // 2 + 1` to `side`.
    """
    games: int = 32
    """Finished games of a generation, on each device; at least 1.  Memory holds one generation."""
    samples: int = 64
    """Neighbourhoods sampled and valued in each game; at least `subproblems`."""
    subproblems: int = 8
    """Largest number of disjoint neighbourhoods re-solved at once in a game; at least 1."""
    acceptance_temperature: float = 2.0
    """A game that is n terms longer than the best of its generation is selected exp(-n / this)
    times as often; in terms, above 0."""

    def __post_init__(self) -> None:
        check_counts(self, 1, "side", "games", "samples", "subproblems")
        check_counts(self, 2, "max_terms")
        check_positive(self, "acceptance_temperature")
        if self.max_terms >= self.side**3:
            raise ValueError(
                f"max_terms: received {self.max_terms}; expected fewer than side ** 3,"
                f" {self.side**3}"
            )


def subproblem_game(game: TensorGame, config: NeighbourhoodConfig) -> TensorGame:
    """The game in which subproblems of another game are solved.

    Its target is a placeholder of `max_terms + 1` non-zero entries, which sets the largest number
    of moves, and of `side` in each mode.

    Args:
      game: of the whole target.
      config: of the search.

    Returns:
      The game, over the same ring and without history.
    """
    entries = np.zeros(config.side**3, np.int8)
    entries[:: max(len(entries) // (config.max_terms + 1), 1)][: config.max_terms + 1] = 1
    name = f"neighbourhood{config.side}"
    return TensorGame(
        targets=(tensors.from_array(entries.reshape((config.side,) * 3), name),),
        ring=game.ring,
        history=0,
        side=config.side,
    )


class Subproblems(NamedTuple):
    """Residuals to solve: `subproblems` of each of `games` games, one game's after another's."""

    observation: Observation
    """In coordinates of `vectors`; `remaining` is the number of destroyed terms."""
    score: Float[Array, " B"]
    """Terms that the value head expects to save; minus infinity: this entry is unused."""
    vectors: Int[Array, "B 3 s S"]
    """Of each mode, the vectors that the coordinates stand for."""
    terms: Int[Array, "B M 3 s"]
    """The destroyed terms in these coordinates, null ones last."""
    is_destroyed: Bool[Array, "B R"]
    """Which terms of the game these are."""

    @property
    def valid(self) -> Bool[Array, " B"]:
        """Whether each entry is in use."""
        return jnp.isfinite(self.score)


def select_games(
    key: jax.Array, pool: replay.Replay, game: TensorGame, config: NeighbourhoodConfig
) -> ArchivedGame:
    """Selects `config.games` finished games, short ones more often; the naive game if there is
    none.

    Systematic resampling selects no game more often than its share, rounded up, so that as many
    different games as possible continue.

    Args:
      key: consumed.
      pool: of `ArchivedGame`, in the canonical basis.
      game: of the whole target.
      config: of the search.

    Returns:
      The games, `[games, ...]`.
    """
    valid = np.arange(pool.items.rank.shape[0]) < pool.filled
    excess = pool.items.rank - jnp.min(jnp.where(valid, pool.items.rank, game.max_moves))
    lowest = jnp.finfo(jnp.float32).min
    log_weights = jnp.where(valid, -excess / config.acceptance_temperature, lowest)
    index = resampling.systematic(key, log_weights, config.games)
    naive = naive_game(game, pool.items.factors.shape[1])
    return jax.tree.map(
        lambda x, first: jnp.where(jnp.any(valid), x[index], first), pool.items, naive
    )


def make_subproblems(
    params: Any,
    key: jax.Array,
    games: ArchivedGame,
    game: TensorGame,
    network_game: TensorGame,
    policy: BeamPolicy,
    config: NeighbourhoodConfig,
    block: int,
) -> Subproblems:
    """Samples neighbourhoods of games, values them, and selects disjoint ones.

    A subproblem has at least two destroyed terms, whose sum is not zero; as many terms may be
    played.

    Args:
      params: of the policy.
      key: consumed.
      games: `[config.games, ...]`, in the canonical basis.
      game: of the whole target.
      network_game: of the subproblems, as made by `subproblem_game`.
      policy: values residuals of `network_game`.
      config: of the search.
      block: neighbourhoods that are valued at a time.

    Returns:
      `config.games * config.subproblems` subproblems.
    """
    noise_key, key = jax.random.split(key)

    def one(key, index):
        return _sample_subproblem(key, games.factors[index], game, network_game, config)

    def value(keys, indices):
        sampled = jax.vmap(one)(keys, indices)
        remaining = sampled.observation.remaining
        score = policy.values(params, sampled.observation) + remaining
        return sampled._replace(score=jnp.where(remaining > 0, score, -jnp.inf))

    count, samples = config.games, config.samples
    keys = jax.random.split(key, count * samples)
    sampled = map_blocks(value, block, keys, jnp.repeat(jnp.arange(count), samples))
    noise = jax.random.gumbel(noise_key, sampled.score.shape)
    log_weights = SELECTION_WEIGHT * sampled.score + noise
    log_weights, destroyed = (
        x.reshape(count, samples, *x.shape[1:]) for x in (log_weights, sampled.is_destroyed)
    )
    index, valid = jax.vmap(lambda x, y: select_disjoint(x, y, config.subproblems))(
        log_weights, destroyed
    )
    index = (index + samples * np.arange(count)[:, None]).reshape(-1)
    selected = jax.tree.map(lambda x: x[index], sampled)
    return selected._replace(score=jnp.where(valid.reshape(-1), selected.score, -jnp.inf))


def _sample_subproblem(
    key: jax.Array,
    factors: Array,
    game: TensorGame,
    network_game: TensorGame,
    config: NeighbourhoodConfig,
) -> Subproblems:
    """One subproblem of a game, in a random basis of the span of its terms, not yet valued."""
    sample_key, basis_key, density_key = jax.random.split(key, 3)
    destroyed, vectors, dims = neighbourhood(sample_key, factors, config)
    density = jax.random.uniform(density_key, maxval=BASIS_DENSITY)
    basis = bases.random_basis(basis_key, game.ring, config.side, dims, density)
    first = jnp.argsort(~destroyed, stable=True)[: config.max_terms]
    terms = coordinates(vectors, factors[first])
    terms = bases.change_factors(terms, basis.matrices, game.ring)
    terms = jnp.where(destroyed[first][:, None, None], terms, 0).astype(jnp.int8)
    entries = vectors[:, :, None] >> np.arange(game.side)[None, None] & 1
    vectors = game.ring.reduce(jnp.einsum("mij,mis->mjs", basis.inverses, entries))
    residual, count = network_game.total(terms, destroyed[first])
    remaining = jnp.where(jnp.any(residual) & (count > 1), count, 0).astype(jnp.int16)
    past = jnp.zeros((0, 3, config.side), jnp.int8)
    observation = Observation(residual.astype(network_game.dtype), past, dims, remaining)
    return Subproblems(observation, jnp.float32(0), vectors.astype(jnp.int8), terms, destroyed)


def select_disjoint(
    log_weights: Float[Array, " D"], members: Bool[Array, "D R"], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Selects disjoint sets greedily by weight.

    Args:
      log_weights: of D sets, `[D]`; minus infinity excludes a set.
      members: the elements of each set, `[D, R]`.
      count: largest number of sets.

    Returns:
      Indices of sets, `[count]`, and whether each is selected, `[count]`.
    """

    def step(used, index):
        is_free = jnp.isfinite(log_weights[index]) & ~jnp.any(used & members[index])
        return used | (is_free & members[index]), is_free

    order = jnp.argsort(-log_weights)
    _, is_free = jax.lax.scan(step, jnp.zeros_like(members[0]), order)
    first = jnp.argsort(~is_free, stable=True)[:count]
    return order[first], is_free[first]


def neighbourhood(
    key: jax.Array, factors: Int[Array, "R 3 S"], config: NeighbourhoodConfig
) -> tuple[Bool[Array, " R"], Int[Array, "3 s"], Int[Array, "3"]]:
    """Samples related terms of a game over Z_2, which are to be destroyed.

    Terms are drawn one by one, in proportion to exp(b n), where n is the number of a term's factors
    that the terms before it span, and b is drawn uniformly from [0, RELATEDNESS].  A term is
    possible while no mode's span exceeds the neighbourhood's limit.

    Args:
      key: consumed.
      factors: terms of the game, null ones anywhere.
      config: of the search.

    Returns:
      Which terms are drawn, `[R]`; vectors that span their factors, as bit masks `[3, side]`, 0
      beyond the dimension; and the dimension in each mode, `[3]` int8.
    """
    weight_key, limit_key, key = jax.random.split(key, 3)
    limit = jax.random.randint(limit_key, (), config.side // 2 + 1, config.side + 1)
    weight = jax.random.uniform(weight_key, maxval=RELATEDNESS)
    masks, is_used = to_bit_masks(factors), jnp.any(factors, axis=(-2, -1))

    def draw(carry, noise):
        drawn, vectors, dims = carry
        rest, _ = reduce_by_span(vectors, masks)
        is_new = rest != 0
        fits = is_used & ~drawn & jnp.all(dims[None] + is_new <= limit, axis=1)
        log_weights = weight * jnp.sum(~is_new, axis=1) + noise
        index = jnp.argmax(jnp.where(fits, log_weights, -jnp.inf))
        grows = fits[index] & is_new[index]
        here = grows[:, None] & (np.arange(config.side)[None] == dims[:, None])
        drawn = drawn.at[index].set(fits[index] | drawn[index])
        vectors = jnp.where(here, rest[index][:, None], vectors)
        return (drawn, vectors, dims + grows), None

    carry = (
        jnp.zeros_like(is_used),
        jnp.zeros((3, config.side), jnp.int32),
        jnp.zeros(3, jnp.int8),
    )
    noise = jax.random.gumbel(key, (config.max_terms, len(is_used)))
    (drawn, vectors, dims), _ = jax.lax.scan(draw, carry, noise)
    return drawn, vectors, dims


def select_replacements(
    key: jax.Array, games: ArchivedGame, subproblems: Subproblems, finished: FinishedGames
) -> Int[Array, "B N 3 s"]:
    """Selects the replacement of each destroyed set: minimal rank, ties broken by shared factors.

    Candidates are the decompositions that the beam found and the destroyed terms themselves.  Among
    those of minimal rank, one is drawn in proportion to exp(bonus * pairs of equal factors), where
    pairs within the replacement and with the rest of the game count.

    Args:
      key: consumed.
      games: as given to `make_subproblems`.
      subproblems: B of them.
      finished: games of the beam on these subproblems, of N moves.

    Returns:
      Terms in coordinates of the subproblems, null ones where there are fewer.
    """
    count, (bonus_key, key) = subproblems.score.shape[0], jax.random.split(key)
    bonus = jax.random.uniform(bonus_key, (count,), maxval=SHARED_FACTOR_BONUS)
    padding = finished.moves.shape[1] - subproblems.terms.shape[1]
    terms = jnp.pad(subproblems.terms, ((0, 0), (0, padding), (0, 0), (0, 0)))
    remaining = jnp.where(subproblems.valid, 0, -1)
    original = FinishedGames(terms, remaining, jnp.arange(count, dtype=jnp.int32))
    candidates = jax.tree.map(lambda *x: jnp.concatenate(x), finished, original)
    rest = jnp.where(
        subproblems.is_destroyed[..., None, None],
        0,
        jnp.repeat(games.factors, count // games.rank.shape[0], axis=0),
    )
    shared = jax.vmap(count_shared_factors)(
        candidates.moves,
        subproblems.vectors[candidates.root],
        to_bit_masks(rest)[candidates.root],
    )
    is_of = candidates.root[None] == np.arange(count)[:, None]
    most_remaining = jnp.max(jnp.where(is_of, candidates.remaining[None], -1), axis=1)
    is_minimal = candidates.remaining == most_remaining[candidates.root]
    log_weights = bonus[candidates.root] * shared + jax.random.gumbel(key, shared.shape)
    log_weights = jnp.where(is_minimal, log_weights, -jnp.inf)
    return candidates.moves[jnp.argmax(jnp.where(is_of, log_weights[None], -jnp.inf), axis=1)]


def count_shared_factors(
    moves: Int[Array, "N 3 s"], vectors: Int[Array, "3 s S"], rest: Int[Array, "R 3"]
) -> Int[Array, ""]:
    """The number of pairs of equal factors in a mode, of which at least one is a move's.

    Args:
      moves: in coordinates of `vectors`; null ones do not count.
      vectors: of the subproblem.
      rest: factors of the game's other terms, as bit masks; 0 for null ones.

    Returns:
      The number of pairs.
    """
    masks = to_bit_masks(
        jnp.einsum("nmj,mjs->nms", moves.astype(jnp.int32), vectors.astype(jnp.int32)) % 2
    )
    is_after = np.triu(np.ones((len(masks), len(masks)), bool), 1)[..., None]
    within = (masks[:, None] == masks[None]) & (masks != 0)[None] & is_after
    across = (masks[:, None] == rest[None]) & (rest != 0)[None]
    return jnp.sum(within) + jnp.sum(across)


def apply_replacements(
    games: ArchivedGame, subproblems: Subproblems, moves: Int[Array, "B N 3 s"]
) -> Int[Array, "G R 3 S"]:
    """Games with their destroyed terms replaced, in the coordinates of the target.

    Over Z_2, equal terms cancel in pairs.

    Args:
      games: G of them, as given to `make_subproblems`.
      subproblems: B of them.
      moves: the replacement of each, in its coordinates.

    Returns:
      Terms, null ones last.
    """
    count, valid = games.rank.shape[0], subproblems.valid[:, None]
    destroyed = (subproblems.is_destroyed & valid).reshape(
        count, -1, subproblems.is_destroyed.shape[1]
    )
    destroyed = jnp.any(destroyed, axis=1)
    vectors = subproblems.vectors.astype(jnp.int32)
    moves = jnp.einsum("brmj,bmjs->brms", moves.astype(jnp.int32), vectors) % 2
    moves = jnp.where(valid[..., None, None], moves, 0).astype(jnp.int8)
    rest = jnp.where(destroyed[..., None, None], 0, games.factors)
    terms = jnp.concatenate([rest, moves.reshape(count, -1, *moves.shape[2:])], axis=1)
    masks = to_bit_masks(terms)
    is_equal = jnp.all(masks[:, :, None] == masks[:, None], axis=-1)
    # Of equal terms, the first stays if their number is odd.
    is_first = jnp.argmax(is_equal, axis=2) == np.arange(terms.shape[1])[None]
    stays = is_first & (jnp.sum(is_equal, axis=2) % 2 == 1)
    terms = jnp.where(stays[..., None, None], terms, 0)
    return null_moves_last(terms)[:, : rest.shape[1]]


def replay_items(
    subproblems: Subproblems, moves: Int[Array, "B N 3 s"], labels: int
) -> tuple[Item, Bool[Array, " B"]]:
    """Replay items of the subproblems, with the best rank found as value target.

    Args:
      subproblems: B of them.
      moves: the replacement of each.
      labels: largest number of moves of an item, all equally likely as policy targets.

    Returns:
      The items, and which of them are in use, `[B]`.
    """
    rank = jnp.sum(jnp.any(moves, axis=(-2, -1)), axis=1)
    padding = max(labels - moves.shape[1], 0)
    actions = jnp.pad(moves, ((0, 0), (0, padding), (0, 0), (0, 0)))[:, :labels]
    weights = jnp.any(actions, axis=(-2, -1)).astype(jnp.float32)
    weights /= jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
    item = Item(subproblems.observation, actions, weights, -rank.astype(jnp.float32))
    return item, subproblems.valid


def naive_game(game: TensorGame, rows: int) -> ArchivedGame:
    """The naive decomposition over Z_2 as a finished game: one term per non-zero entry.

    Args:
      game: of which the first target is decomposed.
      rows: number of terms, null ones last; at least the naive rank.

    Returns:
      The game, in the canonical basis.
    """
    target, side = game.targets[0], game.padded_targets.shape[-1]
    entries = np.argwhere(game.ring.reduce(target.array))
    factors = np.zeros((rows, 3, side), np.int8)
    factors[np.arange(len(entries))[:, None], np.arange(3), entries] = 1
    return ArchivedGame(
        jnp.asarray(factors),
        jnp.int32(len(entries)),
        jnp.asarray(np.array(target.shape, np.int8)),
        jnp.int32(0),
        bases.identity(side),
    )
