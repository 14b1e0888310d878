"""Policy heads are causal and agree with teacher forcing; statistics of the value head."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.network.heads import (
    DenseHead,
    TransformerHead,
    ValueHead,
    quantile_loss,
    risk_seeking_mean,
)

COUNT, SIZE, BATCH, K = 4, 5, 2, 3
HEADS = {
    "transformer": TransformerHead(
        count=COUNT,
        size=SIZE,
        width=8,
        layers=2,
        heads=2,
        head_width=4,
        widening=2,
        dtype=jnp.dtype("float32"),
    ),
    "dense": DenseHead(count=COUNT, size=SIZE, width=8, layers=2, dtype=jnp.dtype("float32")),
}


@functools.cache
def make_case(name):
    """A head, its parameters (none of them zero), a memory and tokens of moves."""
    keys = jax.random.split(jax.random.key(0), 4)
    memory = jax.random.normal(keys[0], (BATCH, 6, 8))
    tokens = jax.random.randint(keys[1], (BATCH, K, COUNT), 0, SIZE)
    head = HEADS[name]
    params = jax.jit(functools.partial(head.init, method="teacher_forcing"))(
        keys[2], memory, tokens
    )
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(0)
    leaves = [x + 0.1 * generator.standard_normal(x.shape).astype(np.float32) for x in leaves]
    params = jax.tree.unflatten(tree, leaves)
    return head, params, memory, tokens


@pytest.mark.parametrize("name", HEADS)
def test_step_by_step_decoding_equals_teacher_forcing(name):
    head, params, memory, tokens = make_case(name)

    def decode_stepwise(head, memory, tokens):
        logits, feature, state = head.first_token(memory)
        steps = [jnp.broadcast_to(logits, (BATCH, K, SIZE))]
        for position in range(1, COUNT):
            logits, state = head.next_token(state, tokens[..., position - 1], position)
            steps.append(logits)
        return jnp.stack(steps, axis=2), feature

    run = jax.jit(
        lambda method: head.apply(params, memory, tokens, method=method), static_argnums=0
    )
    forced, feature = run("teacher_forcing")
    stepwise_logits, first = run(decode_stepwise)
    np.testing.assert_allclose(stepwise_logits, forced, atol=1e-5)
    np.testing.assert_allclose(first, feature, atol=1e-5)
    assert forced.shape == (BATCH, K, COUNT, SIZE)


@pytest.mark.parametrize("name", HEADS)
def test_a_token_affects_later_logits_only(name):
    head, params, memory, tokens = make_case(name)
    force = jax.jit(lambda t: head.apply(params, memory, t, method="teacher_forcing")[0])
    before = np.asarray(force(tokens))
    for position in range(COUNT):
        changed = tokens.at[:, :, position].add(1) % SIZE
        differs = (np.asarray(force(changed)) != before).any(axis=-1)
        assert not differs[:, :, : position + 1].any()
        assert differs[:, :, position + 1 :].all()


def test_transformer_gradients_are_causal():
    head, params, memory, _ = make_case("transformer")
    x = jax.random.normal(jax.random.key(9), (1, 1, COUNT, 8))

    def features(head, x):
        y, _ = head.decode(x, head.project_memory(memory[:1]), [])
        return head.logits(y)[0, 0].sum(axis=-1)

    jacobian = jax.jit(jax.jacobian(lambda x: head.apply(params, x, method=features)))(x)
    influence = np.abs(np.asarray(jacobian)[:, 0, 0]).sum(axis=-1)
    assert (influence[np.triu_indices(COUNT, 1)] == 0).all()
    assert (influence[np.tril_indices(COUNT)] > 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_candidates_and_games_do_not_affect_each_other(name):
    head, params, memory, tokens = make_case(name)
    force = jax.jit(lambda m, t: head.apply(params, m, t, method="teacher_forcing")[0])
    changed = force(memory, tokens.at[0, 0].add(1) % SIZE) != force(memory, tokens)
    assert not changed[0, 1:].any() and not changed[1].any()
    other = force(memory.at[0].add(1.0), tokens) != force(memory, tokens)
    assert not other[1].any() and other[0].any(axis=-1).all()


def test_value_outputs_are_float32_and_scaled_to_moves():
    head = ValueHead(width=4, layers=1, quantiles=3, scale=100.0, dtype=jnp.dtype("bfloat16"))
    feature = jnp.ones((2, 5), jnp.bfloat16)
    params = head.init(jax.random.key(0), feature)
    params = jax.tree.map(lambda x: x + 1.0, params)
    out = head.apply(params, feature)
    assert out.shape == (2, 3) and out.dtype == jnp.float32
    assert (out < -100).all()


def test_quantile_loss_equals_values_worked_out_by_hand():
    # Two quantiles fitted at levels 1/4 and 3/4, target 0; Huber with kappa = 1.
    cases = {
        (0.0, 0.0): 0.0,
        (-0.5, 0.0): 0.25 * 0.125,  # too low: error 0.5 at its level
        (0.5, 0.0): 0.75 * 0.125,  # too high: error -0.5 at one minus its level
        (0.0, 3.0): 0.25 * 2.5,
        (-3.0, -3.0): (0.25 + 0.75) * 2.5,
    }
    quantiles = jnp.array(list(cases))
    np.testing.assert_allclose(
        quantile_loss(quantiles, jnp.zeros(len(cases))), list(cases.values()), rtol=1e-6
    )


def test_minimising_the_quantile_loss_finds_the_quantiles():
    """Up to the rounding of the Huber loss near zero."""
    samples = jnp.linspace(0.0, 100.0, 101)

    def loss(quantiles):
        return quantile_loss(jnp.broadcast_to(quantiles[None], (101, 4)), samples).mean()

    minimise = jax.jit(
        lambda q: jax.lax.fori_loop(0, 800, lambda i, q: q - 2.0 * jax.grad(loss)(q), q)
    )
    np.testing.assert_allclose(minimise(jnp.full(4, 50.0)), [12.5, 37.5, 62.5, 87.5], atol=1.5)


@pytest.mark.parametrize("level, mean", [(0.0, 4.5), (0.75, 7.5), (0.5, 6.5), (0.99, 8.0)])
def test_risk_seeking_mean_is_the_mean_above_a_level(level, mean):
    quantiles = jnp.arange(1.0, 9.0)[None]
    assert risk_seeking_mean(quantiles, level).tolist() == [mean]
