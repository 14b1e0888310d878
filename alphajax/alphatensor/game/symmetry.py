"""Symmetry groups of target tensors, and the orbits of rank-one terms under them.

The tensor of a matrix product is invariant under these maps (names as in `TensorGame.symmetries`):

* "cyclic", for n x n: trace(ABC) = trace(BCA) maps u (x) v (x) w to v (x) w (x) u;
* "transpose", for n x m times m x m: trace(ABC) = trace(C'B'A') maps it to w' (x) v' (x) u';
* "reverse": rows and columns of all matrices are numbered from the other end;
* "swap_halves": the first and second halves of all even-sized rows and columns are exchanged.

Each map permutes the 3 S entries of a move, so it holds over every ring. A term and its images form
a *symmetry orbit*. Many of the best decompositions consist of whole orbits (Ballard et al., 2018,
"The geometry of rank decompositions of matrix multiplication II"). Beyond the AlphaTensor paper.
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

SYMMETRIES = ("cyclic", "transpose", "reverse", "swap_halves")
"""Names of the generators that `generator` builds, in the order in which groups are generated."""


@dataclass(frozen=True)
class SymmetryGroup:
    """A finite group of permutations of the 3 S entries of a move.

    The positions 0 to 3 S - 1 are the entries of u, then v, then w. Element g maps a move x to
    x[g]: entry p of the image is entry g[p] of x. A game whose moves are orbits of a group needs
    fewer moves, and finds symmetric decompositions only: for 3 x 3 and "cyclic", 23 = 2 + 7 * 3
    terms are 9 moves. The symmetry is prior knowledge, which the result of a run has to state.
    """

    elements: tuple[tuple[int, ...], ...] = ((),)
    """All elements as permutations, the identity first. The default is the trivial group."""

    @property
    def order(self) -> int:
        """G, the number of elements, which is the largest number of terms in an orbit."""
        return len(self.elements)

    @cached_property
    def table(self) -> Int[np.ndarray, "G P"]:
        """The elements as an array, int `[G, 3 S]`."""
        return np.array(self.elements)

    @cached_property
    def products(self) -> Int[np.ndarray, "G G"]:
        """Multiplication table, int `[G, G]`: entry [g, h] is the element "first h, then g"."""
        index_of = {element: g for g, element in enumerate(self.elements)}
        return np.array([[index_of[tuple(h[g].tolist())] for h in self.table] for g in self.table])

    @cached_property
    def stabilisers(self) -> Int[np.ndarray, "K P"]:
        """Representative positions under the subgroups of at most two generators, int `[K, 3 S]`.

        Row k maps each position to the smallest position that subgroup k exchanges it with. The
        trivial subgroup is left out; subgroups with equal rows are listed once.
        """
        rows = {}
        for pair in itertools.combinations_with_replacement(self.table[1:], 2):
            smallest = np.min(generate_elements(*pair), axis=0)
            rows[smallest.tobytes()] = smallest
        return np.stack(list(rows.values()))

    def images(self, factors: Int[Array, "*B 3 S"]) -> Int[Array, "*B G 3 S"]:
        """Images of moves under all elements; the move itself is the first."""
        if self.order == 1:
            return factors[..., None, :, :]
        flat = factors.reshape(*factors.shape[:-2], -1)
        return flat[..., self.table].reshape(*factors.shape[:-2], self.order, *factors.shape[-2:])

    def orbit(
        self, factors: Int[Array, "*B 3 S"], ring: Ring
    ) -> tuple[Int[Array, "*B G 3 S"], Bool[Array, "*B G"]]:
        """The orbits of moves: the distinct terms among their images.

        Args:
          factors: canonical moves, `[..., 3, S]`.
          ring: the arithmetic.

        Returns:
          Canonical images `[..., G, 3, S]`, and a mask `[..., G]` that selects each term once.
        """
        images = canonical(self.images(factors), ring)
        if self.order == 1:
            return images, jnp.ones(images.shape[:-2], bool)
        fixed = jnp.all(images == images[..., :1, :, :], axis=(-2, -1))
        # If h fixes a move, then "first h, then g" maps the move to the same image as g does.
        earlier = self.products < np.arange(self.order)[:, None]
        repeats = jnp.einsum("...h,gh->...g", fixed.astype(jnp.int32), earlier.astype(np.int32))
        return images, repeats == 0

    def orbit_sizes(self, factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B"]:
        """Number of terms in the orbits of moves, int32.

        Args:
          factors: canonical moves, `[..., 3, S]`.
          ring: the arithmetic.
        """
        if self.order == 1:
            return jnp.ones(factors.shape[:-2], jnp.int32)
        return jnp.sum(self.orbit(factors, ring)[1], axis=-1, dtype=jnp.int32)

    def canonical_representative(
        self, factors: Int[Array, "*B 3 S"], ring: Ring
    ) -> Int[Array, "*B 3 S"]:
        """The canonical move that represents an orbit: the image with the largest factors.

        Factors are compared as numbers in the ring's base, u first, then v, then w. A network that
        learns only representatives need not spread its policy over all moves of an orbit.

        Args:
          factors: moves, `[..., 3, S]`.
          ring: the arithmetic.

        Returns:
          Moves of the same orbits, `[..., 3, S]`.
        """
        if self.order == 1:
            return canonical(factors, ring)
        images = canonical(self.images(factors), ring)
        # Beyond 31 bits the powers of another base are taken: any fixed order of factors will do.
        base = ring.base if ring.base ** factors.shape[-1] < 2**31 else 48271
        weights = np.array(
            [pow(base, place, 2**31 - 1) for place in range(1, factors.shape[-1] + 1)], np.int32
        )
        rank = jnp.einsum("...s,s->...", images.astype(jnp.int32), weights)
        is_largest = jnp.ones(rank.shape[:-1], bool)
        for mode in range(3):
            size = jnp.where(is_largest, rank[..., mode], np.iinfo(np.int32).min)
            is_largest &= size == jnp.max(size, axis=-1, keepdims=True)
        index = jnp.argmax(is_largest, axis=-1)[..., None, None, None]
        return jnp.take_along_axis(images, index, axis=-3)[..., 0, :, :]

    def symmetrise(
        self, factors: Int[Array, "*B 3 S"], subgroup: Int[Array, "*B"]
    ) -> Int[Array, "*B 3 S"]:
        """Moves changed so that a subgroup fixes them.

        Each entry is replaced by the one at its representative position. A move that would get a
        zero factor stays unchanged.

        Args:
          factors: moves, `[..., 3, S]`.
          subgroup: index into `stabilisers` for each move, `[...]`.

        Returns:
          Moves, `[..., 3, S]`.
        """
        flat = factors.reshape(*factors.shape[:-2], -1)
        positions = jnp.asarray(self.stabilisers)[subgroup]
        symmetric = jnp.take_along_axis(flat, positions, axis=-1).reshape(factors.shape)
        is_term = jnp.all(jnp.any(symmetric, axis=-1), axis=-1)
        return jnp.where(is_term[..., None, None], symmetric, factors)

    def expand(self, factors: Int[np.ndarray, "M 3 S"], ring: Ring) -> Int[np.ndarray, "R 3 S"]:
        """All terms of the orbits of moves, on the host.

        Args:
          factors: moves, `[M, 3, S]`; null moves are skipped.
          ring: the arithmetic.

        Returns:
          Canonical terms, `[R, 3, S]`, in the dtype of `factors`.
        """
        moves = factors[np.asarray(factors).any(axis=-1).all(axis=-1)]
        count = len(moves)
        # Null moves pad the batch to a power of two, so that few shapes are compiled.
        padding = (1 << max(count - 1, 0).bit_length()) - count
        padded = np.pad(moves, [(0, padding), (0, 0), (0, 0)])
        images, is_term = (np.asarray(x)[:count] for x in _orbit(self, padded, ring))
        return images[is_term].astype(factors.dtype)

    def leaves_invariant(self, tensor: np.ndarray) -> bool:
        """Whether all elements leave a tensor `[S, S, S]` unchanged."""
        return all((image == tensor).all() for image in self._images_of(tensor))

    def distinct_entries(self, dims: tuple[int, int, int], side: int) -> Int[np.ndarray, " E"]:
        """One index for each class of entries that are equal in every invariant tensor.

        Args:
          dims: lengths of the modes.
          side: S, the padded length of the modes.

        Returns:
          Row-major indices into a tensor of shape `dims`, int `[E]`.
        """
        whole = np.arange(side**3).reshape(side, side, side)
        is_first = np.min([whole, *self._images_of(whole)], axis=0) == whole
        return np.flatnonzero(is_first[: dims[0], : dims[1], : dims[2]])

    def distinct_modes(self) -> list[int]:
        """One mode for each class of modes that the group exchanges."""
        if self.order == 1:
            return [0, 1, 2]
        side = self.table.shape[1] // 3
        return np.unique(np.min(self.table[:, ::side] // side, axis=0)).tolist()

    def distinct_vectors(
        self, vectors: Int[np.ndarray, "V D"], mode: int, prime: int
    ) -> Int[np.ndarray, " C"]:
        """One vector for each class that gives contractions of equal rank.

        The rank is that of an invariant tensor, contracted in a mode with the vector.

        Args:
          vectors: vectors over GF(p), int `[V, D]`, closed under the group up to scale.
          mode: the mode that is contracted, 0..2.
          prime: p.

        Returns:
          Indices into `vectors`, sorted, int `[C]`.
        """
        if self.order == 1:
            return np.arange(len(vectors))
        side, dim = self.table.shape[1] // 3, vectors.shape[1]
        permutations = np.unique(
            [x[mode] % side for x in self.table.reshape(-1, 3, side) if x[mode, 0] // side == mode],
            axis=0,
        )
        images = vectors[:, permutations[:, :dim]]
        lead = np.take_along_axis(images, np.argmax(images != 0, axis=-1)[..., None], axis=-1)
        inverses = np.array([0] + [pow(x, -1, prime) for x in range(1, prime)])
        keys = (images * inverses[lead] % prime) @ (prime ** np.arange(dim))
        first_index = {
            key: index for index, key in reversed(list(enumerate(np.min(keys, axis=1).tolist())))
        }
        return np.array(sorted(first_index.values()))

    def _images_of(self, tensor: np.ndarray) -> Iterator[np.ndarray]:
        """Images of a tensor under all elements; none for the trivial group."""
        if self.order > 1:
            side = len(tensor)
            for element in self.table.reshape(-1, 3, side):
                yield tensor.transpose(element[:, 0] // side)[np.ix_(*(element % side))]


TRIVIAL = SymmetryGroup()
"""The trivial group: every move is one term."""


@partial(jax.jit, static_argnums=(0, 2))
def _orbit(
    symmetry: SymmetryGroup, factors: Int[Array, "M 3 S"], ring: Ring
) -> tuple[Int[Array, "M G 3 S"], Bool[Array, "M G"]]:
    """`SymmetryGroup.orbit`, compiled."""
    return symmetry.orbit(factors, ring)


def generate_elements(*permutations: Int[np.ndarray, " P"]) -> Int[np.ndarray, "G P"]:
    """All elements of the group that permutations generate, int `[G, P]`, the identity first."""
    elements = [np.arange(len(permutations[0]))]
    known = {elements[0].tobytes()}
    for element in elements:  # the list grows inside the loop
        for permutation in permutations:
            product = element[permutation]
            if product.tobytes() not in known:
                known.add(product.tobytes())
                elements.append(product)
    return np.stack(elements)


def group(*permutations: Int[np.ndarray, " P"]) -> SymmetryGroup:
    """The group that permutations of a move's entries generate; without any, the trivial group."""
    if not permutations:
        return TRIVIAL
    return SymmetryGroup(tuple(map(tuple, generate_elements(*permutations).tolist())))


