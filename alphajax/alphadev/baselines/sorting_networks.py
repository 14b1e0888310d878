"""Random sorting networks by the thousand: a beam search over sets of 0-1 vectors.

A comparator (i, j), i < j, moves the smaller of two numbers to wire i.  A network sorts if it sorts
every vector of zeros and ones (Knuth, TAOCP 3, 5.3.4).  What matters of a prefix is therefore the
set of 0-1 vectors that it may output: 2^n for the empty prefix, n + 1 for a network that sorts.

The beam keeps the prefixes with the smallest sets.  Noise makes each key give other networks, and a
bonus prefers comparators that save an instruction (`saves_copy`).  Two networks with the same set
may make programs of different length, so the set alone does not identify a prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, Key, UInt32

from alphajax.alphadev.machine.networks import NETWORKS
from alphajax.config import check_counts, check_non_negative


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the beam of networks."""

    n: int
    """Wires, 2 to 8."""
    comparators: int | None = None
    """Comparators of each network, L; None: the fewest possible."""
    width: int = 512
    """Prefixes that are kept after each comparator, B."""
    noise: float = 0.1
    """Standard deviation of the noise on the logarithm of a set's size, 0 or more."""
    bonus: float = 0.02
    """Reduction of that logarithm for each comparator that saves a copy, 0 or more."""

    def __post_init__(self) -> None:
        if not 2 <= self.n <= 8:
            raise ValueError(f"n: received {self.n}; expected 2 to 8")
        fewest = len(NETWORKS[self.n])
        if self.comparators is not None and not fewest <= self.comparators <= 3 * fewest:
            raise ValueError(
                f"comparators: received {self.comparators}; expected {fewest} to {3 * fewest} for"
                f" {self.n} numbers"
            )
        check_counts(self, 1, "width")
        check_non_negative(self, "noise", "bonus")

    @property
    def length(self) -> int:
        """Comparators of each network, L."""
        return self.comparators or len(NETWORKS[self.n])


def pairs(n: int) -> Int32[np.ndarray, "C 2"]:
    """All comparators (i, j), i < j, of n wires."""
    return np.array(list(combinations(range(n), 2)), np.int32)


