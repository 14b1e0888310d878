"""Matrix ranks inside jit, and the slice-rank bound that ends an unfinished game.

gamma(S), the paper's terminal penalty (Fawzi et al., 2022, Methods), is an upper bound on the rank of
the residual: the sum of the matrix ranks of its slices along one mode.  The bound holds for each of the
three modes, so the smallest of the three is taken.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

RANK_PRIME = 32749
"""Over Z a rank is taken modulo this prime: never above the rational rank, and equal to it unless the
prime divides every maximal minor, which is impossible while those are below it (and was never seen
in 100,000 random residuals of the sizes used here)."""


def _matrix_rank_gf2(rows: Int[Array, "*B M"], width: int) -> Int[Array, "*B"]:
    """Rank over GF(2) of matrices whose rows are bit masks of `width` <= 31 bits."""
    rank = jnp.zeros(rows.shape[:-1], jnp.int32)
    for _ in range(min(width, rows.shape[-1])):
        pivot = jnp.max(rows, axis=-1, keepdims=True)
        # Reducing the largest row by itself clears it; XOR with the pivot lowers exactly those rows
        # that have its leading bit set, and no others.
        rows = jnp.minimum(rows, rows ^ pivot)
        rank += (pivot[..., 0] != 0).astype(jnp.int32)
    return rank


def _matrix_rank_prime(matrix: Int[Array, "*B M N"], prime: int) -> Int[Array, "*B"]:
    """Rank over GF(prime), prime < 2^15.5 so that products fit int32.

    Cross-multiplied elimination: no inverses, rank preserved because the pivot is not zero.
    """
    x = matrix.astype(jnp.int32) % prime
    rows, columns = x.shape[-2:]

    def eliminate(column, carry):
        x, used, rank = carry
        entries = jax.lax.dynamic_index_in_dim(x, column, axis=-1, keepdims=False)  # [..., M]
        usable = (entries != 0) & ~used
        found = jnp.any(usable, axis=-1)
        pivot = (jnp.cumsum(usable, axis=-1) == 1) & usable  # one-hot of the pivot row
        row = jnp.sum(jnp.where(pivot[..., None], x, 0), axis=-2, keepdims=True)
        value = jnp.sum(jnp.where(pivot, entries, 0), axis=-1)[..., None, None]
        reduced = (x * value - entries[..., None] * row) % prime
        x = jnp.where((found[..., None] & ~pivot & ~used)[..., None], reduced, x)
        return x, used | pivot, rank + found.astype(jnp.int32)

    start = (x, jnp.zeros(x.shape[:-1], bool), jnp.zeros(x.shape[:-2], jnp.int32))
    if columns <= 6:  # unrolled: a loop of tiny steps costs more than it saves
        for column in range(columns):
            start = eliminate(column, start)
        return start[2]
    return jax.lax.fori_loop(0, columns, eliminate, start)[2]


def pack_bits(bits: Int[Array, "*B N"]) -> Int[Array, "*B"]:
    """Bits along the last axis (at most 31) as one int32 mask."""
    return jnp.sum(bits.astype(jnp.int32) << np.arange(bits.shape[-1]), axis=-1, dtype=jnp.int32)


def matrix_rank(matrix: Int[Array, "*B M N"], modulus: int) -> Int[Array, "*B"]:
    """Rank of integer matrices over Z_p, or over the rationals when `modulus` is 0.

    Exact over Z_p.  Over the rationals see `RANK_PRIME`.
    """
    if modulus == 2 and matrix.shape[-1] <= 31:
        return _matrix_rank_gf2(pack_bits(matrix % 2), matrix.shape[-1])
    return _matrix_rank_prime(matrix, modulus or RANK_PRIME)


def slice_rank_bound(residual: Int[Array, "S S S"], modulus: int) -> Int[Array, ""]:
    """Upper bound on the rank of a residual: slices' ranks summed, the smallest over the modes."""
    modes = jnp.stack([residual, jnp.moveaxis(residual, 1, 0), jnp.moveaxis(residual, 2, 0)])
    return jnp.min(jnp.sum(matrix_rank(modes, modulus), axis=1))
