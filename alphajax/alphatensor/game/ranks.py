"""Matrix ranks inside jit, and the slice-rank bound on the rank of a tensor.

gamma(S), the paper's terminal penalty (Fawzi et al., 2022, Methods), is an upper bound on the rank
of the residual: the sum of the matrix ranks of its slices along one mode. The bound holds for each
mode, so the smallest of the three is used.

`matrix_rank` is the general entry point. `rank_gf2` and `rank_gf3` work on rows packed into bit
masks, which `rank_profiles` builds itself.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

RANK_PRIME = 32749
"""Ranks over Z are taken modulo this prime.

The result is never above the rational rank, and equals it unless the prime divides every maximal
minor, which is impossible while these are smaller than the prime.
"""


def rank_gf2(rows: list[Array]) -> Array:
    """Ranks over GF(2) of matrices of at most 31 columns.

    Args:
      rows: one integer array per row, of bit masks over the columns, all of the batch's shape.

    Returns:
      Ranks, in the shape and dtype of a row.
    """
    basis: list[Array] = []
    for row in rows:
        # XOR with a reduced row lowers exactly the numbers that have its leading bit set. No later
        # row of the basis has that bit.
        for reduced in basis:
            row = jnp.minimum(row, row ^ reduced)
        basis.append(row)
    return functools.reduce(jnp.add, [(row != 0).astype(row.dtype) for row in basis])


Ternary = tuple[Array, Array]
"""Entries over GF(3) as two bit masks: where they are 1, and where they are 2."""


def add_gf3(a: Ternary, b: Ternary) -> Ternary:
    """The sum over GF(3), elementwise over all entries of the masks.

    Args:
      a: masks of the entries that are 1, and of those that are 2.
      b: the same for the second term.

    Returns:
      The masks of the sum.
    """
    mixed = (a[0] | b[1]) ^ (a[1] | b[0])
    return (a[1] | b[1]) ^ mixed, (a[0] | b[0]) ^ mixed


def rank_gf3(rows: Ternary, columns: int) -> Array:
    """Ranks over GF(3) of matrices of at most 31 columns.

    A loop, not unrolled as over GF(2): XLA would fuse all steps into one, compute each row again
    for every use, and not finish compiling.

    Args:
      rows: two arrays of bit masks over the columns, `[M, ...]` each, where entries are 1 and 2.
      columns: N, at most 31.

    Returns:
      Ranks, int32 `[...]`.
    """

    def eliminate(_, carry):
        (ones, twos), rank = carry
        used = ones | twos
        largest = jnp.max(used, axis=0, keepdims=True)
        # Among rows with equally large masks any may be the pivot: the one with the largest ones.
        first = jnp.max(jnp.where(used == largest, ones, -1), axis=0, keepdims=True)
        pivot = first, largest ^ first
        # The pivot's leading bit: set all bits below it, then keep only the highest.
        lead = largest
        for step in (1, 2, 4, 8, 16):
            if step < columns:
                lead |= lead >> step
        lead ^= lead >> 1
        # Subtract the pivot where the leading entries agree, add it otherwise. This also clears the
        # pivot row itself.
        has_lead = (used & lead) != 0
        same = ((ones & lead) != 0) == ((first & lead) != 0)
        change = (
            jnp.where(has_lead, jnp.where(same, pivot[1], pivot[0]), 0),
            jnp.where(has_lead, jnp.where(same, pivot[0], pivot[1]), 0),
        )
        return add_gf3((ones, twos), change), rank + (largest[0] != 0).astype(jnp.int32)

    start = (rows, jnp.zeros(rows[0].shape[1:], jnp.int32))
    return jax.lax.fori_loop(0, rows[0].shape[0], eliminate, start)[1]


def _rank_prime(entries: list[list[Array]], prime: int) -> Array:
    """Ranks over GF(p), p < 2^15, of matrices given as one int32 array per entry.

    Elimination by cross-multiplication: no inverses, and the rank is kept as the pivot is not zero.
    Former pivot rows change as well, but are not read again.
    """

    def select(masks, values):
        return functools.reduce(
            jnp.add, [jnp.where(m, x, 0) for m, x in zip(masks, values, strict=True)]
        )

    used = [jnp.zeros(entries[0][0].shape, bool) for _ in entries]
    rank = jnp.zeros(entries[0][0].shape, jnp.int32)
    while entries[0]:
        column, rest = [row[0] for row in entries], [row[1:] for row in entries]
        has_pivot = jnp.zeros(rank.shape, bool)
        is_pivot: list[Array] = []
        for lead, is_used in zip(column, used, strict=True):
            is_pivot.append((lead != 0) & ~is_used & ~has_pivot)
            has_pivot |= is_pivot[-1]
        value = jnp.where(has_pivot, select(is_pivot, column), 1)
        pivot_row = [select(is_pivot, list(x)) for x in zip(*rest, strict=True)]
        entries = [
            [(x * value + (prime - lead) * p) % prime for x, p in zip(row, pivot_row, strict=True)]
            for lead, row in zip(column, rest, strict=True)
        ]
        used = [is_used | mask for is_used, mask in zip(used, is_pivot, strict=True)]
        rank += has_pivot.astype(jnp.int32)
    return rank


def _rank_prime_loop(x: Int[Array, "M N *B"], prime: int) -> Int[Array, "*B"]:
    """As `_rank_prime`, in a loop over columns: for matrices too large to unroll."""
    rows, columns, *batch = x.shape
    countdown = np.arange(rows, 0, -1, dtype=np.int32).reshape(rows, *(1,) * len(batch))

    def eliminate(column, carry):
        x, used, rank = carry
        entries = jax.lax.dynamic_index_in_dim(x, column, axis=1, keepdims=False)  # [M, *B]
        order = jnp.where((entries != 0) & ~used, countdown, 0)
        first = jnp.max(order, axis=0, keepdims=True)
        pivot = (order == first) & (first > 0)  # one-hot of the pivot row
        row = jnp.sum(jnp.where(pivot[:, None], x, 0), axis=0, keepdims=True)
        value = jnp.sum(jnp.where(pivot, entries, 0), axis=0)[None, None]
        reduced = (x * value + (prime - entries)[:, None] * row) % prime
        x = jnp.where((first > 0)[:, None], reduced, x)
        return x, used | pivot, rank + (first[0] > 0).astype(jnp.int32)

    start = (x, jnp.zeros((rows, *batch), bool), jnp.zeros(tuple(batch), jnp.int32))
    return jax.lax.fori_loop(0, columns, eliminate, start)[2]


def matrix_rank(matrix: Int[Array, "*B M N"], modulus: int) -> Int[Array, "*B"]:
    """Ranks of integer matrices over Z_p, or over the rationals.

    Exact over Z_p; see `RANK_PRIME` for the rationals. Over Z_2 and Z_3 rows are packed into bit
    masks. Other small matrices are unrolled into one array per entry, so that every operation is
    elementwise over the batch; a reduction over four columns would not be vectorised.

    Args:
      matrix: `[..., M, N]` integers.
      modulus: a prime below 2^15, or 0 for the rationals.

    Returns:
      Ranks, int32 `[...]`.
    """
    m, n = matrix.shape[-2:]
    prime = modulus or RANK_PRIME
    residues = matrix.astype(jnp.int32) % prime
    if prime == 2 and n <= 31:
        shifts = jnp.broadcast_to(np.arange(n, dtype=np.int32), residues.shape)
        masks = jnp.sum(residues << shifts, axis=-1, dtype=jnp.int32)
        return rank_gf2([masks[..., i] for i in range(m)])
    if prime == 3 and n <= 31:
        shifts = jnp.broadcast_to(np.arange(n, dtype=np.int32), residues.shape)
        ones, twos = (
            jnp.sum((residues == value).astype(jnp.int32) << shifts, axis=-1, dtype=jnp.int32)
            for value in (1, 2)
        )
        return rank_gf3((jnp.moveaxis(ones, -1, 0), jnp.moveaxis(twos, -1, 0)), n)
    if m * n <= 16:
        return _rank_prime([[residues[..., i, j] for j in range(n)] for i in range(m)], prime)
    return _rank_prime_loop(jnp.moveaxis(residues, (-2, -1), (0, 1)), prime)


def slice_rank_bound(residual: Int[Array, "S S S"], modulus: int) -> Int[Array, ""]:
    """gamma(S): an upper bound on the rank of a tensor by the matrix ranks of its slices.

    gamma(S) = min over modes of the sum over slices of rank(slice).

    Args:
      residual: the tensor, `[S, S, S]` integers.
      modulus: p for Z_p, or 0 for Z.

    Returns:
      The bound, int32 scalar.

    Source: Fawzi et al. (2022), Methods, "TensorGame".
    """
    modes = jnp.stack([residual, jnp.moveaxis(residual, 1, 0), jnp.moveaxis(residual, 2, 0)])
    return jnp.min(jnp.sum(matrix_rank(modes, modulus), axis=1))
