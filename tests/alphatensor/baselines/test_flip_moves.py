"""The moves of a flip graph: each preserves the tensor, over both rings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import flip_graph, flip_moves

RINGS = flip_graph.RINGS


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("size", [(2, 2, 3), (6, 6, 1)])
def test_steps_and_plus_transitions_preserve_the_tensor(ring, size, rebuild, unpack_all):
    scheme = schemes.naive(*size, ring)
    tensor, walkers = rebuild(scheme), 16
    masks = flip_graph.pack(scheme, scheme.rank + 2)
    state = flip_graph.make_walkers(masks, walkers, 1)

    @jax.jit
    def steps(planes, generator, rows):
        def one_step(carry, i):
            planes, generator, done = flip_moves.step(*carry, i, ring)
            return (planes, generator), done

        return jax.lax.scan(one_step, (planes, generator), rows)

    planes = tuple(tuple(f) for f in state.factors)
    rows = jax.random.randint(jax.random.key(0), (60,), 0, scheme.rank + 2)
    (planes, generator), done = steps(planes, state.generator, rows)
    factors = flip_moves.stack(planes)
    assert done.sum() > 60 * walkers // 10
    for each in unpack_all(factors, scheme):
        np.testing.assert_array_equal(rebuild(each), tensor)
    assert len({np.asarray(factors[..., b]).tobytes() for b in range(walkers)}) > walkers // 2

    before = np.asarray(flip_moves.rank(factors))
    mask = jnp.arange(walkers) % 2 == 0
    factors, _, added = flip_moves.plus_transition(factors, generator, mask, ring)
    assert added.sum() >= 1 and not added[1::2].any()
    np.testing.assert_array_equal(flip_moves.rank(factors), before + np.asarray(added))
    for each in unpack_all(factors, scheme):
        np.testing.assert_array_equal(rebuild(each), tensor)


@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("ring", RINGS)
def test_a_flip_preserves_the_sum_of_two_rows(ring, mode, rebuild, unpack_all):
    """On random rows, most of which share the factor of the mode, up to the sign over Z."""
    rng, count = np.random.default_rng(mode), 100
    factors = rng.integers(0 if ring == "Z2" else -1, 2, (3, 3, 2, count))
    sign = rng.choice([1, -1] if ring == "Z" else [1], count)
    shares = rng.random(count) < 0.8
    factors[mode, :, 1] = np.where(shares, sign * factors[mode, :, 0], factors[mode, :, 1])
    pairs = [schemes.Scheme(*factors[..., b], None, ring) for b in range(count)]
    masks = np.stack([flip_graph.pack(pair) for pair in pairs], -1)  # [3, P, 2, B]
    first, second = (
        [tuple(jnp.asarray(plane[row]) for plane in factor) for factor in masks] for row in (0, 1)
    )
    direction, minus = jnp.asarray(rng.integers(0, 2, (2, count)), bool)
    one, two, done = flip_moves.flip(first, second, mode, direction, minus, ring)
    flipped = jnp.stack([flip_moves.stack(one), flip_moves.stack(two)], 2)
    for before, after in zip(pairs, unpack_all(flipped, pairs[0]), strict=True):
        np.testing.assert_array_equal(rebuild(after), rebuild(before))
    is_shared = np.array(
        [
            any(np.array_equal(u, s * v) and u.any() for s in (1, -1))
            for u, v in factors[mode].transpose(2, 1, 0)
        ]
    )
    assert np.asarray(done).sum() > 5 and not (np.asarray(done) & ~is_shared).any()


def test_a_step_flips_only_where_a_factor_is_shared():
    scheme = schemes.strassen("Z2")  # no two of its products share a factor
    state = flip_graph.make_walkers(flip_graph.pack(scheme), 4, 0)
    planes = tuple(tuple(f) for f in state.factors)
    for i in range(scheme.rank):
        new, _, done = flip_moves.step(planes, state.generator, jnp.int32(i), "Z2")
        assert not done.any()
        jax.tree.map(np.testing.assert_array_equal, new, planes)
