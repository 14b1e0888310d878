"""Random walks in flip graphs: the unlearned rival of AlphaTensor.

Two products of a scheme that share a factor can be *flipped* without changing their sum,

    u v1 w1 + u v2 w2 = u v1 (w1 + w2) + u (v2 - v1) w2,

and a scheme that can be flipped until a factor becomes zero has lost a product.  Sources: Kauers and
Moosbauer, "Flip graphs for matrix multiplication" (2022); the plus transition, which leaves dead ends
at the price of one product, Arai, Ichikawa and Hukushima, "Adaptive flip graph algorithm for matrix
multiplication" (2024); restarts from pools, also Moosbauer and Poole, "Flip graphs with symmetry and
new matrix multiplication schemes" (2025).

Walkers stand on the last axis, a factor is a bit mask.  In one step all walkers take the same row i,
compare it with every other row in all three modes, and each flips it with a random one of those that
share a factor with it.  So rows are read at fixed places and everything vectorises over walkers; what
a walker draws for itself is the partner and the direction, so equal walkers part at once.  Merging two
products that share two factors needs no test of its own: flipping them makes a factor zero.

Shapes: B walkers, R rows (holes are zero), P planes of a factor: the uint32 words of its mask over Z_2;
over Z, with entries in {-1, 0, 1}, the words of the mask of +1, then those of the mask of -1.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec
from jaxtyping import Array, Int, UInt32

from alphajax.alphatensor.game.tensors import Target
from alphajax.alphatensor.schemes.scheme import Scheme, check_sizes, naive

RINGS = ("Z2", "Z")
CHECK = 64  # steps between two looks at the ranks
MAX_ENTRIES = 64
MAX_ROWS = 1024


class Walkers(NamedTuple):
    """B walks; `best` is the shortest scheme since the restart, of rank `best_rank`."""

    factors: UInt32[Array, "3 P R B"]
    generator: UInt32[Array, " B"]
    since: Int[Array, " B"]
    """flips since the last gain or plus transition"""
    flips: Int[Array, " B"]
    """flips in the last call of `walk`"""
    best: UInt32[Array, "3 P R B"]
    best_rank: Int[Array, " B"]


def words(entries: int) -> int:
    """uint32 words that hold a mask of so many entries."""
    return -(-entries // 32)


def pack(scheme: Scheme, rows: int | None = None) -> np.ndarray:
    """A scheme as masks, uint32 [3, P, rows], holes last.

    Raises:
      ValueError: another ring, entries beyond {-1, 0, 1}, factors of more than 64 entries, few rows.
    """
    if scheme.ring not in RINGS:
        raise ValueError(f"flip graph over {scheme.ring!r}; expected one of {RINGS}")
    if max(scheme.shape) > MAX_ENTRIES:
        raise ValueError(
            f"factors of {scheme.shape} entries; expected at most {MAX_ENTRIES}: take a smaller size"
        )
    rows = scheme.rank if rows is None else rows
    if rows < scheme.rank:
        raise ValueError(
            f"{rows} rows for a scheme of rank {scheme.rank}; expected at least as many"
        )
    if rows > MAX_ROWS:
        raise ValueError(f"{rows} rows; expected at most {MAX_ROWS}")
    count = words(max(scheme.shape))
    planes = []
    for factor in scheme.factors:
        if np.abs(factor).max(initial=0) > 1:
            raise ValueError("a factor has an entry beyond {-1, 0, 1}; the walk is over these only")
        bits = np.zeros((32 * count, rows), np.uint64)
        signs = [factor == 1] if scheme.ring == "Z2" else [factor == 1, factor == -1]
        masks = []
        for sign in signs:
            bits[:] = 0
            bits[: len(factor), : scheme.rank] = sign
            shifted = bits.reshape(count, 32, rows) << np.arange(32, dtype=np.uint64)[:, None]
            masks.append(shifted.sum(1).astype(np.uint32))
        planes.append(np.concatenate(masks))
    return np.stack(planes)


def unpack(masks: np.ndarray, shape, ring: str, sizes=None) -> Scheme:
    """The scheme in masks uint32 [3, P, R], holes left out.  It is not verified here."""
    masks = np.asarray(masks)
    masks = masks[:, :, (masks != 0).any(1).all(0)]
    bits = (masks[:, :, None] >> np.arange(32, dtype=np.uint32)[:, None]) & 1
    bits = bits.astype(np.int64)  # [3, P, 32, R]
    if ring == "Z":
        half = bits.shape[1] // 2
        bits = bits[:, :half] - bits[:, half:]
    flat = bits.reshape(3, -1, bits.shape[-1])
    u, v, w = (flat[mode, : shape[mode]] for mode in range(3))
    return Scheme(u, v, w, sizes, ring)


def start_scheme(target: Target, ring: str) -> Scheme:
    """The scheme that takes one unit entry at a time."""
    if ring not in RINGS:
        raise ValueError(f"flip graph over {ring!r}; expected one of {RINGS}")
    if target.sizes:
        return naive(*check_sizes(target.sizes), ring)
    entries = target.array % 2 if ring == "Z2" else target.array
    places = np.repeat(np.argwhere(entries), np.abs(entries[entries != 0]), axis=0)
    signs = np.sign(entries[tuple(places.T)])
    u, v, w = (np.eye(size, dtype=np.int64)[:, places[:, m]] for m, size in enumerate(target.shape))
    return Scheme(u * signs, v, w, target.sizes, ring)


# The moves.  Rows are lists of three factors; a factor is a tuple of P planes of any one shape.


def _add(x, y, minus, ring: str):
    """x + y, or x - y where `minus`; and where the sum stays inside the ring's entries."""
    if ring == "Z2":
        return tuple(a ^ b for a, b in zip(x, y, strict=True)), True
    half = len(x) // 2
    ok, positive, negative = True, [], []
    for k in range(half):
        p, n = x[k], x[half + k]
        q, m = _swap(minus, y[k], y[half + k])
        ok = ok & (((p & q) | (n & m)) == 0)
        positive.append((p & ~m) | (q & ~n))
        negative.append((n & ~q) | (m & ~p))
    return tuple(positive + negative), ok


