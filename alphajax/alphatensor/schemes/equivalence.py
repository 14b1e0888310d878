"""Invariants of schemes under change of basis: different invariants prove schemes inequivalent.

A change of basis U, V, W -> A U B^-1, B V C^-1, C W A^-1 (A, B, C invertible), a reordering of
products and a scaling within a product relate equivalent schemes of matrix multiplication. Two
invariants of Fawzi et al.: R, the matrix ranks of the factors (`rank_invariant`), and K, their
characteristic polynomials relative to one product (`kronecker_invariant`). Cyclic permutation and
transposition of (U, V, W) change neither. Schemes with equal invariants need not be equivalent.
All arithmetic is exact.

Source: Fawzi et al., Nature 610:47 (2022), supplement B.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from alphajax.alphatensor.schemes.scheme import Scheme, characteristic

RanksInvariant = tuple[tuple[int, int, int], ...]
KroneckerInvariant = tuple[tuple[int | Fraction, ...], ...]


def rank_invariant(scheme: Scheme) -> RanksInvariant:
    """The invariant R: the multiset of the sorted triples (rank U_r, rank V_r, rank W_r).

    Args:
      scheme: of matrix multiplication, over any ring.

    Returns:
      R triples, sorted. Ranks are over the ring's field of fractions.

    Raises:
      ValueError: a scheme without sizes.

    Source: Fawzi et al. (2022), supplement B.
    """
    ranks = [_ranks(matrices, characteristic(scheme.ring)) for matrices in _matrices(scheme)[0]]
    triples = (sorted(triple) for triple in np.stack(ranks, axis=1).tolist())
    return tuple(sorted((a, b, c) for a, b, c in triples))


def kronecker_invariant(scheme: Scheme) -> KroneckerInvariant:
    """The invariant K: the multiset of characteristic polynomials relative to an anchor product.

    It applies for n = m = p and exactly one product r0, the anchor, with U_r0 V_r0 W_r0 = I. The
    polynomials are those of (U_r U_r0^-1) (x) (V_r V_r0^-1) (x) (W_r W_r0^-1), to which
    U_r (x) V_r (x) W_r is similar in the basis where product r0 is (I, I, I). A Kronecker product
    is never formed: the power sums of its eigenvalues are products,
    tr((X (x) Y (x) Z)^k) = tr X^k tr Y^k tr Z^k, and Newton's identities give its polynomial.

    Args:
      scheme: of matrix multiplication, over any ring.

    Returns:
      R polynomials, sorted, each the coefficients of the powers n^3 - 1, ..., 0: integers over Z,
      0..p-1 over Zp, Fractions over Q. Empty where K does not apply.

    Raises:
      ValueError: a scheme without sizes.

    Source: Fawzi et al. (2022), supplement B.
    """
    (u, v, w), scales = _matrices(scheme)
    n, m, p = scheme.matmul_sizes
    if not n == m == p:
        return ()
    prime = characteristic(scheme.ring)
    identities = np.array([scale * np.eye(n, dtype=object) for scale in scales]).reshape(-1, n, n)
    products = _times(_times(u, v), w)
    equal = (products - identities) % prime == 0 if prime else products == identities
    (anchors,) = np.nonzero(equal.all(axis=(1, 2)))
    if len(anchors) != 1:
        return ()
    anchor = int(anchors[0])
    # With adjugates for inverses there are no fractions: det U0 det V0 det W0 = 1, in the ring.
    traces = []
    for matrices in (u, v, w):
        x = _times(matrices, _adjugate(matrices[anchor])[None])
        traces.append(_power_sums(_reduced(x, prime)))
    polynomials: list[tuple[int | Fraction, ...]] = []
    for r, triple in enumerate(zip(*traces, strict=True)):
        polynomial = _kronecker_polynomial(*triple, n**3)
        if prime:
            polynomials.append(tuple(coefficient % prime for coefficient in polynomial))
        elif scheme.ring == "Q":
            scale = scales[r] * scales[anchor] ** (n - 1)
            polynomials.append(
                tuple(Fraction(c, scale**k) for k, c in enumerate(polynomial, start=1))
            )
        else:
            polynomials.append(polynomial)
    return tuple(sorted(polynomials))


def invariants(scheme: Scheme) -> Hashable:
    """All invariants of a scheme: (sizes, ring, rank, R, K). Different ones: not equivalent.

    Raises:
      ValueError: a scheme without sizes.
    """
    return (
        scheme.sizes,
        scheme.ring,
        scheme.rank,
        rank_invariant(scheme),
        kronecker_invariant(scheme),
    )


def classes(schemes: Iterable[Scheme]) -> list[list[int]]:
    """Group schemes by their invariants; schemes of different groups are not equivalent.

    The number of groups is a lower bound on the number of inequivalent schemes.

    Args:
      schemes: of matrix multiplication.

    Returns:
      Groups of positions in `schemes`, in the order of their first members.

    Raises:
      ValueError: a scheme without sizes.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, scheme in enumerate(schemes):
        groups.setdefault(invariants(scheme), []).append(index)
    return list(groups.values())


