"""Hashing and deduplication, against plain Python."""

from collections import defaultdict

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax import hashing


def test_different_tensors_have_different_hashes():
    entries = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(np.int8).reshape(-1, 4, 2, 2)
    hashed = np.asarray(hashing.hash_rows(jnp.asarray(entries), 1))
    assert hashed.shape == (2**16, 2)
    assert len(np.unique(hashed, axis=0)) == 2**16
    # So have the sums of a few hashes, by which schemes are distinguished.
    rng = np.random.default_rng(0)
    some = np.unique(np.sort(rng.integers(0, 2**16, (50_000, 4)), axis=1), axis=0)
    assert len(np.unique(hashed[some].sum(axis=1, dtype=np.int32), axis=0)) == len(some)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
def test_mixing_is_a_bijection_of_32_bit_words(numbers):
    """Undone in plain Python, with the inverses of the two odd multipliers."""
    mixed = np.asarray(hashing.mix(jnp.asarray(np.array(numbers, np.uint32))))
    for x, y in zip(numbers, mixed.tolist(), strict=True):
        y ^= y >> 16
        y = y * pow(0x846CA68B, -1, 2**32) % 2**32
        y ^= (y >> 15) ^ (y >> 30)
        y = y * pow(0x7FEB352D, -1, 2**32) % 2**32
        y ^= y >> 16
        assert x == y


def test_repeats_are_found_against_plain_python():
    rows = np.random.default_rng(0).integers(0, 6, (5, 12)).astype(np.int32)
    repeats = np.asarray(hashing.find_repeats(jnp.asarray(rows)))
    for row, found in zip(rows.tolist(), repeats.tolist(), strict=True):
        assert found == [x in row[:i] for i, x in enumerate(row)]


def test_salted_hashes_of_different_groups_differ():
    hashed = jnp.asarray(np.repeat([[5, -3], [7, 7]], 3, axis=0).astype(np.int32))
    group = jnp.asarray(np.array([0, 1, 1, 0, 1, 0], np.int32))
    assert len(np.unique(np.asarray(hashing.salt(hashed, group)), axis=0)) == 4


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_parents_add_up_and_those_of_one_parent_do_not(seed):
    rng = np.random.default_rng(seed)
    count = 200
    hashes = rng.integers(0, 6, (count, 2)).astype(np.int32)
    remaining = rng.integers(1, 9, count).astype(np.int16)
    parent = np.sort(rng.integers(0, 5, count)).astype(np.int32)
    log_prob = np.where(rng.random(count) < 0.1, -np.inf, rng.normal(-8, 3, count)).astype(
        np.float32
    )
    # Several spellings of one move of a parent: equally probable, equally costly.
    for i in range(count):
        for j in range(i):
            if parent[i] == parent[j] and (hashes[i] == hashes[j]).all():
                remaining[i], log_prob[i] = remaining[j], log_prob[j]
    excluded = hashes[rng.integers(0, count, (2, 3))]
    index, total = hashing.top_k_unique(
        *map(jnp.asarray, (hashes, remaining, parent, log_prob, excluded)), 20
    )
    index, total = np.asarray(index), np.asarray(total)

    ways = defaultdict(dict)
    for i in range(count):
        if not (hashes[i] == excluded).all(axis=-1).any():
            ways[tuple(hashes[i])][parent[i]] = (log_prob[i], remaining[i])
    want = {
        key: (
            np.log(sum(np.exp(np.float64(p)) for p, _ in way.values())),
            max(x for _, x in way.values()),
        )
        for key, way in ways.items()
        if any(np.isfinite(p) for p, _ in way.values())
    }
    is_found = np.isfinite(total)
    assert is_found.sum() == min(20, len(want)) > 10
    keys = [tuple(x) for x in hashes[index[is_found]]]
    assert len(set(keys)) == len(keys)
    np.testing.assert_allclose(
        total[is_found], sorted((p for p, _ in want.values()), reverse=True)[:20], rtol=1e-4
    )
    for key, i, summed in zip(keys, index[is_found], total[is_found], strict=True):
        np.testing.assert_allclose(summed, want[key][0], rtol=1e-4)
        assert remaining[i] == want[key][1]


def test_the_best_of_each_key_is_kept():
    keys = np.array([[1, 2], [3, 4], [1, 2], [1, 4], [3, 4]], np.int32)
    score = np.array([-5.0, -3.0, -4.0, -7.0, -np.inf], np.float32)
    best = hashing.keep_best_per_key(jnp.asarray(keys), jnp.asarray(score))
    np.testing.assert_array_equal(best, [-np.inf, -3, -4, -7, -np.inf])
