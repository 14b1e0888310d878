"""The network: what it sees, what it may propose, and what its losses are."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.network.encoders import (
    MultiQueryAttention,
    ProgramEncoder,
    StateEncoder,
    sinusoids,
)
from alphajax.alphadev.network.policy import (
    LOWEST,
    Batch,
    NetworkConfig,
    NetworkPolicy,
    UniformPolicy,
    candidates,
    mean_value,
    shown_tests,
    support,
    two_hot,
)

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
    """Observations along one random game, the first three moves of it."""
    state, seen = GAME.init(jax.random.key(0)), []
    step, rng = jax.jit(GAME.step), np.random.default_rng(0)
    for _ in range(4):
        seen.append(GAME.observe(state))
        state, _ = step(state, jnp.int16(rng.choice(np.flatnonzero(state.legal))))
    return jax.tree.map(lambda *x: jnp.stack(x), *seen)


@functools.cache
def initial(config):
    """The parameters that a network begins with, compiled whole."""
    return jax.jit(NetworkPolicy(game=GAME, config=config).init)(jax.random.key(1))


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["transformer", "dense"])
def test_a_policy_scores_legal_moves_alone(config, played):
    policy = NetworkPolicy(game=GAME, config=config)
    params = initial(config)
    propose = jax.jit(policy.propose, static_argnums=3)
    actions, log_weights, value = propose(params, jax.random.key(2), played, 40)
    assert actions.shape == log_weights.shape == (4, 40) and value.shape == (4,)
    for legal, chosen, weights in zip(played.legal, actions, log_weights, strict=True):
        there = np.asarray(weights) > LOWEST
        assert sorted(np.asarray(chosen)[there]) == np.flatnonzero(legal).tolist()
        assert np.exp(np.asarray(weights)[there]).sum() == pytest.approx(1, rel=1e-5)
        assert (np.diff(np.asarray(weights)) <= 0).all()
    log_probs, (correctness, latency) = jax.jit(policy.evaluate)(params, played, actions)
    there = np.asarray(log_weights) > LOWEST
    np.testing.assert_allclose(
        np.asarray(log_probs)[there], np.asarray(log_weights)[there], atol=1e-5
    )
    total = mean_value(correctness, config) + mean_value(latency, config)
    np.testing.assert_allclose(value, total, rtol=1e-5)


def test_the_root_samples_without_replacement(played):
    policy = NetworkPolicy(game=GAME, config=DENSE)
    params, propose = initial(DENSE), jax.jit(policy.propose_root, static_argnums=3)
    most = set()
    for seed in range(8):
        actions, weights, _ = propose(params, jax.random.key(seed), played, 2)
        for legal, row, there in zip(played.legal, actions, weights > LOWEST, strict=True):
            chosen = np.asarray(row)[there]
            assert len(set(chosen.tolist())) == len(chosen) == min(2, legal.sum())
            assert np.asarray(legal)[chosen].all()
        most |= set(np.asarray(actions[-1]).tolist())
    assert len(most) > 2


def test_a_gumbel_sample_follows_the_policy():
    """The first of the K is a draw from the softmax."""
    logits = jnp.log(jnp.array([[0.6, 0.3, 0.1, 0.0]]) + 1e-30)
    logits = jnp.where(jnp.array([[True, True, True, False]]), logits, LOWEST)
    noise = jax.random.gumbel(jax.random.key(0), (4000, 4))
    actions, weights = candidates(jnp.repeat(logits, 4000, axis=0), noise, 4)
    share = np.bincount(np.asarray(actions[:, 0]), minlength=4) / 4000
    np.testing.assert_allclose(share, [0.6, 0.3, 0.1, 0], atol=0.03)
    assert (np.asarray(weights)[:, 3] == LOWEST).all()
    assert (np.sort(np.asarray(actions), axis=1) == np.arange(4)).all()


def test_more_slots_than_moves():
    actions, weights = candidates(jnp.array([[0.0, LOWEST, 1.0]]), None, 5)
    assert actions.shape == (1, 5) and actions[0, :2].tolist() == [2, 0]
    assert np.asarray(weights)[0, 2:].tolist() == [LOWEST] * 3


def test_the_control_is_uniform(played):
    policy = UniformPolicy(game=GAME)
    assert policy.init(jax.random.key(0)) == {}
    _, weights, value = policy.propose({}, jax.random.key(0), played, 40)
    counts = np.asarray(played.legal).sum(1)
    np.testing.assert_allclose(np.asarray(weights)[:, 0], -np.log(counts), rtol=1e-5)
    assert not value.any()


def test_two_hot_and_its_mean():
    config = dataclasses.replace(DENSE, bins=9)
    values = jnp.array([-1.0, -0.75, 0.3, 2.9, 3.0, 7.0])
    hot = two_hot(values, config)
    np.testing.assert_allclose(hot.sum(1), 1, rtol=1e-6)
    assert (np.asarray((hot > 0).sum(1)) <= 2).all()
    np.testing.assert_allclose(hot @ support(config), np.minimum(values, 3.0), rtol=1e-5)
    far = jnp.where(hot > 0, jnp.log(hot), -1e9)
    np.testing.assert_allclose(mean_value(far, config), np.minimum(values, 3.0), rtol=1e-5)


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
        later=None,
        bootstrap=jnp.zeros(count),
        policy_weight=jnp.ones(count),
        value_weight=jnp.ones(count),
    )
    return Batch(**(fields | changes))


def test_losses_at_the_start_are_entropies(played):
    """Both values' heads begin flat, the policy alike over what is legal."""
    policy = NetworkPolicy(game=GAME, config=DENSE)
    params = jax.tree.map(jnp.zeros_like, initial(DENSE))
    loss, metrics = jax.jit(policy.loss)(params, batch(played))
    counts = np.asarray(played.legal).sum(1)
    assert float(metrics["policy_loss"]) == pytest.approx(np.log(counts).mean(), rel=1e-5)
    assert float(metrics["value_loss"]) == pytest.approx(2 * np.log(5), rel=1e-5)
    assert float(loss) == pytest.approx(np.log(counts).mean() + 2 * np.log(5), rel=1e-5)


