"""What counts as the same, and what is likelier."""

from collections import defaultdict

import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import hashing


def test_tensors_that_differ_have_hashes_that_differ():
    entries = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(np.int8).reshape(-1, 4, 2, 2)
    hashed = np.asarray(hashing.hashes(jnp.asarray(entries), 1))
    assert hashed.shape == (2**16, 2)
    assert len(np.unique(hashed, axis=0)) == 2**16
    # So do the sums of those of a few, which tell schemes apart.
    rng = np.random.default_rng(0)
    some = np.unique(np.sort(rng.integers(0, 2**16, (50_000, 4)), axis=1), axis=0)
    assert len(np.unique(hashed[some].sum(axis=1, dtype=np.int32), axis=0)) == len(some)


def test_what_comes_of_one_beginning_is_not_what_comes_of_another():
    hashed = jnp.asarray(np.repeat([[5, -3], [7, 7]], 3, axis=0).astype(np.int32))
    origin = jnp.asarray(np.array([0, 1, 1, 0, 1, 0], np.int32))
    assert len(np.unique(np.asarray(hashing.apart(hashed, origin)), axis=0)) == 4


@pytest.mark.parametrize("seed", range(3))
def test_ways_to_one_residual_add_up_and_spellings_of_a_move_do_not(seed):
    rng = np.random.default_rng(seed)
    count = 200
    hashes = rng.integers(0, 6, (count, 2)).astype(np.int32)
    left = rng.integers(1, 9, count).astype(np.int16)
    parent = np.sort(rng.integers(0, 5, count)).astype(np.int32)
    log_prob = np.where(rng.random(count) < 0.1, -np.inf, rng.normal(-8, 3, count)).astype(
        np.float32
    )
    # Spellings of one move from one parent: equally likely, as costly.
    for i in range(count):
        for j in range(i):
            if parent[i] == parent[j] and (hashes[i] == hashes[j]).all():
                left[i], log_prob[i] = left[j], log_prob[j]
    passed = hashes[rng.integers(0, count, (2, 3))]
    index, total = hashing.merged(*map(jnp.asarray, (hashes, left, parent, log_prob, passed)), 20)
    index, total = np.asarray(index), np.asarray(total)

    ways = defaultdict(dict)
    for i in range(count):
        if not (hashes[i] == passed).all(axis=-1).any():
            ways[tuple(hashes[i])][parent[i]] = (log_prob[i], left[i])
    want = {
        key: (
            np.log(sum(np.exp(np.float64(p)) for p, _ in way.values())),
            max(x for _, x in way.values()),
        )
        for key, way in ways.items()
        if any(np.isfinite(p) for p, _ in way.values())
    }
    there = np.isfinite(total)
    assert there.sum() == min(20, len(want)) > 10
    found = [tuple(x) for x in hashes[index[there]]]
    assert len(set(found)) == len(found)
    np.testing.assert_allclose(
        total[there], sorted((p for p, _ in want.values()), reverse=True)[:20], rtol=1e-4
    )
    for key, i, summed in zip(found, index[there], total[there], strict=True):
        np.testing.assert_allclose(summed, want[key][0], rtol=1e-4)
        assert left[i] == want[key][1]


def test_of_each_kind_the_best_is_kept():
    kinds = np.array([[1, 2], [3, 4], [1, 2], [1, 4], [3, 4]], np.int32)
    score = np.array([-5.0, -3.0, -4.0, -7.0, -np.inf], np.float32)
    kept = hashing.one_of_each(jnp.asarray(kinds), jnp.asarray(score))
    np.testing.assert_array_equal(kept, [-np.inf, -3, -4, -7, -np.inf])