def generator(name: str, sizes: tuple[int, int, int], side: int) -> Int[np.ndarray, " P"]:
    """The permutation of a move's entries for one of `SYMMETRIES`.

    Args:
      name: "cyclic", "transpose", "reverse" or "swap_halves".
      sizes: (n, m, p) of the matrix product; "cyclic" does not read it.
      side: S, the padded length of a factor.

    Returns:
      The permutation, int `[3 S]`.

    Raises:
      ValueError: an unknown name.
    """
    if name == "cyclic":
        return mode_cycle(side)
    if name == "transpose":
        return product_transpose(*sizes[:2], side)
    if name == "reverse":
        return index_permutation([np.arange(size)[::-1] for size in sizes], side)
    if name == "swap_halves":
        shifts = [0 if size % 2 else size // 2 for size in sizes]
        orders = [np.roll(np.arange(size), x) for size, x in zip(sizes, shifts, strict=True)]
        return index_permutation(orders, side)
    raise ValueError(f"symmetry: received {name!r}; expected one of {', '.join(SYMMETRIES)}")


def mode_cycle(side: int) -> Int[np.ndarray, " P"]:
    """The permutation of entries that maps u (x) v (x) w to v (x) w (x) u, int `[3 S]`."""
    return np.roll(np.arange(3 * side), -side)


def product_transpose(n: int, m: int, side: int) -> Int[np.ndarray, " P"]:
    """The permutation of entries that maps u (x) v (x) w to w' (x) v' (x) u'.

    Args:
      n: rows of the first matrix, n x m.
      m: rows and columns of the second matrix, m x m.
      side: S, the padded length of a factor.

    Returns:
      The permutation, int `[3 S]`.
    """
    positions = np.arange(3 * side).reshape(3, side)[::-1].copy()
    for mode, (rows, columns) in enumerate(((n, m), (m, m), (m, n))):
        matrix = positions[mode, : rows * columns]
        positions[mode, : rows * columns] = matrix.reshape(columns, rows).T.reshape(-1)
    return positions.reshape(-1)


def index_permutation(orders: Sequence[Int[np.ndarray, " _"]], side: int) -> Int[np.ndarray, " P"]:
    """The permutation of entries that renumbers rows and columns of an n x m times m x p product.

    Args:
      orders: permutations of the n rows, the m inner indices and the p columns; index i of the
        image is index `order[i]` of the original.
      side: S, the padded length of a factor.

    Returns:
      The permutation, int `[3 S]`.
    """
    positions = np.arange(3 * side).reshape(3, side)
    for mode in range(3):
        rows, columns = orders[mode], orders[(mode + 1) % 3]
        source = rows[:, None] * len(columns) + columns[None]
        positions[mode, : source.size] = positions[mode, source.reshape(-1)]
    return positions.reshape(-1)
