"""What rules say of many states: one call with the batch last, in blocks that a CPU's cache holds.

With the batch last a plane of bits is a row of words, on which logical operations are as wide as the machine's registers.
"""

import sys

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array

CACHED = 1 << 16
"""Bytes of the planes of states surveyed at a time on a CPU: what is made of them is several times as much, and a
cache holds it.  Five numbers, 4,096 states: four times as fast as all at once."""


def batch_last(function, size: int):
    """A function of states that have their batch last, as one of one state, which a `vmap` turns into few calls.

    Args:
      function: of arrays `[..., B]`; gives arrays that have their batch first.
      size: bytes of the planes of one state.
    """

    def batch(*fields):
        return function(*(jnp.moveaxis(x, 0, -1) for x in fields))

    @custom_vmap
    def one(*fields):
        return jax.tree.map(lambda x: x[0], batch(*(x[None] for x in fields)))

    @one.def_vmap
    def _(count, batched, *fields):
        whole = [
            x if there else jnp.broadcast_to(x[None], (count, *x.shape))
            for x, there in zip(fields, batched, strict=True)
        ]
        block = max(CACHED // size, 1) if jax.default_backend() == "cpu" else sys.maxsize
        found = _in_blocks(batch, block, whole)
        return found, jax.tree.map(lambda _: True, found)

    return one


def _in_blocks(function, block: int, fields: list[Array]):
    """`function` of `block` states at a time."""
    size = fields[0].shape[0]
    if size <= 4 * block:  # fewer do not pay for the loop
        return function(*fields)
    count = -(-size // block)
    fields = [jnp.pad(x, ((0, count * block - size), *[(0, 0)] * (x.ndim - 1))) for x in fields]
    found = jax.lax.map(
        lambda one: function(*one), [x.reshape(count, block, *x.shape[1:]) for x in fields]
    )
    return jax.tree.map(lambda x: x.reshape(count * block, *x.shape[2:])[:size], found)
