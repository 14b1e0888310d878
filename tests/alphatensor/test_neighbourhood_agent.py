"""The agent of the large neighbourhood search: every game it keeps is the target, exactly."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from alphajax import training
from alphajax.alphatensor import presets
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.beam.neighbourhoods import NeighbourhoodConfig
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.neighbourhood_agent import NeighbourhoodAgent
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.system import TrainingConfig

GAME = TensorGame(targets=(tensors.parse("2,2,3"),), ring=Ring(2), history=0)
CONFIG = NeighbourhoodConfig(max_terms=5, side=4, games=8, samples=16, subproblems=2)
NETWORK = NetworkConfig(
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


def make_agent(**fields):
    settings = dict(
        game=GAME,
        network=NETWORK,
        training=TrainingConfig(games=0, batch=8, learner_steps=1, capacity=64, learn=False),
        mix=MixConfig(best_share=0.0, order_free=True),
        uniform=True,
        beam=BeamConfig(width=64, samples=8192, mutations=8192, moves=6, sampling_temperature=0.2),
        neighbourhoods=CONFIG,
    )
    return NeighbourhoodAgent(**settings | fields)


def sum_terms(factors):
    """The tensor of moves modulo 2, with NumPy alone."""
    return np.einsum("ri,rj,rk->ijk", *np.moveaxis(np.asarray(factors).astype(int), 1, 0)) % 2


@functools.cache
def explored():
    """The memory after four generations, and the items and sums of the last one."""
    system = make_agent()
    explore = jax.jit(lambda key, memory: system.explore({}, key, memory))
    memory = system.init_memory(1)
    for seed in range(4):
        memory, items, sums = explore(jax.random.key(seed), memory)
    return memory, items, sums


def test_every_game_of_a_generation_is_the_target():
    memory, _, sums = explored()
    assert sums["simulations"] == sums["beam_moves"] > 0
    best, pool = int(memory.rank[0]), memory.pool
    np.testing.assert_array_equal(sum_terms(memory.factors[0]), GAME.padded_targets[0])
    assert memory.factors[0].any(axis=(-2, -1)).sum() == best <= 12
    ranks = np.asarray(pool.items.rank)[: int(pool.filled[0])]
    assert len(ranks) == CONFIG.games and ranks.max() <= 12
    games = np.asarray(pool.items.factors)[: len(ranks)]
    for factors, rank in zip(games, ranks, strict=True):
        np.testing.assert_array_equal(sum_terms(factors), GAME.padded_targets[0])
        assert factors.any(axis=(-2, -1)).sum() == rank
    assert len({frozenset(x.tobytes() for x in factors) for factors in games}) > 4


def test_subproblems_become_replay_items():
    _, (items, mask), _ = explored()
    assert mask.any()
    for i in np.flatnonzero(mask):
        assert items.weights[i].sum() == pytest.approx(1) and -5 <= items.value[i] < 0
    for item, shape in zip(
        jax.tree.leaves(items), jax.tree.leaves(make_agent().item()), strict=True
    ):
        assert item.shape[1:] == shape.shape and item.dtype == shape.dtype


def test_the_naive_start_is_stated_as_prior_knowledge():
    assert make_agent().prior_knowledge() == ("starts from the naive algorithm",)


def test_a_run_without_games_learns_and_keeps_a_generation_on_each_device():
    system = make_agent(
        uniform=False,
        training=TrainingConfig(games=0, batch=8, learner_steps=1, capacity=64),
        beam=BeamConfig(width=64, samples=8192, moves=6, sampling_temperature=0.2),
    )
    mesh = training.make_mesh(2)
    state = training.init(system, jax.random.key(0), mesh)
    for _ in range(2):
        state, metrics = training.run(system, state, 1, mesh)
    assert metrics["games"][0] == 0 and metrics["play/beam_moves"][0] > 0
    assert metrics["play/simulations"][0] == metrics["play/beam_moves"][0]
    assert state.replay.filled[0] > 0 and np.isfinite(metrics["learn/policy_loss"][0])
    pool = state.memory.pool
    assert pool.items.rank.shape == (16,) and pool.filled.tolist() == [8, 8]
    for factors in np.asarray(pool.items.factors):
        np.testing.assert_array_equal(sum_terms(factors), GAME.padded_targets[0])


def test_one_network_serves_targets_of_all_sizes():
    def shapes(name):
        policy = presets.make("neighbourhood-z2", target=tensors.parse(name)).policy
        return jax.tree.map(lambda x: x.shape, jax.eval_shape(policy.init, jax.random.key(0)))

    assert shapes("2,3,3") == shapes("4,4,4")


def test_demonstrations_are_as_long_as_subproblems():
    system = make_agent()
    assert system.demonstration_limits(system.init_memory(1)).tolist() == [6]
    assert system.network_game.side == 4 and system.max_steps == 12


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(beam=BeamConfig()), "training.games: received 0 without a beam"),
        (
            dict(neighbourhoods=dataclasses.replace(CONFIG, max_terms=13)),
            r"beam\.moves: received 6; expected at least neighbourhoods\.max_terms, 13",
        ),
        (
            dict(neighbourhoods=dataclasses.replace(CONFIG, subproblems=9)),
            r"beam\.width: received 64; expected at least 72",
        ),
        (
            dict(
                beam=BeamConfig(width=64, samples=1024),
                neighbourhoods=dataclasses.replace(CONFIG, games=32),
            ),
            r"beam\.samples: received 1024; expected at least 32 for each of 64",
        ),
        (
            dict(neighbourhoods=dataclasses.replace(CONFIG, samples=1)),
            r"neighbourhoods\.samples: received 1",
        ),
        (
            dict(neighbourhoods=dataclasses.replace(CONFIG, games=5, samples=9)),
            "received 45; expected a multiple of 32",
        ),
        (dict(game=TensorGame(targets=GAME.targets, ring=Ring())), "game.ring: received Z"),
        (
            dict(game=TensorGame(targets=(tensors.parse("3,4,8"),), ring=Ring(2))),
            "game.side: received 32; expected at most 31",
        ),
        (
            dict(
                game=TensorGame(
                    targets=(tensors.parse("3,3,3"),), ring=Ring(2), symmetries=("cyclic",)
                )
            ),
            "game.symmetries: received",
        ),
        (dict(mix=MixConfig()), r"mix\.best_share: received 0\.05"),
        (dict(training=TrainingConfig(games=1, learn=False)), r"training\.games: received 1"),
        (dict(beam=BeamConfig(width=64, basis_samples=1)), r"beam\.basis_samples: received 1"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_agent(**fields)
