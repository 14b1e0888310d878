"""Large neighbourhood search: subproblems are parts of the target, replacements keep it exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax import replay
from alphajax.alphatensor.beam import neighbourhoods
from alphajax.alphatensor.beam.beam import search
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.beam.neighbourhoods import NeighbourhoodConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.network.policy import UniformPolicy

GAME = TensorGame(targets=(tensors.parse("2,2,3"),), ring=Ring(2), history=0)
CONFIG = NeighbourhoodConfig(
    max_terms=5, side=4, games=8, samples=16, subproblems=2, acceptance_temperature=1.0
)
BEAM = BeamConfig(width=64, samples=8192, mutations=8192, moves=6, sampling_temperature=0.2)
SMALL_GAME = neighbourhoods.subproblem_game(GAME, CONFIG)
POLICY = UniformPolicy(game=SMALL_GAME, token_entries=4)


def sum_terms(factors):
    """The tensor of moves modulo 2, null ones included, with NumPy alone."""
    return np.einsum("ri,rj,rk->ijk", *np.moveaxis(np.asarray(factors).astype(int), 1, 0)) % 2


def count_terms(factors):
    return int(np.asarray(factors).any(axis=(-2, -1)).sum())


def test_naive_game_has_one_term_per_entry():
    naive = neighbourhoods.naive_game(GAME, 14)
    np.testing.assert_array_equal(sum_terms(naive.factors), GAME.padded_targets[0])
    assert count_terms(naive.factors) == naive.rank == 12


def test_short_games_are_selected_more_often():
    naive = neighbourhoods.naive_game(GAME, 12)
    pool = replay.empty(jax.eval_shape(lambda: naive), 16)
    games = jax.tree.map(lambda x: jnp.repeat(x[None], 8, axis=0), naive)
    games = games._replace(rank=jnp.array([12] * 7 + [11]))

    @jax.jit
    def select(seed, pool):
        return neighbourhoods.select_games(jax.random.key(seed), pool, GAME, CONFIG)

    assert select(0, pool).rank.tolist() == [12] * 8  # the naive game
    pool = replay.write(pool, games, jnp.ones(8, bool))
    equal = pool._replace(items=pool.items._replace(rank=jnp.full(16, 12), target=jnp.arange(16)))
    assert select(0, equal).target.tolist() == list(range(8))
    # The share of the short game is e / (e + 7), of 8 games.
    counts = [select(seed, pool).rank.tolist().count(11) for seed in range(20)]
    assert set(counts) <= {2, 3} and 2.0 < np.mean(counts) < 2.5


def make_generation():
    """Naive games with permuted terms; in every other one a term is split into two."""
    rng, naive = np.random.default_rng(0), neighbourhoods.naive_game(GAME, 14)
    factors = np.stack(
        [np.asarray(naive.factors)[np.append(rng.permutation(12), [12, 13])] for _ in range(8)]
    )
    for terms in factors[1::2]:
        terms[12, 1:] = terms[0, 1:]
        terms[12, 0, :4] = rng.permutation([1, 0, 0, 1])
        terms[0, 0] ^= terms[12, 0]
    assert (factors.any(axis=(-2, -1)).sum(axis=1) == [12, 13] * 4).all()
    games = jax.tree.map(lambda x: jnp.repeat(x[None], 8, axis=0), naive)
    return games._replace(factors=jnp.asarray(factors), rank=jnp.array([12, 13] * 4))


def make_subproblems(key, games):
    return neighbourhoods.make_subproblems({}, key, games, GAME, SMALL_GAME, POLICY, CONFIG, 32)


@jax.jit
def solve(key, observation, valid):
    identity = bases.identity(SMALL_GAME.side)
    result = search({}, key, observation, valid, SMALL_GAME, POLICY, BEAM, lambda _: identity)
    return result.games


@functools.cache
def solved_generation():
    """Games, their subproblems, and what the beam found for these."""
    games = make_generation()
    subproblems = jax.jit(make_subproblems)(jax.random.key(0), games)
    finished = solve(jax.random.key(1), subproblems.observation, subproblems.valid)
    return jax.tree.map(np.asarray, (games, subproblems, finished))


def select_replacements(seed=0):
    games, subproblems, finished = solved_generation()
    # A new function in each call, so that patched constants are traced.
    select = jax.jit(lambda *args: neighbourhoods.select_replacements(*args))
    return select(jax.random.key(seed), games, subproblems, finished)


def test_subproblem_and_remaining_terms_sum_to_the_target():
    games, subproblems, _ = solved_generation()
    valid, observation = np.asarray(subproblems.valid), subproblems.observation
    assert valid.sum() > 8
    for i in np.flatnonzero(valid):
        residual = observation.residual[i].astype(int)
        np.testing.assert_array_equal(sum_terms(subproblems.terms[i]), residual)
        vectors = subproblems.vectors[i].astype(int)
        expanded = np.einsum("ijk,ia,jb,kc->abc", residual, *vectors) % 2
        others = games.factors[i // 2][~subproblems.is_destroyed[i]]
        np.testing.assert_array_equal(sum_terms(others) ^ expanded, GAME.padded_targets[0])
        num_terms = count_terms(subproblems.terms[i])
        assert num_terms == subproblems.is_destroyed[i].sum() == observation.remaining[i]
        assert 2 <= num_terms <= 5
        for mode, length in enumerate(observation.dims[i]):
            assert not subproblems.terms[i, :, mode, length:].any()
            assert not subproblems.vectors[i, mode, length:].any()


def test_subproblems_of_one_game_are_disjoint():
    _, subproblems, _ = solved_generation()
    destroyed = subproblems.is_destroyed & np.asarray(subproblems.valid)[:, None]
    destroyed = destroyed.reshape(8, 2, -1)
    assert (destroyed.sum(axis=1) <= 1).all()
    assert (destroyed.any(axis=2).sum(axis=1) == 2).any()


def test_subproblems_of_higher_value_are_selected_more_often(monkeypatch):
    def mean_score(weight):
        monkeypatch.setattr(neighbourhoods, "SELECTION_WEIGHT", weight)
        make = jax.jit(lambda *args: make_subproblems(*args))  # traced with this weight
        score = [make(jax.random.key(i), make_generation()).score for i in range(5)]
        score = np.concatenate(score)
        return score[np.isfinite(score)].mean()

    assert mean_score(20.0) > mean_score(0.0) + 0.05


def test_equal_subproblems_are_solved_separately():
    _, subproblems, finished = solved_generation()
    index = int(finished.root[finished.remaining >= 0][0])
    copies = jax.tree.map(
        lambda x: jnp.asarray(np.repeat(x[index : index + 1], 16, axis=0)), subproblems.observation
    )
    finished = solve(jax.random.key(2), copies, jnp.arange(16) < 2)
    count = np.bincount(finished.root[finished.remaining >= 0], minlength=16)
    assert (count[:2] > 0).all() and (count <= 32).all() and not count[2:].any()


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 6))
def test_disjoint_sets_are_selected_greedily_by_weight(seed, count):
    rng = np.random.default_rng(seed)
    members, weights = rng.random((6, 8)) < 0.3, rng.permutation(6).astype(np.float32)
    weights[rng.integers(6)] = -np.inf
    index, valid = neighbourhoods.select_disjoint(jnp.asarray(weights), jnp.asarray(members), count)
    expected, used = [], np.zeros(8, bool)
    for one in np.argsort(-weights):
        if np.isfinite(weights[one]) and not (used & members[one]).any():
            expected.append(int(one))
            used |= members[one]
    expected = expected[:count]
    assert np.asarray(index)[: len(expected)].tolist() == expected
    assert valid.tolist() == [True] * len(expected) + [False] * (count - len(expected))


def sample_neighbourhoods(config, count=200):
    game = TensorGame(targets=(tensors.parse("3,3,3"),), ring=Ring(2), history=0)
    factors = neighbourhoods.naive_game(game, 30).factors
    sample = jax.jit(jax.vmap(lambda key: neighbourhoods.neighbourhood(key, factors, config)))
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(factors), *jax.tree.map(np.asarray, sample(keys))


def test_destroyed_terms_share_factors(monkeypatch):
    def mean_pairs(relatedness):
        monkeypatch.setattr(neighbourhoods, "RELATEDNESS", relatedness)
        factors, destroyed, _, _ = sample_neighbourhoods(NeighbourhoodConfig(max_terms=5, side=18))
        assert (destroyed.sum(axis=1) == 5).all() and not destroyed[:, 27:].any()
        terms = factors[np.nonzero(destroyed)[1]].reshape(200, 5, 3, -1)
        is_equal = (terms[:, :, None] == terms[:, None]).all(axis=-1)
        return is_equal.sum() / 200 - 15  # without the pairs of a factor with itself

    assert mean_pairs(4.0) > 1.5 * mean_pairs(0.0)


def test_destroyed_terms_span_no_more_than_the_side():
    factors, destroyed, vectors, dims = sample_neighbourhoods(
        NeighbourhoodConfig(max_terms=6, side=3)
    )
    assert set(dims.max(axis=1)) == {2, 3} and 2 < destroyed.sum(axis=1).mean() < 5
    for mask, span, lengths in zip(destroyed, vectors, dims, strict=True):
        terms = factors[mask]
        # Naive factors are unit vectors, so the dimension is the number of distinct ones.
        distinct = [len(np.unique(terms[:, mode], axis=0)) for mode in range(3)]
        assert distinct == lengths.tolist() and ((span != 0).sum(axis=1) == lengths).all()
        # Either the neighbourhood is full, or no other term lies in the span.
        in_span = [
            (factors[:, mode, None] == terms[:, mode]).all(axis=-1).any(axis=1) for mode in range(3)
        ]
        num_in_span = (np.all(in_span, axis=0) & factors.any(axis=(1, 2))).sum()
        assert mask.sum() == 6 or num_in_span == mask.sum()


def test_replacements_are_minimal_and_keep_the_target():
    games, subproblems, finished = solved_generation()
    moves = select_replacements()
    rank = np.asarray(moves).any(axis=(-2, -1)).sum(axis=1)
    valid = np.asarray(subproblems.valid)
    for i in np.flatnonzero(valid):
        np.testing.assert_array_equal(sum_terms(moves[i]), subproblems.observation.residual[i])
        saved = max([0, *finished.remaining[finished.root == i]])
        assert rank[i] == subproblems.observation.remaining[i] - saved
    after = np.asarray(neighbourhoods.apply_replacements(games, subproblems, moves))
    for factors in after:
        np.testing.assert_array_equal(sum_terms(factors), GAME.padded_targets[0])
    saved = games.rank - after.any(axis=(-2, -1)).sum(axis=1)
    assert finished.remaining.max() > 0 and saved.max() > 0 and saved.min() >= 0
    is_changed = [
        {x.tobytes() for x in a} != {x.tobytes() for x in b}
        for a, b in zip(after, games.factors, strict=True)
    ]
    assert any(is_changed)


def test_replay_items_hold_the_best_rank_as_value():
    _, subproblems, _ = solved_generation()
    moves = select_replacements()
    item, valid = neighbourhoods.replay_items(subproblems, moves, 5)
    valid, rank = np.asarray(valid), np.asarray(moves).any(axis=(-2, -1)).sum(axis=1)
    np.testing.assert_array_equal(valid, subproblems.valid)
    np.testing.assert_array_equal(np.asarray(item.value)[valid], -rank[valid])
    np.testing.assert_allclose(np.asarray(item.weights)[valid].sum(axis=1), 1)
    np.testing.assert_array_equal(item.actions, moves[:, :5])


def test_equal_terms_of_a_game_cancel():
    games, subproblems, _ = solved_generation()
    factors = np.array(games.factors)
    factors[:, 13] = factors[:, 2]
    no_subproblems = subproblems._replace(score=np.full_like(subproblems.score, -np.inf))
    after = neighbourhoods.apply_replacements(
        games._replace(factors=factors), no_subproblems, select_replacements()
    )
    for new, old in zip(after, factors, strict=True):
        np.testing.assert_array_equal(sum_terms(new), sum_terms(old))
        assert count_terms(new) == count_terms(old) - 2


def test_replacements_with_shared_factors_are_preferred(monkeypatch):
    def count_pairs(bonus):
        monkeypatch.setattr(neighbourhoods, "SHARED_FACTOR_BONUS", bonus)
        games, subproblems, _ = solved_generation()
        after = [
            np.asarray(
                neighbourhoods.apply_replacements(games, subproblems, select_replacements(seed))
            )
            for seed in range(5)
        ]
        return sum((x[:, None] == x).all(axis=-1).sum() for batch in after for x in batch)

    assert count_pairs(3.0) > count_pairs(0.0)


def test_pairs_of_equal_factors_are_counted_in_each_mode():
    moves = np.zeros((3, 3, 2), np.int8)
    moves[:2] = [[[1, 0], [0, 1], [1, 1]], [[1, 0], [1, 1], [1, 1]]]
    vectors = jnp.stack([jnp.eye(2, 5, 1 + m, dtype=jnp.int8) for m in range(3)])
    # In the first mode both factors are the mask 2, as in two of the other terms.
    rest = jnp.array([[2, 0, 0], [2, 8, 3], [0, 0, 0]])
    assert neighbourhoods.count_shared_factors(jnp.asarray(moves), vectors, rest) == 2 + 4 + 1


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(max_terms=0), "max_terms: received 0"),
        (dict(max_terms=1), "max_terms: received 1; expected a whole number, 2 or more"),
        (dict(max_terms=27, side=3), "max_terms: received 27; expected fewer than"),
        (dict(side=0), "side: received 0"),
        (dict(samples=0), "samples: received 0"),
        (dict(games=0), "games: received 0"),
        (dict(subproblems=0), "subproblems: received 0"),
        (dict(acceptance_temperature=0.0), "acceptance_temperature: received 0.0"),
    ],
)
def test_invalid_values_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        NeighbourhoodConfig(**config)
