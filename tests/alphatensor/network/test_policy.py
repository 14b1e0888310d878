"""Policies: legal proposals, log-probabilities that agree with `evaluate`, a loss that falls."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Move, Ring, canonical, num_distinct_moves
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.game.tensors import from_array, matmul
from alphajax.alphatensor.learning import demonstrations
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.alphatensor.network.policy import Batch, NetworkPolicy, UniformPolicy
from alphajax.search import Policy

ATTENTIVE = dict(
    width=8,
    blocks=1,
    heads=1,
    head_width=8,
    widening=1,
    policy_width=8,
    policy_layers=1,
    policy_heads=1,
    policy_head_width=8,
    policy_widening=1,
    value_width=8,
    value_layers=1,
)
DENSE = dict(ATTENTIVE, torso="dense", head="dense")
TWO_SIZES = (matmul(1, 2, 1), matmul(1, 2, 2))
ONE_SMALL = (from_array(np.eye(2, dtype=int)[:, None] + np.ones((2, 1, 2), int)),)
seeds = st.integers(0, 2**31 - 1)
scales = st.floats(0, 3)


def make(ring, targets=TWO_SIZES, entries=2, **config):
    game = TensorGame(targets=targets, ring=ring, history=1)
    return NetworkPolicy(game=game, config=NetworkConfig(token_entries=entries, **config))


POLICIES = {
    "Z, attentive, permuted": make(Ring(), **ATTENTIVE),
    "Z up to 2, dense, permuted": make(Ring(0, 2), **DENSE),
    "Z2, dense": make(Ring(2), signed_permutations=False, **DENSE),
    "Z3, dense, permuted": make(Ring(3), **DENSE),
    "Z, uniform": UniformPolicy(game=make(Ring()).game, token_entries=2),
}
K = 16


@functools.cache
def functions(name):
    """The jitted members of a policy, and the shapes of its parameters."""
    policy = POLICIES[name]
    return (
        jax.jit(policy.propose, static_argnums=3),
        jax.jit(policy.sample_moves, static_argnums=(3, 4)),
        jax.jit(policy.evaluate),
        jax.eval_shape(policy.init, jax.random.key(0)),
    )


def random_params(shapes, seed, scale):
    """Normal parameters, far from those of `init`."""
    generator = np.random.default_rng(seed)

    def sample(x):
        return jnp.asarray(scale * generator.standard_normal(x.shape), x.dtype)

    return jax.tree.map(sample, shapes)


def random_observations(game, seed, count=4):
    """Random residuals and past moves of games with random mode lengths."""
    generator = np.random.default_rng(seed)
    dims = np.array([target.shape for target in game.targets], np.int8)
    dims = dims[generator.integers(len(dims), size=count)]
    inside = np.arange(game.side) < dims[..., None]
    low, high = game.ring.lowest, game.ring.lowest + game.ring.base
    residual = generator.integers(low, high, (count, *[game.side] * 3))
    residual *= np.einsum("bi,bj,bk->bijk", *np.moveaxis(inside.astype(int), 1, 0))
    past = generator.integers(low, high, (count, game.history, 3, game.side)) * inside[:, None]
    return Observation(
        residual=jnp.asarray(residual, game.dtype),
        past=jnp.asarray(past, jnp.int8),
        dims=jnp.asarray(dims),
        remaining=jnp.asarray(generator.integers(1, 5, count), jnp.int16),
    )


@pytest.mark.parametrize("name", POLICIES)
def test_policies_keep_the_contract(name):
    policy = POLICIES[name]
    assert isinstance(policy, Policy)
    assert not policy.has_distinct_candidates
    assert policy.update_target({"a": 0}, {"a": 1}, jnp.int32(1)) == {"a": 1}
    assert hash(policy) == hash(POLICIES[name])


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=8)
@given(seeds, scales)
def test_proposals_are_legal_moves_for_any_network_and_position(name, seed, scale):
    policy = POLICIES[name]
    propose, _, _, shapes = functions(name)
    obs = random_observations(policy.game, seed)
    params = random_params(shapes, seed, scale)
    moves, log_weights, value = propose(params, jax.random.key(seed), obs, K)
    ring, factors = policy.game.ring, np.asarray(moves.factors)
    assert factors.shape == (4, K, 3, 4) and factors.dtype == np.int8
    assert factors.any(axis=-1).all(), "a null move"
    outside = np.arange(4) >= np.asarray(obs.dims)[:, None, :, None]
    assert not (factors * outside).any(), "an entry in the padding"
    np.testing.assert_array_equal(canonical(moves.factors, ring), factors)
    assert set(np.unique(factors)) <= set(range(ring.lowest, ring.lowest + ring.base))
    assert log_weights.shape == (4, K) and not log_weights.any()
    assert value.shape == (4,) and value.dtype == jnp.float32 and np.isfinite(value).all()


@pytest.mark.parametrize("name", [name for name in POLICIES if "uniform" not in name])
@settings(max_examples=8)
@given(seeds, st.floats(0, 1), st.sampled_from([0.5, 2.0]))
def test_log_probabilities_of_samples_are_those_of_evaluate(name, seed, scale, temperature):
    """At temperature 1, and under the signed permutation that the network was shown."""
    policy = POLICIES[name]
    _, sample_moves, evaluate, shapes = functions(name)
    ring, key = policy.game.ring, jax.random.key(seed)
    obs = random_observations(policy.game, seed)
    params = random_params(shapes, seed, scale)
    moves, log_probs = sample_moves(params, key, obs, K, temperature)
    if policy.config.signed_permutations:
        obs, signed = policy.permute(jax.random.split(key)[0], obs)
        permute = jax.vmap(bases.permute_factors, in_axes=(0, 0, None))
        moves = Move(canonical(permute(moves.factors, signed, ring), ring))
    expected, _ = evaluate(params, obs, moves)
    np.testing.assert_allclose(log_probs, expected, rtol=2e-3, atol=2e-3)


def test_different_samples_are_proposed():
    propose, _, _, shapes = functions("Z2, dense")
    obs = random_observations(POLICIES["Z2, dense"].game, 0)
    moves, _, _ = propose(random_params(shapes, 0, 0.1), jax.random.key(1), obs, K)
    assert len(np.unique(np.asarray(moves.factors).reshape(-1, 12), axis=0)) > K


def every_move(alphabet, dims):
    """All canonical moves that are not null, `[moves, 3, S]`."""
    base, low = alphabet.ring.base, alphabet.ring.lowest
    moves = np.array(list(np.ndindex(*[base] * sum(dims)))) + low
    full = np.zeros((len(moves), 3, alphabet.side), np.int8)
    for mode, start in enumerate(np.cumsum([0, *dims[:2]])):
        full[:, mode, : dims[mode]] = moves[:, start : start + dims[mode]]
    full = full[full.any(axis=-1).all(axis=-1)]
    full = full[(np.asarray(canonical(jnp.asarray(full), alphabet.ring)) == full).all(axis=(1, 2))]
    assert len(full) == num_distinct_moves(alphabet, dims)
    return full


SMALL_POLICIES = {
    "Z, attentive": make(Ring(), ONE_SMALL, 1, signed_permutations=False, **ATTENTIVE),
    "Z3, dense": make(Ring(3), ONE_SMALL, 2, signed_permutations=False, **DENSE),
    "Z, uniform": UniformPolicy(
        game=TensorGame(targets=ONE_SMALL, ring=Ring(), history=1), token_entries=1
    ),
}


@functools.cache
def evaluate_every_move(name):
    """Every move of a small game, and a jitted function to their log-probabilities."""
    policy = SMALL_POLICIES[name]
    every = every_move(policy.alphabet, (2, 1, 2))

    @jax.jit
    def evaluate(params, obs):
        return policy.evaluate(params, obs, Move(jnp.asarray(every)[None]))[0][0]

    return every, evaluate, jax.eval_shape(policy.init, jax.random.key(0))


@pytest.mark.parametrize("name", SMALL_POLICIES)
@settings(max_examples=8)
@given(seeds, st.floats(0, 1))
def test_probabilities_of_all_moves_sum_to_1(name, seed, scale):
    _, evaluate, shapes = evaluate_every_move(name)
    obs = random_observations(SMALL_POLICIES[name].game, seed, 1)
    log_probs = evaluate(random_params(shapes, seed, scale), obs)
    np.testing.assert_allclose(np.exp(np.asarray(log_probs, np.float64)).sum(), 1, rtol=1e-3)


@pytest.mark.parametrize("name", SMALL_POLICIES)
def test_proposals_have_the_frequencies_that_evaluate_predicts(name):
    policy = SMALL_POLICIES[name]
    every, evaluate, shapes = evaluate_every_move(name)
    params, obs = random_params(shapes, 0, 0.5), random_observations(policy.game, 0, 1)
    probabilities = np.exp(np.asarray(evaluate(params, obs), np.float64))
    if "uniform" not in name:
        assert probabilities.max() > 2 / len(every), "the network is almost uniform"
    count = 20_000
    moves, _, _ = jax.jit(policy.propose, static_argnums=3)(params, jax.random.key(2), obs, count)
    index = {move.tobytes(): i for i, move in enumerate(every)}
    samples = [index[move.tobytes()] for move in np.asarray(moves.factors[0])]
    expected = count * probabilities
    observed = np.bincount(samples, minlength=len(every))
    frequent = expected > 5
    chi_square = ((observed - expected)[frequent] ** 2 / expected[frequent]).sum()
    freedom = frequent.sum() - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_the_uniform_policy_has_no_parameters_and_a_bound_as_value():
    policy = UniformPolicy(game=TensorGame(targets=ONE_SMALL, ring=Ring(2)), token_entries=2)
    obs = random_observations(policy.game, 0, 1)
    params = policy.init(jax.random.key(0))
    assert not jax.tree.leaves(params)
    moves, _, value = jax.jit(policy.propose, static_argnums=3)(
        params, jax.random.key(0), obs, 9000
    )
    _, counts = np.unique(np.asarray(moves.factors[0]).reshape(-1, 6), axis=0, return_counts=True)
    assert len(counts) == 9 and np.abs(counts - 1000).max() < 150
    assert value <= 0 and (value == policy.values(params, obs)).all()
    _, log_probs = policy.sample_moves(params, jax.random.key(0), obs, 4, 1.0)
    assert not log_probs.any()
    loss, metrics = policy.loss(params, demonstration_batch(policy))
    assert loss == 0 and metrics == {}


def test_proposals_for_a_permuted_tensor_are_permuted_back():
    """Playing a proposal, then permuting, equals permuting, then playing the network's sample."""
    name = "Z up to 2, dense, permuted"
    policy, key = POLICIES[name], jax.random.key(1)
    ring = policy.game.ring
    propose, _, _, shapes = functions(name)
    obs, params = random_observations(policy.game, 3), random_params(shapes, 0, 0.3)
    moves, _, _ = propose(params, key, obs, K)
    sign_key, key = jax.random.split(key)
    permuted, signed = jax.jit(policy.permute)(sign_key, obs)
    sample = jax.jit(
        functools.partial(policy.network.apply, method="sample"), static_argnums=(3, 4)
    )
    samples = np.asarray(policy.alphabet.decode(sample(params, key, permuted, K, 1.0)[0]), int)
    for game in range(4):
        one = jax.tree.map(lambda x, game=game: x[game], signed)
        again = np.asarray(bases.permute_factors(moves.factors[game], one, ring), int)
        np.testing.assert_array_equal(
            np.einsum("ri,rj,rk->rijk", *np.moveaxis(again, 1, 0)),
            np.einsum("ri,rj,rk->rijk", *np.moveaxis(samples[game], 1, 0)),
        )
        np.testing.assert_array_equal(
            bases.permute_tensor(obs.residual[game], one, ring), permuted.residual[game]
        )
    # Each query has its own permutation, and padding stays where it is.
    assert len({np.asarray(signed.order[g]).tobytes() for g in range(4)}) > 1
    np.testing.assert_array_equal(permuted.dims, obs.dims)


