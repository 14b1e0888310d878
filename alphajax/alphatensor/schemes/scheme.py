"""Schemes: exact decompositions of a three-way tensor into R rank-one terms, and their check.

    T[x, y, z] = sum_r u[x, r] v[y, r] w[z, r]    over a stated ring

For a matrix multiplication tensor this is an algorithm that multiplies block matrices with R
products. Convention of the data of Fawzi et al. (Nature 610:47, 2022): A is n x m, B is m x p, C is
p x n, and T is the trilinear form trace(A B C). So row `k n + i` of w addresses entry (i, k) of the
product A B: the product comes out transposed.

NumPy only, on the host. `verify` shares no code with the game, so it cannot repeat its errors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Sizes = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Scheme:
    """A decomposition `T = sum_r u[:, r] (x) v[:, r] (x) w[:, r]` over a ring, immutable.

    The arrays are checked, copied and made read-only. Two schemes are equal, and have the same
    hash, when ring, sizes, shape and all entries are equal, so that a scheme can be a static
    argument of `jax.jit`. Whether the decomposition is correct is for `verify` to say.

    Attributes:
      u: factors, [I, R]. int64 over "Z" and "Zp" (there 0..p-1); `fractions.Fraction` over "Q".
        Floating-point arrays are refused, because they are not exact.
      v: factors, [J, R].
      w: factors, [K, R].
      sizes: (n, m, p) for the n x m x p matrix multiplication tensor, where I, J, K = n m, m p,
        p n; None for any other tensor.
      ring: "Z", "Q", or "Zp" with p a prime: "Z2", "Z3", "Z17".

    Raises:
      ValueError: shapes that disagree, entries outside the ring, an unknown ring.
    """

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray
    sizes: Sizes | None
    ring: str

    def __post_init__(self) -> None:
        characteristic(self.ring)  # refuses an unknown ring
        factors = [_exact_entries(getattr(self, name), self.ring, name) for name in "uvw"]
        rows, ranks = zip(*(factor.shape for factor in factors), strict=True)
        if len(set(ranks)) != 1:
            raise ValueError(
                f"u, v, w have {list(ranks)} columns; expected one number R: column r of each is"
                " product r"
            )
        if 0 in rows:
            raise ValueError(f"u, v, w have {rows} rows; expected 1 or more of each")
        if self.sizes is not None:
            n, m, p = sizes = check_sizes(self.sizes)
            if rows != (n * m, m * p, p * n):
                raise ValueError(
                    f"u, v, w have {rows} rows; sizes {n},{m},{p} want {(n * m, m * p, p * n)}."
                    " Factors are (entries, rank): transpose them if they are (rank, entries)"
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
        """The shape (I, J, K) of the tensor."""
        return self.u.shape[0], self.v.shape[0], self.w.shape[0]

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arrays (u, v, w)."""
        return self.u, self.v, self.w

    @property
    def matmul_sizes(self) -> Sizes:
        """The sizes (n, m, p) of a matrix multiplication scheme; ValueError for any other."""
        if self.sizes is None:
            raise ValueError(f"{self!r} has no sizes; expected a scheme of matrix multiplication")
        return self.sizes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scheme):
            return NotImplemented
        if (self.ring, self.sizes, self.shape) != (other.ring, other.sizes, other.shape):
            return False
        return all(np.array_equal(x, y) for x, y in zip(self.factors, other.factors, strict=True))

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        entries = (tuple(factor.reshape(-1).tolist()) for factor in self.factors)
        return hash((self.ring, self.sizes, self.shape, *entries))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made by the constructor: NumPy's would be writeable."""
        return Scheme, (*self.factors, self.sizes, self.ring)

    def __repr__(self) -> str:
        target = "x".join(map(str, self.sizes or self.shape))
        kind = "matmul" if self.sizes else "tensor"
        return f"Scheme({kind} {target}, rank {self.rank}, ring {self.ring})"


# Rings.


def characteristic(ring: str) -> int:
    """Characteristic of a ring by its name: 0 for "Z" and "Q", p for "Zp".

    Raises:
      ValueError: an unknown name, p not a prime, or p not below 2^31.
    """
    if ring in ("Z", "Q"):
        return 0
    match = re.fullmatch(r"Z([1-9][0-9]{0,9})", ring) if isinstance(ring, str) else None
    p = int(match[1]) if match else 0
    if 2 <= p < 2**31 and all(p % d for d in range(2, math.isqrt(p) + 1)):
        return p
    raise ValueError(f"ring {ring!r}; expected 'Z', 'Q', or 'Zp' with p a prime, such as 'Z2'")


