"""Rank profiles: matrix ranks of a residual contracted with many vectors over a finite field.

For a vector a and a mode of the residual T, the profile entry is rank T(a, ., .) over GF(p). If T
is a sum of few terms, contracting with a vector that is orthogonal to most of their factors leaves
a matrix of low rank, so a profile nearly shows the factors. A change of basis only permutes a
profile over all vectors.

Beyond the paper. Used as input features of `network.torsos.DenseTorso`, and as an invariant in
`beam.equivalence_hash`.
"""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from alphajax.alphatensor.game.ranks import add_gf3, matrix_rank, rank_gf2, rank_gf3
from alphajax.alphatensor.game.symmetry import TRIVIAL, SymmetryGroup

Slices = tuple[Array, ...]
"""Matrices over GF(p) as bit masks, `[axis, row, B]`: one array per non-zero value of the field."""


def probe_vectors(side: int, prime: int, weight: int) -> Int[np.ndarray, "V S"]:
    """All vectors over GF(p) with 1 to `weight` non-zero entries, one per line through 0.

    The first non-zero entry is 1. Vectors are sorted by weight.

    Args:
      side: S, length of a vector.
      prime: p.
      weight: largest number of non-zero entries; more than S counts as S.

    Returns:
      The vectors, int32 `[V, S]`.
    """
    vectors = []
    for count in range(1, min(weight, side) + 1):
        for places in itertools.combinations(range(side), count):
            for values in itertools.product(range(1, prime), repeat=count - 1):
                vector = np.zeros(side, np.int32)
                vector[list(places)] = (1, *values)
                vectors.append(vector)
    return np.stack(vectors)


def largest_weight(side: int, prime: int, count: int) -> int:
    """The largest weight for which `probe_vectors` returns at most `count` vectors; at least 1.

    Args:
      side: S, length of a vector.
      prime: p.
      count: upper limit on the number of vectors.
    """
    weight, total = 0, 0
    while weight < side and total <= count:
        weight += 1
        total += math.comb(side, weight) * (prime - 1) ** (weight - 1)
    return max(weight - (total > count), 1)


def probes(
    side: int, prime: int, count: int, symmetry: SymmetryGroup = TRIVIAL, mode: int = 0
) -> tuple[Int[np.ndarray, "V S"], Int[np.ndarray, " C"]]:
    """Probe vectors of low weight, and the indices of those that suffice under a symmetry.

    Of vectors that give equal ranks for every tensor with the symmetry, only one is selected. The
    weight limit is the largest that selects at most `count` vectors.

    Args:
      side: S, length of a vector.
      prime: p.
      count: upper limit on the number of selected vectors.
      symmetry: symmetry group of the tensors that are profiled.
      mode: the mode that is contracted, 0..2.

    Returns:
      All vectors up to the weight limit, int32 `[V, S]`, and the selected indices, int `[C]`.
    """
    highest = largest_weight(side, prime, count * symmetry.order)
    for weight in range(highest, 0, -1):
        vectors = probe_vectors(side, prime, weight)
        selected = symmetry.distinct_vectors(vectors, mode, prime)
        if len(selected) <= count:
            break
    return vectors, selected


