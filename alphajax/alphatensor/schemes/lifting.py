"""Hensel lifting: from a scheme over Z_2 to one over Z or Q.

A scheme mod 2 is a point x_1 of the variety E(x) = sum_r u_r (x) v_r (x) w_r = T, known to one bit.
Newton's method in the 2-adic numbers gains a bit a step. If E(x_k) = T mod 2^k, then

    E(x_k + 2^k d) = E(x_k) + 2^k J d = T  mod 2^(k+1)   exactly when   J d = (T - E(x_k)) / 2^k  mod 2

with J the Jacobian of E. Only J mod 2 matters, and x_k = x_1 mod 2, so J is the same in every step:
it is eliminated once over F_2, bits packed 64 to a word, and each step is then one exclusive or of
rows. Unknowns that are no pivots of that elimination keep their value, which fixes the gauge; the
others converge to 2-adic numbers that are read back as integers or, failing that, as rationals.

Source: the lifting step of Kauers and Moosbauer, "Flip graphs for matrix multiplication" (2022).
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np

from alphajax.alphatensor.schemes.scheme import Scheme, matmul_tensor, verify

# 2-adic digits after which a rational reading is tried. int64 products wrap mod 2^64, which is
# harmless up to 63 digits; three readings, because most schemes need few and every digit costs.
_READINGS = (16, 32, 60)


class LiftError(ValueError):
    """The scheme does not lift by this route. That is no proof that it does not lift at all."""


def lift(scheme: Scheme, target=None, *, tries: int = 8, seed: int = 0) -> Scheme:
    """Lifts a scheme over Z_2 to an equal one mod 2 over Z (or Q), verified.

    The plainest reading is looked for first. In this order:
      1. entries that are 0 mod 2 stay 0 and the others get signs: entries in {-1, 0, 1};
      2. zeros still stay 0, the others are any odd integers or fractions of odd numbers;
      3. every entry may change;
      4. the same three in a sparser basis: row additions mod 2 that leave fewer ones are undone
         as row additions over Z. (J can be singular where the scheme still lifts: the plain steps
         then get stuck at the first digits, most often in a basis with many ones.)
    Each is tried with the unknowns that are free at +1 (or at 0), then `tries - 1` times with
    random values for them. What comes first and passes `verify` is returned.

    Args:
      scheme: rank R over "Z2"; it must be right mod 2.
      target: (I, J, K) integers, the tensor over Z to reach; None for the matrix multiplication
        tensor of `scheme.sizes`.
      tries: attempts for each kind of reading. Failing costs time, mostly with 3. at large sizes.
      seed: of the random attempts. Same seed, same result.

    Returns:
      A scheme over "Z" where all entries are integers, else over "Q"; congruent to the given one
      mod 2, product by product, and already verified.

    Raises:
      LiftError: no attempt succeeded; the message says how far they came.
      ValueError: a scheme over another ring, a target that is not integral or has another shape,
        or a scheme that is wrong mod 2 already.
    """
    if scheme.ring != "Z2":
        raise ValueError(f"lift was given a scheme over {scheme.ring}; expected one over 'Z2'")
    if tries < 1:
        raise ValueError(f"tries = {tries}; expected at least 1")
    report = verify(scheme, target)
    if not report:
        raise ValueError(f"the scheme is not right mod 2, so there is nothing to lift: {report}")
    target = matmul_tensor(*scheme.sizes) if target is None else np.asarray(target, np.int64)
    generator = np.random.default_rng(seed)
    lifted, reached = _attempts(scheme, target, tries, generator)
    if lifted is not None:
        return lifted
    sparser, moves = _sparser(scheme)
    if moves:
        lifted, digits = _attempts(sparser, target, tries, generator)
        reached = max(reached, digits)
        if lifted is not None and verify(lifted := _undo(lifted, moves), target):
            return lifted
    more = (
        f"a step to 2^{reached + 1} has no solution"
        if reached < _READINGS[-1]
        else "the 2-adic solutions are not rational with small numerators and denominators"
    )
    raise LiftError(
        f"{scheme!r} does not lift by this route: it was lifted to a scheme mod 2^{reached}, but "
        f"{more} (tries = {tries} for each kind of reading). Try more `tries`, another `seed`, or "
        "a neighbour of the scheme in the flip graph"
    )


def _attempts(scheme, target, tries, generator) -> tuple[Scheme | None, int]:
    """The first verified lift among all readings, or None; and the most digits reached."""
    start = np.concatenate([factor.reshape(-1) for factor in scheme.factors])
    reached = 1
    for unknowns in (np.flatnonzero(start), np.argsort(start == 0, kind="stable")):
        system = _eliminate(_jacobian(scheme.factors, unknowns), math.prod(scheme.shape))
        for attempt in range(tries):
            shifts = generator if attempt else None
            for digits, candidate in _hensel(scheme, start, unknowns, system, target, shifts):
                reached = max(reached, digits)
                if candidate is not None and verify(candidate, target):
                    return candidate, digits
    return None, reached


def _hensel(scheme, start, unknowns, system, target, generator):
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
            x = signed  # a free unknown that was turned is -1 from here on, rather than 3
        yield digits, None
        if np.array_equal(_rebuild(scheme, signed), target):
            yield digits, _scheme(scheme, signed, "Z")
            return
        if digits in _READINGS:
            fractions = _rationals(x, digits)
            if fractions is not None:
                yield digits, _scheme(scheme, fractions, "Q")


def _split(scheme: Scheme, x: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum([size * scheme.rank for size in scheme.shape])
    return [part.reshape(-1, scheme.rank) for part in np.split(x, ends[:-1])]


def _scheme(scheme: Scheme, x: np.ndarray, ring: str) -> Scheme:
    return Scheme(*_split(scheme, x), scheme.sizes, ring)


def _rebuild(scheme: Scheme, x: np.ndarray) -> np.ndarray:
    """E(x) mod 2^64, int64."""
    u, v, w = _split(scheme, x)
    pairs = (u[:, None, :] * v[None, :, :]).reshape(-1, scheme.rank)
    return (pairs @ w.T).reshape(scheme.shape)


def _rationals(x: np.ndarray, digits: int) -> np.ndarray | None:
    """The fractions a / b = x mod 2^digits with |a|, b below 2^(digits / 2 - 3), or None.

    Nearly every residue has a reading below 2^(digits / 2): the three bits to spare, over
    many entries, are what tells a rational point from an accident. `verify` has the last word.
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


