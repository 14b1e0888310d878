"""Schemes: exact factorizations of a tensor, and the check that they are right.

A scheme of rank R writes a three-way tensor as a sum of R products of linear forms,

    T[x, y, z] = sum_r u[x, r] v[y, r] w[z, r],

over a stated ring. For the matrix multiplication tensor it is an algorithm that multiplies block
matrices with R products. The convention is that of the data released with Fawzi et al., "Discovering
faster matrix multiplication algorithms with reinforcement learning", Nature 610:47 (2022): for
A of n x m, B of m x p and C of p x n, T is the trilinear form trace(A B C), so that row `k n + i` of
w addresses entry (i, k) of the product A B (the product comes out transposed).

NumPy only, on the host, and no code shared with the game: `verify` is the judge of what the game
and the searches claim, so it must not inherit their mistakes.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from fractions import Fraction

import numpy as np

Sizes = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Scheme:
    """A factorization `T = sum_r u[:, r] (x) v[:, r] (x) w[:, r]` over a ring, read-only.

    The arrays are checked, copied and frozen when the scheme is made. Whether the factorization is
    *right* is another question: ask `verify`.

    Attributes:
      u: (I, R) factors. int64 over "Z" and "Zp" (there 0..p-1); object array of
        `fractions.Fraction` over "Q". Floats are refused: they are not exact.
      v: (J, R) factors.
      w: (K, R) factors.
      sizes: (n, m, p) when the target is the n x m x p matrix multiplication tensor, and then
        I, J, K = n m, m p, p n; None for any other target.
      ring: "Z", "Q", or "Zp" with p a prime: "Z2", "Z3", "Z17".

    Raises:
      ValueError: shapes that disagree, entries outside the ring, an unknown ring.
    """

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray
    sizes: Sizes | None
    ring: str

    def __post_init__(self):
        characteristic(self.ring)  # refuses an unknown ring
        factors = [_entries(getattr(self, name), self.ring, name) for name in "uvw"]
        ranks = [factor.shape[1] for factor in factors]
        if len(set(ranks)) != 1:
            raise ValueError(
                f"u, v, w have {ranks} columns; expected one number R: column r of each is product r"
            )
        if self.sizes is not None:
            sizes = check_sizes(self.sizes)
            n, m, p = sizes
            got = tuple(factor.shape[0] for factor in factors)
            if got != (n * m, m * p, p * n):
                raise ValueError(
                    f"u, v, w have {got} rows; sizes {n},{m},{p} want {(n * m, m * p, p * n)}. "
                    "Factors are (entries, rank): transpose them if they are (rank, entries)"
                )
            object.__setattr__(self, "sizes", sizes)
        for name, factor in zip("uvw", factors, strict=True):
            factor.setflags(write=False)
            object.__setattr__(self, name, factor)

    @property
    def rank(self) -> int:
        """The number R of products."""
        return self.u.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (I, J, K) of the tensor that is factored."""
        return self.u.shape[0], self.v.shape[0], self.w.shape[0]

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arrays (u, v, w)."""
        return self.u, self.v, self.w

    def __repr__(self) -> str:
        target = "x".join(map(str, self.sizes or self.shape))
        kind = "matmul" if self.sizes else "tensor"
        return f"Scheme({kind} {target}, rank {self.rank}, ring {self.ring})"


# Rings.


def characteristic(ring: str) -> int:
    """0 for "Z" and "Q", p for "Zp" with p a prime below 2^31; ValueError for anything else."""
    if ring in ("Z", "Q"):
        return 0
    match = re.fullmatch(r"Z([1-9][0-9]{0,9})", ring) if isinstance(ring, str) else None
    p = int(match[1]) if match else 0
    if 2 <= p < 2**31 and all(p % d for d in range(2, math.isqrt(p) + 1)):
        return p
    raise ValueError(f"ring {ring!r}; expected 'Z', 'Q', or 'Zp' with p a prime, such as 'Z2'")


def check_sizes(sizes) -> Sizes:
    """Three positive integers (n, m, p), or ValueError."""
    try:
        n, m, p = (operator.index(size) for size in sizes)
    except (TypeError, ValueError):
        raise ValueError(f"sizes {sizes!r}; expected three integers (n, m, p)") from None
    if min(n, m, p) < 1:
        raise ValueError(f"sizes {(n, m, p)}; expected three positive integers (n, m, p)")
    return n, m, p


def _entries(array, ring: str, name: str) -> np.ndarray:
    """A fresh array of the ring's dtype, or ValueError when an entry is not exactly of the ring."""
    array = np.array(array)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (entries, rank)")
    if array.dtype.kind not in "biuO":
        raise ValueError(
            f"{name} has dtype {array.dtype}; expected integers, or an object array of "
            "fractions.Fraction over 'Q': floating-point entries are not exact"
        )
    if ring == "Q":
        return _map(lambda entry: _fraction(entry, name), array, object)
    p = characteristic(ring)
    if array.dtype.kind not in "bi" or array.dtype.itemsize > 8:
        array = _map(lambda entry: _integer(entry, name, ring), array, object)
        if array.size and max(abs(array.max()), abs(array.min())) >= 2**63:
            raise ValueError(f"{name} has an entry past 64 bits: {array.max()}, {array.min()}")
    array = array.astype(np.int64)
    if p and array.size and not 0 <= array.min() <= array.max() < p:
        raise ValueError(
            f"{name} has entries from {array.min()} to {array.max()}; expected 0..{p - 1} over "
            f"{ring!r}: take them mod {p} first"
        )
    return array


