"""Walks in flip graphs: masks, starts, and walks that find shorter correct schemes."""

import jax
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import flip_graph
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.schemes.scheme import Scheme

RINGS = flip_graph.RINGS


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("size", [(2, 2, 2), (1, 2, 3), (5, 5, 2), (8, 8, 1), (7, 5, 2)])
def test_masks_round_trip(ring, size):
    scheme = schemes.naive(*size, ring)
    masks = flip_graph.pack(scheme, scheme.rank + 3)
    assert flip_graph.unpack(masks, scheme.shape, ring, scheme.sizes) == scheme


@pytest.mark.parametrize("ring", RINGS)
def test_walks_find_shorter_schemes_that_are_correct(ring, unpack_all):
    scheme = schemes.naive(2, 2, 2, ring)
    masks = flip_graph.pack(scheme, scheme.rank + 2)
    state = flip_graph.make_walkers(masks, 32, 0)
    walk = jax.jit(flip_graph.walk, static_argnums=(2, 3, 4, 5))
    state = walk(state, jax.random.key(0), 150, ring, 20, 2)
    ranks = np.asarray(state.best_rank)
    assert ranks.max() <= 8 and ranks.min() == 7
    for each, rank in zip(unpack_all(state.best, scheme), ranks, strict=True):
        assert each.rank == rank and schemes.verify(each)


def test_a_walk_on_a_mesh_is_compiled_once(no_compilation, unpack_all):
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    scheme = schemes.naive(2, 2, 2, "Z2")
    walk = flip_graph.compile_walk(mesh, 2, "Z2", 50, 2)
    assert walk is flip_graph.compile_walk(mesh, 2, "Z2", 50, 2)
    key = jax.random.key(0)
    state = walk(flip_graph.make_walkers(flip_graph.pack(scheme, 10), 8, 0), key)
    with no_compilation():
        state = walk(state, key)
    assert len(state.flips.addressable_shards) == 4 and (state.flips > 0).all()
    assert all(schemes.verify(each) for each in unpack_all(state.factors, scheme))


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("target", [tensors.skew(3), tensors.cyclic(3), tensors.matmul(1, 2, 2)])
def test_the_naive_scheme_of_every_target_is_correct(ring, target, rebuild):
    scheme = flip_graph.naive_scheme(target, ring)
    expected = target.array % 2 if ring == "Z2" else target.array
    np.testing.assert_array_equal(rebuild(scheme), expected)
    assert scheme.rank == target.naive_rank(2 if ring == "Z2" else 0)


def test_schemes_that_no_walk_can_hold_are_refused():
    two = schemes.naive(2, 2, 2)
    with pytest.raises(ValueError, match="'Q'; expected one of"):
        flip_graph.pack(schemes.naive(2, 2, 2, "Q"))
    with pytest.raises(ValueError, match=r"81.*expected at most 64"):
        flip_graph.pack(schemes.naive(9, 9, 1))
    with pytest.raises(ValueError, match="expected at least as many"):
        flip_graph.pack(two, 7)
    with pytest.raises(ValueError, match="expected at most 1024"):
        flip_graph.pack(two, 1025)
    with pytest.raises(ValueError, match="an entry beyond"):
        flip_graph.pack(Scheme(2 * two.u, two.v, two.w, two.sizes, "Z"))
    with pytest.raises(ValueError, match="'Q'; expected one of"):
        flip_graph.naive_scheme(tensors.skew(3), "Q")