def _swap(condition, a, b):
    return jnp.where(condition, b, a), jnp.where(condition, a, b)


def _negate(x, condition, ring: str):
    if ring == "Z2":
        return x
    half = len(x) // 2
    pairs = [_swap(condition, x[k], x[half + k]) for k in range(half)]
    return tuple(a for a, _ in pairs) + tuple(b for _, b in pairs)


def _equal(x, y):
    same = True
    for a, b in zip(x, y, strict=True):
        same = same & (a == b)
    return same


def _some(x):
    """Where a factor is not zero."""
    return functools.reduce(jnp.bitwise_or, x) != 0


def _where(condition, x, y):
    return tuple(jnp.where(condition, a, b) for a, b in zip(x, y, strict=True))


def flip(first, second, mode: int, direction, minus, ring: str):
    """Flips two rows where they share the factor of a mode (over Z: up to its sign).

    With u shared: w1 += w2 and v2 -= v1, or where `direction` w1 -> w1 and w2 += w1, v1 -= v2, which
    is the same for the rows exchanged.  Where `minus`, the signs are the other ones: w1 -= w2 and
    v2 += v1.  A row with a zero factor becomes a hole.

    Returns:
      The rows, and where a flip was done.
    """
    v, w = (mode + 1) % 3, (mode + 2) % 3
    shared = _equal(first[mode], second[mode])
    opposite = False
    if ring == "Z":
        opposite = _equal(first[mode], _negate(second[mode], True, ring)) & ~shared
        shared = shared | opposite
    shared = shared & _some(first[mode])
    turned = _negate(second[v], opposite, ring)  # row 2 is u1 (x) turned (x) w2
    v_from, v_to = _where(direction, turned, first[v]), _where(direction, first[v], turned)
    w_to, w_from = _where(direction, second[w], first[w]), _where(direction, first[w], second[w])
    new_w, fits_w = _add(w_to, w_from, minus, ring)
    new_v, fits_v = _add(v_to, v_from, minus if ring == "Z2" else ~minus, ring)
    done = shared & fits_w & fits_v
    one, two = list(first), list(second)
    one[v] = _where(done & direction, new_v, first[v])
    two[v] = _where(done, _where(direction, turned, new_v), second[v])
    two[mode] = _where(done, first[mode], second[mode])
    one[w] = _where(done & ~direction, new_w, first[w])
    two[w] = _where(done & direction, new_w, second[w])
    return _drop(one), _drop(two), done


def _drop(row):
    """A row with a zero factor is a hole: all zero."""
    live = _some(row[0]) & _some(row[1]) & _some(row[2])
    return [tuple(jnp.where(live, x, jnp.zeros_like(x)) for x in factor) for factor in row]


def _stack(row) -> Array:
    return jnp.stack([jnp.stack(factor) for factor in row])


def _xorshift(x):
    x = x ^ (x << 13)
    x = x ^ (x >> 17)
    return x ^ (x << 5)


