"""Sorting networks by the thousand: a beam over the 0-1 vectors that can still come out.

A sequence of comparators (i, j), i < j, puts the smaller of two numbers on wire i.  It sorts if it
sorts every vector of zeros and ones (Knuth, TAOCP 3, 5.3.4), so what matters of a prefix is the set
of 0-1 vectors that it may leave: 2^n at the start, n + 1 when it sorts.  The beam keeps the prefixes
with the smallest sets, shaken by noise, so that each key gives other networks, and with a bonus for
comparators that will save an instruction (see `saves`, and `comparators`).  (Prefixes are not
thinned out by what they leave, as in proofs of optimality: two networks that leave the same set may
make programs of different length.)

One jitted program: a set is one bit for each vector, and a comparator a gather and two logical
operations, over all prefixes and comparators at once.
"""

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, UInt32

from alphajax.alphadev.programs.references import NETWORKS


@dataclass(frozen=True, kw_only=True)
class Config:
    """A beam of networks for `n` wires."""

    n: int
    comparators: int | None = None
    """L of each network (default: as few as can be)."""
    width: int = 512
    """Prefixes kept after each comparator, B."""
    noise: float = 0.1
    """Standard deviation of what is added to the logarithm of the size of each set."""
    bonus: float = 0.02
    """How much smaller that logarithm counts for each comparator that saves a copy."""

    def __post_init__(self):
        if not 2 <= self.n <= 8:
            raise ValueError(f"n: received {self.n}; expected 2 to 8")
        least = len(NETWORKS[self.n])
        if self.comparators is not None and not least <= self.comparators <= 3 * least:
            raise ValueError(
                f"comparators: received {self.comparators}; expected {least} to {3 * least} for"
                f" {self.n} numbers"
            )
        if self.width < 1:
            raise ValueError(f"width: received {self.width}; expected 1 or more")
        for name in ("noise", "bonus"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected 0 or more")

    @property
    def length(self) -> int:
        """L."""
        return self.comparators or len(NETWORKS[self.n])


def pairs(n: int) -> np.ndarray:
    """All comparators (i, j), i < j, int32 `[C, 2]`."""
    return np.array(list(combinations(range(n), 2)), np.int32)


def _effects(n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each comparator and 0-1 vector: the vector with both bits swapped, and may it come out?"""
    vectors = np.arange(2**n)
    first, second = (vectors >> pairs(n)[:, [axis]] & 1 for axis in (0, 1))
    both = (1 << pairs(n)).sum(1)[:, None]
    return np.where(first != second, vectors ^ both, vectors), ~((first == 1) & (second == 0))


class Wired(NamedTuple):
    """What is on each wire, as functions of the inputs: truth tables on the 0-1 vectors, in words."""

    values: UInt32[Array, "*B n W"]
    parents: UInt32[Array, "*B n 2 W"]
    """The two values whose minimum or maximum it is."""
    kind: Int[Array, "*B n"]
    """MINIMUM or MAXIMUM; 0 for an input."""


MINIMUM, MAXIMUM = 1, 2


def _inputs(n: int) -> Wired:
    bits = np.arange(2**n)[None] >> np.arange(n)[:, None] & 1
    bits = np.pad(bits, ((0, 0), (0, -(2**n) % 32))).reshape(n, -1, 32)
    words = (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(-1, dtype=np.uint32)
    values = jnp.asarray(words)
    return Wired(values, jnp.stack([values, values], 1), jnp.zeros(n, jnp.int32))


def _wire(wired: Wired, comparator: Int[Array, "2"]) -> Wired:
    x, y = wired.values[comparator[0]], wired.values[comparator[1]]
    return Wired(
        wired.values.at[comparator].set(jnp.stack([x & y, x | y])),
        wired.parents.at[comparator].set(jnp.stack([x, y])[None]),
        wired.kind.at[comparator].set(np.array([MINIMUM, MAXIMUM])),
    )


def saves(wired: Wired, n: int) -> Bool[Array, "*B C"]:
    """Which comparators save a copy: where an old value can take the place of one that is compared.

    If x = min(A, C) and always y <= C, then x is A wherever x < y; so, where x is A, A serves as a copy
    of x.  The same for a maximum the other way round, and for y.  What always holds between minima and
    maxima holds if it does on zeros and ones.
    """
    x, y = (jnp.take(wired.values, pairs(n)[:, axis], -2)[..., None, :] for axis in (0, 1))
    found = []
    for axis, other in ((0, y), (1, x)):
        own, kind = pairs(n)[:, axis], wired.kind
        parents = jnp.take(wired.parents, own, -3)
        below = jnp.any(jnp.all(other & ~parents == 0, -1), -1)
        above = jnp.any(jnp.all(parents & ~other == 0, -1), -1)
        kind = jnp.take(kind, own, -1)
        found.append(((kind == MINIMUM) & below) | ((kind == MAXIMUM) & above))
    return found[0] | found[1]


@partial(jax.jit, static_argnums=0)
def grow(config: Config, key: Key[Array, ""]) -> tuple[Int[Array, "B L 2"], Bool[Array, " B"]]:
    """Networks, and which of them sort.  The key is consumed.

    Networks that differ only in the order of comparators or in the names of the inputs make the same
    programs, so one of them is kept.  They are told apart by a hash: the label of a value is made from
    those of the two that were compared (all inputs have the same), and a network's name from the labels
    of its comparators and, for each wire, how often it carries a one.
    """
    n, width, length = config.n, config.width, config.length
    wires, (swapped, possible) = pairs(n), _effects(n)
    count = len(wires)
    ones = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float32)
    # One row for each comparator: which wire gets the minimum, and which the maximum.
    lower, upper = (np.arange(n)[None] == wires[:, [axis]] for axis in (0, 1))

    def extend(beam, key):
        sets, labels, code, saved, wired, alive = beam
        children = (sets[:, None] | sets[:, swapped]) & possible[None]
        sizes = jnp.sum(children, -1, dtype=jnp.int32)
        score = jnp.log(sizes.astype(jnp.float32))
        score += config.noise * jax.random.normal(key, score.shape)
        savings = saved[:, None] + saves(wired, n)
        score -= config.bonus * savings
        x, y = labels[:, wires[:, 0]], labels[:, wires[:, 1]]
        made = _mix(x + y + _mix(x * y))
        after = jnp.where(lower[None], _mix(made + 1)[:, :, None], labels[:, None])
        after = jnp.where(upper[None], _mix(made + 2)[:, :, None], after)
        codes = code[:, None] + made
        often = jnp.einsum("bcs,sn->bcn", children.astype(jnp.float32), ones).astype(jnp.uint32)
        names = codes + jnp.sum(_mix(after + _mix(often)), -1, dtype=jnp.uint32)
        useless = jnp.all(children == sets[:, None], -1)
        unwanted = (useless | ~alive[:, None]).ravel() | _again(names.ravel())
        best, chosen = jax.lax.top_k(jnp.where(unwanted, -jnp.inf, -score.ravel()), width)
        parent, comparator = chosen // count, chosen % count
        at = parent, comparator
        wired = jax.tree.map(lambda x: x[parent], wired)
        wired = jax.vmap(_wire)(wired, jnp.asarray(wires)[comparator])
        return (children[at], after[at], codes[at], savings[at], wired, jnp.isfinite(best)), at

    first = (
        jnp.ones((width, 2**n), bool),
        jnp.ones((width, n), jnp.uint32),
        jnp.zeros(width, jnp.uint32),
        jnp.zeros(width, jnp.int32),
        jax.tree.map(lambda x: jnp.broadcast_to(x, (width, *x.shape)), _inputs(n)),
        # One empty network is enough.
        jnp.arange(width) == 0,
    )
    (sets, *_, alive), steps = jax.lax.scan(extend, first, jax.random.split(key, length))

    def back(at, step):
        parent, comparator = step
        return parent[at], jnp.asarray(wires)[comparator[at]]

    _, networks = jax.lax.scan(back, jnp.arange(width), steps, reverse=True)
    return jnp.swapaxes(networks, 0, 1), alive & (jnp.sum(sets, -1) == n + 1)


def _mix(x: Array) -> Array:
    """A bijection of 32-bit words that leaves no pattern (the finaliser of MurmurHash3)."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _again(codes: Array) -> Array:
    """Entries that are equal to an earlier one."""
    order = jnp.argsort(codes, stable=True)
    ordered = codes[order]
    repeated = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] == ordered[:-1]])
    return jnp.zeros_like(repeated).at[order].set(repeated)


def sorts(network, n: int) -> bool:
    """Whether comparators (i, j) sort every 0-1 vector, and so everything (host)."""
    vectors = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    for i, j in network:
        vectors[:, [i, j]] = np.sort(vectors[:, [i, j]], axis=1)
    return bool((np.diff(vectors, axis=1) >= 0).all())