def test_moves_that_were_not_candidates_feel_no_gradient(played):
    policy, params = NetworkPolicy(game=GAME, config=DENSE), initial(DENSE)
    seen = np.flatnonzero(np.asarray(played.legal[3]))
    few = jnp.zeros_like(played.legal).at[:, seen[:2]].set(True) & played.legal[3][None]
    weights = jnp.zeros(few.shape).at[:, seen[0]].set(1.0)
    one = batch(played, candidates=few, weights=weights)
    grads = jax.jit(jax.grad(lambda p: policy.loss(p, one)[0]))(params)
    bias = np.asarray(grads["online"]["params"]["policy"]["bias"])
    assert bias[seen[0]] < 0 < bias[seen[1]]
    assert not np.delete(bias, seen[:2]).any()


def test_correctness_learns_from_what_the_target_network_says_later(played):
    policy, params = NetworkPolicy(game=GAME, config=SMALL), initial(SMALL)
    assert set(params) == {"online", "target"}
    later = jax.tree.map(lambda x: x[::-1], played)
    ahead = batch(played, later=later, bootstrap=jnp.ones(4), correctness=jnp.full(4, 0.5))
    found = jax.jit(policy.network.apply)(params["target"], later).correctness
    plain = NetworkPolicy(game=GAME, config=dataclasses.replace(SMALL, td_steps=0))
    known = batch(played, correctness=0.5 + mean_value(found, SMALL))
    learn = jax.jit(jax.value_and_grad(policy.loss, has_aux=True))
    (loss, _), grads = learn(params, ahead)
    np.testing.assert_allclose(loss, jax.jit(plain.loss)(params, known)[0], rtol=1e-5)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(grads["target"]))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(grads["online"]))