def check_sizes(sizes: Iterable[Any]) -> Sizes:
    """Check that the sizes of a matrix multiplication are three positive integers (n, m, p).

    Raises:
      ValueError: they are not.
    """
    try:
        n, m, p = (operator.index(size) for size in sizes)
    except (TypeError, ValueError):
        raise ValueError(f"sizes {sizes!r}; expected three integers (n, m, p)") from None
    if min(n, m, p) < 1:
        raise ValueError(f"sizes {(n, m, p)}; expected three positive integers (n, m, p)")
    return n, m, p


def _exact_entries(array: ArrayLike, ring: str, name: str) -> np.ndarray:
    """A fresh array of the ring's dtype; ValueError for an entry that is not in the ring."""
    array = np.array(array)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (entries, rank)")
    if array.dtype.kind not in "biuO":
        raise ValueError(
            f"{name} has dtype {array.dtype}; expected integers, or an object array of"
            " fractions.Fraction over 'Q': floating-point entries are not exact"
        )
    if ring == "Q":
        return _map_entries(lambda entry: _as_fraction(entry, name), array)
    p = characteristic(ring)
    if array.dtype.kind not in "bi" or array.dtype.itemsize > 8:
        array = _map_entries(lambda entry: _as_integer(entry, name, ring), array)
        if largest_entry(array) >= 2**63:
            raise ValueError(f"{name} has an entry past 64 bits: {array.max()}, {array.min()}")
    array = array.astype(np.int64)
    if p and array.size and not 0 <= array.min() <= array.max() < p:
        raise ValueError(
            f"{name} has entries from {array.min()} to {array.max()}; expected 0..{p - 1} over"
            f" {ring!r}: take them mod {p} first"
        )
    return array


def _map_entries(function: Callable[[Any], Any], array: np.ndarray) -> np.ndarray:
    """An object array of the function's values."""
    values = np.empty(array.shape, object)
    values.reshape(-1)[:] = [function(entry) for entry in array.reshape(-1).tolist()]
    return values


def _as_fraction(entry: Any, name: str) -> Fraction:
    if isinstance(entry, Fraction):
        return entry
    try:
        return Fraction(operator.index(entry))
    except TypeError:
        raise ValueError(f"{name} has the entry {entry!r}; expected a Fraction or an int") from None


def _as_integer(entry: Any, name: str, ring: str) -> int:
    try:
        return operator.index(entry)
    except TypeError:
        if isinstance(entry, Fraction) and entry.denominator == 1:
            return entry.numerator
        raise ValueError(
            f"{name} has the entry {entry!r}; expected an integer over {ring}"
        ) from None


def change_ring(scheme: Scheme, ring: str) -> Scheme:
    """Map the entries of a scheme exactly to another ring: Z to Q or Zp, Q to Z or Zp.

    A correct scheme stays correct.

    Args:
      scheme: over "Z" or "Q"; over "Zp" only with the same ring.
      ring: "Z", "Q" or "Zp".

    Returns:
      The scheme over `ring`.

    Raises:
      ValueError: an entry without an image (a proper fraction in Z, a denominator divisible by p
        in Zp), or a scheme over Zp: use `lifting.lift`.
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
            raise ValueError(
                f"the entry {entry} has no value mod {p}: its denominator is 0 mod {p}"
            )
        return numerator * pow(denominator, -1, p) % p

    u, v, w = (_map_entries(image, factor) for factor in scheme.factors)
    return Scheme(u, v, w, scheme.sizes, ring)


# Target tensors, written entry by entry, independently of the game's.


def matmul_tensor(n: int, m: int, p: int) -> np.ndarray:
    """The n x m x p matrix multiplication tensor: the trilinear form trace(A B C).

    T[i m + j, j p + k, k n + i] = 1 for i < n, j < m, k < p, and 0 elsewhere.

    Args:
      n: rows of A.
      m: columns of A.
      p: columns of B.

    Returns:
      int64, [n m, m p, p n].

    Raises:
      ValueError: a size below 1.

    Source: the convention of the released data of Fawzi et al. (2022).
    """
    n, m, p = check_sizes((n, m, p))
    tensor = np.zeros((n * m, m * p, p * n), np.int64)
    for i in range(n):
        for j in range(m):
            for k in range(p):
                tensor[i * m + j, j * p + k, k * n + i] = 1
    return tensor


def skew_tensor(n: int) -> np.ndarray:
    """The tensor of a skew-symmetric n x n matrix times a vector.

    Mode 0 runs over the entries a_ij above the diagonal, i < j, in lexicographic order: y_i gains
    a_ij x_j and y_j loses a_ij x_i.

    Args:
      n: side of the matrix, 2 or more.

    Returns:
      int64, [n (n - 1) / 2, n, n].

    Raises:
      ValueError: n below 2.

    Source: Fawzi et al. (2022), "Algorithm discovery for skew-symmetric matrix-vector
    multiplication", which finds rank (n - 1)(n + 2) / 2.
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
    """The tensor of cyclic convolution of length n: T[i, j, (i + j) mod n] = 1.

    Args:
      n: length, 1 or more.

    Returns:
      int64, [n, n, n].

    Raises:
      ValueError: n below 1.

    Source: Fawzi et al. (2022), the circulant experiment; the discrete Fourier transform has rank
    n over a field with a primitive n-th root of unity.
    """
    if n < 1:
        raise ValueError(f"cyclic_tensor of n = {n}; expected n >= 1")
    tensor = np.zeros((n, n, n), np.int64)
    for i in range(n):
        for j in range(n):
            tensor[i, j, (i + j) % n] = 1
    return tensor


