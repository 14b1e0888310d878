"""Orbits: moves that keep a residual as symmetric as its target.

The tensor of a matrix product is the same after certain exchanges of what its entries are called:

* *cycled*, for n x n: trace ABC = trace BCA takes u (x) v (x) w to v (x) w (x) u;
* *transposed*, for n x m times m x m: trace ABC = trace C'B'A' takes it to w' (x) v' (x) u', where a factor is
  read as a matrix;
* *reversed*, for all: rows and columns of all matrices are counted from the other end;
* *halved*: where their number is even, the first and the second half of the rows or columns change places.

Many of its best decompositions are too: they consist of whole *orbits*, a term and whatever it is taken to
(Ballard et al., *The geometry of rank decompositions of matrix multiplication II*, 2018, for the cyclic ones).
A term that is taken to itself by some of the exchanges has a smaller orbit: the *cubes* u (x) u (x) u are alone when
modes are cycled, and 23 = 2 + 7 * 3 for 3 x 3.  Whoever plays whole orbits has that many fewer moves to find, and
can only find symmetric decompositions: a help, which a result has to state.  The move is still three factors.  One
orbit has several spellings, of which `Symmetry.first` is one.

All of these exchange *places*, which are the entries of a move's three factors one after another.  So a symmetry is a
group of permutations of 3 S places, whatever it consists of, and holds over every ring.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from alphajax.alphatensor.game.moves import Ring, canonical


@dataclass(frozen=True)
class Symmetry:
    """Which exchanges of places a game's tensors stay the same under."""

    elements: tuple[tuple[int, ...], ...] = ((),)
    """All of a group, the one that changes nothing first: of each, which place's entry comes to stand at each place.
    By default there is no other."""

    @property
    def order(self) -> int:
        """G, the terms of the largest orbits."""
        return len(self.elements)

    @cached_property
    def table(self) -> np.ndarray:
        """The elements, int `[G, 3 S]`."""
        return np.array(self.elements)

    @cached_property
    def kept(self) -> np.ndarray:
        """Of the subgroups that one or two elements generate, except the trivial one, each once (those that exchange the
        same places count as one): which place is the first of those that it exchanges with each place, int
        `[K, 3 S]`."""
        found = {}
        for pair in itertools.combinations_with_replacement(self.table[1:], 2):
            first = np.min(generated(*pair), axis=0)
            found[first.tobytes()] = first
        return np.stack(list(found.values()))

    def images(self, factors: Int[Array, "*B 3 S"]) -> Int[Array, "*B G 3 S"]:
        """What moves are taken to, themselves first."""
        if self.order == 1:
            return factors[..., None, :, :]
        flat = factors.reshape(*factors.shape[:-2], -1)
        return flat[..., self.table].reshape(*factors.shape[:-2], self.order, *factors.shape[-2:])

    @cached_property
    def products(self) -> np.ndarray:
        """Which element is h, then g: int `[G, G]`, at [g, h]."""
        number = {element: g for g, element in enumerate(self.elements)}
        return np.array([[number[tuple(h[g].tolist())] for h in self.table] for g in self.table])

    def orbit(
        self, factors: Int[Array, "*B 3 S"], ring: Ring
    ) -> tuple[Int[Array, "*B G 3 S"], Bool[Array, "*B G"]]:
        """The images of moves, canonical, and which of them differ from all before them: the orbit's terms."""
        images = canonical(self.images(factors), ring)
        if self.order == 1:
            return images, jnp.ones(images.shape[:-2], bool)
        fixed = jnp.all(images == images[..., :1, :, :], axis=(-2, -1))
        # Where h takes a move to itself, h, then g, takes it to where g does.
        earlier = self.products < np.arange(self.order)[:, None]
        again = jnp.einsum("...h,gh->...g", fixed.astype(jnp.int32), earlier.astype(np.int32))
        return images, again == 0

    def terms(self, factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B"]:
        """How many terms moves play."""
        if self.order == 1:
            return jnp.ones(factors.shape[:-2], jnp.int32)
        return jnp.sum(self.orbit(factors, ring)[1], axis=-1, dtype=jnp.int32)

    def first(self, factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B 3 S"]:
        """The one of an orbit's spellings whose first factor is the largest, read in the ring's base; of several such
        that whose second is, then whose third.

        Where it is taught, a network need not spread its policy over all of them.
        """
        if self.order == 1:
            return canonical(factors, ring)
        images = canonical(self.images(factors), ring)
        # Beyond 31 bits the powers of another base, which order factors no less well.
        base = ring.base if ring.base ** factors.shape[-1] < 2**31 else 48271
        weights = np.array(
            [pow(base, place, 2**31 - 1) for place in range(1, factors.shape[-1] + 1)], np.int32
        )
        rank = jnp.einsum("...s,s->...", images.astype(jnp.int32), weights)
        left = jnp.ones(rank.shape[:-1], bool)
        for mode in range(3):
            size = jnp.where(left, rank[..., mode], np.iinfo(np.int32).min)
            left &= size == jnp.max(size, axis=-1, keepdims=True)
        chosen = jnp.argmax(left, axis=-1)[..., None, None, None]
        return jnp.take_along_axis(images, chosen, axis=-3)[..., 0, :, :]

    def alone(self, factors: Int[Array, "*B 3 S"], which: Int[Array, "*B"]) -> Int[Array, "*B 3 S"]:
        """Moves made to be taken to themselves by one of the subgroups of `kept`: of the places that it exchanges,
        the others' entries become the first's.  A move of which a factor became zero stays what it was."""
        flat = factors.reshape(*factors.shape[:-2], -1)
        even = jnp.take_along_axis(flat, jnp.asarray(self.kept)[which], axis=-1).reshape(
            factors.shape
        )
        there = jnp.all(jnp.any(even, axis=-1), axis=-1)
        return jnp.where(there[..., None, None], even, factors)

    def expand(self, factors: np.ndarray, ring: Ring) -> np.ndarray:
        """All terms of moves `[M, 3, S]` (NumPy), as `[R, 3, S]`; null moves are left out."""
        played = factors[np.asarray(factors).any(axis=-1).all(axis=-1)]
        count = len(played)
        # Null moves fill up to a power of two, so that few shapes are compiled.
        padded = np.pad(
            played, [(0, (1 << max(count - 1, 0).bit_length()) - count), (0, 0), (0, 0)]
        )
        images, new = (np.asarray(x)[:count] for x in _orbit(self, padded, ring))
        return images[new].astype(factors.dtype)

    def keeps(self, tensor: np.ndarray) -> bool:
        """Whether a tensor (NumPy, S x S x S) has this symmetry."""
        return all((taken == tensor).all() for taken in self._taken(tensor))

    def entries(self, dims: tuple[int, int, int], side: int) -> np.ndarray:
        """Of the entries of a tensor with this symmetry, as places in `dims` (row-major), one of each that are always
        equal."""
        whole = np.arange(side**3).reshape(side, side, side)
        first = np.min([whole, *self._taken(whole)], axis=0) == whole
        return np.flatnonzero(first[: dims[0], : dims[1], : dims[2]])

    def modes(self) -> list[int]:
        """Of the modes, one of each that are exchanged."""
        if self.order == 1:
            return [0, 1, 2]
        side = self.table.shape[1] // 3
        return np.unique(np.min(self.table[:, ::side] // side, axis=0)).tolist()

    def vectors(self, vectors: np.ndarray, mode: int, prime: int) -> np.ndarray:
        """Of vectors over GF(prime), int `[V, D]`, in which a mode of a tensor with this symmetry is contracted, which
        to take of each that leave matrices of the same rank, whatever the tensor; their places.  With a vector, all
        that an exchange takes it to are there, up to scale."""
        if self.order == 1:
            return np.arange(len(vectors))
        side, dim = self.table.shape[1] // 3, vectors.shape[1]
        own = np.unique(
            [x[mode] % side for x in self.table.reshape(-1, 3, side) if x[mode, 0] // side == mode],
            axis=0,
        )
        images = vectors[:, own[:, :dim]]
        lead = np.take_along_axis(images, np.argmax(images != 0, axis=-1)[..., None], axis=-1)
        inverses = np.array([0] + [pow(x, -1, prime) for x in range(1, prime)])
        keys = (images * inverses[lead] % prime) @ (prime ** np.arange(dim))
        place = {
            key: index for index, key in reversed(list(enumerate(np.min(keys, axis=1).tolist())))
        }
        return np.array(sorted(place.values()))

    def _taken(self, tensor: np.ndarray) -> Iterator[np.ndarray]:
        """What the elements take a tensor to."""
        if self.order > 1:
            side = len(tensor)
            for element in self.table.reshape(-1, 3, side):
                yield tensor.transpose(element[:, 0] // side)[np.ix_(*(element % side))]


TRIVIAL = Symmetry()
"""Of what has none: every move is one term."""


@partial(jax.jit, static_argnums=(0, 2))
def _orbit(symmetry: Symmetry, factors: Int[Array, "M 3 S"], ring: Ring):
    return symmetry.orbit(factors, ring)


def generated(*exchanges: Int[np.ndarray, " P"]) -> Int[np.ndarray, "G P"]:
    """All that can be made of some exchanges, one after another; what changes nothing first."""
    found = [np.arange(len(exchanges[0]))]
    known = {found[0].tobytes()}
    for one in found:  # grows
        for other in exchanges:
            made = one[other]
            if made.tobytes() not in known:
                known.add(made.tobytes())
                found.append(made)
    return np.stack(found)


def group(*exchanges: Int[np.ndarray, " P"]) -> Symmetry:
    """The symmetry under some exchanges of places, such as those below; of none, the trivial one."""
    return Symmetry(tuple(map(tuple, generated(*exchanges).tolist()))) if exchanges else TRIVIAL


def cycled(side: int) -> Int[np.ndarray, " P"]:
    """The exchange that cycles modes of S entries."""
    return np.roll(np.arange(3 * side), -side)


def transposed(n: int, m: int, side: int) -> Int[np.ndarray, " P"]:
    """The exchange that transposes the n x m times m x m product, each mode padded to `side`."""
    places = np.arange(3 * side).reshape(3, side)[::-1].copy()
    for mode, (rows, columns) in enumerate(((n, m), (m, m), (m, n))):
        inside = places[mode, : rows * columns]
        places[mode, : rows * columns] = inside.reshape(columns, rows).T.reshape(-1)
    return places.reshape(-1)


def renumbered(orders: Sequence[Int[np.ndarray, " _"]], side: int) -> Int[np.ndarray, " P"]:
    """The exchange that renumbers the n x m times m x p product's n rows, m inner ones and p columns, each mode padded to
    `side`; `orders` says of each of the three which number comes to stand at each place."""
    places = np.arange(3 * side).reshape(3, side)
    for mode in range(3):
        rows, columns = orders[mode], orders[(mode + 1) % 3]
        taken = rows[:, None] * len(columns) + columns[None]
        places[mode, : taken.size] = places[mode, taken.reshape(-1)]
    return places.reshape(-1)
