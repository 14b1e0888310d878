"""The moves of a flip graph on bit masks: flips, and plus transitions.

Two rows (products) of a scheme that share a factor can be *flipped* without changing their sum,

    u v1 w1 + u v2 w2 = u v1 (w1 + w2) + u (v2 - v1) w2.

A row is a list of three factors, and a factor is a tuple of P planes of one shape: the uint32 words
of its bit mask over Z_2; over Z, with entries in {-1, 0, 1}, the words of the mask of +1 and then
of the mask of -1. A row of zeros is a hole. Walkers (B) are the last axis, rows (R) the one before.

Sources: Kauers and Moosbauer, "Flip graphs for matrix multiplication" (2022); for `plus_transition`
Arai, Ichikawa and Hukushima, "Adaptive flip graph algorithm for matrix multiplication" (2024).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

Factor = tuple[Array, ...]
"""P planes."""
Row = Sequence[Factor]
"""Three factors."""
Planes = tuple[Factor, ...]
"""The rows of all walkers: three factors of planes `[R, B]`."""

_COUNT_BITS = 10  # of a row number in a code of `choose_partner`
_NO_PARTNER = 4096  # codes below it are row and mode without random bits


def _add(x: Factor, y: Factor, minus: Any, ring: str) -> tuple[Factor, Any]:
    """x + y, or x - y where `minus`; and where the sum has entries of the ring only."""
    if ring == "Z2":
        return tuple(a ^ b for a, b in zip(x, y, strict=True)), True
    half = len(x) // 2
    fits: Any = True
    positive, negative = [], []
    for k in range(half):
        p, n = x[k], x[half + k]
        q, m = _swap(minus, y[k], y[half + k])
        fits = fits & (((p & q) | (n & m)) == 0)
        positive.append((p & ~m) | (q & ~n))
        negative.append((n & ~q) | (m & ~p))
    return tuple(positive + negative), fits


def _swap(condition: Any, a: Array, b: Array) -> tuple[Array, Array]:
    return jnp.where(condition, b, a), jnp.where(condition, a, b)


def _negate(x: Factor, condition: Any, ring: str) -> Factor:
    """-x where the condition holds."""
    if ring == "Z2":
        return x
    half = len(x) // 2
    pairs = [_swap(condition, x[k], x[half + k]) for k in range(half)]
    return tuple(a for a, _ in pairs) + tuple(b for _, b in pairs)


def _equal(x: Factor, y: Factor) -> Any:
    same: Any = True
    for a, b in zip(x, y, strict=True):
        same = same & (a == b)
    return same


def _is_nonzero(x: Factor) -> Array:
    return functools.reduce(jnp.bitwise_or, x) != 0


def _where(condition: Any, x: Factor, y: Factor) -> Factor:
    return tuple(jnp.where(condition, a, b) for a, b in zip(x, y, strict=True))


def flip(
    first: Row, second: Row, mode: int, direction: Array, minus: Array, ring: str
) -> tuple[list[Factor], list[Factor], Array]:
    """Flip two rows where they share the factor of a mode (over Z: up to its sign).

    With u shared: w1 += w2 and v2 -= v1. Where `direction` is set, w2 += w1 and v1 -= v2 instead,
    which is the same with the rows exchanged. Where `minus` is set, both signs are opposite. A row
    that gets a zero factor becomes a hole.

    Args:
      first: row 1, planes of any shape.
      second: row 2, likewise.
      mode: of the shared factor, 0 to 2.
      direction: which row keeps its v, bool.
      minus: whether w is subtracted, bool.
      ring: "Z2" or "Z".

    Returns:
      Row 1, row 2, and where a flip was made, bool.

    Source: Kauers and Moosbauer (2022).
    """
    v, w = (mode + 1) % 3, (mode + 2) % 3
    shared = _equal(first[mode], second[mode])
    opposite: Any = False
    if ring == "Z":
        opposite = _equal(first[mode], _negate(second[mode], True, ring)) & ~shared
        shared = shared | opposite
    shared = shared & _is_nonzero(first[mode])
    second_v = _negate(second[v], opposite, ring)  # row 2 is u1 (x) second_v (x) w2
    v_from, v_to = _where(direction, second_v, first[v]), _where(direction, first[v], second_v)
    w_to, w_from = _where(direction, second[w], first[w]), _where(direction, first[w], second[w])
    new_w, fits_w = _add(w_to, w_from, minus, ring)
    new_v, fits_v = _add(v_to, v_from, minus if ring == "Z2" else ~minus, ring)
    done = shared & fits_w & fits_v
    one, two = list(first), list(second)
    one[v] = _where(done & direction, new_v, first[v])
    two[v] = _where(done, _where(direction, second_v, new_v), second[v])
    two[mode] = _where(done, first[mode], second[mode])
    one[w] = _where(done & ~direction, new_w, first[w])
    two[w] = _where(done & direction, new_w, second[w])
    return _zero_if_dead(one), _zero_if_dead(two), done


def _zero_if_dead(row: Row) -> list[Factor]:
    """A row with a zero factor becomes a hole."""
    alive = _is_nonzero(row[0]) & _is_nonzero(row[1]) & _is_nonzero(row[2])
    return [tuple(jnp.where(alive, x, jnp.zeros_like(x)) for x in factor) for factor in row]


def stack(row: Row) -> Array:
    """Factors of planes as one array, `[3, P, ...]`."""
    return jnp.stack([jnp.stack(factor) for factor in row])


def _xorshift(x: Array) -> Array:
    x = x ^ (x << 13)
    x = x ^ (x >> 17)
    return x ^ (x << 5)


def _materialise(x: Any, zero: Array) -> Any:
    """The same arrays, as a point across which XLA's CPU compiler does not fuse.

    Without it XLA computes the search for a partner again for each of its uses (5 times slower).
    It drops `optimization_barrier` too early on CPU, but keeps a loop of unknown length, here 0.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(x)
    change = lambda c: (c[0] - 1, jax.tree.map(lambda a: ~a, c[1]))  # noqa: E731
    return jax.lax.while_loop(lambda c: c[0] > 0, change, (jnp.minimum(zero, 0), x))[1]