# Verification.


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `verify`; its truth value is `ok`.

    Attributes:
      ok: whether every entry of the rebuilt tensor equals the target's.
      wrong_entries: number of entries that differ.
      examples: the first of them, each (index (x, y, z), the scheme's value, the target's value).
    """

    ok: bool
    wrong_entries: int
    examples: tuple[tuple[tuple[int, int, int], object, object], ...]

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if self.ok:
            return "correct: every entry of the tensor is reproduced"
        examples = "; ".join(
            f"T{list(index)} is {value}, expected {expected}"
            for index, value, expected in self.examples
        )
        return f"wrong in {self.wrong_entries} entries: {examples}"


def verify(scheme: Scheme, target: ArrayLike | None = None, examples: int = 5) -> Report:
    """Rebuild the whole tensor in exact arithmetic and compare every entry with the target.

    Arithmetic is in int64 where a bound on every intermediate value excludes overflow, else in
    Python's unbounded integers. Over Q each factor is first cleared of its denominators.

    Args:
      scheme: any scheme.
      target: [I, J, K] integers, or Fractions over Q; over Zp it is taken mod p. None: the matrix
        multiplication tensor of `scheme.sizes`.
      examples: maximum number of differing entries to report.

    Returns:
      The report, true exactly when the scheme is correct.

    Raises:
      ValueError: no target and no sizes, a target of another shape, a floating-point target.
    """
    if target is None:
        if scheme.sizes is None:
            raise ValueError(f"{scheme!r} has no sizes; give verify the target tensor")
        target = matmul_tensor(*scheme.sizes)
    goal, goal_denominator = _integer_target(np.asarray(target), scheme)
    p = characteristic(scheme.ring)
    (u, du), (v, dv), (w, dw) = (_clear_denominators(factor) for factor in scheme.factors)
    # u v w / (du dv dw) = goal / dg, compared as integers: u v w dg = goal du dv dw.
    denominator = du * dv * dw
    bound = max(scheme.rank, 1) * goal_denominator
    bound *= largest_entry(u) * largest_entry(v) * largest_entry(w)
    is_small = max(bound, denominator * largest_entry(goal)) < 2**62
    u, v, w, goal = (x.astype(np.int64 if is_small else object) for x in (u, v, w, goal))

    num_wrong = 0
    shown: list[tuple[tuple[int, int, int], object, object]] = []
    for x in range(u.shape[0]):  # slice by slice: little memory, and zero factors cost nothing
        used = np.flatnonzero(u[x])
        values = (v[:, used] * u[x, used]) @ w[:, used].T * goal_denominator
        expected = goal[x] * denominator
        if p:
            values = values % p
        differing = np.argwhere(values != expected)
        num_wrong += len(differing)
        for y, z in differing[: max(examples - len(shown), 0)].tolist():
            pair = [
                Fraction(int(e[y, z]), denominator * goal_denominator) for e in (values, expected)
            ]
            value, wanted = pair if scheme.ring == "Q" else [each.numerator for each in pair]
            shown.append(((x, y, z), value, wanted))
    return Report(num_wrong == 0, num_wrong, tuple(shown))


def _integer_target(target: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, int]:
    """The target as integers over one denominator, reduced mod p; ValueError for a bad one."""
    if target.shape != scheme.shape:
        raise ValueError(f"target has shape {target.shape}; the scheme's tensor has {scheme.shape}")
    # The same checks as for factors; integers need not become Fractions.
    ring = "Q" if target.dtype == object else "Z"
    rows = _exact_entries(target.reshape(len(target), -1), ring, "target")
    goal, denominator = _clear_denominators(rows.reshape(target.shape))
    if denominator != 1 and scheme.ring != "Q":
        raise ValueError(f"target has proper fractions; expected integers over {scheme.ring!r}")
    p = characteristic(scheme.ring)
    return (goal % p if p else goal), denominator


def _clear_denominators(array: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers and one denominator d with array = integers / d; int64 arrays pass through."""
    if array.dtype != object:
        return array, 1
    d = math.lcm(*{entry.denominator for entry in array.reshape(-1).tolist()})
    return _map_entries(lambda entry: entry.numerator * (d // entry.denominator), array), d


def largest_entry(array: np.ndarray) -> int:
    """The largest absolute value of an integer array, or 1 if that is larger."""
    return max(1, int(array.max()), -int(array.min())) if array.size else 1
