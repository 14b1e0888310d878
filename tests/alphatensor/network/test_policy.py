"""The network as a policy: what it proposes is legal, scored as it is drawn, and learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Move, Ring, canonical, distinct
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import from_array, matmul
from alphajax.alphatensor.learning import demonstrations
from alphajax.alphatensor.network.policy import Batch, NetworkConfig, NetworkPolicy, UniformPolicy

TINY = dict(
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
CHEAP = dict(TINY, torso="dense", head="dense")
TWO_SIZES = (matmul(1, 2, 1), matmul(1, 2, 2))


def make(ring, targets=TWO_SIZES, entries=2, **config):
    game = TensorGame(targets=targets, ring=ring, history=1)
    return NetworkPolicy(game=game, config=NetworkConfig(token_entries=entries, **config))


def observations(game, count=4):
    """Games of every size, one random move in."""
    states = jax.jit(jax.vmap(game.init))(jax.random.split(jax.random.key(3), count))
    inside = np.arange(game.side) < np.asarray(states.dims)[..., None]
    factors = np.random.default_rng(0).integers(0, 2, inside.shape) * inside
    states, _ = jax.jit(jax.vmap(game.step))(states, Move(jnp.asarray(factors, jnp.int8)))
    return jax.jit(jax.vmap(game.observe))(states)


POLICIES = {
    "Z, the paper's network, turned": make(Ring(), **TINY),
    "Z up to 2, turned": make(Ring(0, 2), **CHEAP),
    "Z2": make(Ring(2), signed_permutations=False, **CHEAP),
    "Z3, turned": make(Ring(3), **CHEAP),
    "uniform over Z": UniformPolicy(game=make(Ring()).game, token_entries=2),
}


@functools.cache
def proposals(name, k=64):
    policy = POLICIES[name]
    obs = observations(policy.game)
    params = jax.jit(policy.init)(jax.random.key(0))
    propose = jax.jit(policy.propose, static_argnums=3)
    return obs, params, propose(params, jax.random.key(1), obs, k)


@pytest.mark.parametrize("name", POLICIES)
def test_proposals_are_legal(name):
    obs, _, (moves, log_weights, value) = proposals(name)
    ring, factors = POLICIES[name].game.ring, np.asarray(moves.factors)
    assert factors.shape == (4, 64, 3, 4) and factors.dtype == np.int8
    assert factors.any(axis=-1).all(), "a null move"
    outside = np.arange(4) >= np.asarray(obs.dims)[:, None, :, None]
    assert not (factors * outside).any(), "an entry in the padding"
    np.testing.assert_array_equal(canonical(moves.factors, ring), factors)
    assert set(np.unique(factors)) <= set(range(ring.lowest, ring.lowest + ring.base))
    assert log_weights.shape == (4, 64) and not log_weights.any()
    assert value.shape == (4,) and value.dtype == jnp.float32
    assert len(np.unique(factors.reshape(-1, 12), axis=0)) > 16


def every_move(alphabet, dims):
    """All canonical moves that are not null, `[distinct, 3, S]`."""
    base, low = alphabet.ring.base, alphabet.ring.lowest
    moves = np.array(list(np.ndindex(*[base] * sum(dims)))) + low
    full = np.zeros((len(moves), 3, alphabet.side), np.int8)
    for mode, start in enumerate(np.cumsum([0, *dims[:2]])):
        full[:, mode, : dims[mode]] = moves[:, start : start + dims[mode]]
    full = full[full.any(axis=-1).all(axis=-1)]
    full = full[(np.asarray(canonical(jnp.asarray(full), alphabet.ring)) == full).all(axis=(1, 2))]
    assert len(full) == distinct(alphabet, dims)
    return full


SMALL = (from_array(np.eye(2, dtype=int)[:, None] + np.ones((2, 1, 2), int)),)


@pytest.mark.parametrize(
    "policy",
    [
        make(Ring(), SMALL, 1, signed_permutations=False, **TINY),
        make(Ring(3), SMALL, 2, signed_permutations=False, **CHEAP),
    ],
    ids=["Z, transformer", "Z3, cheap, one token a factor"],
)
def test_evaluate_gives_the_probabilities_that_propose_draws_by(policy):
    every = every_move(policy.alphabet, (2, 1, 2))
    obs = observations(policy.game, 1)

    @jax.jit
    def far_from_uniform(key):
        leaves, tree = jax.tree.flatten(policy.init(key))
        keys = jax.random.split(jax.random.key(1), len(leaves))
        noise = [0.5 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        return jax.tree.unflatten(tree, [x + y for x, y in zip(leaves, noise, strict=True)])

    params = far_from_uniform(jax.random.key(0))
    log_probs, _ = jax.jit(policy.evaluate)(params, obs, Move(jnp.asarray(every)[None]))
    probabilities = np.exp(np.asarray(log_probs[0], np.float64))
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-4)
    assert probabilities.max() > 2 / len(every)

    count = 20_000
    moves, _, _ = jax.jit(policy.propose, static_argnums=3)(params, jax.random.key(2), obs, count)
    index = {move.tobytes(): i for i, move in enumerate(every)}
    drawn = [index[move.tobytes()] for move in np.asarray(moves.factors[0])]
    expected = count * probabilities
    observed = np.bincount(drawn, minlength=len(every))
    likely = expected > 5
    chi_square = ((observed - expected)[likely] ** 2 / expected[likely]).sum()
    freedom = likely.sum() - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_a_uniform_policy_draws_tokens_uniformly():
    policy = UniformPolicy(game=TensorGame(targets=SMALL, ring=Ring(2)), token_entries=2)
    obs = observations(policy.game, 1)
    moves, _, value = jax.jit(policy.propose, static_argnums=3)({}, jax.random.key(0), obs, 9000)
    _, counts = np.unique(np.asarray(moves.factors[0]).reshape(-1, 6), axis=0, return_counts=True)
    assert len(counts) == 9 and np.abs(counts - 1000).max() < 150
    assert value <= 0


def test_what_is_proposed_for_a_turned_tensor_is_turned_back():
    """Playing a candidate, then turning, must equal turning, then playing what the network said."""
    name = "Z, the paper's network, turned"
    policy, key = POLICIES[name], jax.random.key(1)
    ring = policy.game.ring
    obs, params, (moves, _, _) = proposals(name)
    sign_key, key = jax.random.split(key)
    turned, signed = jax.jit(policy.turn)(sign_key, obs)
    say = jax.jit(functools.partial(policy.network.apply, method="propose"), static_argnums=(3, 4))
    said = say(params, key, turned, 64, 1.0)[0]
    said = np.asarray(policy.alphabet.decode(said), int)
    for game in range(4):
        one = jax.tree.map(lambda x, game=game: x[game], signed)
        again = np.asarray(bases.permute_factors(moves.factors[game], one, ring), int)
        np.testing.assert_array_equal(
            np.einsum("ri,rj,rk->rijk", *np.moveaxis(again, 1, 0)),
            np.einsum("ri,rj,rk->rijk", *np.moveaxis(said[game], 1, 0)),
        )
        np.testing.assert_array_equal(
            bases.permute_tensor(obs.residual[game], one, ring), turned.residual[game]
        )
    # Each query is turned in its own way, and padding stays where it is.
    assert len({np.asarray(signed.order[g]).tobytes() for g in range(4)}) > 1
    np.testing.assert_array_equal(turned.dims, obs.dims)


def demonstration_batch(policy, count=16):
    game = policy.game
    dims = jnp.asarray(np.array([game.targets[-1].shape] * count, np.int8))
    found = jax.jit(demonstrations.synthetic, static_argnums=(3, 4, 5, 6))(
        jax.random.key(5),
        jnp.full(count, game.max_moves),
        dims,
        game,
        demonstrations.Distribution(),
        2,
        True,
    )
    ones = jnp.ones(count)
    return Batch(*found, ones, ones)


@pytest.mark.parametrize("config", [TINY, CHEAP], ids=["the paper's", "cheap"])
def test_one_batch_can_be_learned_by_heart(config):
    policy = make(Ring(2), (matmul(1, 2, 2),), **dict(config, width=32, policy_width=32))
    batch = demonstration_batch(policy)
    batch = batch._replace(  # one good move each, so that the best loss is zero
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


def test_moves_without_weight_cannot_spoil_the_loss():
    """Fillers may be null moves or lie in the padding: probability zero, weight zero."""
    policy = make(Ring(), **CHEAP)
    obs = observations(policy.game)
    good = proposals("Z, the paper's network, turned")[2][0].factors[:, :1]
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
    # A position of no weight may hold anything.
    same, _ = check(batch._replace(value=jnp.array([-1.0, -9.0, -9.0, -9.0])))
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    nothing, grads = check(batch._replace(policy_weight=jnp.zeros(4), value_weight=jnp.zeros(4)))
    assert nothing == 0 and not any(np.any(x) for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("config", [TINY, CHEAP], ids=["the paper's", "cheap"])
def test_bfloat16_stays_inside_the_network(config):
    policy = make(Ring(), dtype="bfloat16", **config)
    obs, key = observations(policy.game), jax.random.key(0)
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


def test_the_papers_network_has_a_preset_of_its_own_width():
    """The defaults are the paper's: 15 tokens of 5^5 values for S = 25, three 25 x 25 grids."""
    game = TensorGame(targets=(matmul(5, 5, 5),), ring=Ring(0, 2))
    policy = NetworkPolicy(game=game, config=NetworkConfig())
    assert (policy.alphabet.count, policy.alphabet.size) == (15, 3125)
    params = jax.eval_shape(policy.init, jax.eval_shape(lambda: jax.random.key(0)))
    count = sum(x.size for x in jax.tree.leaves(params))
    assert 50e6 < count < 500e6


@pytest.mark.parametrize(
    "name, value",
    [("width", 0), ("policy_layers", 0), ("risk", 1.0)],
)
def test_nonsense_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: received {value}"):
        NetworkConfig(**{name: value})