def rank_profiles(
    residual: Int[Array, "B I J K"],
    prime: int,
    vectors: Int[np.ndarray, "V D"],
    mode: int = 0,
    selected: Int[np.ndarray, " C"] | None = None,
) -> Int[Array, "B C"]:
    """Ranks over GF(p) of residuals contracted in one mode with each of many vectors.

    Args:
      residual: `[B, I, J, K]` integers; zero beyond D in the contracted mode.
      prime: p.
      vectors: `[V, D]`, all vectors up to some weight, as from `probe_vectors`.
      mode: the mode that is contracted, 0..2.
      selected: indices `[C]` of the vectors to use; None uses all of them.

    Returns:
      Ranks, int32 `[B, C]`.
    """
    selected = np.arange(len(vectors)) if selected is None else selected
    row, column = (other for other in range(3) if other != mode)
    if residual.shape[row + 1] > residual.shape[column + 1]:
        # Elimination takes one step per row: make the rows the shorter axis.
        row, column = column, row
    rows, columns = residual.shape[row + 1], residual.shape[column + 1]
    dtype = jnp.int32 if prime > 3 else jnp.promote_types(residual.dtype, jnp.int16)
    x = residual.astype(dtype) % prime
    if prime in (2, 3) and columns <= 31:
        slices = _pack_rows(x, prime, mode, row, column, vectors.shape[1])
        if prime == 2:
            (sums,) = _combine_slices(slices, vectors, lambda a, b: (a[0] ^ b[0],))
            ranks = rank_gf2([sums[selected, i] for i in range(rows)])
        else:
            combined = _combine_slices(slices, vectors, _add_slices_gf3)
            ones, twos = (jnp.moveaxis(part[selected], 1, 0) for part in combined)
            ranks = rank_gf3((ones, twos), columns)
        ranks = ranks.astype(jnp.int32)
    else:
        # In float32 the contraction is one matrix product, and exact below 2^24.
        x = jnp.transpose(x, (mode + 1, row + 1, column + 1, 0))[: vectors.shape[1]]
        flat = x.astype(jnp.float32).reshape(x.shape[0], -1)
        mixed = jnp.matmul(
            vectors[selected].astype(np.float32), flat, precision=jax.lax.Precision.HIGHEST
        )
        matrices = mixed.astype(jnp.int32).reshape(len(selected), rows, columns, -1)
        ranks = matrix_rank(jnp.moveaxis(matrices, -1, 1), prime)
    return jnp.moveaxis(ranks, -1, 0)


def _pack_rows(
    x: Int[Array, "B I J K"], prime: int, mode: int, row: int, column: int, depth: int
) -> Slices:
    """Residues modulo 2 or 3 as bit masks over `column`: `[depth, row, B]` per non-zero value."""
    columns = x.shape[column + 1]
    # The narrowest type that holds a row: twice as many lanes in 16 bits.
    lanes = np.dtype(
        np.uint16 if prime == 2 and columns <= 16 else np.int16 if columns < 16 else np.int32
    )
    bits = (
        np.left_shift(1, np.arange(columns))
        .astype(lanes)
        .reshape([-1 if i == column else 1 for i in range(-1, 3)])
    )
    slices = tuple(
        jnp.sum(jnp.where(x == value, bits, lanes.type(0)), axis=column + 1, dtype=lanes)
        for value in range(1, prime)
    )
    # The batch goes last, where the hardware's vector lanes are.
    batch_last = (1, 2, 0) if mode < row else (2, 1, 0)
    slices = tuple(jnp.transpose(part, batch_last)[:depth] for part in slices)
    # Without the barrier, XLA on a CPU would compute the masks again in every use of them.
    return jax.lax.optimization_barrier(slices)


def _add_slices_gf3(a: Slices, b: Slices) -> Slices:
    """Sum over GF(3) of two pairs of masks."""
    return add_gf3((a[0], a[1]), (b[0], b[1]))


def _combine_slices(
    slices: Slices, vectors: Int[np.ndarray, "V D"], add: Callable[[Slices, Slices], Slices]
) -> Slices:
    """The linear combination of slices for each vector, `[V, row, B]` per non-zero value.

    A vector of weight w is one of weight w - 1 plus one slice, so each vector takes one addition.
    The vectors must be sorted by weight.
    """
    weights = np.count_nonzero(vectors, axis=1)
    index_of: dict[tuple[int, ...], int] = {}
    levels: list[Slices] = []
    for weight in range(1, weights.max() + 1):
        level = vectors[weights == weight]
        last = np.array([np.flatnonzero(v)[-1] for v in level])
        is_two = level[np.arange(len(level)), last] == 2
        sums = tuple(part[last] for part in slices)
        if is_two.any():  # twice a slice: its ones and twos exchanged
            swap = is_two.reshape(-1, *(1,) * (sums[0].ndim - 1))
            ones, twos = sums
            sums = (jnp.where(swap, twos, ones), jnp.where(swap, ones, twos))
        if levels:
            prefix = level.copy()
            prefix[np.arange(len(level)), last] = 0
            parents = np.array([index_of[tuple(v)] for v in prefix])
            sums = add(tuple(part[parents] for part in levels[-1]), sums)
        index_of = {tuple(v): index for index, v in enumerate(level)}
        levels.append(sums)
    return tuple(jnp.concatenate(parts) for parts in zip(*levels, strict=True))