def choose_partner(
    planes: Planes,
    row: Row,
    generator: UInt32[Array, " B"],
    i: Int[Array, ""],
    ring: str,
    symmetric: bool,
) -> UInt32[Array, " B"]:
    """Choose a random row that shares a factor with row i (over Z: up to its sign).

    Args:
      planes: all rows.
      row: row i itself, three factors `[B]`.
      generator: random words; only their products with odd numbers are used.
      i: number of the row.
      ring: "Z2" or "Z".
      symmetric: whether only the first factor of row i is compared, with every mode of the others.

    Returns:
      Random bits << 12 | mode << 10 | row, `[B]`; less than 4096 where there is no partner.
    """
    count, words = planes[0][0].shape[0], len(planes[0])
    i = i.astype(jnp.uint32)
    negative = [_negate(factor, True, ring) for factor in row]
    best = jnp.zeros_like(generator)
    for r in range(count):
        score = generator * np.uint32((2 * r + 1) * 2654435769 % 2**32)
        for mode in range(3):
            other = tuple(x[r] for x in planes[mode])
            mine = 0 if symmetric else mode
            same = _equal(other, row[mine])
            if ring == "Z":
                same = same | _equal(other, negative[mine])
            code = np.uint32(mode << _COUNT_BITS | r)
            bits = (score << (7 * mode)) & np.uint32(0xFFFFF000) | code
            best = jnp.maximum(best, jnp.where(same & (i != r), bits, np.uint32(0)))
        if (r + 1) % (64 // words) == 0:  # the compiler fails on longer expressions
            best = _materialise(best, -i.astype(jnp.int32))
    return best


def step(
    planes: Planes,
    generator: UInt32[Array, " B"],
    i: Int[Array, ""],
    ring: str,
    symmetric: bool = False,
) -> tuple[Planes, UInt32[Array, " B"], Bool[Array, " B"]]:
    """Flip row i of every walker with a random row that shares a factor with it.

    With `symmetric`, a row stands for its three cyclic rotations. Rows may then be rotated freely,
    and a flip of two different orbits is the same flip in each rotation.

    Args:
      planes: all rows.
      generator: random words.
      i: row below R; with `symmetric` below 3 R: R times the rotation of the row, plus the row.
      ring: "Z2" or "Z".
      symmetric: see above.

    Returns:
      Planes, generator, and where a flip was made.

    Source: Kauers and Moosbauer (2022); with `symmetric` Moosbauer and Poole, "Flip graphs with
    symmetry and new matrix multiplication schemes" (2025).
    """
    count = planes[0][0].shape[0]
    rotation, i = i // count, i % count
    first: Row = [tuple(x[i] for x in factor) for factor in planes]

    def rotate(row: Row, mode: Array, by: int) -> list[Factor]:
        """Factor k of the result is factor k + by * mode of the row."""
        choices = [[row[(k + by * m) % 3] for m in range(3)] for k in range(3)]
        return [_where(mode == 0, x, _where(mode == 1, y, z)) for x, y, z in choices]

    if symmetric:
        first = rotate(first, rotation, 1)
    generator = _xorshift(generator)
    code = _materialise(choose_partner(planes, first, generator, i, ring, symmetric), -i)
    has_partner = (code >= _NO_PARTNER) & _is_nonzero(first[0])
    j, mode = (code & (2**_COUNT_BITS - 1)).astype(jnp.int32), (code >> _COUNT_BITS) & 3
    columns = jnp.arange(len(generator))
    second = [tuple(x[j, columns] for x in factor) for factor in planes]
    direction, minus = (generator >> 31) != 0, ((generator >> 30) & 1) != 0
    facing = first if symmetric else rotate(first, mode, 1)
    one, two, done = flip(facing, rotate(second, mode, 1), 0, direction, minus, ring)
    done = done & has_partner
    if not symmetric:
        one, two = rotate(one, mode, -1), rotate(two, mode, -1)
    one = [_where(done, x, y) for x, y in zip(one, first, strict=True)]
    two = [_where(done, x, y) for x, y in zip(two, second, strict=True)]
    one, two, done, j = _materialise((one, two, done, jnp.where(has_partner, j, i)), -i)

    def put(plane, x, y):  # row i last: without a partner j is i
        plane = plane.at[j, columns].set(y, unique_indices=True, mode="promise_in_bounds")
        return jax.lax.dynamic_update_index_in_dim(plane, x, i, 0)

    planes = tuple(
        tuple(map(put, factor, x, y)) for factor, x, y in zip(planes, one, two, strict=True)
    )
    return planes, generator, done


def rank(factors: UInt32[Array, "3 P R B"]) -> Int[Array, " B"]:
    """The number of rows that are not holes."""
    return (functools.reduce(jnp.bitwise_or, list(factors[0])) != 0).sum(0, dtype=jnp.int32)


def plus_transition(
    factors: UInt32[Array, "3 P R B"],
    generator: UInt32[Array, " B"],
    mask: Bool[Array, " B"],
    ring: str,
) -> tuple[UInt32[Array, "3 P R B"], UInt32[Array, " B"], Bool[Array, " B"]]:
    """The plus transition: two random rows become three, so that a walk can leave a dead end.

        a1 b1 c1 + a2 b2 c2 = (a1 - a2) b1 c1 + a2 b1 (c1 + c2) + a2 (b2 - b1) c2

    Walkers without a hole, or over Z where an entry would leave {-1, 0, 1}, are unchanged.

    Args:
      factors: masks of all walkers.
      generator: random words.
      mask: the walkers to change.
      ring: "Z2" or "Z".

    Returns:
      Factors, generator, and where a transition was made.

    Source: Arai, Ichikawa and Hukushima (2024).
    """
    count = factors.shape[2]
    alive = functools.reduce(jnp.bitwise_or, list(factors[0])) != 0
    row = np.arange(count, dtype=np.uint32)[:, None]
    generator = _xorshift(generator)
    score = _xorshift((generator[None] ^ (row * np.uint32(0x9E3779B1))) * np.uint32(0x85EBCA6B))
    score = jnp.where(alive, score | 1, np.uint32(0))
    i = jnp.argmax(score, 0)
    j = jnp.argmax(jnp.where(row == i[None].astype(jnp.uint32), np.uint32(0), score), 0)
    hole = jnp.argmin(alive, 0)
    take = lambda k: [  # noqa: E731
        tuple(jnp.take_along_axis(factors[m, p], k[None], 0)[0] for p in range(factors.shape[1]))
        for m in range(3)
    ]
    (a1, b1, c1), (a2, b2, c2) = take(i), take(j)
    yes, no = jnp.bool_(True), jnp.bool_(False)
    a, fits_a = _add(a1, a2, yes, ring)
    b, fits_b = _add(b2, b1, yes, ring)
    c, fits_c = _add(c1, c2, no, ring)
    done = mask & (alive.sum(0) >= 2) & ~alive.all(0) & fits_a & fits_b & fits_c
    done = done & _is_nonzero(a) & _is_nonzero(b) & _is_nonzero(c)
    for k, new in ((i, [a, b1, c1]), (hole, [a2, b1, c]), (j, [a2, b, c2])):
        changed = done[None] & (row == k[None].astype(jnp.uint32))
        factors = jnp.where(changed[None, None], stack(new)[:, :, None], factors)
    return factors, generator, done
