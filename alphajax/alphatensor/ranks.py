"""Matrix ranks inside jit, and the slice-rank bound that ends an unfinished game.

gamma(S), the paper's terminal penalty (Fawzi et al., 2022, Methods), is an upper bound on the rank of
the residual: the sum of the matrix ranks of its slices along one mode.  The bound holds for each of the
three modes, so the smallest of the three is taken.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

RANK_PRIME = 32749
"""Over Z a rank is taken modulo this prime: never above the rational rank, and equal to it unless the
prime divides every maximal minor, which is impossible while those are below it (and was never seen
in 100,000 random residuals of the sizes used here)."""


def rank_gf2(rows: list[Array]) -> Array:
    """Rank over GF(2) of matrices whose rows are bit masks (at most 31 bits), one array for each row."""
    rank = jnp.zeros(rows[0].shape, jnp.int32)
    for _ in rows:
        pivot = functools.reduce(jnp.maximum, rows)
        # Reducing the largest row by itself clears it; XOR with the pivot lowers exactly those rows
        # that have its leading bit set, and no others.
        rows = [jnp.minimum(row, row ^ pivot) for row in rows]
        rank += (pivot != 0).astype(jnp.int32)
    return rank


def _rank_prime(entries: list[list[Array]], prime: int) -> Array:
    """Rank over GF(prime), prime < 2^15, of matrices given as one int32 array for each entry.

    Cross-multiplied elimination: no inverses, rank preserved because the pivot is not zero.  Rows that
    were pivots change too, but are never looked at again.
    """

    def take(masks, values):
        return functools.reduce(
            jnp.add, [jnp.where(m, x, 0) for m, x in zip(masks, values, strict=True)]
        )

    def mod(x):
        # x is below 13 for prime 3, where this is exact and much cheaper than a division.
        return x - 3 * ((x * 11) >> 5) if prime == 3 else x % prime

    used = [jnp.zeros(entries[0][0].shape, bool) for _ in entries]
    rank = jnp.zeros(entries[0][0].shape, jnp.int32)
    while entries[0]:
        column, rest = [row[0] for row in entries], [row[1:] for row in entries]
        found, pivot = jnp.zeros(rank.shape, bool), []
        for lead, gone in zip(column, used, strict=True):
            pivot.append((lead != 0) & ~gone & ~found)
            found |= pivot[-1]
        value = jnp.where(found, take(pivot, column), 1)
        pivot_row = [take(pivot, list(x)) for x in zip(*rest, strict=True)]
        entries = [
            [mod(x * value + (prime - lead) * p) for x, p in zip(row, pivot_row, strict=True)]
            for lead, row in zip(column, rest, strict=True)
        ]
        used = [gone | mask for gone, mask in zip(used, pivot, strict=True)]
        rank += found.astype(jnp.int32)
    return rank


def _rank_prime_loop(matrix: Int[Array, "*B M N"], prime: int) -> Int[Array, "*B"]:
    """As `_rank_prime`, as a loop over columns: for matrices too large to unroll."""
    x = matrix.astype(jnp.int32) % prime

    def eliminate(column, carry):
        x, used, rank = carry
        entries = jax.lax.dynamic_index_in_dim(x, column, axis=-1, keepdims=False)  # [..., M]
        countdown = jnp.broadcast_to(np.arange(x.shape[-2], 0, -1), entries.shape)
        order = jnp.where((entries != 0) & ~used, countdown, 0)
        first = jnp.max(order, axis=-1, keepdims=True)
        pivot = (order == first) & (first > 0)  # one-hot of the pivot row
        row = jnp.max(jnp.where(pivot[..., None], x, 0), axis=-2, keepdims=True)
        value = jnp.max(jnp.where(pivot, entries, 0), axis=-1)[..., None, None]
        reduced = (x * value + (prime - entries)[..., None] * row) % prime
        x = jnp.where((first > 0)[..., None], reduced, x)
        return x, used | pivot, rank + (first[..., 0] > 0).astype(jnp.int32)

    start = (x, jnp.zeros(x.shape[:-1], bool), jnp.zeros(x.shape[:-2], jnp.int32))
    return jax.lax.fori_loop(0, x.shape[-1], eliminate, start)[2]


def matrix_rank(matrix: Int[Array, "*B M N"], modulus: int) -> Int[Array, "*B"]:
    """Rank of integer matrices over Z_p, or over the rationals when `modulus` is 0.

    Exact over Z_p.  Over the rationals see `RANK_PRIME`.  Small matrices are unrolled into one array
    for each entry (over Z_2: each row, as a bit mask), so that every operation is elementwise over the
    batch; a reduction over four rows would not be vectorised.
    """
    m, n = matrix.shape[-2:]
    prime = modulus or RANK_PRIME
    residues = matrix.astype(jnp.int32) % prime
    if prime == 2 and n <= 31:
        shifts = jnp.broadcast_to(np.arange(n, dtype=np.int32), residues.shape)
        masks = jnp.sum(residues << shifts, axis=-1, dtype=jnp.int32)
        return rank_gf2([masks[..., i] for i in range(m)])
    if m * n <= 36:
        return _rank_prime([[residues[..., i, j] for j in range(n)] for i in range(m)], prime)
    return _rank_prime_loop(residues, prime)


def slice_rank_bound(residual: Int[Array, "S S S"], modulus: int) -> Int[Array, ""]:
    """Upper bound on the rank of a residual: slices' ranks summed, the smallest over the modes."""
    modes = jnp.stack([residual, jnp.moveaxis(residual, 1, 0), jnp.moveaxis(residual, 2, 0)])
    return jnp.min(jnp.sum(matrix_rank(modes, modulus), axis=1))
