"""Apply a function to a large batch block by block, so that its temporaries fit a cache.

On a CPU, temporaries that exceed the cache cost several times the computation.  An accelerator
wants the whole batch, or blocks of thousands.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def map_blocks(function: Callable[..., Any], size: int, *arrays: Any) -> Any:
    """Applies `function` to `size` rows at a time, one block after another.

    Args:
      function: from arrays `[size, ...]` to a pytree of arrays `[size, ...]`, row by row.
      size: rows in a block, at least 1.  The last block is padded with zeros.
      arrays: pytrees of arrays `[N, ...]`.

    Returns:
      What `function` returns, `[N, ...]`.
    """
    rows = jax.tree.leaves(arrays)[0].shape[0]
    count = -(-rows // size)
    padding = count * size - rows

    def split(x: jax.Array) -> jax.Array:
        if padding:
            x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(count, size, *x.shape[1:])

    def join(x: jax.Array) -> jax.Array:
        return x.reshape(count * size, *x.shape[2:])[:rows]

    mapped = jax.lax.map(lambda block: function(*block), jax.tree.map(split, arrays))
    return jax.tree.map(join, mapped)
