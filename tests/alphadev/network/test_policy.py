"""Policies: proposals of legal moves, losses, gradients and the target network."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.network.network import NetworkConfig, mean_value
from alphajax.alphadev.network.policy import (
    LOWEST,
    Batch,
    NetworkPolicy,
    UniformPolicy,
    top_candidates,
)
from alphajax.search import Policy

GAME = AssemblyGame(task=tasks.sort(2))
SMALL = NetworkConfig(
    program_layers=1,
    program_width=8,
    program_heads=2,
    program_head_width=4,
    program_widening=1,
    test_widths=(8,),
    width=8,
    blocks=1,
    bins=5,
    value_low=-1.0,
    td_steps=2,
)
DENSE = dataclasses.replace(SMALL, program_layers=0, pooling="mean-max", td_steps=0)


@pytest.fixture(name="played", scope="module")
def _played():
    """Observations before the first four moves of a random game."""
    state, seen = jax.jit(GAME.init)(jax.random.key(0)), []
    step, rng = jax.jit(GAME.step), np.random.default_rng(0)
    for _ in range(4):
        seen.append(GAME.observe(state))
        state, _ = step(state, jnp.int16(rng.choice(np.flatnonzero(state.legal))))
    return jax.tree.map(lambda *x: jnp.stack(x), *seen)


@functools.cache
def initial(config):
    """Initial parameters, compiled once for each configuration."""
    return jax.jit(NetworkPolicy(game=GAME, config=config).init)(jax.random.key(1))


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["transformer", "dense"])
def test_a_policy_proposes_all_legal_moves_and_no_others(config, played):
    policy = NetworkPolicy(game=GAME, config=config)
    params = initial(config)
    propose = jax.jit(policy.propose, static_argnums=3)
    actions, log_weights, value = propose(params, jax.random.key(2), played, 40)
    assert actions.shape == log_weights.shape == (4, 40) and value.shape == (4,)
    for legal, chosen, weights in zip(played.legal, actions, log_weights, strict=True):
        is_move = np.asarray(weights) > LOWEST
        assert sorted(np.asarray(chosen)[is_move]) == np.flatnonzero(legal).tolist()
        assert np.exp(np.asarray(weights)[is_move]).sum() == pytest.approx(1, rel=1e-5)
        assert (np.diff(np.asarray(weights)) <= 0).all()
    log_probs, (correctness, latency) = jax.jit(policy.evaluate)(params, played, actions)
    is_move = np.asarray(log_weights) > LOWEST
    np.testing.assert_allclose(
        np.asarray(log_probs)[is_move], np.asarray(log_weights)[is_move], atol=1e-5
    )
    total = mean_value(correctness, config) + mean_value(latency, config)
    np.testing.assert_allclose(value, total, rtol=1e-5)


def test_the_root_samples_without_replacement(played):
    policy = NetworkPolicy(game=GAME, config=DENSE)
    params, propose = initial(DENSE), jax.jit(policy.propose_root, static_argnums=3)
    last_actions = set()
    for seed in range(8):
        actions, weights, _ = propose(params, jax.random.key(seed), played, 2)
        for legal, row, is_move in zip(played.legal, actions, weights > LOWEST, strict=True):
            chosen = np.asarray(row)[is_move]
            assert len(set(chosen.tolist())) == len(chosen) == min(2, legal.sum())
            assert np.asarray(legal)[chosen].all()
        last_actions |= set(np.asarray(actions[-1]).tolist())
    assert len(last_actions) > 2


def test_a_gumbel_sample_follows_the_policy():
    """The first of K candidates is a sample of the softmax."""
    logits = jnp.log(jnp.array([[0.6, 0.3, 0.1, 0.0]]) + 1e-30)
    logits = jnp.where(jnp.array([[True, True, True, False]]), logits, LOWEST)
    noise = jax.random.gumbel(jax.random.key(0), (4000, 4))
    actions, weights = top_candidates(jnp.repeat(logits, 4000, axis=0), noise, 4)
    share = np.bincount(np.asarray(actions[:, 0]), minlength=4) / 4000
    np.testing.assert_allclose(share, [0.6, 0.3, 0.1, 0], atol=0.03)
    assert (np.asarray(weights)[:, 3] == LOWEST).all()
    assert (np.sort(np.asarray(actions), axis=1) == np.arange(4)).all()


def test_slots_beyond_the_number_of_moves_stay_empty():
    actions, weights = top_candidates(jnp.array([[0.0, LOWEST, 1.0]]), None, 5)
    assert actions.shape == (1, 5) and actions[0, :2].tolist() == [2, 0]
    assert np.asarray(weights)[0, 2:].tolist() == [LOWEST] * 3


def test_the_control_is_uniform_and_learns_nothing(played):
    policy = UniformPolicy(game=GAME)
    assert policy.init(jax.random.key(0)) == {}
    actions, weights, value = policy.propose({}, jax.random.key(0), played, 40)
    counts = np.asarray(played.legal).sum(1)
    np.testing.assert_allclose(np.asarray(weights)[:, 0], -np.log(counts), rtol=1e-5)
    assert not value.any()
    log_probs, outputs = policy.evaluate({}, played, actions)
    np.testing.assert_allclose(log_probs[:, 0], -np.log(counts), rtol=1e-5)
    loss, metrics = policy.loss({}, batch(played))
    assert outputs == () and float(loss) == 0 and metrics == {}


def test_policies_keep_the_contract():
    for policy in (UniformPolicy(game=GAME), NetworkPolicy(game=GAME, config=DENSE)):
        assert isinstance(policy, Policy) and policy.has_distinct_candidates


def batch(played, **changes):
    count = played.length.shape[0]
    legal = played.legal
    weights = legal / legal.sum(1, keepdims=True)
    fields = dict(
        observation=played,
        candidates=legal,
        weights=weights,
        correctness=jnp.zeros(count),
        latency=jnp.zeros(count),
        bootstrap_observation=None,
        bootstrap_weight=jnp.zeros(count),
        policy_weight=jnp.ones(count),
        value_weight=jnp.ones(count),
    )
    return Batch(**(fields | changes))


def test_losses_of_uniform_outputs_are_entropies(played):
    policy = NetworkPolicy(game=GAME, config=DENSE)
    params = jax.tree.map(jnp.zeros_like, initial(DENSE))
    loss, metrics = jax.jit(policy.loss)(params, batch(played))
    counts = np.asarray(played.legal).sum(1)
    assert float(metrics["policy_loss"]) == pytest.approx(np.log(counts).mean(), rel=1e-5)
    assert float(metrics["value_loss"]) == pytest.approx(2 * np.log(5), rel=1e-5)
    assert float(loss) == pytest.approx(np.log(counts).mean() + 2 * np.log(5), rel=1e-5)


def test_moves_that_were_not_candidates_have_no_gradient(played):
    policy, params = NetworkPolicy(game=GAME, config=DENSE), initial(DENSE)
    seen = np.flatnonzero(np.asarray(played.legal[3]))
    few = jnp.zeros_like(played.legal).at[:, seen[:2]].set(True) & played.legal[3][None]
    weights = jnp.zeros(few.shape).at[:, seen[0]].set(1.0)
    one = batch(played, candidates=few, weights=weights)
    grads = jax.jit(jax.grad(lambda p: policy.loss(p, one)[0]))(params)
    bias = np.asarray(grads["online"]["params"]["policy"]["bias"])
    assert bias[seen[0]] < 0 < bias[seen[1]]
    assert not np.delete(bias, seen[:2]).any()


def test_correctness_is_bootstrapped_from_the_target_network(played):
    policy, params = NetworkPolicy(game=GAME, config=SMALL), initial(SMALL)
    assert set(params) == {"online", "target"}
    later = jax.tree.map(lambda x: x[::-1], played)
    ahead = batch(
        played,
        bootstrap_observation=later,
        bootstrap_weight=jnp.ones(4),
        correctness=jnp.full(4, 0.5),
    )
    logits = jax.jit(policy.network.apply)(params["target"], later).correctness
    plain = NetworkPolicy(game=GAME, config=dataclasses.replace(SMALL, td_steps=0))
    known = batch(played, correctness=0.5 + mean_value(logits, SMALL))
    learn = jax.jit(jax.value_and_grad(policy.loss, has_aux=True))
    (loss, _), grads = learn(params, ahead)
    np.testing.assert_allclose(loss, jax.jit(plain.loss)(params, known)[0], rtol=1e-5)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(grads["target"]))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(grads["online"]))


def test_the_target_network_is_copied_every_100_steps():
    policy = NetworkPolicy(game=GAME, config=SMALL)
    old = {"online": jnp.zeros(2), "target": jnp.ones(2)}
    new = {"online": jnp.full(2, 5.0), "target": jnp.full(2, 7.0)}
    for step, expected in ((99, 1.0), (100, 5.0), (101, 1.0), (200, 5.0)):
        params = policy.update_target(old, new, jnp.int32(step))
        assert params["target"].tolist() == [expected] * 2
        assert params["online"].tolist() == [5.0] * 2
