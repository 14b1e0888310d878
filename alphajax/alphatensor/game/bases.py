"""Changes of basis and signed permutations: the symmetries that the agent plays under.

A tensor is the same problem in any basis: if `T = sum u_r (x) v_r (x) w_r`, then the tensor
`T'_{abc} = sum_{ijk} A_ai B_bj C_ck T_ijk` is decomposed by `(A u_r, B v_r, C w_r)`.  The paper
plays each game in a random unimodular basis, and shows each network query a random signed permutation
of it (Fawzi et al., 2022, Methods, "Change of basis").  What is found in a random basis is
brought back with the exact inverses before anybody verifies or saves it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.symmetry import Symmetry


class Basis(NamedTuple):
    """Three matrices, one for each mode, and their exact inverses over the ring; int32."""

    matrices: Int[Array, "*B 3 S S"]
    inverses: Int[Array, "*B 3 S S"]


class Signed(NamedTuple):
    """A signed permutation for each mode: new[a] = sign[a] old[order[a]]."""

    order: Int[Array, "*B 3 S"]
    sign: Int[Array, "*B 3 S"]


def identity(side: int) -> Basis:
    """The canonical basis."""
    eye = jnp.broadcast_to(jnp.eye(side, dtype=jnp.int32), (3, side, side))
    return Basis(eye, eye)


def _unit_triangular_inverse(lower: Int[Array, "*B S S"], modulus: int) -> Int[Array, "*B S S"]:
    """Exact inverse of unit lower-triangular integer matrices, by forward substitution."""
    side = lower.shape[-1]
    rows: list[jax.Array] = []
    for i in range(side):
        row = jnp.broadcast_to(jnp.eye(side, dtype=jnp.int32)[i], (*lower.shape[:-2], side))
        for j, earlier in enumerate(rows):
            row = row - lower[..., i, j, None] * earlier
        rows.append(row % modulus if modulus else row)
    return jnp.stack(rows, axis=-2)


def random_basis(
    key: jax.Array,
    ring: Ring,
    side: int,
    dims: Int[Array, "3"],
    density: float | Float[Array, ""] = 0.1,
    shared: bool = False,
) -> Basis:
    """A random unimodular basis (over Z_p: of GL) with its inverse; one for each mode.

    The product P L U of a permutation, a unit lower and a unit upper triangular matrix with random
    off-diagonal entries.  Rows and columns beyond `dims` stay those of the identity, so padding stays
    padding.  Over Z the off-diagonal entries are -1, 0, 1 and mostly 0 (`density` is the
    probability of a non-zero one): entries of the changed tensor grow quickly otherwise, and the
    decompositions with small entries become rare.

    Args:
      key: consumed.
      density: chance that an off-diagonal entry of L or U is non-zero; over Z_p it is drawn
        from the units.
      shared: A = B = C as in the paper (needs equal dims); otherwise three independent ones.
    """
    bits_key, sign_key = jax.random.split(key)
    count = 1 if shared else 3
    inside = jnp.arange(side)[None] < dims[:count, None]
    inside2 = inside[:, :, None] & inside[:, None, :]
    # One draw, cut up: each call of a generator costs more than the numbers do.
    bits = jax.random.bits(bits_key, (2, count, side, side), jnp.uint32)

    def triangular(bits):
        used = (bits >> 8) < jnp.asarray(density * 2**24).astype(jnp.uint32)
        low = (bits & 255).astype(jnp.int32)
        value = 1 + low % (ring.modulus - 1) if ring.modulus else 1 - 2 * (low & 1)
        below = jnp.tril(jnp.where(used & inside2, value, 0), -1)
        return below + jnp.eye(side, dtype=jnp.int32)[None]

    def multiply(a, b):
        return ring.reduce(jnp.einsum("mab,mbc->mac", a, b))

    lower, upper_t = triangular(bits[0]), triangular(bits[1])
    lower_inverse = _unit_triangular_inverse(lower, ring.modulus)
    upper_t_inverse = _unit_triangular_inverse(upper_t, ring.modulus)
    order, sign = signed_permutation(sign_key, ring, side, dims)
    permute = jax.nn.one_hot(order[:count], side, dtype=jnp.int32) * sign[:count, :, None]
    matrices = multiply(permute, multiply(lower, jnp.swapaxes(upper_t, -1, -2)))
    inverses = multiply(
        multiply(jnp.swapaxes(upper_t_inverse, -1, -2), lower_inverse),
        jnp.swapaxes(permute, -1, -2),
    )
    if shared:
        matrices, inverses = (jnp.repeat(x, 3, axis=0) for x in (matrices, inverses))
    return Basis(matrices, inverses)


def symmetric_basis(
    key: jax.Array,
    ring: Ring,
    dims: Int[Array, "3"],
    density: float | Float[Array, ""],
    symmetry: Symmetry,
) -> Basis:
    """A random basis in which orbits are what they are in the canonical one: the matrices of the three modes, as one
    of all 3 S places, commute with every exchange of them.

    The product of a unit lower and a unit upper triangular one for each mode; places that are exchanged count as one
    there.
    """
    table = symmetry.table
    side = table.shape[1] // 3
    orbit = np.min(table, axis=0)
    places = np.arange(3 * side).reshape(3, side)
    rows, columns = (
        np.broadcast_to(x, (3, side, side)) for x in (places[:, :, None], places[:, None])
    )
    # Entries that are exchanged are the same.
    _, same = np.unique(
        np.min(table[:, rows] * 3 * side + table[:, columns], axis=0), return_inverse=True
    )
    inside = np.arange(side)[None] < dims[:, None]
    free = (orbit[rows] > orbit[columns]) & inside[:, :, None] & inside[:, None]
    bits = jax.random.bits(key, (2, int(same.max()) + 1), jnp.uint32)[
        :, same.reshape(3, side, side)
    ]
    used = (bits >> 8) < jnp.asarray(density * 2**24).astype(jnp.uint32)
    low = (bits & 255).astype(jnp.int32)
    value = 1 + low % (ring.modulus - 1) if ring.modulus else 1 - 2 * (low & 1)
    # Partners next to each other, they are triangular.
    order = np.argsort(orbit.reshape(3, side), axis=1, kind="stable")
    back = np.argsort(order, axis=1)

    def arranged(matrices, by):
        return matrices[np.arange(3)[:, None, None], by[:, :, None], by[:, None, :]]

    lower, upper_t = (
        arranged(jnp.where(free & x, y, 0), order) + jnp.eye(side, dtype=jnp.int32)[None]
        for x, y in zip(used, value, strict=True)
    )
    inverse, upper_t_inverse = (_unit_triangular_inverse(x, ring.modulus) for x in (lower, upper_t))
    found = lower @ jnp.swapaxes(upper_t, 1, 2), jnp.swapaxes(upper_t_inverse, 1, 2) @ inverse
    return Basis(*(arranged(ring.reduce(x), back) for x in found))


def change_tensor(
    tensor: Int[Array, "S S S"], matrices: Int[Array, "3 S S"], ring: Ring
) -> Int[Array, "S S S"]:
    """The tensor in the new basis: each mode multiplied by its matrix (int32)."""
    x = tensor.astype(jnp.int32)
    for mode in range(3):
        x = ring.reduce(jnp.moveaxis(jnp.tensordot(matrices[mode], x, (1, mode)), 0, mode))
    return x


def change_factors(
    factors: Int[Array, "*R 3 S"], matrices: Int[Array, "3 S S"], ring: Ring
) -> Int[Array, "*R 3 S"]:
    """Factors in the new basis (int32): `change_factors(x, basis.inverses)` undoes a change."""
    return ring.reduce(jnp.einsum("mab,...mb->...ma", matrices, factors.astype(jnp.int32)))


def signed_permutation(key: jax.Array, ring: Ring, side: int, dims: Int[Array, "3"]) -> Signed:
    """A random signed permutation of the true entries of each mode.  `key` is consumed.

    Signs are -1 and 1 over Z and over Z_p for odd p, and absent over Z_2.
    """
    bits = jax.random.bits(key, (3, side), jnp.uint32)
    inside = jnp.arange(side)[None] < dims[:, None]
    # The high bits order the entries, padding last and in place; the lowest one is the sign.
    scores = jnp.where(inside, (bits >> 8).astype(jnp.int32), 2**24 + jnp.arange(side)[None])
    order = jnp.argsort(scores, axis=-1).astype(jnp.int32)
    sign = 1 - 2 * (bits & 1).astype(jnp.int32)
    sign = jnp.where(inside & (ring.modulus != 2), sign, 1)
    return Signed(order, ring.reduce(sign))


def permute_tensor(tensor: Int[Array, "S S S"], signed: Signed, ring: Ring) -> Int[Array, "S S S"]:
    """The tensor under a signed permutation of each mode; dtype kept."""
    x = tensor.astype(jnp.int32)
    for mode in range(3):
        shape = [-1 if axis == mode else 1 for axis in range(3)]
        x = jnp.take(x, signed.order[mode], axis=mode) * signed.sign[mode].reshape(shape)
        x = ring.reduce(x)
    return x.astype(tensor.dtype)


def permute_factors(factors: Int[Array, "*R 3 S"], signed: Signed, ring: Ring):
    """Factors under a signed permutation; dtype kept."""
    order = jnp.broadcast_to(signed.order, factors.shape)
    sign = jnp.broadcast_to(signed.sign, factors.shape)
    x = jnp.take_along_axis(factors.astype(jnp.int32), order, axis=-1) * sign
    return ring.reduce(x).astype(factors.dtype)


def unpermute_factors(factors: Int[Array, "*R 3 S"], signed: Signed, ring: Ring):
    """Undoes `permute_factors` (a sign is its own inverse); dtype kept."""
    back = jnp.broadcast_to(jnp.argsort(signed.order, axis=-1), factors.shape)
    sign = jnp.broadcast_to(signed.sign, factors.shape)
    x = ring.reduce(factors.astype(jnp.int32) * sign)
    return jnp.take_along_axis(x, back, axis=-1).astype(factors.dtype)