def _effects(n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each comparator and 0-1 vector: the vector with the bits swapped if they differ, and
    whether the comparator may output the vector."""
    vectors = np.arange(2**n)
    first, second = (vectors >> pairs(n)[:, [axis]] & 1 for axis in (0, 1))
    both = (1 << pairs(n)).sum(1)[:, None]
    return np.where(first != second, vectors ^ both, vectors), ~((first == 1) & (second == 0))


class Wires(NamedTuple):
    """The values on the wires as functions of the inputs: truth tables on 0-1 vectors, in words."""

    values: UInt32[Array, "*B n W"]
    parents: UInt32[Array, "*B n 2 W"]
    """The two values whose minimum or maximum each one is."""
    kind: Int[Array, "*B n"]
    """MINIMUM or MAXIMUM; 0 for an input."""


MINIMUM, MAXIMUM = 1, 2


def input_wires(n: int) -> Wires:
    """The wires before the first comparator."""
    bits = np.arange(2**n)[None] >> np.arange(n)[:, None] & 1
    bits = np.pad(bits, ((0, 0), (0, -(2**n) % 32))).reshape(n, -1, 32)
    words = (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(-1, dtype=np.uint32)
    values = jnp.asarray(words)
    return Wires(values, jnp.stack([values, values], 1), jnp.zeros(n, jnp.int32))


def apply_comparator(wires: Wires, comparator: Int[Array, "2"]) -> Wires:
    """The wires after one comparator.

    Args:
      wires: the wires before it.
      comparator: (i, j).

    Returns:
      The minimum on wire i, the maximum on wire j, the other wires unchanged.
    """
    x, y = wires.values[comparator[0]], wires.values[comparator[1]]
    return Wires(
        wires.values.at[comparator].set(jnp.stack([x & y, x | y])),
        wires.parents.at[comparator].set(jnp.stack([x, y])[None]),
        wires.kind.at[comparator].set(np.array([MINIMUM, MAXIMUM])),
    )


def saves_copy(wires: Wires, n: int) -> Bool[Array, "*B C"]:
    """Whether an old value can replace the copy that each comparator needs.

    Let x = min(a, c) and y <= c always.  Then x equals a wherever x < y, so where x is on its wire
    a can serve as a copy of it.  The same holds for a maximum with the order reversed, and for y.
    An inequality between minima and maxima holds always if it holds on zeros and ones.

    Args:
      wires: the wires before the comparator.
      n: number of wires.

    Returns:
      One bit for each comparator of `pairs`.
    """
    x, y = (jnp.take(wires.values, pairs(n)[:, axis], -2)[..., None, :] for axis in (0, 1))
    saves = []
    for axis, other in ((0, y), (1, x)):
        own = pairs(n)[:, axis]
        parents = jnp.take(wires.parents, own, -3)
        below = jnp.any(jnp.all(other & ~parents == 0, -1), -1)
        above = jnp.any(jnp.all(parents & ~other == 0, -1), -1)
        kind = jnp.take(wires.kind, own, -1)
        saves.append(((kind == MINIMUM) & below) | ((kind == MAXIMUM) & above))
    return saves[0] | saves[1]


class _Beam(NamedTuple):
    """B prefixes of networks."""

    sets: Bool[Array, "B V"]
    """0-1 vectors that the prefix may output."""
    labels: UInt32[Array, "B n"]
    """Hashes of the values on the wires."""
    code: UInt32[Array, " B"]
    """Hash of the comparators."""
    savings: Int[Array, " B"]
    """Comparators that save a copy."""
    wires: Wires
    is_valid: Bool[Array, " B"]


@partial(jax.jit, static_argnums=0)
def grow(config: Config, key: Key[Array, ""]) -> tuple[Int[Array, "B L 2"], Bool[Array, " B"]]:
    """Grows networks comparator by comparator.

    Networks that differ only in the order of comparators, or in the names of the inputs, make the
    same programs, so only one of them is kept.  A hash identifies them: the label of a value is
    made from the labels of the two values compared (all inputs have the same label), the name of a
    network from the labels of its comparators and the number of ones on each wire.

    Args:
      config: settings of the beam.
      key: random key.  Consumed.

    Returns:
      The networks, and which of them sort.
    """
    n, width, comparators = config.n, config.width, jnp.asarray(pairs(config.n))
    count = len(comparators)

    def extend(beam: _Beam, key):
        children, labels, code, savings, score = _children(config, beam, key)
        names = _names(children, labels, code)
        useless = jnp.all(children == beam.sets[:, None], -1)
        dropped = (useless | ~beam.is_valid[:, None]).ravel() | _is_repeated(names.ravel())
        best, chosen = jax.lax.top_k(jnp.where(dropped, -jnp.inf, -score.ravel()), width)
        parent, comparator = chosen // count, chosen % count
        at = parent, comparator
        wires = jax.tree.map(lambda x: x[parent], beam.wires)
        wires = jax.vmap(apply_comparator)(wires, comparators[comparator])
        is_valid = jnp.isfinite(best)
        return _Beam(children[at], labels[at], code[at], savings[at], wires, is_valid), at

    def trace_back(at, step):
        parent, comparator = step
        return parent[at], comparators[comparator[at]]

    beam, steps = jax.lax.scan(
        extend, _empty_networks(n, width), jax.random.split(key, config.length)
    )
    _, networks = jax.lax.scan(trace_back, jnp.arange(width), steps, reverse=True)
    return jnp.swapaxes(networks, 0, 1), beam.is_valid & (jnp.sum(beam.sets, -1) == n + 1)


def _empty_networks(n: int, width: int) -> _Beam:
    """A beam with one empty network; the other entries are invalid."""
    return _Beam(
        jnp.ones((width, 2**n), bool),
        jnp.ones((width, n), jnp.uint32),
        jnp.zeros(width, jnp.uint32),
        jnp.zeros(width, jnp.int32),
        jax.tree.map(lambda x: jnp.broadcast_to(x, (width, *x.shape)), input_wires(n)),
        jnp.arange(width) == 0,
    )


def _children(config: Config, beam: _Beam, key: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Every prefix after every comparator: sets, labels, codes, savings, and scores to minimise."""
    n = config.n
    wires, (swapped, possible) = pairs(n), _effects(n)
    # One row for each comparator: which wire gets the minimum, and which the maximum.
    lower, upper = (np.arange(n)[None] == wires[:, [axis]] for axis in (0, 1))
    children = (beam.sets[:, None] | beam.sets[:, swapped]) & possible[None]
    sizes = jnp.sum(children, -1, dtype=jnp.int32)
    score = jnp.log(sizes.astype(jnp.float32))
    score += config.noise * jax.random.normal(key, score.shape)
    savings = beam.savings[:, None] + saves_copy(beam.wires, n)
    score -= config.bonus * savings
    x, y = beam.labels[:, wires[:, 0]], beam.labels[:, wires[:, 1]]
    label = _mix(x + y + _mix(x * y))
    labels = jnp.where(lower[None], _mix(label + 1)[:, :, None], beam.labels[:, None])
    labels = jnp.where(upper[None], _mix(label + 2)[:, :, None], labels)
    return children, labels, beam.code[:, None] + label, savings, score


def _names(children: Array, labels: Array, code: Array) -> UInt32[Array, "B C"]:
    """Hashes of networks up to the order of comparators and the names of the inputs."""
    n = labels.shape[-1]
    ones = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float32)
    often = jnp.einsum("bcs,sn->bcn", children.astype(jnp.float32), ones).astype(jnp.uint32)
    return code + jnp.sum(_mix(labels + _mix(often)), -1, dtype=jnp.uint32)


def _mix(x: Array) -> Array:
    """MurmurHash3's finaliser, a bijection of 32-bit words."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _is_repeated(codes: Array) -> Array:
    """Whether each entry equals an earlier one."""
    order = jnp.argsort(codes, stable=True)
    ordered = codes[order]
    repeated = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] == ordered[:-1]])
    return jnp.zeros_like(repeated).at[order].set(repeated)


def sorts(network: Int[np.ndarray, "L 2"] | Sequence[Sequence[int]], n: int) -> bool:
    """Whether a network sorts every 0-1 vector, and therefore every input; on the host.

    Args:
      network: comparators (i, j).
      n: wires.

    Returns:
      Whether it sorts.
    """
    vectors = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    for i, j in network:
        vectors[:, [i, j]] = np.sort(vectors[:, [i, j]], axis=1)
    return bool((np.diff(vectors, axis=1) >= 0).all())