# Changes of basis. U, V, W -> A U B^-1, B V C^-1, C W A^-1 keeps a scheme of matrix multiplication
# right. Over F_2 each is a chain of row additions, and a row addition lifts to Z as it stands.


def _sparser(scheme: Scheme) -> tuple[Scheme, list[tuple[int, int, int]]]:
    """A basis with fewer ones, by steepest descent, and the row additions that led there."""
    if scheme.sizes is None:
        return scheme, []
    n, m, p = scheme.sizes
    shapes = (n, m, -1), (m, p, -1), (p, n, -1)
    factors = [factor.reshape(shape) for factor, shape in zip(scheme.factors, shapes, strict=True)]
    moves = []
    while True:
        options = []
        for mode, size in enumerate((n, m, p)):
            left, right = factors[mode], factors[mode - 1]
            for i in range(size):
                for j in set(range(size)) - {i}:
                    change = (left[i] ^ left[j]).sum() - left[i].sum()
                    change += (right[:, j] ^ right[:, i]).sum() - right[:, j].sum()
                    options.append((int(change), mode, i, j))
        if not options or min(options)[0] >= 0:
            break
        _, mode, i, j = min(options)
        factors = [factor.copy() for factor in factors]
        factors[mode][i] ^= factors[mode][j]
        factors[mode - 1][:, j] ^= factors[mode - 1][:, i]
        moves.append((mode, i, j))
    flat = [factor.reshape(-1, scheme.rank) for factor in factors]
    return Scheme(*flat, scheme.sizes, scheme.ring), moves