def _materialise(x, zero):
    """The same arrays, as a point across which XLA's CPU compiler does not fuse.

    It would compute the whole search for a partner again for each of its consumers (5 times slower),
    and drops `optimization_barrier` too early; a loop of no rounds, unknown to it, stays.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(x)
    change = lambda c: (c[0] - 1, jax.tree.map(lambda a: ~a, c[1]))  # noqa: E731
    return jax.lax.while_loop(lambda c: c[0] > 0, change, (jnp.minimum(zero, 0), x))[1]


def partner(planes, row, generator, i, ring: str, symmetric: bool) -> UInt32[Array, " B"]:
    """A random row that shares a factor with row i, up to its sign over Z, and the mode of the factor.

    Args:
      row: row i itself, three factors [B].
      symmetric: only the first factor of row i is looked for, in any mode of the other rows.
      generator: random words [B]; only their products with odd numbers are looked at.

    Returns:
      Random bits << 12 | mode << 10 | row; less than 4096 where there is none.
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
            bits = (score << (7 * mode)) & np.uint32(0xFFFFF000) | np.uint32(mode << 10 | r)
            best = jnp.maximum(best, jnp.where(same & (i != r), bits, np.uint32(0)))
        if (r + 1) % (64 // words) == 0:  # the compiler gives up on longer expressions
            best = _materialise(best, -i.astype(jnp.int32))
    return best


def step(planes, generator, i, ring: str, symmetric: bool = False):
    """Flips row i of every walker with a random row that shares a factor with it.

    The factors come and go as three tuples of P arrays [R, B].  Where `symmetric`, a row stands for
    its three cyclic rotations: rows may be rotated at will, and a flip of two different orbits is the
    same flip in each rotation (Moosbauer and Poole 2025).

    Args:
      i: int32 [], below R; where `symmetric` below 3 R: R times the rotation of row i, and the row.

    Returns:
      Planes, generator [B], and where a flip was done [B].
    """
    count = planes[0][0].shape[0]
    turn, i = i // count, i % count
    first = [tuple(x[i] for x in factor) for factor in planes]

    def turned(row, mode, by: int):
        """Factor k of the result is factor k + by * mode of the row."""
        at = [[row[(k + by * m) % 3] for m in range(3)] for k in range(3)]
        return [_where(mode == 0, x, _where(mode == 1, y, z)) for x, y, z in at]

    if symmetric:
        first = turned(first, turn, 1)
    generator = _xorshift(generator)
    code = _materialise(partner(planes, first, generator, i, ring, symmetric), -i)
    found = (code >= 4096) & _some(first[0])
    j, mode = (code & 1023).astype(jnp.int32), (code >> 10) & 3
    columns = jnp.arange(len(generator))
    second = [tuple(x[j, columns] for x in factor) for factor in planes]
    direction, minus = (generator >> 31) != 0, ((generator >> 30) & 1) != 0
    facing = first if symmetric else turned(first, mode, 1)
    one, two, done = flip(facing, turned(second, mode, 1), 0, direction, minus, ring)
    done = done & found
    if not symmetric:
        one, two = turned(one, mode, -1), turned(two, mode, -1)
    one = [_where(done, x, y) for x, y in zip(one, first, strict=True)]
    two = [_where(done, x, y) for x, y in zip(two, second, strict=True)]
    one, two, done, j = _materialise((one, two, done, jnp.where(found, j, i)), -i)

    def put(plane, x, y):  # row i last: without a partner j is i
        plane = plane.at[j, columns].set(y, unique_indices=True, mode="promise_in_bounds")
        return jax.lax.dynamic_update_index_in_dim(plane, x, i, 0)

    planes = tuple(
        tuple(map(put, factor, x, y)) for factor, x, y in zip(planes, one, two, strict=True)
    )
    return planes, generator, done


def rank(factors: UInt32[Array, "3 P R B"]) -> Int[Array, " B"]:
    """Rows that are not holes."""
    return (functools.reduce(jnp.bitwise_or, list(factors[0])) != 0).sum(0, dtype=jnp.int32)


def plus(factors, generator, wanted, ring: str):
    """The plus transition (Arai et al. 2024), rank + 1, on two random rows of the walkers `wanted`.

    a1 b1 c1 + a2 b2 c2 = (a1 - a2) b1 c1 + a2 b1 (c1 + c2) + a2 (b2 - b1) c2.

    Walkers without a hole, or over Z where an entry would leave {-1, 0, 1}, stay as they are.

    Returns:
      Factors, generator, and where it was done [B].
    """
    count = factors.shape[2]
    live = functools.reduce(jnp.bitwise_or, list(factors[0])) != 0
    row = np.arange(count, dtype=np.uint32)[:, None]
    generator = _xorshift(generator)
    score = _xorshift((generator[None] ^ (row * np.uint32(0x9E3779B1))) * np.uint32(0x85EBCA6B))
    score = jnp.where(live, score | 1, np.uint32(0))
    i = jnp.argmax(score, 0)
    j = jnp.argmax(jnp.where(row == i[None].astype(jnp.uint32), np.uint32(0), score), 0)
    hole = jnp.argmin(live, 0)
    take = lambda k: [  # noqa: E731
        tuple(jnp.take_along_axis(factors[m, p], k[None], 0)[0] for p in range(factors.shape[1]))
        for m in range(3)
    ]
    (a1, b1, c1), (a2, b2, c2) = take(i), take(j)
    yes, no = jnp.bool_(True), jnp.bool_(False)
    a, fits_a = _add(a1, a2, yes, ring)
    b, fits_b = _add(b2, b1, yes, ring)
    c, fits_c = _add(c1, c2, no, ring)
    done = wanted & (live.sum(0) >= 2) & ~live.all(0) & fits_a & fits_b & fits_c
    done = done & _some(a) & _some(b) & _some(c)
    for k, new in ((i, [a, b1, c1]), (hole, [a2, b1, c]), (j, [a2, b, c2])):
        here = done[None] & (row == k[None].astype(jnp.uint32))
        factors = jnp.where(here[None, None], _stack(new)[:, :, None], factors)
    return factors, generator, done


def start(masks: np.ndarray, walkers: int, seed: int) -> Walkers:
    """Walkers on masks [3, P, R] (all on one scheme) or [3, P, R, B]."""
    masks = np.asarray(masks, np.uint32)
    if masks.ndim == 3:
        masks = np.repeat(masks[..., None], walkers, 3)
    generator = np.random.default_rng(seed).integers(1, 2**32, walkers, dtype=np.uint32)
    ranks = (masks[0] != 0).any(0).sum(0).astype(np.int32)
    zero = np.zeros(walkers, np.int32)
    return Walkers(*map(jnp.asarray, (masks, generator, zero, zero, masks, ranks)))


def walk(
    walkers: Walkers,
    key: Array,
    checks: int,
    ring: str,
    plus_after: int,
    margin: int,
    symmetric: bool = False,
) -> Walkers:
    """`checks` times 64 steps, with a plus transition after `plus_after` flips without a gain.

    Consumes `key`.  The rank stays within `margin` of the walker's best.  Pure; jit with `checks`
    and what follows static.
    """
    most = walkers.factors.shape[2] * (3 if symmetric else 1)

    def check(k, state: Walkers) -> Walkers:
        rows = jax.random.randint(jax.random.fold_in(key, k), (CHECK,), 0, most)

        def one(s, carry):
            planes, generator, flips = carry
            planes, generator, done = step(planes, generator, rows[s], ring, symmetric)
            return planes, generator, flips + done

        none = jnp.zeros_like(state.flips)
        planes = tuple(tuple(factor) for factor in state.factors)
        planes, generator, flips = jax.lax.fori_loop(0, CHECK, one, (planes, state.generator, none))
        factors = _stack(planes)
        now = rank(factors)
        better = now < state.best_rank
        best = jnp.where(better[None, None, None], factors, state.best)
        best_rank = jnp.minimum(now, state.best_rank)
        since = jnp.where(better, 0, state.since + flips)
        # A walker without any flip is in a dead end: only a plus transition leads on.
        wanted = ((since >= plus_after) | (flips == 0)) & (now < best_rank + margin)
        factors, generator, added = jax.lax.cond(
            wanted.any(),
            lambda f, g: plus(f, g, wanted, ring),
            lambda f, g: (f, g, jnp.zeros_like(wanted)),
            factors,
            generator,
        )
        since = jnp.where(added, 0, since)
        return Walkers(factors, generator, since, state.flips + flips, best, best_rank)

    walkers = walkers._replace(flips=jnp.zeros_like(walkers.flips))
    return jax.lax.fori_loop(0, checks, check, walkers)


@functools.cache
def compiled(
    mesh: Mesh, checks: int, ring: str, plus_after: int, margin: int, symmetric: bool = False
):
    """`walk` jitted over a mesh of one axis: each device walks with its own share of the walkers."""
    axis = mesh.axis_names[0]
    last = Spec(None, None, None, axis)
    each: Any = [last if name in ("factors", "best") else Spec(axis) for name in Walkers._fields]
    specs = Walkers(*each)

    def part(walkers, key):
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        return walk(walkers, key, checks, ring, plus_after, margin, symmetric)

    # Stated: what comes from the host and what comes from the last call must be one compilation.
    where = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    return jax.jit(
        jax.shard_map(part, mesh=mesh, in_specs=(specs, Spec()), out_specs=specs, check_vma=False),
        in_shardings=(where, NamedSharding(mesh, Spec())),
        out_shardings=where,
    )
