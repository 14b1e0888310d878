"""Encoders: causality, order of tests, program ends, position embeddings and global features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import MEAN_CELL_WEIGHT, Rewards
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.network.encoders import (
    MultiQueryAttention,
    ProgramEncoder,
    ResidualBlock,
    StateEncoder,
    global_features,
    sinusoids,
)

GAME = AssemblyGame(task=tasks.sort(2))
FLOAT32 = jnp.dtype("float32")


@pytest.fixture(name="played", scope="module")
def _played():
    """Observations before the first four moves of a random game."""
    state, observations = jax.jit(GAME.init)(jax.random.key(0)), []
    step, rng = jax.jit(GAME.step), np.random.default_rng(0)
    for _ in range(4):
        observations.append(GAME.observe(state))
        state, _ = step(state, jnp.int16(rng.choice(np.flatnonzero(state.legal))))
    return jax.tree.map(lambda *x: jnp.stack(x), *observations)


def test_tests_are_encoded_alike(played):
    """Exchanging two tests exchanges their features."""
    encoder = StateEncoder(tuple(range(GAME.task.tests)), (8,), FLOAT32)
    params = jax.jit(encoder.init)(jax.random.key(0), played, None)
    encode = jax.jit(encoder.apply)
    features = encode(params, played, None)
    assert features.shape == (4, GAME.task.tests, 8)

    def swap(words):  # tests 0 and 2
        low, high = words & 1, (words >> 2) & 1
        return (words & ~jnp.uint32(5)) | (low << 2) | high

    swapped = played._replace(
        contents=swap(played.contents), flag=swap(played.flag), skip=swap(played.skip)
    )
    np.testing.assert_allclose(
        encode(params, swapped, None), features[:, [2, 1, 0]], rtol=1e-6, atol=1e-7
    )


def test_a_state_encoder_sees_only_its_tests(played):
    encoder = StateEncoder((0, 2), (8, 4), FLOAT32)
    context = jnp.ones((4, 3))
    params = jax.jit(encoder.init)(jax.random.key(0), played, context)
    encode = jax.jit(encoder.apply)
    features = encode(params, played, context)
    assert features.shape == (4, 2, 4)
    other = played._replace(contents=played.contents ^ jnp.uint32(2))
    np.testing.assert_array_equal(encode(params, other, context), features)
    assert (np.asarray(encode(params, played, 2 * context)) != features).any()


def test_a_program_encoder_reads_up_to_the_end(played):
    table = tuple(tuple(row) for row in GAME.actions.tolist())
    encoder = ProgramEncoder(table, 8, 1, 2, 4, 1, FLOAT32)
    params = jax.jit(encoder.init)(jax.random.key(0), played.program, played.length)
    encode = jax.jit(encoder.apply)
    features = encode(params, played.program, played.length)
    assert len(np.unique(np.round(np.asarray(features), 5), axis=0)) == 4
    padded = jnp.where(played.program < 0, 3, played.program).astype(jnp.int16)
    np.testing.assert_allclose(
        encode(params, padded, played.length), features, rtol=1e-5, atol=1e-6
    )


def test_attention_is_causal_and_shares_keys():
    layer = MultiQueryAttention(heads=2, head_width=4, widening=1, dtype=FLOAT32)
    x = jax.random.normal(jax.random.key(0), (1, 5, 8))
    params = jax.jit(layer.init)(jax.random.key(1), x)
    slope = jax.jit(jax.jacobian(lambda x: layer.apply(params, x)[0].sum(-1)))(x)[:, 0]  # [5, 5, 8]
    strength = np.abs(np.asarray(slope)).sum(-1)
    assert (strength[np.triu_indices(5, 1)] == 0).all()
    assert (strength[np.tril_indices(5)] > 0).all()
    kernels = [x.shape for x in jax.tree.leaves(params) if x.ndim == 2]
    assert (8, 8) in kernels  # queries of two heads; one key and one value, 4 features each


def test_a_residual_block_with_zero_weights_is_the_identity():
    block, x = ResidualBlock(FLOAT32), jnp.arange(6.0).reshape(2, 3)
    params = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(0), x))
    np.testing.assert_array_equal(block.apply(params, x), x)


def test_position_embeddings_differ():
    table = sinusoids(6, 5)
    assert table.shape == (6, 5) and table.dtype == np.float32
    assert len(np.unique(table, axis=0)) == 6


def test_global_features_are_flags_moves_left_and_weights():
    game = AssemblyGame(task=tasks.sort(2), rewards=Rewards(cell_weights=1.0))
    state = jax.jit(jax.vmap(game.init))(jax.random.split(jax.random.key(0), 2))
    state = state._replace(
        cells_read=state.cells_read.at[:, 0].set(1),
        after_compare=jnp.ones(2, bool),
        length=jnp.array([0, 8], jnp.int16),
    )
    features = global_features(jax.vmap(game.observe)(state), game.max_moves)
    expected = [[1, 0, 0, 0, 1, 1.0, 1.0], [1, 0, 0, 0, 1, 0.2, 0.5]]
    np.testing.assert_allclose(features[:, :7], expected, rtol=1e-6)
    np.testing.assert_allclose(
        features[:, 7:], np.asarray(state.cell_weights) / MEAN_CELL_WEIGHT, rtol=1e-6
    )