def _undo(scheme: Scheme, moves: list[tuple[int, int, int]]) -> Scheme:
    """The lifted scheme in the basis that `_sparser` started from."""
    if not moves:
        return scheme
    n, m, p = scheme.sizes
    shapes = (n, m, -1), (m, p, -1), (p, n, -1)
    factors = [
        factor.reshape(shape).copy() for factor, shape in zip(scheme.factors, shapes, strict=True)
    ]
    for mode, i, j in reversed(moves):
        factors[mode][i] -= factors[mode][j]
        factors[mode - 1][:, j] += factors[mode - 1][:, i]
    flat = [factor.reshape(-1, scheme.rank) for factor in factors]
    return Scheme(*flat, scheme.sizes, scheme.ring)


# Linear algebra over F_2. A row holds one unknown's column of the Jacobian, packed 64 bits to a
# word, and behind it one bit for each unknown: which of them were added up to make this row.


def _jacobian(factors, unknowns: np.ndarray) -> np.ndarray:
    """Rows (len(unknowns), words) uint64: the derivative of E along each unknown, mod 2."""
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
        rows[index] = _pack((a[:, None, None] & b[:, None] & c).reshape(-1))
    return rows


@dataclasses.dataclass(frozen=True)
class _System:
    """An eliminated Jacobian: every pivot equation has a one in its own pivot row only."""

    rows: np.ndarray  # (pivots, words + words of unknowns) uint64
    equations: np.ndarray  # (pivots,) the pivot equation of each row
    words: int
    kernel: np.ndarray  # (free, unknowns) uint8: what may be added to any solution

    def solve(self, bits: np.ndarray) -> np.ndarray | None:
        """d with J d = bits mod 2, uint8 (unknowns,), zero at the free unknowns; None if none."""
        chosen = self.rows[bits[self.equations].astype(bool)]
        total = np.bitwise_xor.reduce(chosen, axis=0, initial=np.uint64(0))
        if not np.array_equal(total[: self.words], _pack(bits.astype(np.uint8))):
            return None
        return _unpack(total[self.words :], self.kernel.shape[1])


def _eliminate(rows: np.ndarray, equations: int) -> _System:
    """Gauss-Jordan elimination over F_2, a word of 64 equations at a time.

    Inside a word only that word of each row is kept up to date, with a mark for every pivot that
    has to be added to the row. The rows follow at the end of the word, eight pivots at a time by
    table (the method of four Russians), which makes it one pass over memory for eight pivots.
    The first row that fits is taken as pivot, so unknowns that come early are pivots if possible.
    """
    unknowns, words = rows.shape
    matrix = np.concatenate([rows, _pack(np.eye(unknowns, dtype=np.uint8))], axis=1)
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
    return _System(
        matrix[np.array(pivot_rows, int)],
        np.array(pivot_equations, int),
        words,
        np.stack([_unpack(row, unknowns) for row in kernel])
        if len(kernel)
        else np.zeros((0, unknowns), np.uint8),
    )


def _words(bits: int) -> int:
    return -(-bits // 64)


def _pack(bits: np.ndarray) -> np.ndarray:
    """Bits (..., n) uint8 to (..., words) uint64; bit b of word k is bits[64 k + b]."""
    packed = np.packbits(bits, axis=-1, bitorder="little")
    padding = 8 * _words(bits.shape[-1]) - packed.shape[-1]
    packed = np.pad(packed, [(0, 0)] * (bits.ndim - 1) + [(0, padding)])
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64)


def _unpack(words: np.ndarray, bits: int) -> np.ndarray:
    as_bytes = np.ascontiguousarray(words, "<u8").view(np.uint8)
    return np.unpackbits(as_bytes, bitorder="little", count=bits)