def demonstration_batch(policy, count=16):
    game = policy.game
    dims = jnp.asarray(np.array([game.targets[-1].shape] * count, np.int8))
    positions = jax.jit(demonstrations.sample_synthetic, static_argnums=(3, 4, 5, 6))(
        jax.random.key(5),
        jnp.full(count, game.max_moves),
        dims,
        game,
        demonstrations.Distribution(),
        2,
        True,
    )
    ones = jnp.ones(count)
    return Batch(*positions, ones, ones)


@pytest.mark.parametrize("config", [ATTENTIVE, DENSE], ids=["attentive", "dense"])
def test_one_batch_can_be_learned_by_heart(config):
    policy = make(Ring(2), (matmul(1, 2, 2),), **dict(config, width=32, policy_width=32))
    batch = demonstration_batch(policy)
    batch = batch._replace(  # One label each, so that the lowest loss is zero.
        actions=batch.actions[:, :1], weights=jnp.ones_like(batch.weights[:, :1])
    )
    optimizer = optax.adam(3e-3)

    def step(carry, _):
        params, state = carry
        grads, metrics = jax.grad(policy.loss, has_aux=True)(params, batch)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), metrics

    @jax.jit
    def learn(key):
        params = policy.init(key)
        return jax.lax.scan(step, (params, optimizer.init(params)), None, 250)[1]

    metrics = learn(jax.random.key(0))
    for name in ("policy_loss", "value_loss"):
        assert metrics[name][-1] < 0.1 * metrics[name][0], name
    assert metrics["value_error"][-1] < 0.5  # moves


