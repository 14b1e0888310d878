"""Known schemes, and new schemes composed of them; each function preserves correctness.

A matrix multiplication scheme can be multiplied by another, extended, restricted to smaller sizes,
or turned to another order of its sizes by the symmetries of trace(A B C). Ranks multiply, add,
decrease and stay the same, in that order. `canonical` and `has_same_products` compare schemes
product by product; `equivalence` compares them up to a change of basis.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from alphajax.alphatensor.schemes.scheme import (
    Scheme,
    Sizes,
    change_ring,
    characteristic,
    check_sizes,
    largest_entry,
)

# Known schemes.


def naive(n: int, m: int, p: int, ring: str = "Z") -> Scheme:
    """The naive scheme of n x m x p, rank n m p: product (i, j, k) is a_ij b_jk.

    Args:
      n: rows of A.
      m: columns of A.
      p: columns of B.
      ring: of the result.

    Returns:
      The scheme; products in the lexicographic order of (i, j, k).

    Raises:
      ValueError: a size below 1, an unknown ring.
    """
    n, m, p = check_sizes((n, m, p))
    u, v, w = (np.zeros((rows, n * m * p), np.int64) for rows in (n * m, m * p, p * n))
    for r, (i, j, k) in enumerate(np.ndindex(n, m, p)):
        u[i * m + j, r] = v[j * p + k, r] = w[k * n + i, r] = 1
    return change_ring(Scheme(u, v, w, (n, m, p), "Z"), ring)


def strassen(ring: str = "Z") -> Scheme:
    """Strassen's 2 x 2 x 2 scheme of rank 7, over `ring`.

    Source: Strassen, Numerische Mathematik 13:354 (1969).
    """
    u = [  # m1 = (a11 + a22)(b11 + b22), m2 = (a21 + a22) b11, ...
        [1, 0, 1, 0, 1, -1, 0],
        [0, 0, 0, 0, 1, 0, 1],
        [0, 1, 0, 0, 0, 1, 0],
        [1, 1, 0, 1, 0, 0, -1],
    ]
    v = [
        [1, 1, 0, -1, 0, 1, 0],
        [0, 0, 1, 0, 0, 1, 0],
        [0, 0, 0, 1, 0, 0, 1],
        [1, 0, -1, 0, 1, 0, 1],
    ]
    w = [  # rows c11, c21, c12, c22: the product comes out transposed
        [1, 0, 0, 1, -1, 0, 1],
        [0, 1, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 1, 0, 0],
        [1, -1, 1, 0, 0, 1, 0],
    ]
    return change_ring(Scheme(np.array(u), np.array(v), np.array(w), (2, 2, 2), "Z"), ring)


def winograd(ring: str = "Z") -> Scheme:
    """Winograd's 2 x 2 x 2 scheme of rank 7, over `ring`: 15 additions when sums are shared.

    Source: Winograd's variant of Strassen's scheme, as in Probert, SIAM J. Comput. 5:187 (1976).
    """
    u = [  # a11, a12, a12 - s2, a22, s1 = a21 + a22, s2 = s1 - a11, a11 - a21
        [1, 0, 1, 0, 0, -1, 1],
        [0, 1, 1, 0, 0, 0, 0],
        [0, 0, -1, 0, 1, 1, -1],
        [0, 0, -1, 1, 1, 1, 0],
    ]
    v = [  # b11, b21, b22, t2 - b21, t1 = b12 - b11, t2 = b22 - t1, b22 - b12
        [1, 0, 0, 1, -1, 1, 0],
        [0, 0, 0, -1, 1, -1, -1],
        [0, 1, 0, -1, 0, 0, 0],
        [0, 0, 1, 1, 0, 1, 1],
    ]
    w = [
        [1, 1, 0, 0, 0, 0, 0],
        [1, 0, 0, -1, 0, 1, 1],
        [1, 0, 1, 0, 1, 1, 0],
        [1, 0, 0, 0, 1, 1, 1],
    ]
    return change_ring(Scheme(np.array(u), np.array(v), np.array(w), (2, 2, 2), "Z"), ring)


# Composition.


def cyclic(scheme: Scheme) -> Scheme:
    """Rotate the modes, (n, m, p) to (m, p, n): trace(A B C) = trace(B C A). Same rank."""
    sizes = scheme.sizes and (scheme.sizes[1], scheme.sizes[2], scheme.sizes[0])
    return Scheme(scheme.v, scheme.w, scheme.u, sizes, scheme.ring)


def transpose(scheme: Scheme) -> Scheme:
    """Transpose, (n, m, p) to (p, m, n): trace(A B C) = trace(B' A' C'). Same rank."""
    n, m, p = scheme.matmul_sizes
    u, v, w = (renumber_c(scheme.v, m, p), renumber_c(scheme.u, n, m), renumber_c(scheme.w, p, n))
    return Scheme(u, v, w, (p, m, n), scheme.ring)


def orientations(scheme: Scheme) -> list[Scheme]:
    """The scheme in the six orders of its sizes, the given one first. Same rank."""
    turned = [scheme, cyclic(scheme), cyclic(cyclic(scheme))]
    return turned + [transpose(each) for each in turned]


def permute(scheme: Scheme, sizes: Sizes) -> Scheme:
    """Turn a scheme to another order of its three sizes, by `cyclic` and `transpose`.

    Args:
      scheme: of n x m x p.
      sizes: n, m, p in the wanted order.

    Returns:
      A scheme of `sizes`, of the same rank.

    Raises:
      ValueError: sizes that are not n, m, p in some order; a scheme without sizes.
    """
    sizes = check_sizes(sizes)
    for turned in orientations(scheme):
        if turned.sizes == sizes:
            return turned
    raise ValueError(f"sizes {sizes}; expected {scheme.sizes} in some order")


def tensor_product(a: Scheme, b: Scheme) -> Scheme:
    """The Kronecker product of two schemes: scheme a on blocks that scheme b multiplies.

    `tensor_product(strassen(), strassen())` is Strassen^2 of 4 x 4 x 4, rank 49.

    Args:
      a: of n x m x p, rank R.
      b: of n' x m' x p', rank R', over the same ring.

    Returns:
      A scheme of (n n', m m', p p'), rank R R'; product (r, r') is column r R' + r'.

    Raises:
      ValueError: different rings, a scheme without sizes.
    """
    ring = _same_ring(a, b)
    modulus = characteristic(ring)
    (n, m, p), (n2, m2, p2) = a.matmul_sizes, b.matmul_sizes

    def product(x, y, rows, columns, rows2, columns2):
        x = x.reshape(rows, 1, columns, 1, x.shape[1], 1)
        y = y.reshape(1, rows2, 1, columns2, 1, y.shape[1])
        if largest_entry(x) * largest_entry(y) >= 2**63:
            x, y = x.astype(object), y.astype(object)
        factor = x * y % modulus if modulus else x * y
        return factor.reshape(rows * rows2 * columns * columns2, a.rank * b.rank)

    u = product(a.u, b.u, n, m, n2, m2)
    v = product(a.v, b.v, m, p, m2, p2)
    w = product(a.w, b.w, p, n, p2, n2)
    return Scheme(u, v, w, (n * n2, m * m2, p * p2), ring)


def concatenate(a: Scheme, b: Scheme, axis: Literal["n", "m", "p"]) -> Scheme:
    """Join two multiplications along one size; that size and the ranks add up.

    Args:
      a: of n x m x p.
      b: over the same ring, of the same sizes except along `axis`.
      axis: "n" stacks the rows of A, "p" the columns of B; "m" adds two products over the inner
        size.

    Returns:
      The joint scheme; the products of a come first.

    Raises:
      ValueError: different rings, sizes that do not agree, an unknown axis.

    Source: the direct sums of the recombination tables of Fawzi et al. (2022).
    """
    ring = _same_ring(a, b)
    if axis not in ("n", "m", "p"):
        raise ValueError(f"axis {axis!r}; expected 'n', 'm' or 'p'")
    at = "nmp".index(axis)
    first, second = a.matmul_sizes, b.matmul_sizes
    if any(x != y for d, (x, y) in enumerate(zip(first, second, strict=True)) if d != at):
        raise ValueError(f"sizes {first} and {second}; expected them to agree except in {axis}")
    n, m, p = (x + y if d == at else x for d, (x, y) in enumerate(zip(first, second, strict=True)))
    sizes = n, m, p
    u, v, w = factors = [
        np.full((sizes[d] * sizes[(d + 1) % 3], a.rank + b.rank), 0, a.u.dtype) for d in range(3)
    ]
    for scheme, offset, columns in ((a, 0, slice(0, a.rank)), (b, first[at], slice(a.rank, None))):
        indices = [range(size) for size in scheme.matmul_sizes]
        indices[at] = range(offset, offset + len(indices[at]))
        for d, rows in enumerate(_rows(sizes, indices)):
            factors[d][rows, columns] = scheme.factors[d]
    return Scheme(u, v, w, sizes, ring)


def direct_sum(a: Scheme, b: Scheme) -> Scheme:
    """The scheme of two tensors as one block-diagonal tensor; shapes and ranks add up.

    Args:
      a: any scheme.
      b: any scheme over the same ring.

    Returns:
      A scheme without sizes; the products of a come first.

    Raises:
      ValueError: different rings.
    """
    ring = _same_ring(a, b)
    factors = []
    for x, y in zip(a.factors, b.factors, strict=True):
        factor = np.full((len(x) + len(y), a.rank + b.rank), 0, x.dtype)
        factor[: len(x), : a.rank], factor[len(x) :, a.rank :] = x, y
        factors.append(factor)
    u, v, w = factors
    return Scheme(u, v, w, None, ring)


def project(
    scheme: Scheme,
    rows: int | Iterable[int],
    inner: int | Iterable[int],
    columns: int | Iterable[int],
) -> Scheme:
    """Restrict a scheme to fewer rows, inner indices and columns; products that vanish are dropped.

    Args:
      scheme: of n x m x p.
      rows: which of the n rows of A to keep: a number keeps the first ones, a list names them.
        Which are dropped decides how many products vanish.
      inner: which of the m inner indices to keep.
      columns: which of the p columns of B to keep.

    Returns:
      A scheme of the remaining sizes.

    Raises:
      ValueError: indices out of range, repeated, or none.
    """
    sizes = scheme.matmul_sizes
    indices: list[Sequence[int]] = [
        range(k) if isinstance(k, int) else [operator.index(x) for x in k]
        for k in (rows, inner, columns)
    ]
    for chosen, size in zip(indices, sizes, strict=True):
        is_valid = all(0 <= x < size for x in chosen) and len(set(chosen)) == len(chosen)
        if not chosen or not is_valid:
            raise ValueError(f"{list(chosen)} of 0..{size - 1}; expected some of them, each once")
    factors = [
        factor[chosen] for factor, chosen in zip(scheme.factors, _rows(sizes, indices), strict=True)
    ]
    alive = np.all([(factor != 0).any(axis=0) for factor in factors], axis=0)
    u, v, w = (factor[:, alive] for factor in factors)
    n, m, p = (len(chosen) for chosen in indices)
    return Scheme(u, v, w, (n, m, p), scheme.ring)


def _rows(sizes: Sizes, indices: Sequence[Sequence[int]]) -> list[list[int]]:
    """The rows of u, v, w that belong to a choice of indices along n, m, p."""
    return [
        [i * sizes[(d + 1) % 3] + j for i in indices[d] for j in indices[(d + 1) % 3]]
        for d in range(3)
    ]


def _same_ring(a: Scheme, b: Scheme) -> str:
    if a.ring != b.ring:
        raise ValueError(f"rings {a.ring} and {b.ring}; expected one ring, see `change_ring`")
    return a.ring


def renumber_c(w: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Reorder the rows of w from the entries of a matrix to those of its transpose.

    Args:
      w: factors, [rows columns, R], whose rows are the row-major entries of a matrix.
      rows: of that matrix.
      columns: of that matrix.

    Returns:
      The same factors, with rows in the row-major order of the transpose. It turns the "transposed"
      numbering of C (row `k n + i`, a p x n matrix) into the "plain" one (row `i p + k`), and back.
    """
    return (
        w.reshape(rows, columns, w.shape[1]).transpose(1, 0, 2).reshape(rows * columns, w.shape[1])
    )


# Comparison.


def canonical(scheme: Scheme) -> Scheme:
    """The canonical form of a scheme under reordering of products and scaling within a product.

    Each product is scaled, and the scale moved into w. Over Z, u and v become primitive (gcd 1)
    with a positive first non-zero entry; over Q and Zp they start with 1. Products with a zero
    factor are dropped, and the rest is sorted.
    """
    p = characteristic(scheme.ring)

    def normalise(factor: list[Any]) -> tuple[list[Any], Any]:
        """(factor / scale, scale)"""
        lead = next(entry for entry in factor if entry)
        if p:
            inverse = pow(lead, -1, p)
            return [entry * inverse % p for entry in factor], lead
        if scheme.ring == "Z":
            lead = math.gcd(*factor) if lead > 0 else -math.gcd(*factor)
            return [entry // lead for entry in factor], lead
        return [entry / lead for entry in factor], lead

    products = []
    for factors in zip(*(factor.T.tolist() for factor in scheme.factors), strict=True):
        if all(map(any, factors)):
            (first, scale), (second, scale2) = normalise(factors[0]), normalise(factors[1])
            third = [entry * scale * scale2 for entry in factors[2]]
            products.append((first, second, [entry % p for entry in third] if p else third))
    products.sort()
    columns = zip(*products, strict=True) if products else ([], [], [])
    u, v, w = (
        np.array(list(column), object).reshape(len(products), rows).T
        for column, rows in zip(columns, scheme.shape, strict=True)
    )
    return Scheme(u, v, w, scheme.sizes, scheme.ring)


def has_same_products(a: Scheme, b: Scheme) -> bool:
    """Whether two schemes are the same set of products, up to order and scaling.

    Args:
      a: any scheme.
      b: any scheme.

    Returns:
      Whether their canonical forms are equal.
    """
    return canonical(a) == canonical(b)
