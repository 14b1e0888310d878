"""Cyclic-symmetric schemes: orbits and cubes expand to correct schemes, before and after walks."""

import jax
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import cyclic_flips, flip_graph


@pytest.mark.parametrize("ring", flip_graph.RINGS)
@pytest.mark.parametrize(
    ("n", "sets"), [(1, ["1"]), (2, ["1", "2"]), (3, ["1,2,3"]), (5, ["1,5", "2,4", "3"])]
)
def test_the_naive_orbits_and_cubes_are_correct(ring, n, sets):
    orbits, cubes = cyclic_flips.naive_orbits(n, cyclic_flips.parse_partition(sets), ring)
    scheme = cyclic_flips.expand(orbits, cubes)
    assert schemes.verify(scheme) and scheme.sizes == (n, n, n)
    assert cubes.rank == len(sets) and scheme.rank == 3 * orbits.rank + cubes.rank


@pytest.mark.parametrize("ring", flip_graph.RINGS)
@pytest.mark.parametrize(("n", "partition"), [(2, ((0, 1),)), (3, ((0, 2), (1,)))])
def test_walks_of_orbits_stay_correct(ring, n, partition, unpack_all):
    orbits, cubes = cyclic_flips.naive_orbits(n, partition, ring)
    masks = flip_graph.pack(orbits, orbits.rank + 2)
    state = flip_graph.make_walkers(masks, 32, 3)
    walk = jax.jit(flip_graph.walk, static_argnums=range(2, 7))
    state = walk(state, jax.random.key(0), 40, ring, 100, 2, True)
    assert (state.flips > 100).any()
    for each in unpack_all(state.factors, orbits) + unpack_all(state.best, orbits):
        assert schemes.verify(cyclic_flips.expand(each, cubes))
    if n == 2 and ring == "Z2":  # Strassen's: one cube and two orbits
        assert state.best_rank.min() == 2


def test_cubes_that_are_no_partition_are_refused():
    with pytest.raises(ValueError, match=r"each of 1\.\.3"):
        cyclic_flips.naive_orbits(3, ((0, 1),), "Z2")
    with pytest.raises(ValueError, match="such as 1,5"):
        cyclic_flips.parse_partition(["a"])