def test_moves_and_positions_of_weight_zero_do_not_affect_the_loss():
    """Such moves may be null or lie in the padding; such positions may hold anything."""
    policy = make(Ring(), **DENSE)
    obs = random_observations(policy.game, 0)
    propose = functions("Z, uniform")[0]
    good = propose({}, jax.random.key(1), obs, K)[0].factors[:, :1]
    bad = jnp.concatenate([jnp.zeros_like(good), jnp.ones_like(good)], axis=1)
    weights = jnp.array([[1.0, 0.0, 0.0]] * 3 + [[0.0] * 3])
    batch = Batch(
        obs,
        jnp.concatenate([good, bad], axis=1),
        weights,
        -jnp.ones(4),
        policy_weight=jnp.array([1.0, 1.0, 0.0, 0.0]),
        value_weight=jnp.array([1.0, 0.0, 0.0, 0.0]),
    )
    params = jax.jit(policy.init)(jax.random.key(0))
    grad = jax.jit(jax.value_and_grad(policy.loss, has_aux=True))

    def check(batch):
        (loss, metrics), grads = grad(params, batch)
        for x in jax.tree.leaves((loss, metrics, grads)):
            assert np.isfinite(x).all()
        return loss, grads

    loss, grads = check(batch)
    assert loss > 0 and any(np.any(x) for x in jax.tree.leaves(grads))
    same, _ = check(batch._replace(value=jnp.array([-1.0, -9.0, -9.0, -9.0])))
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    zero, grads = check(batch._replace(policy_weight=jnp.zeros(4), value_weight=jnp.zeros(4)))
    assert zero == 0 and not any(np.any(x) for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("config", [ATTENTIVE, DENSE], ids=["attentive", "dense"])
def test_bfloat16_stays_inside_the_network(config):
    policy = make(Ring(), dtype="bfloat16", **config)
    obs, key = random_observations(policy.game, 0), jax.random.key(0)
    params = jax.eval_shape(policy.init, key)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    moves, weights, value = jax.eval_shape(
        lambda p, k, o: policy.propose(p, k, o, 4), params, key, obs
    )
    log_probs, quantiles = jax.eval_shape(policy.evaluate, params, obs, moves)
    assert {x.dtype for x in (weights, value, log_probs, quantiles)} == {jnp.dtype("float32")}
    text = str(
        jax.make_jaxpr(policy.evaluate)(
            *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, obs, moves))
        )
    )
    assert "bf16" in text
