"""Hashes of residuals over Z_2 that are invariant under change of basis.

The rank of a tensor does not change under an invertible matrix in each mode, nor under a
permutation of the modes.  A change of basis A permutes the vectors a with which a mode can be
contracted, so the ranks r(a) = rank T(a, ., .) become r(A a).  The Walsh-Hadamard transform

    F(b) = sum_a (-1)^(a.b) f(r(a))

of any function f of the ranks becomes F(A^-T b): the same multiset of values, which is hashed.

Different hashes prove that two residuals are not equivalent; equal hashes prove nothing.
Beyond the paper, which plays each game in a random basis instead.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from alphajax.alphatensor.game.rank_profiles import probe_vectors, rank_profiles
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.hashing import mix

MAX_LENGTH = 12
"""Largest length of a mode, because all its vectors are enumerated."""


def is_supported(game: TensorGame) -> bool:
    """Whether the residuals of a game have classes: over Z_2, short modes, no symmetry orbits."""
    return (
        game.ring.modulus == 2
        and game.symmetry_group.order == 1
        and all(max(target.shape) <= MAX_LENGTH for target in game.targets)
    )


def hash_classes(residual: Int[Array, "B S S S"], shape: tuple[int, int, int]) -> Int[Array, "B 2"]:
    """Two 32-bit hashes of each residual's equivalence class under change of basis.

    Args:
      residual: over Z_2, zero beyond `shape`, `[B, S, S, S]`.
      shape: lengths of the modes, each at most `MAX_LENGTH`.

    Returns:
      Hashes, `[B, 2]` int32; equal for equivalent residuals.

    Raises:
      ValueError: a longer mode.
    """
    if max(shape) > MAX_LENGTH:
        raise ValueError(
            f"shape: received {shape}; expected modes of at most {MAX_LENGTH}, because all their"
            " vectors are enumerated"
        )
    batch = residual.shape[0]
    cropped = residual[:, : shape[0], : shape[1], : shape[2]]
    # Two functions f, the same for all modes, because modes may be permuted.
    table = np.random.default_rng(7).integers(2**31, size=(2, MAX_LENGTH + 1)).astype(np.int32)
    total = jnp.zeros((2, batch), jnp.int32)
    for mode, size in enumerate(shape):
        vectors = probe_vectors(size, 2, size)
        order = np.argsort(np.concatenate([[0], (vectors << np.arange(size)).sum(axis=1)]))
        ranks = rank_profiles(cropped, 2, vectors, mode).astype(jnp.int32)
        ranks = jnp.concatenate([jnp.zeros((batch, 1), jnp.int32), ranks], axis=1)[:, order]
        # The batch is the last axis, where the lanes of the hardware are.
        values = jnp.moveaxis(jnp.asarray(table)[:, ranks], 1, 2)  # [2, 2^size, B]
        total += jnp.sum(mix(_walsh_hadamard(values, size)).astype(jnp.int32), axis=1)
    return total.T


def _walsh_hadamard(x: Int[Array, "2 N B"], size: int) -> Int[Array, "2 N B"]:
    """The transform over the axis of N = 2^size vectors; sums wrap."""
    shape = x.shape
    for bit in range(size):
        x = x.reshape(2, -1, 2, 2**bit, shape[-1])
        x = jnp.stack([x[:, :, 0] + x[:, :, 1], x[:, :, 0] - x[:, :, 1]], axis=2)
    return x.reshape(shape)
