"""Torsos: which parts of an observation each place of the memory depends on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.rank_profiles import probes
from alphajax.alphatensor.game.symmetry import group, mode_cycle
from alphajax.alphatensor.game.tensor_game import Observation
from alphajax.alphatensor.network.torsos import AttentiveTorso, DenseTorso, attend

S, T = 3, 2


def observation(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 2)
    return Observation(
        residual=jax.random.randint(keys[0], (1, S, S, S), 0, 2).astype(dtype),
        past=jax.random.randint(keys[1], (1, T, 3, S), 0, 2).astype(dtype),
        dims=jnp.full((1, 3), S, jnp.int8),
        remaining=jnp.array([5], jnp.int16),
    )


def attentive(blocks, dtype="float32"):
    return AttentiveTorso(
        Ring(2), width=8, blocks=blocks, heads=2, head_width=4, widening=1, dtype=jnp.dtype(dtype)
    )


@functools.cache
def jacobians(blocks):
    """Whether each of the 3 S S places of the memory depends on each entry of residual and past."""
    torso, obs = attentive(blocks), observation()
    params = jax.jit(torso.init)(jax.random.key(1), obs)
    # A random projection: the final layer norm makes plain sums constant.
    projection = jax.random.normal(jax.random.key(2), (8,))

    def project(residual, past):
        memory = torso.apply(params, obs._replace(residual=residual, past=past))
        return memory[0] @ projection

    residual, past = jax.jit(jax.jacobian(project, argnums=(0, 1)))(obs.residual, obs.past)
    return (
        np.abs(np.asarray(residual)[:, 0]).reshape(3, S, S, S, S, S) > 0,
        np.abs(np.asarray(past)[:, 0]).reshape(3, S, S, -1).sum(axis=-1) > 0,
    )


def test_without_blocks_a_grid_cell_depends_on_its_own_fibre():
    """Grid g is indexed by modes g and g + 1; the third mode gives its features."""
    residual, past = jacobians(0)
    for i, j in np.ndindex(S, S):
        for grid, fibre in enumerate(
            ((i, j, slice(None)), (slice(None), i, j), (j, slice(None), i))
        ):
            expected = np.zeros((S, S, S), bool)
            expected[fibre] = True
            np.testing.assert_array_equal(residual[grid, i, j], expected)
    assert past.any()


def test_one_block_connects_grids_along_their_shared_modes():
    residual, _ = jacobians(1)
    # The last pair joined is (2, 0), along mode 0; grid 1 is joined before.
    assert residual[0].all(axis=(-3, -2, -1)).all(), "grid 0 depends on everything"
    assert residual[2].all(axis=(-3, -2, -1)).all(), "grid 2 depends on everything"
    assert residual[1].sum() > 3 * jacobians(0)[0][1].sum()


def test_with_two_blocks_every_cell_depends_on_every_entry():
    assert jacobians(2)[0].all()


def test_the_memory_depends_on_the_moves_left():
    for torso in (attentive(1), DenseTorso(Ring(2), 8, 1, 1, 6, 1, jnp.dtype("float32"))):
        obs = observation(jnp.int8)
        params = jax.jit(torso.init)(jax.random.key(1), obs)
        apply = jax.jit(torso.apply)
        other = apply(params, obs._replace(remaining=jnp.array([1], jnp.int16)))
        assert not np.allclose(apply(params, obs), other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_has_the_configured_shape_and_precision(dtype):
    obs = observation(jnp.int8)
    obs = jax.tree.map(lambda x: jnp.concatenate([x, x]), obs)
    for torso, size in (
        (attentive(1, dtype), 3 * S * S),
        (DenseTorso(Ring(), 8, 1, 1, 6, 2, jnp.dtype(dtype)), 1),
    ):
        params = jax.eval_shape(torso.init, jax.random.key(0), obs)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
        memory = jax.eval_shape(torso.apply, params, obs)
        assert memory.shape == (2, size, 8) and memory.dtype == dtype


def test_attend_equals_softmax_attention_in_numpy():
    generator = np.random.default_rng(0)
    q = generator.standard_normal((2, 3, 2, 4), np.float32)
    k, v = generator.standard_normal((2, 2, 5, 2, 4), np.float32)
    mask = np.arange(5) <= np.arange(3)[:, None] + 1
    attended = attend(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), jnp.asarray(mask)[None, None])
    for b, i, h in np.ndindex(2, 3, 2):
        weights = np.exp(k[b, :, h] @ q[b, i, h] / 2) * mask[i]
        expected = weights @ v[b, :, h] / weights.sum()
        np.testing.assert_allclose(attended[b, i, h], expected, rtol=1e-4)


def test_a_dense_torso_has_no_inputs_beyond_the_modes_lengths():
    torso = DenseTorso(Ring(2), 8, 1, 1, 6, 7, jnp.dtype("float32"), (2, 3, S))
    obs = observation(jnp.int8)
    params = jax.eval_shape(torso.init, jax.random.key(0), obs)
    entries = 2 * 3 * S
    profiles = 3 * 3 + 7 * 2 + 7 * 2  # Vectors times possible ranks, in each mode.
    assert params["params"]["Dense_0"]["kernel"].shape[0] == entries + profiles + 7


def test_a_dense_torso_has_one_input_for_entries_that_are_always_equal():
    torso = DenseTorso(Ring(2), 8, 1, 1, 6, 7, jnp.dtype("float32"), (S,) * 3, group(mode_cycle(S)))
    params = jax.eval_shape(torso.init, jax.random.key(0), observation(jnp.int8))
    inputs = (S**3 - S) // 3 + S  # Entries with unequal indices form orbits of 3.
    vectors = len(probes(S, 2, 7)[0])
    assert params["params"]["Dense_0"]["kernel"].shape[0] == inputs + vectors * S + 7
