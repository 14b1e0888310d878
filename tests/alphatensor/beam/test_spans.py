"""Spans over Z_2 as bit masks, against sums of vectors in NumPy."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax.alphatensor.beam import spans


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_coordinates_in_a_reduced_basis_sum_to_the_vector(seed):
    factors = np.random.default_rng(seed).integers(0, 2, (7, 3, 9)).astype(np.int8)
    masks = np.asarray(spans.to_bit_masks(jnp.asarray(factors)))
    np.testing.assert_array_equal(masks[..., None] >> np.arange(9) & 1, factors)
    vectors = jnp.zeros((3, 7), jnp.int32)
    for i in range(7):
        remainder, _ = spans.reduce_by_span(vectors, jnp.asarray(masks[i]))
        vectors = vectors.at[:, i].set(remainder)
    remainder, used = spans.reduce_by_span(vectors, jnp.asarray(masks))
    assert not np.asarray(remainder).any()
    sums = np.bitwise_xor.reduce(np.where(np.asarray(used), np.asarray(vectors), 0), axis=-1)
    np.testing.assert_array_equal(sums, masks)
    np.testing.assert_array_equal(spans.coordinates(vectors, jnp.asarray(factors)), used)


def test_a_vector_outside_the_span_has_a_remainder():
    vectors = jnp.array([[0b110, 0b001]] * 3)
    remainder, used = spans.reduce_by_span(vectors, jnp.array([[0b111, 0b100, 0b010]]))
    assert remainder.tolist() == [[0, 0b010, 0b010]]
    assert used.tolist() == [[[1, 1], [1, 0], [0, 0]]]