def _map(function, array: np.ndarray, dtype) -> np.ndarray:
    result = np.empty(array.shape, dtype)
    result.reshape(-1)[:] = [function(entry) for entry in array.reshape(-1).tolist()]
    return result


def _fraction(entry, name: str) -> Fraction:
    if isinstance(entry, Fraction):
        return entry
    try:
        return Fraction(operator.index(entry))
    except TypeError:
        raise ValueError(f"{name} has the entry {entry!r}; expected a Fraction or an int") from None


def _integer(entry, name: str, ring: str) -> int:
    try:
        return operator.index(entry)
    except TypeError:
        if isinstance(entry, Fraction) and entry.denominator == 1:
            return entry.numerator
        raise ValueError(
            f"{name} has the entry {entry!r}; expected an integer over {ring}"
        ) from None


def over(scheme: Scheme, ring: str) -> Scheme:
    """The same factors read over another ring, exactly: Z to Q or Zp, Q to Z or Zp.

    A right scheme stays right under each of these maps. ValueError when an entry has no image: a
    proper fraction in Z, a denominator divisible by p in Zp, and anything from Zp to another ring
    (that needs lifting, which is not a map of entries).
    """
    p = characteristic(ring)
    if scheme.ring == ring:
        return scheme
    if characteristic(scheme.ring):
        raise ValueError(
            f"a scheme over {scheme.ring} cannot be read over {ring!r}; lift it instead"
        )

    def image(entry):
        if not p:
            return entry
        numerator, denominator = entry.as_integer_ratio()
        if denominator % p == 0:
            raise ValueError(f"the entry {entry} has no value mod {p}: its denominator is 0 there")
        return numerator * pow(denominator, -1, p) % p

    u, v, w = (_map(image, factor, object) for factor in scheme.factors)
    return Scheme(u, v, w, scheme.sizes, ring)


