"""Beams inside finished games: what they begin with is a part of the target, and what they find is a scheme of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import replay, training
from alphajax.alphatensor import presets
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam import neighbourhoods
from alphajax.alphatensor.beam.beam import BeamConfig, search
from alphajax.alphatensor.beam.neighbourhoods import InsideConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning import archive
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.policy import NetworkConfig
from alphajax.training import TrainingConfig

GAME = TensorGame(targets=(tensors.parse("2,2,3"),), ring=Ring(2), history=0)
CONFIG = InsideConfig(moves=5, side=4, games=8, draws=16, beginnings=2, patience=1.0)


def agent(game=GAME, config=CONFIG, **training_):
    small = NetworkConfig(
        torso="dense",
        head="dense",
        width=8,
        blocks=1,
        widening=1,
        policy_width=8,
        policy_layers=1,
        token_entries=4,
        value_width=8,
        value_layers=1,
        signed_permutations=False,
    )
    return AlphaTensor(
        game=game,
        network=small,
        training=TrainingConfig(
            **dict(games=0, batch=8, learner_steps=1, capacity=64, learn=False) | training_
        ),
        mix=MixConfig(best_share=0.0, order_free=True),
        uniform=True,
        beam=BeamConfig(width=64, samples=8192, mutants=8192, moves=6, spread=0.2),
        inside=config,
    )


def summed(factors):
    """The tensor of null and other moves modulo 2, with NumPy alone."""
    return np.einsum("ri,rj,rk->ijk", *np.moveaxis(np.asarray(factors).astype(int), 1, 0)) % 2


def counted(factors):
    return int(np.asarray(factors).any(axis=(-2, -1)).sum())


def test_the_naive_game_is_the_target_entry_by_entry():
    naive = neighbourhoods.naive_game(GAME, 14)
    np.testing.assert_array_equal(summed(naive.factors), GAME.padded[0])
    assert counted(naive.factors) == naive.rank == 12


def test_games_of_few_terms_are_chosen_more_often():
    naive = neighbourhoods.naive_game(GAME, 12)
    pool = replay.empty(jax.eval_shape(lambda: naive), 16)
    games = jax.tree.map(lambda x: jnp.repeat(x[None], 8, axis=0), naive)
    games = games._replace(rank=jnp.array([12] * 7 + [11]))
    choose = jax.jit(neighbourhoods.choose, static_argnums=(2, 3))
    assert choose(jax.random.key(0), pool, GAME, CONFIG).rank.tolist() == [12] * 8
    pool = replay.write(pool, games, jnp.ones(8, bool))
    equal = pool._replace(items=pool.items._replace(rank=jnp.full(16, 12), target=jnp.arange(16)))
    assert choose(jax.random.key(0), equal, GAME, CONFIG).target.tolist() == list(range(8))
    # e of e + 7 shares.
    often = [
        choose(jax.random.key(i), pool, GAME, CONFIG).rank.tolist().count(11) for i in range(20)
    ]
    assert set(often) <= {2, 3} and 2.0 < np.mean(often) < 2.5


def generation():
    """Naive games, each in an order of its own; in every other one a term is written as two."""
    rng, naive = np.random.default_rng(0), neighbourhoods.naive_game(GAME, 14)
    factors = np.stack(
        [np.asarray(naive.factors)[np.append(rng.permutation(12), [12, 13])] for _ in range(8)]
    )
    for some in factors[1::2]:
        some[12, 1:] = some[0, 1:]
        some[12, 0, :4] = rng.permutation([1, 0, 0, 1])
        some[0, 0] ^= some[12, 0]
    assert (factors.any(axis=(-2, -1)).sum(axis=1) == [12, 13] * 4).all()
    games = jax.tree.map(lambda x: jnp.repeat(x[None], 8, axis=0), naive)
    return games._replace(factors=jnp.asarray(factors), rank=jnp.array([12, 13] * 4))


def begin(key, games, config=CONFIG):
    system = agent()
    return neighbourhoods.begin({}, key, games, GAME, system.playing, system.policy, config, 32)


def look(key, seen, there):
    system = agent()
    return search(
        {}, key, seen, there, system.playing, system.policy, system.beam, lambda key: None
    )[0]


@functools.cache
def begun():
    """The games, what is begun with in them, and what a beam made of it."""
    found = jax.jit(begin)(jax.random.key(0), generation())
    ended = jax.jit(look)(jax.random.key(1), found.seen, jnp.isfinite(found.score))
    return jax.tree.map(np.asarray, (generation(), found, ended))


def test_a_beginning_in_its_coordinates_and_what_was_not_taken_back_are_the_target():
    games, found, _ = begun()
    there = np.isfinite(found.score)
    assert there.sum() > 8
    for i in np.flatnonzero(there):
        np.testing.assert_array_equal(summed(found.back[i]), found.seen.residual[i])
        rest = (
            np.einsum(
                "ijk,ia,jb,kc->abc",
                found.seen.residual[i].astype(int),
                *found.vectors[i].astype(int),
            )
            % 2
        )
        others = games.factors[i // 2][~found.taken[i]]
        np.testing.assert_array_equal(summed(others) ^ rest, GAME.padded[0])
        terms = counted(found.back[i])
        assert terms == found.taken[i].sum() == found.seen.remaining[i] and 2 <= terms <= 5
        for mode, length in enumerate(found.seen.dims[i]):
            assert (
                not found.back[i, :, mode, length:].any()
                and not found.vectors[i, mode, length:].any()
            )


def test_beginnings_in_one_game_have_no_term_in_common():
    _, found, _ = begun()
    taken = (found.taken & np.isfinite(found.score)[:, None]).reshape(8, 2, -1)
    assert (taken.sum(axis=1) <= 1).all() and (taken.any(axis=2).sum(axis=1) == 2).any()


def test_what_the_value_likes_is_begun_with_more_often(monkeypatch):
    def liked(eagerness):
        monkeypatch.setattr(neighbourhoods, "EAGERNESS", eagerness)
        start = jax.jit(lambda *arguments: begin(*arguments))  # traced with this value
        score = np.concatenate([start(jax.random.key(i), generation()).score for i in range(5)])
        return score[np.isfinite(score)].mean()

    assert liked(20.0) > liked(0.0) + 0.05


def test_equal_residuals_have_a_search_each():
    _, found, ended = begun()
    one = int(ended.origin[ended.left >= 0][0])
    twice = jax.tree.map(lambda x: jnp.asarray(np.repeat(x[one : one + 1], 16, axis=0)), found.seen)
    there = jnp.arange(16) < 2
    again = jax.jit(look)(jax.random.key(2), twice, there)
    solved = np.bincount(again.origin[again.left >= 0], minlength=16)
    assert (solved[:2] > 0).all() and (solved <= 32).all() and not solved[2:].any()


def test_the_most_likely_are_chosen_that_have_nothing_in_common():
    taken = jnp.array(
        [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool
    )
    likely = jnp.array([1.0, 3.0, 2.0, 0.5, -jnp.inf])
    chosen, there = neighbourhoods.disjoint(likely, taken, 3)
    assert chosen[:2].tolist() == [1, 3] and there.tolist() == [True, True, False]
    assert neighbourhoods.disjoint(likely, taken, 1)[0].tolist() == [1]


def drawn(config, keys=200):
    game = TensorGame(targets=(tensors.parse("3,3,3"),), ring=Ring(2), history=0)
    factors = neighbourhoods.naive_game(game, 30).factors
    draw = jax.jit(jax.vmap(lambda key: neighbourhoods.neighbourhood(key, factors, config)))
    return np.asarray(factors), *jax.tree.map(
        np.asarray, draw(jax.random.split(jax.random.key(1), keys))
    )


def test_what_is_taken_back_has_factors_in_common(monkeypatch):
    def common(sharing):
        monkeypatch.setattr(neighbourhoods, "SHARING", sharing)
        factors, taken, _, _ = drawn(InsideConfig(moves=5, side=18))
        assert (taken.sum(axis=1) == 5).all() and not taken[:, 27:].any()
        chosen = factors[np.nonzero(taken)[1]].reshape(200, 5, 3, -1)
        return (chosen[:, :, None] == chosen[:, None]).all(
            axis=-1
        ).sum() / 200 - 15  # each with itself

    assert common(4.0) > 1.5 * common(0.0)


def test_what_is_taken_back_spans_no_more_than_it_may():
    factors, taken, vectors, dims = drawn(InsideConfig(moves=6, side=3))
    assert set(dims.max(axis=1)) == {2, 3} and 2 < taken.sum(axis=1).mean() < 5
    for some, span, lengths in zip(taken, vectors, dims, strict=True):
        # The naive terms' factors are unit vectors: their span's dimension is how many different ones there are.
        assert [
            len(np.unique(factors[some][:, mode], axis=0)) for mode in range(3)
        ] == lengths.tolist()
        assert ((span != 0).sum(axis=1) == lengths).all()
        # No other term is in that space, unless there are as many as may be.
        inner = [
            (factors[:, mode, None] == factors[some][:, mode]).all(axis=-1).any(axis=1)
            for mode in range(3)
        ]
        assert (
            some.sum() == 6
            or (np.all(inner, axis=0) & factors.any(axis=(1, 2))).sum() == some.sum()
        )


def test_coordinates():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 2, (7, 3, 9)).astype(np.int8)
    masks = np.asarray(neighbourhoods.as_masks(jnp.asarray(factors)))
    np.testing.assert_array_equal(masks[..., None] >> np.arange(9) & 1, factors)
    vectors, kept = jnp.zeros((3, 7), jnp.int32), []
    for i in range(7):
        rest, _ = neighbourhoods.reduced(vectors, jnp.asarray(masks[i]))
        vectors = vectors.at[:, i].set(rest)
        kept.append(np.asarray(rest))
    rest, used = neighbourhoods.reduced(vectors, jnp.asarray(masks))
    assert not np.asarray(rest).any()
    sums = np.bitwise_xor.reduce(np.where(np.asarray(used), np.asarray(vectors), 0), axis=-1)
    np.testing.assert_array_equal(sums, masks)


@pytest.mark.parametrize("ring", [Ring(), Ring(3)])
def test_a_scheme_in_another_order_or_basis_is_not_new(ring):
    game = TensorGame(targets=(tensors.parse("cyclic3"),), ring=ring, history=0)
    terms = np.zeros((9, 3, 3), np.int8)
    terms[np.arange(9)[:, None], np.arange(3), np.argwhere(game.padded[0])] = 1
    dims = jnp.asarray(game.targets[0].shape, jnp.int8)
    plain = archive.Finished(
        jnp.asarray(terms), jnp.int32(9), dims, jnp.int32(0), bases.identity(3)
    )
    basis = bases.random_basis(jax.random.key(3), ring, 3, dims, 0.3)
    turned = bases.change_factors(plain.factors, basis.matrices, ring)[::-1].astype(jnp.int8)
    third = plain._replace(factors=plain.factors.at[0, 0].set(1))
    pool = replay.empty(jax.eval_shape(lambda: plain), 4)
    both = jax.tree.map(lambda *x: jnp.stack(x), plain._replace(factors=turned, basis=basis), third)
    assert archive.new(both, pool, game).tolist() == [True, True]
    pool = replay.write(pool, jax.tree.map(lambda x: x[None], plain), jnp.array([True]))
    assert archive.new(both, pool, game).tolist() == [False, True]


@functools.cache
def explored():
    """A memory after some beams, and what the last had to say."""
    system = agent()
    explore = jax.jit(lambda key, memory: system.explore({}, key, memory))
    memory = system.init_memory(1)
    for seed in range(4):
        memory, lesson, sums = explore(jax.random.key(seed), memory)
    return memory, lesson, sums


def test_all_that_it_finds_is_the_target():
    memory, _, sums = explored()
    assert sums["beam_moves"] > 0
    best, pool = int(memory.rank[0]), memory.finished
    np.testing.assert_array_equal(summed(memory.factors[0]), GAME.padded[0])
    assert counted(memory.factors[0]) == best <= 12
    ranks = np.asarray(pool.items.rank)[: int(pool.filled[0])]
    assert len(ranks) > 4 and ranks.max() <= 12
    found = np.asarray(pool.items.factors)[: len(ranks)]
    for factors, rank in zip(found, ranks, strict=True):
        np.testing.assert_array_equal(summed(factors), GAME.padded[0])
        assert counted(factors) == rank
    assert len({frozenset(x.tobytes() for x in factors) for factors in found}) > 4


def test_what_it_began_with_is_learned_from():
    _, (items, there), _ = explored()
    assert there.any()
    for i in np.flatnonzero(there):
        assert items.weights[i].sum() == pytest.approx(1) and -5 <= items.value[i] < 0


def settle(key=0):
    games, found, ended = begun()
    settled = jax.jit(lambda *arguments: neighbourhoods.settled(*arguments))  # traced at each call
    return games, found, ended, settled(jax.random.key(key), games, found, ended)


def test_what_takes_the_place_of_what_was_taken_back():
    games, found, ended, moves = settle()
    worth = np.asarray(moves).any(axis=(-2, -1)).sum(axis=1)
    there = np.isfinite(found.score)
    for i in np.flatnonzero(there):
        np.testing.assert_array_equal(summed(moves[i]), found.seen.residual[i])
        assert worth[i] == found.seen.remaining[i] - max([0, *ended.left[ended.origin == i]])
    followed = neighbourhoods.played(games, found, moves)
    for factors in followed:
        np.testing.assert_array_equal(summed(factors), GAME.padded[0])
    shorter = games.rank - np.asarray(followed).any(axis=(-2, -1)).sum(axis=1)
    assert ended.left.max() > 0 and shorter.max() > 0 and shorter.min() >= 0
    # Not all stay as they were.
    assert any(
        {x.tobytes() for x in a} != {x.tobytes() for x in b}
        for a, b in zip(np.asarray(followed), games.factors, strict=True)
    )
    item, known = neighbourhoods.lesson(found, moves, 5)
    np.testing.assert_array_equal(known, there)
    np.testing.assert_array_equal(np.asarray(item.value)[there], -worth[there])
    np.testing.assert_allclose(np.asarray(item.weights)[there].sum(axis=1), 1)
    np.testing.assert_array_equal(item.actions, moves[:, :5])


def test_of_a_term_that_is_there_twice_nothing_is_left():
    games, found, _, moves = settle()
    twice = np.array(games.factors)
    twice[:, 13] = twice[:, 2]
    nothing = found._replace(score=np.full_like(found.score, -np.inf))
    followed = neighbourhoods.played(games._replace(factors=twice), nothing, moves)
    for factors, before in zip(followed, twice, strict=True):
        np.testing.assert_array_equal(summed(factors), summed(before))
        assert counted(factors) == counted(before) - 2


def test_what_has_much_in_common_is_preferred(monkeypatch):
    def pairs(likeness):
        monkeypatch.setattr(neighbourhoods, "LIKENESS", likeness)
        games, found, _ = begun()
        factors = [
            np.asarray(neighbourhoods.played(games, found, settle(key)[3])) for key in range(5)
        ]
        return sum((x[:, None] == x).all(axis=-1).sum() for some in factors for x in some)

    assert pairs(3.0) > pairs(0.0)


def test_factors_in_common():
    moves = (
        jnp.zeros((3, 3, 2), jnp.int8)
        .at[:2]
        .set(np.array([[[1, 0], [0, 1], [1, 1]], [[1, 0], [1, 1], [1, 1]]], np.int8))
    )
    vectors = jnp.stack([jnp.eye(2, 5, 1 + m, dtype=jnp.int8) for m in range(3)])
    # In the first mode both are the mask 2; so are two others.
    rest = jnp.array([[2, 0, 0], [2, 8, 3], [0, 0, 0]])
    assert neighbourhoods.in_common(moves, vectors, rest) == 2 + 4 + 1


def test_a_run_without_games():
    system = dataclasses.replace(agent(), uniform=False)
    system = dataclasses.replace(system, beam=dataclasses.replace(system.beam, mutants=0))
    system = dataclasses.replace(system, training=dataclasses.replace(system.training, learn=True))
    mesh = training.make_mesh(2)
    state = training.init(system, jax.random.key(0), mesh)
    for _ in range(2):
        state, metrics = training.run(system, state, 1, mesh)
    assert (
        metrics["games"][0] == 0
        and metrics["play/beam_moves"][0] > 0
        and state.replay.filled[0] > 0
    )
    assert np.isfinite(metrics["learn/policy_loss"][0])
    # A generation on each device.
    pool = state.memory.finished
    assert pool.items.rank.shape == (16,) and pool.filled.tolist() == [8, 8]
    for factors in np.asarray(pool.items.factors):
        np.testing.assert_array_equal(summed(factors), GAME.padded[0])


def test_one_network_for_all_sizes():
    shapes = [
        jax.tree.map(
            lambda x: x.shape,
            jax.eval_shape(
                presets.make("inside-z2", target=tensors.parse(name)).policy.init, jax.random.key(0)
            ),
        )
        for name in ("2,3,3", "4,4,4")
    ]
    assert shapes[0] == shapes[1]


def test_settings_that_are_right_only_together_may_come_in_any_order():
    system = presets.make("2x3x3-z2", overrides={"training.games": 0, "beam.width": 32})
    assert system.training.games == 0 and system.beam.width == 32
    with pytest.raises(ValueError, match="received 0 without a beam"):
        presets.make("2x3x3-z2", overrides={"training.games": 0, "training.batch": 8})


@pytest.mark.parametrize(
    "config, says",
    [
        (dict(moves=-1), "moves: received -1"),
        (dict(moves=1), "moves: received 1; expected 0, or 2 or more"),
        (dict(moves=27, side=3), "moves: received 27; expected fewer than"),
        (dict(side=0), "side: received 0"),
        (dict(draws=0), "draws: received 0"),
        (dict(games=0), "games: received 0"),
        (dict(beginnings=0), "beginnings: received 0"),
        (dict(patience=0.0), "patience: received 0.0; expected above 0"),
    ],
)
def test_nonsense_is_refused(config, says):
    with pytest.raises(ValueError, match=says):
        InsideConfig(**config)


@pytest.mark.parametrize(
    "config, says",
    [
        (dict(beam=BeamConfig()), "training.games: received 0 without a beam"),
        (
            dict(inside=dataclasses.replace(CONFIG, moves=13)),
            "needs beam.moves of at least inside.moves",
        ),
        (
            dict(inside=dataclasses.replace(CONFIG, beginnings=9)),
            "needs beam.width of at least inside.games",
        ),
        (
            dict(
                beam=BeamConfig(width=64, samples=1024),
                inside=dataclasses.replace(CONFIG, games=32),
            ),
            "needs beam.samples of 32",
        ),
        (
            dict(inside=dataclasses.replace(CONFIG, draws=1)),
            "needs inside.draws of at least inside.beginnings",
        ),
        (dict(inside=dataclasses.replace(CONFIG, games=5, draws=9)), "that is a multiple of 32"),
        (dict(game=TensorGame(targets=GAME.targets, ring=Ring())), "needs one target, over Z2"),
        (
            dict(game=TensorGame(targets=(tensors.parse("3,4,8"),), ring=Ring(2))),
            "needs modes of at most 31",
        ),
        (dict(mix=MixConfig()), "needs training.games=0 and mix.best_share=0.0"),
        (dict(training=TrainingConfig(games=1)), "needs training.games=0"),
        (dict(beam=BeamConfig(width=64, views=1)), "needs no beam.classes, no beam.views"),
    ],
)
def test_what_does_not_go_together_is_refused(config, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(agent(), **config)