def test_the_target_network_is_copied_now_and_then():
    policy = NetworkPolicy(game=GAME, config=SMALL)
    old = {"online": jnp.zeros(2), "target": jnp.ones(2)}
    new = {"online": jnp.full(2, 5.0), "target": jnp.full(2, 7.0)}
    for step, expected in ((99, 1.0), (100, 5.0), (101, 1.0), (200, 5.0)):
        settled = policy.settle(old, new, jnp.int32(step))
        assert settled["target"].tolist() == [expected] * 2
        assert settled["online"].tolist() == [5.0] * 2


def test_tests_are_encoded_alike_and_pooled(played):
    """The encoder of one test is the encoder of all: their order does not matter."""
    encoder = StateEncoder(tuple(range(GAME.task.tests)), (8,), jnp.dtype("float32"))
    params = jax.jit(encoder.init)(jax.random.key(0), played, None)
    encode = jax.jit(encoder.apply)
    found = encode(params, played, None)
    assert found.shape == (4, GAME.task.tests, 8)

    def swapped(words):  # tests 0 and 2
        low, high = words & 1, (words >> 2) & 1
        return (words & ~jnp.uint32(5)) | (low << 2) | high

    other = played._replace(
        held=swapped(played.held), flag=swapped(played.flag), skip=swapped(played.skip)
    )
    np.testing.assert_allclose(encode(params, other, None), found[:, [2, 1, 0]], rtol=1e-6)


def test_shown_tests_are_the_most_different_ones():
    task = tasks.sort(3)
    assert shown_tests(task, 0) == shown_tests(task, 99) == tuple(range(13))
    few = shown_tests(task, 8)
    different = sorted(len(set(task.inputs[p].tolist())) for p in few)
    assert different == [2, 2, 3, 3, 3, 3, 3, 3] and len(set(few)) == 8


def test_the_program_encoder_reads_up_to_the_end(played):
    table = tuple(tuple(row) for row in GAME.actions.tolist())
    encoder = ProgramEncoder(table, 8, 1, 2, 4, 1, jnp.dtype("float32"))
    params = jax.jit(encoder.init)(jax.random.key(0), played.program, played.length)
    encode = jax.jit(encoder.apply)
    found = encode(params, played.program, played.length)
    assert len(np.unique(np.round(np.asarray(found), 5), axis=0)) == 4
    behind = jnp.where(played.program < 0, 3, played.program)
    assert jnp.allclose(encode(params, behind.astype(jnp.int16), played.length), found)


def test_attention_is_causal_and_shares_keys():
    layer = MultiQueryAttention(heads=2, head_width=4, widening=1, dtype=jnp.dtype("float32"))
    x = jax.random.normal(jax.random.key(0), (1, 5, 8))
    params = jax.jit(layer.init)(jax.random.key(1), x)
    slope = jax.jit(jax.jacobian(lambda x: layer.apply(params, x)[0].sum(-1)))(x)[:, 0]  # [5, 5, 8]
    strength = np.abs(np.asarray(slope)).sum(-1)
    assert (strength[np.triu_indices(5, 1)] == 0).all()
    assert (strength[np.tril_indices(5)] > 0).all()
    kernels = [x.shape for x in jax.tree.leaves(params) if x.ndim == 2]
    assert (8, 8) in kernels  # queries of two heads; one key and one value, 4 each


def test_positions_are_told_apart():
    table = sinusoids(6, 5)
    assert table.shape == (6, 5) and table.dtype == np.float32
    assert len(np.unique(table, axis=0)) == 6


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(bins=1), "bins: received 1"),
        (dict(width=0), "width: received 0"),
        (dict(test_widths=()), "test_widths"),
        (dict(value_low=3.0), "value_low: received 3.0; expected below 3.0"),
        (dict(td_steps=-1), "td_steps: received -1"),
    ],
)
def test_nonsense_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        NetworkConfig(**arguments)