def renumber_c(w: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Renumbers the row-major entries of a rows x columns matrix as those of its transpose.

    Turns the w of one convention of C (rows `k n + i`, a p x n matrix) into the other (`i p + k`).
    """
    return (
        w.reshape(rows, columns, w.shape[1]).transpose(1, 0, 2).reshape(rows * columns, w.shape[1])
    )


# Targets. Written out entry by entry: they are what everything else is held against.


def matmul_tensor(n: int, m: int, p: int) -> np.ndarray:
    """The n x m x p matrix multiplication tensor, int64 of shape (n m, m p, p n).

    `T[i m + j, j p + k, k n + i] = 1` for i < n, j < m, k < p, and 0 elsewhere: the trilinear form
    trace(A B C), the convention of the released data of Fawzi et al. (Nature 2022).
    """
    n, m, p = check_sizes((n, m, p))
    tensor = np.zeros((n * m, m * p, p * n), np.int64)
    for i in range(n):
        for j in range(m):
            for k in range(p):
                tensor[i * m + j, j * p + k, k * n + i] = 1
    return tensor


def skew_tensor(n: int) -> np.ndarray:
    """A skew-symmetric n x n matrix times a vector: int64 of shape (n (n-1) / 2, n, n).

    Mode 0 runs over the pairs i < j in lexicographic order, the entries a_ij above the diagonal;
    y_i gains a_ij x_j and y_j loses a_ij x_i. Source: Fawzi et al. (Nature 2022), "Algorithm
    discovery for skew-symmetric matrix-vector multiplication": rank (n-1)(n+2)/2.
    """
    if n < 2:
        raise ValueError(f"skew_tensor of n = {n}; expected n >= 2")
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    tensor = np.zeros((len(pairs), n, n), np.int64)
    for x, (i, j) in enumerate(pairs):
        tensor[x, j, i] = 1
        tensor[x, i, j] = -1
    return tensor


def cyclic_tensor(n: int) -> np.ndarray:
    """Cyclic convolution of length n, int64 (n, n, n): `T[i, j, (i + j) mod n] = 1`.

    Source: Fawzi et al. (Nature 2022), the circulant experiment: rank n over a field with a
    primitive n-th root of unity, by the discrete Fourier transform.
    """
    if n < 1:
        raise ValueError(f"cyclic_tensor of n = {n}; expected n >= 1")
    tensor = np.zeros((n, n, n), np.int64)
    for i in range(n):
        for j in range(n):
            tensor[i, j, (i + j) % n] = 1
    return tensor


# Schemes that everybody knows.


def naive(n: int, m: int, p: int, ring: str = "Z") -> Scheme:
    """The schoolbook scheme of n x m x p, rank n m p: product (i, j, k) is a_ij b_jk."""
    n, m, p = check_sizes((n, m, p))
    u, v, w = (np.zeros((rows, n * m * p), np.int64) for rows in (n * m, m * p, p * n))
    for r, (i, j, k) in enumerate(np.ndindex(n, m, p)):
        u[i * m + j, r] = v[j * p + k, r] = w[k * n + i, r] = 1
    return over(Scheme(u, v, w, (n, m, p), "Z"), ring)


def strassen(ring: str = "Z") -> Scheme:
    """Strassen's 2 x 2 x 2 scheme of rank 7 (Numerische Mathematik 13:354, 1969)."""
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
    return over(Scheme(np.array(u), np.array(v), np.array(w), (2, 2, 2), "Z"), ring)


def winograd(ring: str = "Z") -> Scheme:
    """Winograd's 2 x 2 x 2 scheme of rank 7, which needs 15 additions when sums are shared.

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
    return over(Scheme(np.array(u), np.array(v), np.array(w), (2, 2, 2), "Z"), ring)


# The judge.


@dataclasses.dataclass(frozen=True)
class Report:
    """What `verify` found. True in a condition exactly when the scheme is right.

    Attributes:
      ok: every entry of the rebuilt tensor equals the target's.
      wrong_entries: how many do not.
      examples: the first of them, each (index (x, y, z), value got, value wanted).
    """

    ok: bool
    wrong_entries: int
    examples: tuple[tuple[tuple[int, int, int], object, object], ...]

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if self.ok:
            return "right: every entry of the tensor is reproduced"
        some = "; ".join(f"T{list(at)} is {got}, wanted {want}" for at, got, want in self.examples)
        return f"wrong in {self.wrong_entries} entries: {some}"


def verify(scheme: Scheme, target=None, examples: int = 5) -> Report:
    """Rebuilds the whole tensor in exact arithmetic and compares every entry with the target.

    Args:
      scheme: any scheme.
      target: array (I, J, K) of integers (or of Fractions over Q); over Zp it is read mod p.
        None means the matrix multiplication tensor of `scheme.sizes`.
      examples: how many differing entries to report.

    Arithmetic is in int64 where a bound on every intermediate value shows that it cannot overflow,
    and in Python's unbounded integers otherwise; over Q each factor is first cleared of its
    denominators. A 12 x 12 x 12 scheme of rank 1000 takes a few seconds.

    Raises:
      ValueError: no target and no sizes, a target of another shape, a floating-point target.
    """
    if target is None:
        if scheme.sizes is None:
            raise ValueError(f"{scheme!r} has no sizes; give verify the target tensor")
        target = matmul_tensor(*scheme.sizes)
    target = np.asarray(target)
    if target.shape != scheme.shape:
        raise ValueError(f"target has shape {target.shape}; the scheme's tensor has {scheme.shape}")
    p = characteristic(scheme.ring)
    # The target passes the same door as the factors; integers need not become Fractions for it.
    target = _entries(
        target.reshape(len(target), -1), "Q" if target.dtype == object else "Z", "target"
    ).reshape(target.shape)
    target, dt = _cleared(target)
    if dt != 1 and scheme.ring != "Q":
        raise ValueError(f"target has proper fractions; expected integers over {scheme.ring!r}")
    if p:
        target = target % p

    (u, du), (v, dv), (w, dw) = (_cleared(factor) for factor in scheme.factors)
    # u v w / (du dv dw) = target / dt, compared as integers: u v w dt = target du dv dw.
    denominator = du * dv * dw
    largest = max(scheme.rank, 1) * dt * largest_entry(u) * largest_entry(v) * largest_entry(w)
    small = max(largest, denominator * largest_entry(target)) < 2**62
    u, v, w, target = (array.astype(np.int64 if small else object) for array in (u, v, w, target))

    wrong = 0
    shown: list[tuple] = []
    for x in range(u.shape[0]):  # slice by slice: little memory, and zero factors cost nothing
        used = np.flatnonzero(u[x])
        got = (v[:, used] * u[x, used]) @ w[:, used].T * dt
        want = target[x] * denominator
        if p:
            got = got % p
        different = np.argwhere(got != want)
        wrong += len(different)
        for y, z in different[: max(examples - len(shown), 0)].tolist():
            values = (Fraction(int(value), denominator * dt) for value in (got[y, z], want[y, z]))
            if scheme.ring != "Q":
                values = (value.numerator for value in values)
            shown.append(((x, y, z), *values))
    return Report(wrong == 0, wrong, tuple(shown))


def _cleared(array: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers and one denominator d with array = integers / d. int64 arrays pass through."""
    if array.dtype != object:
        return array, 1
    d = math.lcm(*{entry.denominator for entry in array.reshape(-1).tolist()})
    return _map(lambda entry: entry.numerator * (d // entry.denominator), array, object), d


def largest_entry(array: np.ndarray) -> int:
    """A bound on the absolute values, at least 1."""
    return max(1, int(array.max()), -int(array.min())) if array.size else 1
