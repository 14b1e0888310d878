"""Composing and comparing schemes: new right schemes out of right ones, and when two are the same.

Each size of a matrix multiplication can be multiplied up, added to, cut down, or changed for another
by turning the trilinear form trace(A B C) round. Ranks multiply, add, fall and stay, in that order.
Two schemes are compared product by product here; up to a change of basis, in `equivalence`.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from alphajax.alphatensor.schemes.scheme import (
    Scheme,
    Sizes,
    characteristic,
    check_sizes,
    largest_entry,
    renumber_c,
)

# Composing: each of these takes right schemes to right schemes.


def cyclic(scheme: Scheme) -> Scheme:
    """(n, m, p) to (m, p, n), of the same rank: trace(A B C) = trace(B C A)."""
    sizes = scheme.sizes and (scheme.sizes[1], scheme.sizes[2], scheme.sizes[0])
    return Scheme(scheme.v, scheme.w, scheme.u, sizes, scheme.ring)


def transpose(scheme: Scheme) -> Scheme:
    """(n, m, p) to (p, m, n), of the same rank: trace(A B C) = trace(B' A' C') for transposes."""
    n, m, p = _matmul(scheme)
    u, v, w = (renumber_c(scheme.v, m, p), renumber_c(scheme.u, n, m), renumber_c(scheme.w, p, n))
    return Scheme(u, v, w, (p, m, n), scheme.ring)


def permute(scheme: Scheme, sizes: Sizes) -> Scheme:
    """The scheme for another order of its three sizes, of the same rank; ValueError for others."""
    sizes = check_sizes(sizes)
    for start in (scheme, transpose(scheme)):
        for turned in (start, cyclic(start), cyclic(cyclic(start))):
            if turned.sizes == sizes:
                return turned
    raise ValueError(f"sizes {sizes}; expected {scheme.sizes} in some order")


def tensor_product(a: Scheme, b: Scheme) -> Scheme:
    """Scheme a on blocks that are multiplied by scheme b: sizes and ranks multiply.

    (n, m, p) and (n', m', p') give (n n', m m', p p'); `tensor_product(strassen(), strassen())` is
    Strassen^2, rank 49. Product (r, r') is column r R' + r'.
    """
    ring = _same_ring(a, b)
    modulus = characteristic(ring)
    (n, m, p), (n2, m2, p2) = _matmul(a), _matmul(b)

    def product(x, y, rows, columns, rows2, columns2):
        x = x.reshape(rows, 1, columns, 1, x.shape[1], 1)
        y = y.reshape(1, rows2, 1, columns2, 1, y.shape[1])
        if largest_entry(x) * largest_entry(y) >= 2**63:
            x, y = x.astype(object), y.astype(object)
        big = x * y % modulus if modulus else x * y
        return big.reshape(rows * rows2 * columns * columns2, a.rank * b.rank)

    u = product(a.u, b.u, n, m, n2, m2)
    v = product(a.v, b.v, m, p, m2, p2)
    w = product(a.w, b.w, p, n, p2, n2)
    return Scheme(u, v, w, (n * n2, m * m2, p * p2), ring)


def concatenate(a: Scheme, b: Scheme, axis: str) -> Scheme:
    """Two multiplications side by side as one: the sizes along `axis` add, and so do the ranks.

    axis "n" stacks the rows of A, "p" the columns of B, "m" adds up two products over the inner
    size; the other two sizes must agree. Source: the direct sums behind the recombination tables of
    Fawzi et al. (Nature 2022).
    """
    ring = _same_ring(a, b)
    if axis not in ("n", "m", "p"):
        raise ValueError(f"axis {axis!r}; expected 'n', 'm' or 'p'")
    at = "nmp".index(axis)
    first, second = _matmul(a), _matmul(b)
    if any(x != y for d, (x, y) in enumerate(zip(first, second, strict=True)) if d != at):
        raise ValueError(f"sizes {first} and {second}; expected them to agree except in {axis}")
    n, m, p = (x + y if d == at else x for d, (x, y) in enumerate(zip(first, second, strict=True)))
    sizes = n, m, p
    dtype = a.u.dtype
    factors = [
        np.full((sizes[d] * sizes[(d + 1) % 3], a.rank + b.rank), 0, dtype) for d in range(3)
    ]
    for scheme, offset, columns in ((a, 0, slice(0, a.rank)), (b, first[at], slice(a.rank, None))):
        keep = [range(size) for size in _matmul(scheme)]
        keep[at] = range(offset, offset + len(keep[at]))
        for d, rows in enumerate(_rows(sizes, keep)):
            factors[d][rows, columns] = scheme.factors[d]
    u, v, w = factors
    return Scheme(u, v, w, sizes, ring)


def direct_sum(a: Scheme, b: Scheme) -> Scheme:
    """The scheme of two unrelated tensors as one block-diagonal tensor, without sizes."""
    ring = _same_ring(a, b)
    factors = []
    for x, y in zip(a.factors, b.factors, strict=True):
        factor = np.full((len(x) + len(y), a.rank + b.rank), 0, x.dtype)
        factor[: len(x), : a.rank], factor[len(x) :, a.rank :] = x, y
        factors.append(factor)
    u, v, w = factors
    return Scheme(u, v, w, None, ring)


def project(scheme: Scheme, rows, inner, columns) -> Scheme:
    """A smaller multiplication out of a larger one, dropping the products that become zero.

    Args:
      scheme: an (n, m, p) scheme.
      rows, inner, columns: which of the n, m, p to keep: a number for the first so many, or the
        indices themselves. Which are dropped decides how many products vanish.
    """
    sizes = _matmul(scheme)
    keep = [
        range(k) if isinstance(k, int) else [operator.index(x) for x in k]
        for k in (rows, inner, columns)
    ]
    for indices, size in zip(keep, sizes, strict=True):
        if (
            not len(indices)
            or len(set(indices)) != len(indices)
            or not all(0 <= x < size for x in indices)
        ):
            raise ValueError(f"{list(indices)} of 0..{size - 1}; expected some of them, each once")
    factors = [
        factor[rows] for factor, rows in zip(scheme.factors, _rows(sizes, keep), strict=True)
    ]
    alive = np.all([(factor != 0).any(axis=0) for factor in factors], axis=0)
    u, v, w = (factor[:, alive] for factor in factors)
    n, m, p = (len(indices) for indices in keep)
    return Scheme(u, v, w, (n, m, p), scheme.ring)


def _rows(sizes: Sizes, keep) -> list[list[int]]:
    """The rows of u, v, w that belong to a choice of indices along n, m, p."""
    return [
        [i * sizes[(d + 1) % 3] + j for i in keep[d] for j in keep[(d + 1) % 3]] for d in range(3)
    ]


def _matmul(scheme: Scheme) -> Sizes:
    if scheme.sizes is None:
        raise ValueError(
            f"{scheme!r} is not for matrix multiplication; expected a scheme with sizes"
        )
    return scheme.sizes


def _same_ring(a: Scheme, b: Scheme) -> str:
    if a.ring != b.ring:
        raise ValueError(f"rings {a.ring} and {b.ring}; expected one ring, see `over`")
    return a.ring


# Comparing.


def canonical(scheme: Scheme) -> Scheme:
    """The same sum of products in a form that depends on nothing but the products.

    Each product is scaled, the scale being moved into w: over Z so that u and v are primitive (gcd
    1), over Q and Zp so that they start with 1; over Z their first non-zero entry becomes positive.
    Products with a zero factor are dropped and the rest sorted. The order of the products and the
    freedom to scale within a product are removed; changes of basis are not (see `equivalence`).
    """
    p = characteristic(scheme.ring)

    def unit(factor):
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
            (first, scale), (second, scale2) = unit(factors[0]), unit(factors[1])
            third = [entry * scale * scale2 for entry in factors[2]]
            products.append((first, second, [entry % p for entry in third] if p else third))
    products.sort()
    columns = zip(*products, strict=True) if products else ([], [], [])
    u, v, w = (
        np.array(list(column), object).reshape(len(products), rows).T
        for column, rows in zip(columns, scheme.shape, strict=True)
    )
    return Scheme(u, v, w, scheme.sizes, scheme.ring)


def identical(a: Scheme, b: Scheme) -> bool:
    """Whether ring, sizes and every entry are the same, in the same order."""
    if (a.ring, a.sizes) != (b.ring, b.sizes):
        return False
    return all(np.array_equal(x, y) for x, y in zip(a.factors, b.factors, strict=True))


def equal(a: Scheme, b: Scheme) -> bool:
    """Whether two schemes are the same set of products: order and scaling do not count."""
    return identical(canonical(a), canonical(b))
