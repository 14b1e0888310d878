"""The beam: that what it finds is right, within its limit, and found once, and that all beginnings have their share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor import presets
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam import beam
from alphajax.alphatensor.beam.beam import BeamConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.policy import NetworkConfig, UniformPolicy
from alphajax.training import TrainingConfig

CONFIG = BeamConfig(width=64, samples=8192, moves=5, spread=0.2)


def make(name, ring, **kwargs):
    return TensorGame(targets=(tensors.parse(name),), ring=ring, **kwargs)


GAMES = {  # with the rank of the target
    "cyclic2 over Z2, orbits": (make("cyclic2", Ring(2), history=0, cyclic=True), 3),
    "cyclic3 over Z2": (make("cyclic3", Ring(2), history=1), 4),
    "skew2 over Z": (make("skew2", Ring(), history=2), 2),
}


@functools.cache
def searched(name, more=0, config=CONFIG):
    game, rank = GAMES[name]
    policy = UniformPolicy(game=game, token_entries=game.side)
    start = game.start(jnp.int32(0), jnp.int32(rank + more))
    seen = jax.tree.map(lambda x: x[None], game.observe(start))

    def basis(key):
        return bases.random_basis(key, game.ring, game.side, start.dims, 0.5)

    search = jax.jit(
        lambda key: beam.search({}, key, seen, jnp.ones(1, bool), game, policy, config, basis)
    )
    ended, sampled = jax.tree.map(np.asarray, search(jax.random.key(0)))
    each = config.samples + config.mutants
    assert 0 < sampled <= config.moves * each and sampled % each == 0
    return ended


@pytest.mark.parametrize(
    "name, config",
    [
        ("cyclic3 over Z2", {}),
        ("cyclic3 over Z2", dict(classes=True, views=2, mutants=4096, width=50)),
        ("cyclic2 over Z2, orbits", dict(mutants=4096)),
        ("skew2 over Z", dict(views=2, mutants=4096)),
    ],
)
def test_what_is_found_is_a_scheme_within_the_limit_and_found_once(name, config):
    game, rank = GAMES[name]
    ended = searched(name, more=1, config=dataclasses.replace(CONFIG, **config))
    found = ended.left >= 0
    assert found.any() and ended.left.max() == 1
    assert (np.diff(ended.left) <= 0).all()  # the fewest terms first
    seen = set()
    for moves, left in zip(ended.moves[found], ended.left[found], strict=True):
        terms = game.symmetry.expand(moves, game.ring).astype(int)
        assert len(terms) == rank + 1 - left
        tensor = np.einsum("ri,rj,rk->ijk", *np.moveaxis(terms, 1, 0))
        assert (game.ring.reduce(tensor - game.padded[0]) == 0).all()
        seen.add(frozenset(term.tobytes() for term in terms))
    assert len(seen) == found.sum()


def test_all_beginnings_have_their_share():
    rng = np.random.default_rng(0)
    origin = rng.integers(0, 5, 64).astype(np.int32)
    score = np.where(rng.random(64) < 0.2, -np.inf, rng.normal(0, 9, 64)).astype(np.float32)
    weights = np.exp(np.asarray(beam.evened(jnp.asarray(score), jnp.asarray(origin)), np.float64))
    best = np.asarray(beam.foremost_of_each(jnp.asarray(score), jnp.asarray(origin), jnp.int32(3)))
    for one in range(5):
        here = origin == one
        assert weights[here].sum() == pytest.approx(1, rel=1e-4)
        np.testing.assert_allclose(
            weights[here] / weights[here].max(), np.exp(score[here] - score[here].max()), rtol=1e-4
        )
        np.testing.assert_array_equal(np.sort(best[here])[-3:], np.sort(score[here])[-3:])
        assert np.isinf(np.sort(best[here])[:-3]).all()


def test_a_mutant_differs_in_one_factor_from_what_it_came_of():
    game = make("skew3", Ring(2), history=0)  # modes of 3, 3, 3 or fewer
    lengths = np.array(game.targets[0].shape)
    inside = np.arange(game.side) < lengths[:, None]
    factors = (
        np.random.default_rng(0).integers(0, 2, (64, 3, game.side)) | (np.arange(game.side) == 0)
    ) * inside
    none = jnp.zeros(64, jnp.int32)
    tried = beam.Tried(
        jnp.arange(64),
        jnp.asarray(factors, jnp.int8),
        -1.0 * jnp.arange(64),
        none,
        jnp.zeros((64, 2), jnp.int32),
        none > 0,
    )
    config = dataclasses.replace(CONFIG, mutants=8192)
    weights, dims = (
        jnp.where(jnp.arange(64) < 32, 0.0, -jnp.inf),
        jnp.broadcast_to(jnp.asarray(lengths, jnp.int8), (64, 3)),
    )
    found = jax.tree.map(
        np.asarray, beam._mutants(jax.random.key(1), tried, weights, dims, game, config)
    )
    # Nothing comes of what weighs nothing, and as much of all the rest.
    np.testing.assert_array_equal(found.parent, np.repeat(np.arange(32), 256))
    np.testing.assert_array_equal(found.log_prob, -found.parent)
    assert found.factors.any(axis=-1).all() and not found.factors[:, ~inside].any()
    changed = (found.factors != factors[found.parent]).any(axis=-1)
    assert set(changed.sum(axis=1)) == {0, 1} and (changed.any(axis=1)).mean() > 0.6
    # Every factor of every mode comes of every move.
    kinds = {
        (p, mode, *f[mode])
        for p, f, c in zip(found.parent, found.factors, changed, strict=True)
        for mode in np.flatnonzero(c)
    }
    assert len(kinds) == 32 * (2.0**lengths - 2).sum()


def test_nothing_is_found_where_nothing_is():
    assert (searched("cyclic3 over Z2", more=-1).left == -1).all()
    # Four terms are more than three moves play.
    assert (
        searched("cyclic3 over Z2", config=dataclasses.replace(CONFIG, moves=3)).left == -1
    ).all()


@pytest.mark.parametrize(
    "device, samples, size",
    [("cpu", 131_072, 32), ("gpu", 131_072, 2048), ("gpu", 8192, 256), ("tpu", 3072, 32)],
)
def test_how_much_is_done_at_a_time_is_the_devices(monkeypatch, device, samples, size):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert BeamConfig(samples=samples).block_size() == size


def agent(*targets, **config):
    small = NetworkConfig(
        torso="dense",
        head="dense",
        width=8,
        blocks=1,
        widening=1,
        policy_width=8,
        policy_layers=1,
        token_entries=3,
        value_width=8,
        value_layers=1,
        signed_permutations=False,
    )
    return AlphaTensor(
        game=TensorGame(targets=targets or (tensors.parse("cyclic3"),), ring=Ring(2), history=0),
        network=small,
        training=TrainingConfig(games=4, batch=8, learner_steps=1, capacity=16, learn=False),
        mix=MixConfig(pool=64, patience=3),
        uniform=True,
        beam=BeamConfig(**config),
    )


@pytest.mark.parametrize("density", [0.0, 0.5])
def test_an_agent_remembers_what_its_beam_found_in_the_canonical_basis(density):
    system = agent(**dataclasses.asdict(CONFIG) | dict(basis_density=density))
    memory = system.init_memory(1)._replace(waited=jnp.int32(2))
    explore = jax.jit(lambda key, memory: system.explore({}, key, memory))
    memory, _, sums = explore(jax.random.key(2), memory)
    rank = int(memory.rank[0])
    assert 4 <= rank < 9 and sums["beam_solved"] > 0 and memory.waited == 0
    u, v, w = np.moveaxis(np.asarray(memory.factors[0]), 1, 0)
    assert (np.einsum("ri,rj,rk->ijk", u, v, w) % 2 == system.game.padded[0]).all()
    assert np.any([u, v, w], axis=-1).all(axis=0).sum() == rank
    ranks = memory.finished.items.rank[: int(memory.finished.filled[0])].tolist()
    assert len(ranks) == sums["beam_solved"] and min(ranks) == rank
    # It is asked for fewer terms than are known, and what is not found changes nothing.
    memory = memory._replace(rank=jnp.array([4]))
    after, _, sums = explore(jax.random.key(9), memory)
    assert sums["beam_solved"] == 0
    assert all(
        (a == b).all() for a, b in zip(jax.tree.leaves(memory), jax.tree.leaves(after), strict=True)
    )


def test_without_a_width_there_is_no_beam():
    system = agent()
    memory = system.init_memory(1)
    after, items, sums = system.explore({}, jax.random.key(0), memory)
    assert after is memory and items is None and sums == {}


@pytest.mark.parametrize(
    "config, says",
    [
        (dict(width=-1), "width: received -1"),
        (dict(samples=1000), "samples: received 1000; expected a multiple of 1024"),
        (
            dict(width=600, samples=1024),
            "width: received 600; expected at most half of samples, 512",
        ),
        (dict(views=-1), "views: received -1"),
        (dict(mutants=1000), "mutants: received 1000; expected 0 or a multiple of 1024"),
        (dict(moves=0), "moves: received 0"),
        (dict(temperature=0.0), "temperature: received 0.0; expected above 0"),
        (dict(spread=float("nan")), "spread: received nan"),
        (dict(prior=-1.0), "prior: received -1.0"),
    ],
)
def test_nonsense_is_refused(config, says):
    with pytest.raises(ValueError, match=says):
        BeamConfig(**config)


def test_a_beam_has_one_target():
    with pytest.raises(ValueError, match=r"beam\.width: received 64 with 2 targets"):
        agent(tensors.matmul(2, 2, 2), tensors.matmul(3, 3, 3), width=64)


def test_classes_are_told_apart_where_they_can_be():
    with pytest.raises(
        ValueError, match=r"beam\.classes: received True over Z2, shape \(16, 16, 16\)"
    ):
        agent(tensors.matmul(4, 4, 4), classes=True)


def test_a_presets_beam_goes_with_any_target_over_any_ring():
    assert presets.make("2x2x4-z2").beam.classes
    for other in (dict(ring="Z"), dict(target=tensors.matmul(4, 4, 4))):
        beam = presets.make("2x2x4-z2", **other).beam
        assert beam.width == 1024 and not beam.classes