def change_basis(scheme: Scheme, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Scheme:
    """Change the basis of a scheme exactly: U, V, W -> A U B^-1, B V C^-1, C W A^-1.

    Args:
      scheme: of n x m x p.
      a: A, [n, n] integers; over Q also Fractions (an object array).
      b: B, [m, m], likewise.
      c: C, [p, p], likewise.

    Returns:
      A scheme over the same ring; correct if the given one is.

    Raises:
      ValueError: a scheme without sizes, a matrix of another shape or not invertible over the ring.
    """
    sizes = scheme.matmul_sizes
    changes = [
        _invertible(np.asarray(matrix), size, scheme.ring, name)
        for matrix, size, name in zip((a, b, c), sizes, "abc", strict=True)
    ]
    prime = characteristic(scheme.ring)
    factors = []
    for mode, factor in enumerate(scheme.factors):
        left, right = changes[mode][0], changes[(mode + 1) % 3][1]
        rows, columns = len(left), len(right)
        matrices = factor.astype(object).reshape(rows, columns, scheme.rank).transpose(2, 0, 1)
        changed = _reduced(np.matmul(np.matmul(left, matrices), right), prime)
        factors.append(changed.transpose(1, 2, 0).reshape(rows * columns, scheme.rank))
    u, v, w = factors
    return Scheme(u, v, w, sizes, scheme.ring)


# Exact arithmetic on stacks of small matrices, [R, rows, columns].


def _matrices(scheme: Scheme) -> tuple[list[np.ndarray], list[int]]:
    """Integer stacks (u, v, w), each (R, rows, columns), and the scale of u v w for each r.

    Denominators are cleared product by product. This changes no rank; `kronecker_invariant`
    divides the scale out of the polynomials again.
    """
    n, m, p = scheme.matmul_sizes
    scales = [1] * scheme.rank
    stacks = []
    for factor, shape in zip(scheme.factors, ((n, m), (m, p), (p, n)), strict=True):
        columns = factor.T
        if scheme.ring == "Q":
            cleared = np.empty(columns.shape, object)
            for r, column in enumerate(columns.tolist()):
                d = math.lcm(*(entry.denominator for entry in column))
                cleared[r] = [int(entry * d) for entry in column]
                scales[r] *= d
            columns = cleared
        stacks.append(columns.reshape(scheme.rank, *shape))
    return stacks, scales


def _largest(array: np.ndarray) -> int:
    return int(abs(array).max()) if array.size else 0


def _times(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x @ y, in int64 where that cannot overflow and in unbounded integers otherwise."""
    is_small = _largest(x) * _largest(y) * x.shape[-1] < 2**62
    dtype = np.int64 if is_small else object
    return np.matmul(x.astype(dtype), y.astype(dtype))


def _reduced(x: np.ndarray, prime: int) -> np.ndarray:
    return x % prime if prime else x


def _ranks(matrices: np.ndarray, prime: int) -> np.ndarray:
    """Ranks (R,) over F_p, or over Q for prime = 0.

    Over Q elimination is modulo a prime above Hadamard's bound on every minor: a minor is then
    zero modulo the prime only if it is zero.
    """
    if not prime:
        side = min(matrices.shape[1:])
        bound = (_largest(matrices) * max(matrices.shape[1:])) ** side
        exponent = next(e for e in (31, 61, 127, 521, 1279, 9689, 44497) if 2**e - 1 > bound)
        prime = 2**exponent - 1  # Mersenne primes
    x = matrices.astype(np.int64 if prime < 2**31 else object) % prime
    stack = np.arange(len(x))
    ranks = np.zeros(len(x), np.int64)
    for column in range(x.shape[2]):
        below = np.arange(x.shape[1]) >= ranks[:, None]
        candidates = (x[:, :, column] != 0) & below
        has_pivot = candidates.any(axis=1)
        pivot, top = candidates.argmax(axis=1), np.minimum(ranks, x.shape[1] - 1)
        rows, first = x[stack, pivot].copy(), x[stack, top].copy()
        x[stack[has_pivot], pivot[has_pivot]] = first[has_pivot]
        x[stack[has_pivot], top[has_pivot]] = rows[has_pivot]
        scaled = x * rows[:, None, column, None] - x[:, :, column, None] * rows[:, None, :]
        clear = (np.arange(x.shape[1]) > ranks[:, None]) & has_pivot[:, None]
        x = np.where(clear[:, :, None], scaled % prime, x)
        ranks += has_pivot
    return ranks


def _adjugate(matrix: np.ndarray) -> np.ndarray:
    """adj(M) with M adj(M) = det(M) I, by Faddeev and LeVerrier; unbounded integers."""
    n = len(matrix)
    matrix = matrix.astype(object)
    identity = np.array([[int(i == j) for j in range(n)] for i in range(n)], object)
    total = identity
    for k in range(1, n):  # total_k = M total_(k-1) + c_k I
        product = matrix @ total
        total = product - identity * (_trace(product) // k)
    return total if n % 2 else -total


def _trace(matrix: np.ndarray):
    return sum(matrix[i, i] for i in range(len(matrix)))


def _determinant(matrix: np.ndarray):
    return (matrix.astype(object) @ _adjugate(matrix))[0, 0]


def _power_sums(stack: np.ndarray) -> list[tuple[int, ...]]:
    """(tr X, tr X^2, ..., tr X^n) of each matrix of a stack (R, n, n)."""
    power, traces = stack, [np.trace(stack, axis1=1, axis2=2)]
    for _ in range(stack.shape[1] - 1):
        power = _times(power, stack)
        traces.append(np.trace(power, axis1=1, axis2=2))
    return [tuple(int(t) for t in row) for row in zip(*traces, strict=True)]


@functools.lru_cache(maxsize=2**16)
def _all_power_sums(sums: tuple[int, ...], count: int) -> tuple[int, ...]:
    """tr X^k for k = 1..count from the first n, by Newton's identities."""
    n, coefficients, extended = len(sums), _elementary(sums), list(sums)
    for k in range(n, count):  # Cayley and Hamilton: the characteristic polynomial annihilates X
        extended.append(-sum(coefficients[j] * extended[k - 1 - j] for j in range(n)))
    return tuple(extended)


def _elementary(sums: Sequence[int]) -> tuple[int, ...]:
    """Coefficients c_1..c_n of x^n + c_1 x^(n-1) + ... with the given power sums of its roots."""
    coefficients: list[int] = []
    for k, power_sum in enumerate(sums, start=1):
        total = power_sum + sum(
            c * s for c, s in zip(coefficients, sums[k - 2 :: -1], strict=False)
        )
        coefficients.append(-total // k)  # exact: the coefficients are integers
    return tuple(coefficients)


@functools.lru_cache(maxsize=2**16)
def _kronecker_polynomial(x, y, z, degree: int) -> tuple[int, ...]:
    """The characteristic polynomial of X (x) Y (x) Z from the power sums of X, Y and Z."""
    sums = (_all_power_sums(each, degree) for each in (x, y, z))
    return _elementary([a * b * c for a, b, c in zip(*sums, strict=True)])


def _invertible(
    matrix: np.ndarray, size: int, ring: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """(M, M^-1) over the ring, object arrays; ValueError if there is no inverse."""
    if matrix.shape != (size, size) or matrix.dtype.kind not in "biuO":
        raise ValueError(
            f"{name} has shape {matrix.shape} and dtype {matrix.dtype}; expected ({size}, {size}), "
            "integers or Fractions"
        )
    scale = math.lcm(*(Fraction(entry).denominator for entry in matrix.reshape(-1).tolist()))
    if scale != 1 and ring != "Q":
        raise ValueError(f"{name} has proper fractions; expected integers over {ring}")
    cleared = np.array([[int(entry * scale) for entry in row] for row in matrix.tolist()], object)
    cleared = cleared.reshape(size, size)
    determinant, prime = _determinant(cleared), characteristic(ring)
    if (determinant % prime if prime else determinant) == 0 or (
        ring == "Z" and abs(determinant) != 1
    ):
        raise ValueError(f"{name} has determinant {determinant}; expected a unit of {ring}")
    adjugate = _adjugate(cleared)
    if prime:
        return cleared % prime, adjugate * pow(determinant, -1, prime) % prime
    if ring == "Z":
        return cleared, adjugate * determinant
    return matrix.astype(object), adjugate * Fraction(scale, determinant)
