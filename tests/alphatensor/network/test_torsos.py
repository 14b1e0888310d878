"""What each torso looks at, and the rank profiles of the cheap one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.symmetry import cycled, group
from alphajax.alphatensor.game.tensor_game import Observation
from alphajax.alphatensor.network.torsos import (
    AttentiveTorso,
    DenseTorso,
    attend,
    largest_weight,
    probe_vectors,
    probes,
    rank_profiles,
)

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
    """How much each of the 3 S S places of the memory depends on the residual and the past."""
    torso, obs = attentive(blocks), observation()
    params = jax.jit(torso.init)(jax.random.key(1), obs)
    # A probe, because the layer norm at the end makes plain sums constant.
    probe = jax.random.normal(jax.random.key(2), (8,))

    def places(residual, past):
        memory = torso.apply(params, obs._replace(residual=residual, past=past))
        return memory[0] @ probe

    residual, past = jax.jit(jax.jacobian(places, argnums=(0, 1)))(obs.residual, obs.past)
    return (
        np.abs(np.asarray(residual)[:, 0]).reshape(3, S, S, S, S, S) > 0,
        np.abs(np.asarray(past)[:, 0]).reshape(3, S, S, -1).sum(axis=-1) > 0,
    )


def test_a_cell_of_a_grid_starts_from_its_own_fibre():
    """Grid g is indexed by modes g and g + 1; the mode left over is its features."""
    residual, past = jacobians(0)
    for i, j in np.ndindex(S, S):
        for grid, fibre in enumerate(
            ((i, j, slice(None)), (slice(None), i, j), (j, slice(None), i))
        ):
            expected = np.zeros((S, S, S), bool)
            expected[fibre] = True
            np.testing.assert_array_equal(residual[grid, i, j], expected)
    assert past.any()


def test_one_block_of_attentive_modes_spreads_as_far_as_its_shared_axes():
    residual, _ = jacobians(1)
    # The last pair joined is (2, 0), along mode 0; grid 1 was last joined with grid 0 and then 2.
    assert residual[0].all(axis=(-3, -2, -1)).all(), "grid 0 sees everything"
    assert residual[2].all(axis=(-3, -2, -1)).all(), "grid 2 sees everything"
    assert residual[1].sum() > 3 * jacobians(0)[0][1].sum()


def test_two_blocks_see_everything_everywhere():
    assert jacobians(2)[0].all()


def test_moves_left_are_seen():
    for torso in (attentive(1), DenseTorso(Ring(2), 8, 1, 1, 6, 1, jnp.dtype("float32"))):
        obs = observation(jnp.int8)
        params = jax.jit(torso.init)(jax.random.key(1), obs)
        look = jax.jit(torso.apply)
        other = look(params, obs._replace(remaining=jnp.array([1], jnp.int16)))
        assert not np.allclose(look(params, obs), other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_has_the_shape_and_precision_asked_for(dtype):
    obs = observation(jnp.int8)
    obs = jax.tree.map(lambda x: jnp.concatenate([x, x]), obs)
    for torso, places in (
        (attentive(1, dtype), 3 * S * S),
        (DenseTorso(Ring(), 8, 1, 1, 6, 2, jnp.dtype(dtype)), 1),
    ):
        params = jax.eval_shape(torso.init, jax.random.key(0), obs)
        assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
        memory = jax.eval_shape(torso.apply, params, obs)
        assert memory.shape == (2, places, 8) and memory.dtype == dtype


def test_attend_is_softmax_attention():
    generator = np.random.default_rng(0)
    q = generator.standard_normal((2, 3, 2, 4), np.float32)
    k, v = generator.standard_normal((2, 2, 5, 2, 4), np.float32)
    mask = np.arange(5) <= np.arange(3)[:, None] + 1
    found = attend(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), jnp.asarray(mask)[None, None])
    for b, i, h in np.ndindex(2, 3, 2):
        weights = np.exp(k[b, :, h] @ q[b, i, h] / 2) * mask[i]
        expected = weights @ v[b, :, h] / weights.sum()
        np.testing.assert_allclose(found[b, i, h], expected, rtol=1e-4)


@pytest.mark.parametrize("prime", [2, 3])
def test_probe_vectors_are_all_of_low_weight_up_to_scale(prime):
    found = probe_vectors(4, prime, 2)
    every = {
        vector
        for vector in np.ndindex(*[prime] * 4)
        if 1 <= np.count_nonzero(vector) <= 2 and vector[np.flatnonzero(vector)[0]] == 1
    }
    assert {tuple(x) for x in found} == every and len(found) == len(every)
    assert len(probe_vectors(2, 2, 4)) == 3  # more weight than entries


@pytest.mark.parametrize("prime", [2, 3, 5])
def test_rank_profiles_are_ranks_of_contractions(exact_rank, prime):
    residual = np.random.default_rng(0).integers(-1, 2, (2, S, S, S))
    for mode, size in enumerate((S, S - 1, S)):
        known = np.moveaxis(residual, mode + 1, 1).copy()
        known[:, size:] = 0
        vectors = probe_vectors(size, prime, 2)
        found = jax.jit(lambda x: rank_profiles(x, prime, vectors, mode))(  # noqa: B023
            jnp.asarray(np.moveaxis(known, 1, mode + 1), jnp.int8)
        )
        assert found.shape == (2, len(vectors))
        for b, index in np.ndindex(*found.shape):
            matrix = np.tensordot(vectors[index], known[b, :size], (0, 0))
            assert found[b, index] == exact_rank(matrix, prime)
    # Modes of three lengths, the longer of the other two first and last.
    for shape in ((3, 4, 2), (2, 3, 4), (4, 2, 3)):
        cut = np.random.default_rng(1).integers(-1, 2, (2, *shape))
        for mode, size in enumerate(shape):
            vectors = probe_vectors(size, prime, 2)
            found = rank_profiles(jnp.asarray(cut, jnp.int8), prime, vectors, mode)
            for b, index in np.ndindex(*found.shape):
                matrix = np.tensordot(vectors[index], np.moveaxis(cut[b], mode, 0), (0, 0))
                assert found[b, index] == exact_rank(matrix, prime)


def test_a_dense_torso_sees_nothing_beyond_the_modes_lengths():
    torso = DenseTorso(Ring(2), 8, 1, 1, 6, 7, jnp.dtype("float32"), (2, 3, S))
    obs = observation(jnp.int8)
    params = jax.eval_shape(torso.init, jax.random.key(0), obs)
    inputs, steps = (
        2 * 3 * S,
        3 * 3 + 7 * 2 + 7 * 2,
    )  # vectors times ranks, which the shorter side bounds
    assert params["params"]["Dense_0"]["kernel"].shape[0] == inputs + steps + 7


def test_a_dense_torso_sees_one_of_what_is_always_equal():
    torso = DenseTorso(Ring(2), 8, 1, 1, 6, 7, jnp.dtype("float32"), (S,) * 3, group(cycled(S)))
    params = jax.eval_shape(torso.init, jax.random.key(0), observation(jnp.int8))
    inputs = (S**3 - S) // 3 + S  # all that have no two equal places turn in threes
    vectors = len(probes(S, 2, 7)[0])
    assert params["params"]["Dense_0"]["kernel"].shape[0] == inputs + vectors * S + 7


def test_as_many_vectors_are_profiled_as_their_weight_allows():
    for side, prime, count in ((4, 2, 100), (6, 3, 100), (9, 2, 129), (9, 2, 128), (9, 3, 1)):
        weight = largest_weight(side, prime, count)
        assert weight == 1 or len(probe_vectors(side, prime, weight)) <= count
        assert weight == side or len(probe_vectors(side, prime, weight + 1)) > count
