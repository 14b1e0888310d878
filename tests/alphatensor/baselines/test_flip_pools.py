"""Pools of schemes: restarts, capacity, and files that are complete or refused."""

import jax
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import flip_graph, flip_pools

NAIVE, STRASSEN = schemes.naive(2, 2, 2, "Z2"), schemes.strassen("Z2")


@pytest.fixture(name="generator")
def _generator():
    return np.random.default_rng(0)


@pytest.fixture(name="pools")
def _pools(generator):
    pools = flip_pools.Pools(3)
    assert [pools.add(flip_graph.pack(s, 10), generator) for s in (NAIVE, STRASSEN)] == [8, 7]
    return pools


def test_pools_know_their_ranks(pools, generator):
    assert pools.sizes() == {7: 1, 8: 1} and pools.best_rank == 7
    assert [pools.restart_rank(count) for count in (1, 2, 5)] == [7, 8, 8]
    assert pools.sample(7, generator).shape == (3, 1, 7)
    assert flip_pools.Pools().best_rank is None


def test_a_full_pool_replaces_a_random_member(pools, generator):
    for _ in range(9):
        pools.add(flip_graph.pack(NAIVE, 10), generator)
    assert pools.sizes() == {7: 1, 8: 3}
    with pytest.raises(ValueError, match="capacity 0; expected at least 1"):
        flip_pools.Pools(0)


def test_walkers_restart_from_the_best_rank(pools, generator, unpack_all):
    walkers = flip_graph.make_walkers(flip_graph.pack(NAIVE, 10), 4, 0)
    ages, known_ranks = np.full(4, 5), np.full(4, 8)
    walkers = flip_pools.exchange(
        pools, walkers, ages, known_ranks, generator, min_members=1, max_age=100, margin=2
    )
    assert (walkers.best_rank == 7).all() and (known_ranks == 7).all() and not ages.any()
    for each in unpack_all(walkers.factors, STRASSEN):
        assert schemes.verify(each) and each.rank == 7


def test_improvements_enter_the_pools_and_old_walkers_restart(pools, generator):
    walkers = flip_graph.make_walkers(flip_graph.pack(STRASSEN, 10), 3, 0)
    ages, known_ranks = np.array([1, 200, 3]), np.array([8, 7, 8])
    after = flip_pools.exchange(
        pools, walkers, ages, known_ranks, generator, min_members=1, max_age=100, margin=2
    )
    assert pools.sizes() == {7: 3, 8: 1} and known_ranks.tolist() == [7, 7, 7]
    assert ages.tolist() == [1, 0, 3]
    np.testing.assert_array_equal(after.factors[..., 0], walkers.factors[..., 0])


def test_compact_moves_holes_to_the_end():
    masks = flip_graph.pack(STRASSEN, 9)[..., None][:, :, ::-1]
    compacted = flip_pools.compact(masks, 8)
    assert compacted.shape == (3, 1, 8, 1)
    np.testing.assert_array_equal(compacted[:, :, :7], masks[:, :, 2:])
    with pytest.raises(ValueError, match="rank 7 does not fit into 6 rows"):
        flip_pools.compact(masks, 6)


def test_files_round_trip_and_damage_is_the_documented_error(pools, generator, tmp_path):
    walkers = flip_graph.make_walkers(pools.sample(7, generator), 2, 0)
    path = tmp_path / "pools.npz"
    flip_pools.save(path, pools, walkers, {"ages": np.arange(2)}, {"iteration": 4})
    loaded, same, arrays, notes = flip_pools.load(path)
    assert loaded.sizes() == pools.sizes() and loaded.capacity == 3 and notes == {"iteration": 4}
    jax.tree.map(np.testing.assert_array_equal, same, walkers)
    np.testing.assert_array_equal(arrays["ages"], np.arange(2))
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:length])
        with pytest.raises(flip_pools.PoolError, match="cannot read"):
            flip_pools.load(path)
    np.savez(path, something=np.arange(3))
    for bad in (path, tmp_path / "absent.npz"):
        with pytest.raises(flip_pools.PoolError, match="cannot read"):
            flip_pools.load(bad)
