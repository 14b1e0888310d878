"""Residuals up to a change of bases: hashes that it leaves as they are.

The rank of a tensor does not change when each of its modes is multiplied by an invertible matrix, nor when its modes
are exchanged.  To a search for terms, residuals that such a change turns into each other are one.  They are told
apart by what it cannot change.  In one mode, contract the residual T with every vector a and take the matrix rank,

    r(a) = rank T(a, ., .).

A change of that mode's basis permutes the vectors, r(a) becomes r(A a); a change of the others' does nothing.  So
the multiset of all r(a) stays, and more: the Walsh-Hadamard transform of any function of the ranks,

    F(b) = sum_a (-1)^(a.b) f(r(a)),

becomes F(A^-T b), whose values are the same ones in another order.  The hash is of that multiset.  Different hashes
prove that two residuals are not equivalent; equal ones do not prove that they are, nor that they have the same rank.
Not in the paper, which plays games in random bases instead.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.network.torsos import probe_vectors, rank_profiles

LONGEST = 12
"""The longest mode of which every vector is tried."""


def told_apart_in(game: TensorGame) -> bool:
    """Whether residuals of one class are as good as each other in this game, and can be told."""
    return (
        game.ring.modulus == 2
        and game.symmetry.order == 1
        and all(max(x.shape) <= LONGEST for x in game.targets)
    )


def class_hashes(residual: Int[Array, "B S S S"], shape: tuple[int, int, int]) -> Int[Array, "B 2"]:
    """Two int32 hashes of each residual over Z_2, the same for all that are equivalent.

    Args:
      residual: zero beyond `shape`.
      shape: the modes' lengths, each at most `LONGEST`.

    Raises:
      ValueError: a longer mode.
    """
    if max(shape) > LONGEST:
        raise ValueError(
            f"shape: received {shape}; expected modes of at most {LONGEST}, as all their vectors are tried"
        )
    batch = residual.shape[0]
    inside = residual[:, : shape[0], : shape[1], : shape[2]]
    # f, twice; the same for all modes, which may be exchanged.
    values = np.random.default_rng(7).integers(2**31, size=(2, LONGEST + 1)).astype(np.int32)
    total = jnp.zeros((2, batch), jnp.int32)
    for mode, size in enumerate(shape):
        vectors = probe_vectors(size, 2, size)
        order = np.argsort(np.concatenate([[0], (vectors << np.arange(size)).sum(axis=1)]))
        ranks = rank_profiles(inside, 2, vectors, mode).astype(jnp.int32)
        ranks = jnp.concatenate([jnp.zeros((batch, 1), jnp.int32), ranks], axis=1)[:, order]
        # The batch goes last, where the hardware's lanes are.
        function = jnp.moveaxis(jnp.asarray(values)[:, ranks], 1, 2)  # [2, 2^size, B]
        total += jnp.sum(_mixed(_walsh_hadamard(function, size)), axis=1)
    return total.T


def _walsh_hadamard(x: Int[Array, "2 N B"], size: int) -> Int[Array, "2 N B"]:
    """Over the axis of N = 2^size vectors; sums wrap."""
    shape = x.shape
    for bit in range(size):
        x = x.reshape(2, -1, 2, 2**bit, shape[-1])
        x = jnp.stack([x[:, :, 0] + x[:, :, 1], x[:, :, 0] - x[:, :, 1]], axis=2)
    return x.reshape(shape)


def _mixed(x: Int[Array, "..."]) -> Int[Array, "..."]:
    """Else the sum of all values, which is f(0) 2^size, would tell nothing of them."""
    x = (x ^ (x >> 15)) * np.int32(0x2C1B3C6D)
    x = (x ^ (x >> 13)) * np.int32(0x297A2D39)
    return x ^ (x >> 15)
