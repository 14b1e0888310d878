"""Flip graphs: every move keeps the tensor, in both rings, checked by sums that share nothing with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import cyclic_flips, flip_graph, flip_pools
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.schemes.scheme import Scheme

RINGS = flip_graph.RINGS


def contracted(scheme: Scheme) -> np.ndarray:
    total = np.einsum("ir,jr,kr->ijk", *(np.asarray(x, np.int64) for x in scheme.factors))
    return total % 2 if scheme.ring == "Z2" else total


def held(factors, like: Scheme) -> list[Scheme]:
    factors = np.asarray(factors)
    read = functools.partial(flip_graph.unpack, shape=like.shape, ring=like.ring, sizes=like.sizes)
    return [read(factors[..., b]) for b in range(factors.shape[-1])]


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("size", [(2, 2, 2), (1, 2, 3), (5, 5, 2), (8, 8, 1), (7, 5, 2)])
def test_masks_hold_a_scheme(ring, size):
    scheme = schemes.naive(*size, ring)
    masks = flip_graph.pack(scheme, scheme.rank + 3)
    back = flip_graph.unpack(masks, scheme.shape, ring, scheme.sizes)
    for a, b in zip(scheme.factors, back.factors, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("size", [(2, 2, 3), (6, 6, 1)])
def test_steps_and_plus_transitions_keep_the_tensor(ring, size):
    scheme = schemes.naive(*size, ring)
    wanted, walkers = contracted(scheme), 16
    state = flip_graph.start(flip_graph.pack(scheme, scheme.rank + 2), walkers, 1)

    @jax.jit
    def steps(planes, generator, rows):
        def one(carry, i):
            planes, generator, done = flip_graph.step(*carry, i, ring)
            return (planes, generator), done

        return jax.lax.scan(one, (planes, generator), rows)

    planes = tuple(tuple(f) for f in state.factors)
    rows = jax.random.randint(jax.random.key(0), (60,), 0, scheme.rank + 2)
    (planes, generator), done = steps(planes, state.generator, rows)
    factors = jnp.stack([jnp.stack(f) for f in planes])
    assert done.sum() > 60 * walkers // 10
    found = held(factors, scheme)
    for each in found:
        np.testing.assert_array_equal(contracted(each), wanted)
    assert len({np.asarray(factors[..., b]).tobytes() for b in range(walkers)}) > walkers // 2

    before = np.asarray(flip_graph.rank(factors))
    wish = jnp.arange(walkers) % 2 == 0
    factors, _, added = flip_graph.plus(factors, generator, wish, ring)
    assert added.sum() >= 1 and not added[1::2].any()
    np.testing.assert_array_equal(flip_graph.rank(factors), before + np.asarray(added))
    for each in held(factors, scheme):
        np.testing.assert_array_equal(contracted(each), wanted)


def test_a_step_flips_only_where_a_factor_is_shared():
    scheme = schemes.strassen("Z2")  # no two of its products share a factor
    state = flip_graph.start(flip_graph.pack(scheme), 4, 0)
    planes = tuple(tuple(f) for f in state.factors)
    for i in range(scheme.rank):
        new, _, done = flip_graph.step(planes, state.generator, jnp.int32(i), "Z2")
        assert not done.any()
        jax.tree.map(np.testing.assert_array_equal, new, planes)


@pytest.mark.parametrize("ring", RINGS)
def test_schemes_become_shorter_and_stay_right(ring):
    scheme = schemes.naive(2, 2, 2, ring)
    state = flip_graph.start(flip_graph.pack(scheme, scheme.rank + 2), 32, 0)
    walk = jax.jit(flip_graph.walk, static_argnums=(2, 3, 4, 5))
    state = walk(state, jax.random.key(0), 150, ring, 20, 2)
    ranks = np.asarray(state.best_rank)
    assert ranks.max() <= 8 and ranks.min() == 7
    for each, rank in zip(held(state.best, scheme), ranks, strict=True):
        assert each.rank == rank and schemes.verify(each)


def test_other_tensors_start_from_their_entries():
    for target in (tensors.skew(3), tensors.cyclic(3)):
        for ring in RINGS:
            scheme = flip_graph.start_scheme(target, ring)
            wanted = target.array % 2 if ring == "Z2" else target.array
            np.testing.assert_array_equal(contracted(scheme), wanted)


def test_what_cannot_be_walked_is_refused():
    with pytest.raises(ValueError, match="'Q'"):
        flip_graph.pack(Scheme(*schemes.naive(2, 2, 2).factors, (2, 2, 2), "Q"))
    with pytest.raises(ValueError, match="81"):
        flip_graph.pack(schemes.naive(9, 9, 1))
    with pytest.raises(ValueError, match="expected at least as many"):
        flip_graph.pack(schemes.naive(2, 2, 2), 7)
    with pytest.raises(ValueError, match="beyond"):
        two = schemes.naive(2, 2, 2)
        flip_graph.pack(Scheme(2 * two.u, two.v, two.w, two.sizes, "Z"))


def pools_of_strassen():
    generator, pools = np.random.default_rng(0), flip_pools.Pools(3)
    for scheme in (schemes.naive(2, 2, 2, "Z2"), schemes.strassen("Z2")):
        pools.add(flip_graph.pack(scheme, 10), generator)
    return pools, generator


def test_walkers_behind_restart_from_the_best_rank():
    pools, generator = pools_of_strassen()
    assert pools.sizes() == {7: 1, 8: 1} and pools.best == 7
    assert (pools.level(1), pools.level(2), pools.level(5)) == (7, 8, 8)
    naive = flip_graph.pack(schemes.naive(2, 2, 2, "Z2"), 10)
    walkers = flip_graph.start(naive, 4, 0)
    ages, known = np.full(4, 5), np.full(4, 8)
    walkers = flip_pools.exchange(
        pools, walkers, ages, known, generator, enough=1, limit=100, margin=2
    )
    assert (walkers.best_rank == 7).all() and (known == 7).all() and not ages.any()
    for each in held(walkers.factors, schemes.strassen("Z2")):
        assert schemes.verify(each) and each.rank == 7
    for _ in range(9):
        pools.add(naive, generator)
    assert pools.sizes() == {7: 1, 8: 3}


def test_pools_are_saved_whole_and_damage_is_told(tmp_path):
    pools, _ = pools_of_strassen()
    walkers = flip_graph.start(pools.draw(7, np.random.default_rng(0)), 2, 0)
    path = tmp_path / "pools.npz"
    flip_pools.save(path, pools, walkers, {"ages": np.arange(2)}, {"iteration": 4})
    again, same, arrays, notes = flip_pools.load(path)
    assert again.sizes() == pools.sizes() and again.capacity == 3 and notes == {"iteration": 4}
    jax.tree.map(np.testing.assert_array_equal, same, walkers)
    np.testing.assert_array_equal(arrays["ages"], np.arange(2))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(flip_pools.PoolError, match="cannot read"):
        flip_pools.load(path)
    with pytest.raises(flip_pools.PoolError):
        flip_pools.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("n, partition", [(2, ((0, 1),)), (3, ((0, 2), (1,)))])
def test_orbits_stand_for_their_rotations(ring, n, partition):
    orbits, cubes = cyclic_flips.start(n, partition, ring)
    assert schemes.verify(cyclic_flips.whole(orbits, cubes))
    state = flip_graph.start(flip_graph.pack(orbits, orbits.rank + 2), 32, 3)
    run = jax.jit(flip_graph.walk, static_argnums=range(2, 7))
    state = run(state, jax.random.key(0), 40, ring, 100, 2, True)
    assert (state.flips > 100).any()
    for each in held(state.factors, orbits) + held(state.best, orbits):
        assert schemes.verify(cyclic_flips.whole(each, cubes))
    if n == 2 and ring == "Z2":  # Strassen's: one cube and two orbits
        assert state.best_rank.min() == 2


def test_cubes_that_are_no_partition_are_refused():
    with pytest.raises(ValueError, match=r"each of 1\.\.3"):
        cyclic_flips.start(3, ((0, 1),), "Z2")
    with pytest.raises(ValueError, match="such as 1,5"):
        cyclic_flips.parse(["a"])
