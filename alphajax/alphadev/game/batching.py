"""Batch-last evaluation: a function over a batch of bit planes as a function of one state.

With the batch as the last axis, logical operations on planes use the full width of the vector
registers.  On a CPU, large batches are evaluated in blocks whose planes fit a cache.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array

from alphajax.blocks import map_blocks

CACHE_BYTES = 1 << 16
"""Bytes of the states' planes in one block on a CPU.  Temporaries are several times as large."""


def batch_last(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """A function of one state from one over a batch; `vmap` turns it into few calls.

    Args:
      function: from arrays `[..., B]` to a pytree of arrays `[B, ...]`.
      size: bytes of the planes of one state.

    Returns:
      The function of arrays without the batch axis.
    """

    def batch_first(*fields: Array) -> Any:
        return function(*(jnp.moveaxis(x, 0, -1) for x in fields))

    @custom_vmap
    def single(*fields: Array) -> Any:
        return jax.tree.map(lambda x: x[0], batch_first(*(x[None] for x in fields)))

    @single.def_vmap
    def _(count: int, is_batched: list[bool], *fields: Array) -> tuple[Any, Any]:
        whole = [
            x if has_batch else jnp.broadcast_to(x[None], (count, *x.shape))
            for x, has_batch in zip(fields, is_batched, strict=True)
        ]
        block = max(CACHE_BYTES // size, 1) if jax.default_backend() == "cpu" else sys.maxsize
        # A loop over fewer than 5 blocks does not pay.
        if count <= 4 * block:
            result = batch_first(*whole)
        else:
            result = map_blocks(batch_first, block, *whole)
        return result, jax.tree.map(lambda _: True, result)

    return single
