"""The decoders are causal and decode step by step what they teach; the value head's statistics."""

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
from alphajax.alphatensor.network.policy import sample

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
def setting(name):
    """A head, its parameters (none of them zero), a memory and tokens."""
    keys = jax.random.split(jax.random.key(0), 4)
    memory = jax.random.normal(keys[0], (BATCH, 6, 8))
    tokens = jax.random.randint(keys[1], (BATCH, K, COUNT), 0, SIZE)
    head = HEADS[name]
    params = jax.jit(functools.partial(head.init, method="teach"))(keys[2], memory, tokens)
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(0)
    leaves = [x + 0.1 * generator.standard_normal(x.shape).astype(np.float32) for x in leaves]
    params = jax.tree.unflatten(tree, leaves)
    return head, params, memory, tokens


@pytest.mark.parametrize("name", HEADS)
def test_decoding_step_by_step_is_teaching_all_at_once(name):
    head, params, memory, tokens = setting(name)

    def stepwise(head, memory, tokens):
        logits, feature, state = head.first(memory)
        steps = [jnp.broadcast_to(logits, (BATCH, K, SIZE))]
        for position in range(1, COUNT):
            logits, state = head.next(state, tokens[..., position - 1], position)
            steps.append(logits)
        return jnp.stack(steps, axis=2), feature

    run = jax.jit(
        lambda method: head.apply(params, memory, tokens, method=method), static_argnums=0
    )
    taught, feature = run("teach")
    stepped, first = run(stepwise)
    np.testing.assert_allclose(stepped, taught, atol=1e-5)
    np.testing.assert_allclose(first, feature, atol=1e-5)
    assert taught.shape == (BATCH, K, COUNT, SIZE)


@pytest.mark.parametrize("name", HEADS)
def test_a_token_is_seen_by_the_later_ones_only(name):
    head, params, memory, tokens = setting(name)
    teach = jax.jit(lambda t: head.apply(params, memory, t, method="teach")[0])
    before = np.asarray(teach(tokens))
    for position in range(COUNT):
        changed = tokens.at[:, :, position].add(1) % SIZE
        differs = (np.asarray(teach(changed)) != before).any(axis=-1)
        assert not differs[:, :, : position + 1].any()
        assert differs[:, :, position + 1 :].all()


def test_the_transformer_is_causal_by_gradient():
    head, params, memory, _ = setting("transformer")
    x = jax.random.normal(jax.random.key(9), (1, 1, COUNT, 8))

    def features(head, x):
        y, _ = head.decode(x, head.remember(memory[:1]), [])
        return head.logits(y)[0, 0].sum(axis=-1)

    jacobian = jax.jit(jax.jacobian(lambda x: head.apply(params, x, method=features)))(x)
    reach = np.abs(np.asarray(jacobian)[:, 0, 0]).sum(axis=-1)
    assert (reach[np.triu_indices(COUNT, 1)] == 0).all()
    assert (reach[np.tril_indices(COUNT)] > 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_candidates_and_games_do_not_see_each_other(name):
    head, params, memory, tokens = setting(name)
    teach = jax.jit(lambda m, t: head.apply(params, m, t, method="teach")[0])
    changed = teach(memory, tokens.at[0, 0].add(1) % SIZE) != teach(memory, tokens)
    assert not changed[0, 1:].any() and not changed[1].any()
    other = teach(memory.at[0].add(1.0), tokens) != teach(memory, tokens)
    assert not other[1].any() and other[0].any(axis=-1).all()


def test_value_outputs_are_float32_and_in_moves():
    head = ValueHead(width=4, layers=1, quantiles=3, scale=100.0, dtype=jnp.dtype("bfloat16"))
    feature = jnp.ones((2, 5), jnp.bfloat16)
    params = head.init(jax.random.key(0), feature)
    params = jax.tree.map(lambda x: x + 1.0, params)
    out = head.apply(params, feature)
    assert out.shape == (2, 3) and out.dtype == jnp.float32
    assert (out < -100).all()


def test_quantile_loss_golden():
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


def test_quantile_loss_fits_quantiles():
    """Descending it on samples must lead to their quantiles, up to the Huber rounding."""
    samples = jnp.linspace(0.0, 100.0, 101)

    def loss(quantiles):
        return quantile_loss(jnp.broadcast_to(quantiles[None], (101, 4)), samples).mean()

    descend = jax.jit(
        lambda q: jax.lax.fori_loop(0, 800, lambda i, q: q - 2.0 * jax.grad(loss)(q), q)
    )
    np.testing.assert_allclose(descend(jnp.full(4, 50.0)), [12.5, 37.5, 62.5, 87.5], atol=1.5)


@pytest.mark.parametrize("above, mean", [(0.0, 4.5), (0.75, 7.5), (0.5, 6.5), (0.99, 8.0)])
def test_risk_seeking_mean(above, mean):
    quantiles = jnp.arange(1.0, 9.0)[None]
    assert risk_seeking_mean(quantiles, above).tolist() == [mean]


class TestSample:
    """Draws by inverting the cumulative distribution."""

    def test_frequencies(self):
        logits = jnp.log(jnp.array([[[0.5, 0.25, 0.0, 0.25]], [[0.1, 0.2, 0.3, 0.4]]]))
        logits = jnp.maximum(logits, jnp.finfo(jnp.float32).min)
        drawn = np.asarray(jax.jit(sample, static_argnums=2)(jax.random.key(0), logits, 20_000))
        for row, expected in zip(drawn, ([0.5, 0.25, 0, 0.25], [0.1, 0.2, 0.3, 0.4]), strict=True):
            np.testing.assert_allclose(np.bincount(row, minlength=4) / 20_000, expected, atol=0.015)

    def test_each_candidate_has_its_own_logits(self):
        lowest = jnp.finfo(jnp.float32).min
        logits = jnp.where(jnp.eye(3, dtype=bool)[None], 0.0, lowest)
        assert sample(jax.random.key(0), logits, 3).tolist() == [[0, 1, 2]]

    @pytest.mark.parametrize("size", [9, 625])
    def test_a_value_of_zero_weight_is_never_drawn(self, monkeypatch, size):
        """Not even where rounding makes the cumulative sum rise, or fall, at such a value.

        Instead of drawing a billion numbers, the generator is replaced by one that gives the
        numbers at and beside each step of the cumulative sum.
        """
        generator = np.random.default_rng(0)
        logits = generator.standard_normal((40, 1, size)).astype(np.float32)
        legal = generator.random((40, 1, size)) < 0.5
        legal[:, 0, generator.integers(size)] = True
        logits = np.where(legal, logits, np.finfo(np.float32).min)
        weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
        # The ways in which a sum may be taken.
        sums = [jax.jit(lambda x: jnp.cumsum(x, axis=-1))(weights), np.cumsum(weights, axis=-1)]
        sums.append(weights @ jnp.triu(jnp.ones((size, size)))[None])
        draws = np.concatenate([s[:, 0] / np.max(s, axis=-1) for s in sums], axis=-1)
        near = [np.nextafter(draws, np.float32(x)) for x in (0.0, 2.0)]
        draws = np.concatenate([draws, *near], axis=-1).astype(np.float32)
        draws = np.clip(draws, 0, 1 - 2.0**-24)
        monkeypatch.setattr(
            jax.random, "uniform", lambda key, shape: jnp.asarray(draws).reshape(shape)
        )
        drawn = np.asarray(sample(jax.random.key(0), jnp.asarray(logits), draws.shape[1]))
        assert np.take_along_axis(legal[:, 0], drawn, axis=1).all()
