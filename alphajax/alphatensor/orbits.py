"""Orbits: moves that keep a residual as symmetric as its target.

The tensor of a matrix product is the same after certain exchanges of its modes:

* *cycled*, for n x n: trace ABC = trace BCA takes u (x) v (x) w to v (x) w (x) u;
* *transposed*, for n x m times m x m: trace ABC = trace C'B'A' takes it to w' (x) v' (x) u', where a factor is
  read as a matrix.

Many of its best decompositions are too: they consist of whole *orbits*, a term and whatever it is taken to
(Ballard et al., *The geometry of rank decompositions of matrix multiplication II*, 2018, for the cyclic ones).
A term that is taken to itself is an orbit of its own: the *cubes* u (x) u (x) u are when modes are cycled, and
23 = 2 + 7 * 3 for 3 x 3.  Whoever plays whole orbits has a third, a half or, of both together, a sixth of the
moves to find, and can only find symmetric decompositions: a help, which a result has to state.  The move is still
three factors.  One orbit has several spellings, of which `Symmetry.first` is one.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from alphajax.alphatensor.moves import Ring, canonical


@dataclass(frozen=True)
class Symmetry:
    """Which exchanges of its modes a game's tensors stay the same under."""

    cyclic: bool = False
    transposes: tuple[tuple[int, ...], ...] = ()
    """Empty, or for each mode which entry of the opposite mode's factor comes to stand at each place: w' at x is
    `u[transposes[2][x]]`."""

    @property
    def order(self) -> int:
        """G, the terms of the largest orbits."""
        return (3 if self.cyclic else 1) * (2 if self.transposes else 1)

    def images(self, factors: Int[Array, "*B 3 S"]) -> Int[Array, "*B G 3 S"]:
        """What moves are taken to, themselves first."""
        found = [factors]
        if self.transposes:
            found.append(jnp.stack([self.transpose(factors, mode) for mode in range(3)], axis=-2))
        if self.cyclic:
            found = [jnp.roll(x, -turn, axis=-2) for x in found for turn in range(3)]
        return jnp.stack(found, axis=-3)

    def transpose(self, factors: Int[Array, "*B 3 S"], mode: int) -> Int[Array, "*B S"]:
        """The factor of mode `mode` of transposed moves."""
        return factors[..., 2 - mode, np.array(self.transposes[mode])]

    def orbit(
        self, factors: Int[Array, "*B 3 S"], ring: Ring
    ) -> tuple[Int[Array, "*B G 3 S"], Bool[Array, "*B G"]]:
        """The images of canonical moves, canonical, and which of them differ from all before them: the orbit's
        terms."""
        images = canonical(self.images(factors), ring)
        same = jnp.all(images[..., :, None, :, :] == images[..., None, :, :, :], axis=(-2, -1))
        earlier = jnp.broadcast_to(np.tri(self.order, k=-1, dtype=bool), same.shape)
        return images, ~jnp.any(same & earlier, axis=-1)

    def terms(self, factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B"]:
        """How many terms canonical moves play."""
        if self.order == 1:
            return jnp.ones(factors.shape[:-2], jnp.int32)
        return jnp.sum(self.orbit(factors, ring)[1], axis=-1, dtype=jnp.int32)

    def first(self, factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B 3 S"]:
        """The one of an orbit's spellings whose first factor is the largest, read in the ring's base; of several such
        that whose second is.

        Where it is taught, a network need not spread its policy over all of them.
        """
        if self.order == 1:
            return canonical(factors, ring)
        images = canonical(self.images(factors), ring)
        # Beyond 31 bits this wraps, which orders factors no less well.
        weights = (np.cumprod(np.full(factors.shape[-1], ring.base, np.uint64)) % 2**31).astype(np.int32)
        rank = jnp.einsum("...s,s->...", images.astype(jnp.int32), weights)
        left = jnp.ones(rank.shape[:-1], bool)
        for mode in range(3):
            size = jnp.where(left, rank[..., mode], np.iinfo(np.int32).min)
            left &= size == jnp.max(size, axis=-1, keepdims=True)
        chosen = jnp.argmax(left, axis=-1)[..., None, None, None]
        return jnp.take_along_axis(images, chosen, axis=-3)[..., 0, :, :]

    def alone(
        self, factors: Int[Array, "*B 3 S"], cube: Bool[Array, "*B"], mirrored: Bool[Array, "*B"]
    ) -> Int[Array, "*B 3 S"]:
        """Moves made to be taken to themselves, by cycling (`cube`) or by transposing (`mirrored`), where that is a
        symmetry at all."""
        u, v, w = (factors[..., mode, :] for mode in range(3))
        if self.transposes:
            places = np.arange(factors.shape[-1])
            opposite = np.array(self.transposes[1])
            one, other = v[..., np.minimum(places, opposite)], v[..., np.maximum(places, opposite)]
            even = jnp.where(jnp.any(one, axis=-1, keepdims=True), one, other)
            mirrored = mirrored[..., None]
            v, w = jnp.where(mirrored, even, v), jnp.where(mirrored, self.transpose(factors, 2), w)
            # A cube that is mirrored is one of a mirrored factor.
            u = jnp.where(cube[..., None] & mirrored & self.cyclic, even, u)
        if self.cyclic:
            v, w = (jnp.where(cube[..., None], u, x) for x in (v, w))
        return jnp.stack([u, v, w], axis=-2)

    def expand(self, factors: np.ndarray, ring: Ring) -> np.ndarray:
        """All terms of canonical moves `[M, 3, S]` (NumPy), as `[R, 3, S]`; null moves are left out."""
        played = factors[np.asarray(factors).any(axis=-1).all(axis=-1)]
        count = len(played)
        # Null moves fill up to a power of two, so that few shapes are compiled.
        padded = np.pad(played, [(0, (1 << max(count - 1, 0).bit_length()) - count), (0, 0), (0, 0)])
        images, new = (np.asarray(x)[:count] for x in _orbit(self, padded, ring))
        return images[new].astype(factors.dtype)

    def keeps(self, tensor: np.ndarray) -> bool:
        """Whether a tensor (NumPy) has this symmetry."""
        if self.cyclic:
            cycled = np.moveaxis(tensor, 0, -1)
            if cycled.shape != tensor.shape or not (cycled == tensor).all():
                return False
        if self.transposes:
            first, second, third = (np.array(x) for x in self.transposes)
            mirrored = tensor[np.ix_(third, second, first)].transpose(2, 1, 0)
            return mirrored.shape == tensor.shape and bool((mirrored == tensor).all())
        return True


@partial(jax.jit, static_argnums=(0, 2))
def _orbit(symmetry: Symmetry, factors: Int[Array, "M 3 S"], ring: Ring):
    return symmetry.orbit(factors, ring)


def transposes(n: int, m: int, side: int) -> tuple[tuple[int, ...], ...]:
    """`Symmetry.transposes` of the n x m times m x m product, each mode padded to `side`."""
    maps = []
    for rows, columns in ((n, m), (m, m), (m, n)):
        places = np.arange(side)
        places[: rows * columns] = np.arange(rows * columns).reshape(columns, rows).T.reshape(-1)
        maps.append(tuple(places.tolist()))
    return tuple(maps)
