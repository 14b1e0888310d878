"""Beams inside finished games: what they begin with is a part of the target, and what they find is a scheme of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import replay, training
from alphajax.alphatensor import archive, bases, inside, tensors
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.archive import Finished
from alphajax.alphatensor.beam import BeamConfig, Ended
from alphajax.alphatensor.game import TensorGame
from alphajax.alphatensor.inside import InsideConfig
from alphajax.alphatensor.mix import MixConfig
from alphajax.alphatensor.moves import Ring
from alphajax.alphatensor.network import NetworkConfig
from alphajax.training import TrainingConfig


def make(name, ring, **kwargs):
    return TensorGame(targets=(tensors.parse(name),), ring=ring, history=0, **kwargs)


GAMES = {
    "2x1x3 over Z2": make("2,1,3", Ring(2)),
    "cyclic3 over Z3": make("cyclic3", Ring(3)),
    "cyclic3 over Z": make("cyclic3", Ring()),
    "2x2x2 over Z2, orbits": make("2,2,2", Ring(2), cyclic=True, transposed=True),
}


def summed(game, factors):
    """The tensor of null and other moves, with NumPy alone."""
    terms = game.symmetry.expand(np.asarray(factors), game.ring).astype(int)
    return game.ring.reduce(np.einsum("ri,rj,rk->ijk", *np.moveaxis(terms, 1, 0))), len(terms)


def changed(game, basis):
    tensor = game.padded[0].astype(int)
    return game.ring.reduce(np.einsum("ijk,ai,bj,ck->abc", tensor, *np.asarray(basis.matrices)))


@pytest.mark.parametrize("name", GAMES)
def test_the_naive_game_is_the_target_entry_by_entry(name):
    game = GAMES[name]
    naive = inside.naive_game(game, game.max_moves)
    tensor, terms = summed(game, naive.factors)
    np.testing.assert_array_equal(tensor, game.padded[0])
    assert terms == naive.rank == game.max_moves


@functools.cache
def begun(name):
    game = GAMES[name]
    config = InsideConfig(moves=3, draws=64, naive=True)
    key = jax.random.key(0)
    system = agent(game)
    basis = system._random_basis(key, jnp.asarray(game.targets[0].shape, jnp.int8), 0.3 if game.ring.modulus else 0.0)
    pool = system.init_memory(1).finished
    best = jnp.array([game.max_moves - 1])
    found = inside.begin({}, key, pool, best, basis, game, system.policy, config, 32)
    return basis, jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("name", GAMES)
def test_a_beginning_and_what_was_taken_back_are_the_target(name):
    game = GAMES[name]
    basis, found = begun(name)
    there = np.isfinite(found.score)
    assert there.sum() > 2 and (np.diff(found.score[there]) <= 0).all()
    seen = found.seen.residual[there]
    assert len(np.unique(seen, axis=0)) == len(seen)
    for i in np.flatnonzero(there):
        rest, terms = summed(game, found.back[i])
        np.testing.assert_array_equal(rest, found.seen.residual[i])
        prefix, more = summed(game, found.prefix[i])
        np.testing.assert_array_equal(game.ring.reduce(prefix + rest), changed(game, basis))
        assert terms == found.terms[i] and terms + more == game.max_moves
        # One fewer than it has is the best known.
        assert found.seen.remaining[i] == terms - 1
        assert found.back[i].any(axis=(-2, -1)).sum() in (2, 3)


def test_what_is_taken_back_has_factors_in_common():
    game = make("3,3,3", Ring(2))
    factors = inside.naive_game(game, game.max_moves + 2).factors
    own = np.asarray(factors)

    def common(sharing):
        draw = jax.vmap(lambda key: inside.taken_back(key, factors, jnp.int32(4), game, InsideConfig(moves=6, sharing=sharing)))
        back = np.asarray(draw(jax.random.split(jax.random.key(1), 200)))
        assert (back.sum(axis=1) == 4).all() and not back[:, -2:].any()
        chosen = own[np.nonzero(back)[1]].reshape(200, 4, 3, -1)
        equal = (chosen[:, :, None] == chosen[:, None]).all(axis=-1)
        return equal.sum() / 200 - 12  # each with itself

    assert common(4.0) > 1.5 * common(0.0)


def test_all_is_taken_back_where_there_is_no_more():
    game = GAMES["cyclic3 over Z3"]
    factors = inside.naive_game(game, 12).factors
    back = inside.taken_back(jax.random.key(0), factors, jnp.int32(10), game, InsideConfig(moves=11))
    np.testing.assert_array_equal(back, np.arange(12) < 9)


@pytest.mark.parametrize("name", ["cyclic3 over Z", "cyclic3 over Z3"])
def test_a_scheme_in_another_order_or_basis_is_not_new(name):
    game = GAMES[name]
    naive = inside.naive_game(game, game.max_moves)
    dims = jnp.asarray(game.targets[0].shape, jnp.int8)
    basis = bases.random_basis(jax.random.key(3), game.ring, game.side, dims, 0.3)
    other = naive._replace(factors=bases.change_factors(naive.factors, basis.matrices, game.ring)[::-1].astype(jnp.int8), basis=basis)
    third = naive._replace(factors=naive.factors.at[0, 0].set(1))
    pool = replay.empty(jax.eval_shape(lambda: naive), 4)
    both = jax.tree.map(lambda *x: jnp.stack(x), other, third)
    assert archive.new(both, pool, game).tolist() == [True, True]
    pool = replay.write(pool, jax.tree.map(lambda x: x[None], naive), jnp.array([True]))
    assert archive.new(both, pool, game).tolist() == [False, True]


def agent(game, moves=3, **training_):
    small = NetworkConfig(
        torso="dense", head="dense", width=8, blocks=1, widening=1, policy_width=8, policy_layers=1,
        token_entries=game.side if game.ring.modulus else 1, value_width=8, value_layers=1, signed_permutations=False,
    )  # fmt: skip
    return AlphaTensor(
        game=game, network=small,
        training=TrainingConfig(**dict(games=0, batch=8, learner_steps=1, capacity=64, learn=False) | training_),
        mix=MixConfig(pool=64, order_free=True), uniform=True, beam=BeamConfig(width=32, samples=4096, spread=0.2, basis_density=0.3),
        inside=InsideConfig(moves=moves, draws=64, beginnings=8, naive=True),
    )  # fmt: skip


def test_it_finds_shorter_games_and_others_as_long_and_all_are_the_target():
    game = GAMES["2x2x2 over Z2, orbits"]
    system = agent(game, moves=4)
    explore = jax.jit(lambda key, memory: system.explore({}, key, memory))
    memory = system.init_memory(1)
    for seed in range(3):
        memory, (items, there), sums = explore(jax.random.key(seed), memory)
        assert sums["beam_moves"] > 0
    best = int(memory.rank[0])
    assert best < 8
    tensor, terms = summed(game, memory.factors[0])
    np.testing.assert_array_equal(tensor, game.padded[0])
    assert terms == best
    pool = memory.finished
    ranks = np.asarray(pool.items.rank)[: int(pool.filled[0])]
    assert len(ranks) > 1 and ranks.max() <= 8
    for i, rank in enumerate(ranks):
        tensor, terms = summed(game, pool.items.factors[i])
        np.testing.assert_array_equal(tensor, changed(game, jax.tree.map(lambda x, i=i: x[i], pool.items.basis)))
        assert terms == rank
    # What it began with, to learn from: some moves that do it, and their terms at most.
    for i in np.flatnonzero(there):
        assert items.weights[i].sum() == pytest.approx(1) and -8 <= items.value[i] < 0


def test_a_lesson_is_what_was_found_or_else_what_was_taken_back():
    _, found = begun("cyclic3 over Z3")
    ended = Ended(jnp.zeros((16, 5, 3, 3), jnp.int8), jnp.array([1, 0] + [-1] * 14), jnp.array([2, 2] + [0] * 14))
    item, there = inside.lesson(found, ended, 5)
    np.testing.assert_array_equal(there, np.isfinite(found.score))
    terms = int(found.terms[0])  # all have as many, and may play one less
    np.testing.assert_array_equal(np.asarray(item.value)[:3], [-terms, -terms, 2 - terms])
    np.testing.assert_allclose(item.weights[0], [1 / terms] * terms + [0] * (5 - terms))
    assert {x.tobytes() for x in np.asarray(item.actions[0][:terms])} == {x.tobytes() for x in found.back[0] if x.any()}


def test_a_run_without_games():
    system = agent(GAMES["2x1x3 over Z2"])
    state = training.init(system, jax.random.key(0), training.make_mesh(1))
    state, metrics = training.run(system, state, 1, training.make_mesh(1))
    assert metrics["games"][0] == 0 and metrics["play/beam_moves"][0] > 0 and state.replay.filled[0] > 0


@pytest.mark.parametrize(
    "config, says",
    [
        (dict(moves=-1), "moves: received -1"),
        (dict(draws=0), "draws: received 0"),
        (dict(sharing=float("nan")), "sharing: received nan"),
        (dict(naive=True), "naive: received True without moves"),
    ],
)
def test_nonsense_is_refused(config, says):
    with pytest.raises(ValueError, match=says):
        InsideConfig(**config)


@pytest.mark.parametrize(
    "config, says",
    [
        (dict(beam=BeamConfig()), "training.games: received 0 without a beam"),
        (dict(inside=InsideConfig(moves=13)), "inside.moves: received 13 with beam.width 32 and beam.moves 12"),
        (dict(inside=InsideConfig(moves=3, beginnings=33)), "inside.beginnings: received 33; expected at most beam.width, 32"),
        (dict(inside=InsideConfig(moves=3, draws=8)), "inside.draws: received 8; expected a multiple of 32, at least"),
    ],
)
def test_what_does_not_go_together_is_refused(config, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(agent(GAMES["2x1x3 over Z2"]), **config)
