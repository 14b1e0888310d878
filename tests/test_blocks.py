"""Functions applied block by block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.blocks import map_blocks


@pytest.mark.parametrize("size", [1, 3, 4, 12, 100])
def test_blocks_of_any_size_give_what_the_whole_batch_gives(size):
    rows, other = jnp.arange(24.0).reshape(12, 2), {"a": jnp.arange(12)}

    def function(x, y):
        assert x.shape == (size, 2)
        return {"sum": x.sum(axis=1) + y["a"], "same": x}

    blocks = jax.jit(lambda x, y: map_blocks(function, size, x, y))(rows, other)
    np.testing.assert_array_equal(blocks["sum"], rows.sum(axis=1) + other["a"])
    np.testing.assert_array_equal(blocks["same"], rows)
