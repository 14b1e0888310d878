"""Hensel lifting of schemes from Z_2 to Z or Q, by Newton's method in the 2-adic numbers.

A scheme mod 2 solves E(x_1) = sum_r u_r (x) v_r (x) w_r = T to one binary digit, and each step
gains a digit. If E(x_k) = T mod 2^k, then

    E(x_k + 2^k d) = E(x_k) + 2^k J d = T mod 2^(k+1)   iff   J d = (T - E(x_k)) / 2^k mod 2,

J the Jacobian of E. Only J mod 2 matters, and it is the same in every step: it is eliminated once
over F_2. The 2-adic numbers are then read as integers or, failing that, as rationals.

Source: the lifting step of Kauers and Moosbauer, "Flip graphs for matrix multiplication" (2022).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from alphajax.alphatensor.schemes.scheme import Scheme, Sizes, matmul_tensor, verify

# Numbers of 2-adic digits after which the entries are read as rationals. int64 products wrap mod
# 2^64, which is harmless up to 63 digits. Most schemes need few digits, and every digit costs.
_READINGS = (16, 32, 60)


class LiftError(ValueError):
    """No lift was found. This is no proof that the scheme does not lift."""


def lift(
    scheme: Scheme, target: ArrayLike | None = None, *, tries: int = 8, seed: int = 0
) -> Scheme:
    """Lift a scheme over Z_2 to a verified scheme over Z (or Q) that equals it mod 2.

    Four kinds of lift are tried, in this order:
      1. entries that are 0 mod 2 stay 0 and the others get signs: entries in {-1, 0, 1};
      2. zeros stay 0, the others become odd integers or fractions of odd numbers;
      3. every entry may change;
      4. the same three in a sparser basis, reached by row additions mod 2 that are undone as row
         additions over Z. J can be singular although the scheme lifts, most often in a basis with
         many ones; the steps then fail at the first digits.
    Each kind is tried with the free unknowns unchanged, then `tries - 1` times with random values.

    Args:
      scheme: rank R over "Z2", correct mod 2.
      target: the tensor over Z, [I, J, K] integers; None: the matrix multiplication tensor of
        `scheme.sizes`.
      tries: attempts for each kind of lift, 1 or more.
      seed: of the random attempts. Same seed, same result.

    Returns:
      The first lift that passes `verify`: over "Z" if all entries are integers, else over "Q";
      congruent to the given scheme mod 2, product by product.

    Raises:
      LiftError: no attempt succeeded; the message says how many digits were reached.
      ValueError: a scheme over another ring, a target that is not integral or has another shape,
        or a scheme that is wrong mod 2.

    Source: Kauers and Moosbauer (2022) for the steps; the sparser basis is this project's.
    """
    if scheme.ring != "Z2":
        raise ValueError(f"lift was given a scheme over {scheme.ring}; expected one over 'Z2'")
    if tries < 1:
        raise ValueError(f"tries = {tries}; expected at least 1")
    report = verify(scheme, target)
    if not report:
        raise ValueError(f"the scheme is not correct mod 2: {report}")
    sizes = scheme.sizes
    goal = matmul_tensor(*scheme.matmul_sizes) if target is None else np.asarray(target, np.int64)
    generator = np.random.default_rng(seed)
    lifted, reached = _attempts(scheme, goal, tries, generator)
    if lifted is not None:
        return lifted
    if sizes is not None:
        sparser, row_additions = _sparsify(scheme, sizes)
        if row_additions:
            lifted, digits = _attempts(sparser, goal, tries, generator)
            reached = max(reached, digits)
        if lifted is not None:
            lifted = _undo_row_additions(lifted, sizes, row_additions)
            if verify(lifted, goal):
                return lifted
    reason = (
        f"a step to 2^{reached + 1} has no solution"
        if reached < _READINGS[-1]
        else "the 2-adic solutions are not rational with small numerators and denominators"
    )
    raise LiftError(
        f"{scheme!r}: no lift found. It was lifted to a scheme mod 2^{reached}, but {reason}"
        f" (tries = {tries} for each kind of lift). Try more `tries`, another `seed`, or a"
        " neighbour of the scheme in the flip graph"
    )


def _attempts(
    scheme: Scheme, target: np.ndarray, tries: int, generator: np.random.Generator
) -> tuple[Scheme | None, int]:
    """The first verified lift of the kinds 1 to 3, or None; and the most digits reached."""
    start = np.concatenate([factor.reshape(-1) for factor in scheme.factors])
    reached = 1
    for unknowns in (np.flatnonzero(start), np.argsort(start == 0, kind="stable")):
        system = eliminate(_jacobian(scheme.factors, unknowns))
        for attempt in range(tries):
            shifts = generator if attempt else None
            for digits, candidate in _hensel(scheme, start, unknowns, system, target, shifts):
                reached = max(reached, digits)
                if candidate is not None and verify(candidate, target):
                    return candidate, digits
    return None, reached


def _hensel(
    scheme: Scheme,
    start: np.ndarray,
    unknowns: np.ndarray,
    system: EliminatedSystem,
    target: np.ndarray,
    generator: np.random.Generator | None,
) -> Iterator[tuple[int, Scheme | None]]:
    """Yields (digits known, candidate or None) until the digits or the solutions run out."""
    x = start.copy()
    kernel = len(system.kernel)
    for k in range(1, _READINGS[-1]):
        residual = (target - _rebuild(scheme, x)) >> k  # wraps mod 2^64, which keeps these bits
        step = system.solve(residual.reshape(-1) & 1)
        if step is None:
            return
        if generator is not None and kernel and k <= 2:
            chosen = generator.integers(0, 2, kernel).astype(bool)
            step ^= np.bitwise_xor.reduce(system.kernel[chosen], axis=0, initial=np.uint8(0))
        x[unknowns] += step.astype(np.int64) << k
        digits = k + 1
        signed = (x + (1 << k) - 1) % (1 << digits) - (1 << k) + 1  # in (-2^k, 2^k]
        if k == 1:
            x = signed  # a free unknown that was changed is -1 from here on, not 3
        yield digits, None
        if np.array_equal(_rebuild(scheme, signed), target):
            yield digits, _scheme(scheme, signed, "Z")
            return
        if digits in _READINGS:
            fractions = rational_reconstruction(x, digits)
            if fractions is not None:
                yield digits, _scheme(scheme, fractions, "Q")


def _split(scheme: Scheme, x: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum([size * scheme.rank for size in scheme.shape])
    return [part.reshape(-1, scheme.rank) for part in np.split(x, ends[:-1])]


def _scheme(scheme: Scheme, x: np.ndarray, ring: str) -> Scheme:
    u, v, w = _split(scheme, x)
    return Scheme(u, v, w, scheme.sizes, ring)


def _rebuild(scheme: Scheme, x: np.ndarray) -> np.ndarray:
    """E(x) mod 2^64, int64."""
    u, v, w = _split(scheme, x)
    pairs = (u[:, None, :] * v[None, :, :]).reshape(-1, scheme.rank)
    return (pairs @ w.T).reshape(scheme.shape)


def rational_reconstruction(x: np.ndarray, digits: int) -> np.ndarray | None:
    """Reconstruct fractions from residues: a / b = x mod 2^digits with |a|, b < 2^(digits / 2 - 3).

    Nearly every residue has such a fraction below 2^(digits / 2). The three spare bits, over many
    entries, distinguish a rational point from an accident.

    Args:
      x: integers of any shape.
      digits: number of known binary digits of x.

    Returns:
      Fractions in the shape of x, or None if an entry has none.
    """
    modulus, bound = 1 << digits, 1 << (digits // 2 - 3)
    values, places = np.unique(x % modulus, return_inverse=True)
    readings = np.empty(len(values), object)
    for index, value in enumerate(values.tolist()):
        (a, b), (r, s) = (modulus, 0), (value, 1)  # Euclid: r = s value mod 2^digits throughout
        while r >= bound:
            (a, b), (r, s) = (r, s), (a - a // r * r, b - a // r * s)
        if abs(s) >= bound or s == 0:
            return None
        readings[index] = Fraction(r, s)
    return readings[places.reshape(x.shape)]


# Changes of basis. U, V, W -> A U B^-1, B V C^-1, C W A^-1 preserves matrix multiplication schemes.
# Over F_2 each is a chain of row additions, and a row addition is also one over Z.

_RowAddition = tuple[int, int, int]  # mode, row i that row j is added to, row j


def _as_matrices(scheme: Scheme, sizes: Sizes) -> list[np.ndarray]:
    """Copies of u, v, w of shapes (n, m, R), (m, p, R), (p, n, R)."""
    return [
        factor.reshape(sizes[mode], sizes[(mode + 1) % 3], scheme.rank).copy()
        for mode, factor in enumerate(scheme.factors)
    ]


def _from_matrices(scheme: Scheme, matrices: list[np.ndarray]) -> Scheme:
    u, v, w = (matrix.reshape(-1, scheme.rank) for matrix in matrices)
    return Scheme(u, v, w, scheme.sizes, scheme.ring)


def _sparsify(scheme: Scheme, sizes: Sizes) -> tuple[Scheme, list[_RowAddition]]:
    """A basis with fewer ones, by steepest descent, and the row additions that lead to it."""
    factors = _as_matrices(scheme, sizes)
    row_additions = []
    while True:
        options = []
        for mode, size in enumerate(sizes):
            left, right = factors[mode], factors[mode - 1]
            for i in range(size):
                for j in set(range(size)) - {i}:
                    change = (left[i] ^ left[j]).sum() - left[i].sum()
                    change += (right[:, j] ^ right[:, i]).sum() - right[:, j].sum()
                    options.append((int(change), mode, i, j))
        if not options or min(options)[0] >= 0:
            break
        _, mode, i, j = min(options)
        factors[mode][i] ^= factors[mode][j]
        factors[mode - 1][:, j] ^= factors[mode - 1][:, i]
        row_additions.append((mode, i, j))
    return _from_matrices(scheme, factors), row_additions


def _undo_row_additions(scheme: Scheme, sizes: Sizes, row_additions: list[_RowAddition]) -> Scheme:
    """The lifted scheme in the basis that `_sparsify` started from."""
    factors = _as_matrices(scheme, sizes)
    for mode, i, j in reversed(row_additions):
        factors[mode][i] -= factors[mode][j]
        factors[mode - 1][:, j] += factors[mode - 1][:, i]
    return _from_matrices(scheme, factors)


# Linear algebra over F_2. A row holds one unknown's column of the Jacobian, 64 bits to a word, and
# after it one bit for each unknown: the unknowns whose columns were added to make this row.


def _jacobian(factors: tuple[np.ndarray, ...], unknowns: np.ndarray) -> np.ndarray:
    """The derivative of E mod 2 along each unknown, [unknowns, words] uint64."""
    u, v, w = (factor.astype(np.uint8) for factor in factors)
    shape, rank = (len(u), len(v), len(w)), u.shape[1]
    bounds = np.cumsum([0] + [size * rank for size in shape])
    rows = np.empty((len(unknowns), _words(math.prod(shape))), np.uint64)
    for index, unknown in enumerate(unknowns.tolist()):
        mode = int(np.searchsorted(bounds, unknown, side="right")) - 1
        entry, r = divmod(unknown - int(bounds[mode]), rank)
        parts = [u[:, r], v[:, r], w[:, r]]
        parts[mode] = (np.arange(shape[mode]) == entry).astype(np.uint8)
        a, b, c = parts
        rows[index] = pack_bits((a[:, None, None] & b[:, None] & c).reshape(-1))
    return rows


@dataclasses.dataclass(frozen=True)
class EliminatedSystem:
    """A linear system over F_2 in reduced form: each pivot equation has a one in one row only."""

    rows: np.ndarray
    """`[pivots, words of equations + words of unknowns]` uint64."""
    equations: np.ndarray
    """`[pivots]`: the pivot equation of each row."""
    words: int
    """Number of words of equations."""
    kernel: np.ndarray
    """`[free unknowns, unknowns]` uint8: a basis of the solutions of J d = 0."""

    def solve(self, bits: np.ndarray) -> np.ndarray | None:
        """Solve J d = bits mod 2.

        Args:
          bits: `[equations]`, 0 or 1.

        Returns:
          d, `[unknowns]` uint8, zero at the free unknowns; None if there is no solution.
        """
        chosen = self.rows[bits[self.equations].astype(bool)]
        total = np.bitwise_xor.reduce(chosen, axis=0, initial=np.uint64(0))
        if not np.array_equal(total[: self.words], pack_bits(bits.astype(np.uint8))):
            return None
        return unpack_bits(total[self.words :], self.kernel.shape[1])


def eliminate(rows: np.ndarray) -> EliminatedSystem:
    """Gauss-Jordan elimination over F_2, one word of 64 equations at a time.

    Within a word only that word of each row is updated, with a mark for every pivot to be added to
    the row. The rest of the rows follows at the end of the word, eight pivots at a time by table
    (the method of the four Russians). Each pivot is the first row that fits.

    Args:
      rows: J transposed, `[unknowns, words of equations]` uint64, as `pack_bits` makes it.

    Returns:
      The system in reduced form.
    """
    unknowns, words = rows.shape
    matrix = np.concatenate([rows, pack_bits(np.eye(unknowns, dtype=np.uint8))], axis=1)
    free = np.ones(unknowns, bool)
    pivot_rows, pivot_equations = [], []
    for word in range(words):
        value = matrix[:, word].copy()
        marks = np.zeros(unknowns, np.uint64)
        pivots = np.empty((64, matrix.shape[1] - word), np.uint64)
        count = 0
        while len(rest := np.flatnonzero(free & (value != 0))):
            row = rest[0]
            bit = int(value[row]) & -int(value[row])
            before = [t for t in range(count) if int(marks[row]) >> t & 1]
            pivots[count] = matrix[row, word:] ^ np.bitwise_xor.reduce(
                pivots[before], axis=0, initial=np.uint64(0)
            )
            hit = value & np.uint64(bit) != 0
            hit[row] = False
            value[hit] ^= value[row]
            marks[hit] ^= np.uint64(1 << count)
            free[row] = False
            pivot_rows.append(row)
            pivot_equations.append(64 * word + bit.bit_length() - 1)
            count += 1
        for first in range(0, count, 8):
            table = np.zeros((256, pivots.shape[1]), np.uint64)
            for t, pivot in enumerate(pivots[first : min(first + 8, count)]):
                table[1 << t : 2 << t] = table[: 1 << t] ^ pivot
            which = (marks >> np.uint64(first)).astype(np.uint8)
            touched = np.flatnonzero(which)
            matrix[touched, word:] ^= table[which[touched]]
        if not free.any():
            break
    kernel = matrix[free, words:]
    return EliminatedSystem(
        matrix[np.array(pivot_rows, int)],
        np.array(pivot_equations, int),
        words,
        np.stack([unpack_bits(row, unknowns) for row in kernel])
        if len(kernel)
        else np.zeros((0, unknowns), np.uint8),
    )


def _words(bits: int) -> int:
    return -(-bits // 64)


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Pack bits `[..., n]` uint8 into words `[..., ceil(n / 64)]` uint64, lowest bit first."""
    packed = np.packbits(bits, axis=-1, bitorder="little")
    padding = 8 * _words(bits.shape[-1]) - packed.shape[-1]
    packed = np.pad(packed, [(0, 0)] * (bits.ndim - 1) + [(0, padding)])
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64)


def unpack_bits(words: np.ndarray, bits: int) -> np.ndarray:
    """Unpack one row of words into its first bits.

    Args:
      words: `[words]` uint64.
      bits: number of bits.

    Returns:
      `[bits]` uint8.
    """
    as_bytes = np.ascontiguousarray(words, "<u8").view(np.uint8)
    return np.unpackbits(as_bytes, bitorder="little", count=bits)
