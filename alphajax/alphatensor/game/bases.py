"""Changes of basis and signed permutations of tensors and of factors.

If T = sum_r u_r (x) v_r (x) w_r, then T'_abc = sum_ijk A_ai B_bj C_ck T_ijk is the sum of the terms
(A u_r, B v_r, C w_r), so a change of basis keeps the rank. The paper plays each game in a random
unimodular basis, and shows the network a random signed permutation of each observation
(Fawzi et al., 2022, Methods, "Change of basis"). A decomposition found in a random basis is mapped
back by the exact inverses before it is verified or saved.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.symmetry import SymmetryGroup


class Basis(NamedTuple):
    """A change of basis: one invertible matrix per mode, and the inverses over the ring; int32."""

    matrices: Int[Array, "*B 3 S S"]
    """A, B and C, `[..., 3, S, S]`."""
    inverses: Int[Array, "*B 3 S S"]
    """Their exact inverses, `[..., 3, S, S]`."""


class SignedPermutation(NamedTuple):
    """A signed permutation per mode: new[a] = sign[a] * old[order[a]]."""

    order: Int[Array, "*B 3 S"]
    """Permutations, `[..., 3, S]` int32."""
    sign: Int[Array, "*B 3 S"]
    """Signs as elements of the ring, `[..., 3, S]` int32."""


def identity(side: int) -> Basis:
    """The canonical basis: identity matrices, `[3, side, side]`."""
    eye = jnp.broadcast_to(jnp.eye(side, dtype=jnp.int32), (3, side, side))
    return Basis(eye, eye)


def _unit_triangular_inverse(lower: Int[Array, "*B S S"], modulus: int) -> Int[Array, "*B S S"]:
    """Exact inverses of unit lower-triangular integer matrices, by forward substitution."""
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
    """A random unimodular basis over Z, or a random invertible one over Z_p.

    Each matrix is P L U: a signed permutation, a unit lower-triangular and a unit upper-triangular
    matrix with random off-diagonal entries. Over Z most of these should be 0: otherwise entries of
    the changed tensor grow, and few decompositions with small entries remain.

    Args:
      key: consumed.
      ring: the arithmetic.
      side: S, the padded length of the modes.
      dims: true lengths of the modes, `[3]`. Beyond them the matrices are the identity's.
      density: probability that an off-diagonal entry of L or U is not 0. Non-zero entries are
        uniform over {-1, 1} (Z) or the units (Z_p).
      shared: whether A = B = C, as in the paper; needs equal `dims`.

    Source: Fawzi et al. (2022), Methods, "Change of basis".
    """
    bits_key, sign_key = jax.random.split(key)
    count = 1 if shared else 3
    is_entry = jnp.arange(side)[None] < dims[:count, None]
    is_free = is_entry[:, :, None] & is_entry[:, None, :]
    # One draw for all entries: a call of the generator costs more than the numbers do.
    bits = jax.random.bits(bits_key, (2, count, side, side), jnp.uint32)

    def triangular(bits):
        is_nonzero = (bits >> 8) < jnp.asarray(density * 2**24).astype(jnp.uint32)
        low = (bits & 255).astype(jnp.int32)
        value = 1 + low % (ring.modulus - 1) if ring.modulus else 1 - 2 * (low & 1)
        below = jnp.tril(jnp.where(is_nonzero & is_free, value, 0), -1)
        return below + jnp.eye(side, dtype=jnp.int32)[None]

    def multiply(a, b):
        return ring.reduce(jnp.einsum("mab,mbc->mac", a, b))

    lower, upper_t = triangular(bits[0]), triangular(bits[1])
    lower_inverse = _unit_triangular_inverse(lower, ring.modulus)
    upper_t_inverse = _unit_triangular_inverse(upper_t, ring.modulus)
    order, sign = signed_permutation(sign_key, ring, side, dims)
    permutation = jax.nn.one_hot(order[:count], side, dtype=jnp.int32) * sign[:count, :, None]
    matrices = multiply(permutation, multiply(lower, jnp.swapaxes(upper_t, -1, -2)))
    inverses = multiply(
        multiply(jnp.swapaxes(upper_t_inverse, -1, -2), lower_inverse),
        jnp.swapaxes(permutation, -1, -2),
    )
    if shared:
        matrices, inverses = (jnp.repeat(x, 3, axis=0) for x in (matrices, inverses))
    return Basis(matrices, inverses)


def symmetric_basis(
    key: jax.Array,
    ring: Ring,
    dims: Int[Array, "3"],
    density: float | Float[Array, ""],
    symmetry: SymmetryGroup,
) -> Basis:
    """A random basis that commutes with a symmetry group.

    The block-diagonal matrix of A, B and C commutes with every element's permutation of the 3 S
    entries of a move. So a symmetric tensor stays symmetric, and orbits stay orbits. Each matrix is
    L U: a unit lower-triangular and a unit upper-triangular one, where positions that the group
    exchanges within a mode count as one.

    Args:
      key: consumed.
      ring: the arithmetic.
      dims: true lengths of the modes, `[3]`. Beyond them the matrices are the identity's.
      density: probability that an off-diagonal entry of L or U is not 0.
      symmetry: the group, not the trivial one; gives S.

    Source: beyond the paper.
    """
    table = symmetry.table
    side = table.shape[1] // 3
    representative = np.min(table, axis=0)
    positions = np.arange(3 * side).reshape(3, side)
    rows, columns = (
        np.broadcast_to(x, (3, side, side)) for x in (positions[:, :, None], positions[:, None])
    )
    # Matrix entries that the group exchanges are equal: one random number for each class of them.
    _, entry_class = np.unique(
        np.min(table[:, rows] * 3 * side + table[:, columns], axis=0), return_inverse=True
    )
    is_entry = np.arange(side)[None] < dims[:, None]
    is_below = representative[rows] > representative[columns]
    is_free = is_below & is_entry[:, :, None] & is_entry[:, None]
    bits = jax.random.bits(key, (2, int(entry_class.max()) + 1), jnp.uint32)
    bits = bits[:, entry_class.reshape(3, side, side)]
    is_nonzero = (bits >> 8) < jnp.asarray(density * 2**24).astype(jnp.uint32)
    low = (bits & 255).astype(jnp.int32)
    value = 1 + low % (ring.modulus - 1) if ring.modulus else 1 - 2 * (low & 1)
    # With positions that are exchanged next to each other, the matrices are triangular.
    order = np.argsort(representative.reshape(3, side), axis=1, kind="stable")
    inverse_order = np.argsort(order, axis=1)

    def reorder(matrices, order):
        return matrices[np.arange(3)[:, None, None], order[:, :, None], order[:, None, :]]

    lower, upper_t = (
        reorder(jnp.where(is_free & x, y, 0), order) + jnp.eye(side, dtype=jnp.int32)[None]
        for x, y in zip(is_nonzero, value, strict=True)
    )
    lower_inverse, upper_t_inverse = (
        _unit_triangular_inverse(x, ring.modulus) for x in (lower, upper_t)
    )
    matrices = lower @ jnp.swapaxes(upper_t, 1, 2)
    inverses = jnp.swapaxes(upper_t_inverse, 1, 2) @ lower_inverse
    return Basis(*(reorder(ring.reduce(x), inverse_order) for x in (matrices, inverses)))


def change_tensor(
    tensor: Int[Array, "S S S"], matrices: Int[Array, "3 S S"], ring: Ring
) -> Int[Array, "S S S"]:
    """The tensor in another basis: T'_abc = sum_ijk A_ai B_bj C_ck T_ijk.

    Args:
      tensor: `[S, S, S]` integers.
      matrices: A, B and C, `[3, S, S]`: `basis.matrices`, or `basis.inverses` to undo a change.
      ring: the arithmetic.

    Returns:
      The changed tensor, `[S, S, S]` int32, reduced into the ring.
    """
    x = tensor.astype(jnp.int32)
    for mode in range(3):
        x = ring.reduce(jnp.moveaxis(jnp.tensordot(matrices[mode], x, (1, mode)), 0, mode))
    return x


def change_factors(
    factors: Int[Array, "*R 3 S"], matrices: Int[Array, "3 S S"], ring: Ring
) -> Int[Array, "*R 3 S"]:
    """Factors in another basis: (A u, B v, C w).

    Args:
      factors: moves, `[..., 3, S]`.
      matrices: A, B and C, `[3, S, S]`: `basis.matrices`, or `basis.inverses` to undo a change.
      ring: the arithmetic.

    Returns:
      The changed factors, `[..., 3, S]` int32, reduced into the ring.
    """
    return ring.reduce(jnp.einsum("mab,...mb->...ma", matrices, factors.astype(jnp.int32)))


def signed_permutation(
    key: jax.Array, ring: Ring, side: int, dims: Int[Array, "3"]
) -> SignedPermutation:
    """A random signed permutation of the entries of each mode.

    Args:
      key: consumed.
      ring: the arithmetic. Signs are -1 or 1, and always 1 over Z_2.
      side: S, the padded length of the modes.
      dims: true lengths of the modes, `[3]`. Entries beyond them stay in place.

    Source: Fawzi et al. (2022), Methods.
    """
    bits = jax.random.bits(key, (3, side), jnp.uint32)
    is_entry = jnp.arange(side)[None] < dims[:, None]
    # The high bits order the entries, padding last and in place; the lowest bit is the sign.
    scores = jnp.where(is_entry, (bits >> 8).astype(jnp.int32), 2**24 + jnp.arange(side)[None])
    order = jnp.argsort(scores, axis=-1).astype(jnp.int32)
    sign = 1 - 2 * (bits & 1).astype(jnp.int32)
    sign = jnp.where(is_entry & (ring.modulus != 2), sign, 1)
    return SignedPermutation(order, ring.reduce(sign))


def permute_tensor(
    tensor: Int[Array, "S S S"], signed: SignedPermutation, ring: Ring
) -> Int[Array, "S S S"]:
    """A tensor under a signed permutation of each mode.

    Args:
      tensor: `[S, S, S]` integers.
      signed: unbatched.
      ring: the arithmetic.

    Returns:
      The permuted tensor, in the same dtype.
    """
    x = tensor.astype(jnp.int32)
    for mode in range(3):
        shape = [-1 if axis == mode else 1 for axis in range(3)]
        x = jnp.take(x, signed.order[mode], axis=mode) * signed.sign[mode].reshape(shape)
        x = ring.reduce(x)
    return x.astype(tensor.dtype)


def permute_factors(
    factors: Int[Array, "*R 3 S"], signed: SignedPermutation, ring: Ring
) -> Int[Array, "*R 3 S"]:
    """Factors under a signed permutation of each mode.

    Args:
      factors: moves, `[..., 3, S]`.
      signed: unbatched, or with as many leading axes as `factors`.
      ring: the arithmetic.

    Returns:
      The permuted factors, in the same dtype.
    """
    order = jnp.broadcast_to(signed.order, factors.shape)
    sign = jnp.broadcast_to(signed.sign, factors.shape)
    x = jnp.take_along_axis(factors.astype(jnp.int32), order, axis=-1) * sign
    return ring.reduce(x).astype(factors.dtype)


def unpermute_factors(
    factors: Int[Array, "*R 3 S"], signed: SignedPermutation, ring: Ring
) -> Int[Array, "*R 3 S"]:
    """The inverse of `permute_factors`; a sign is its own inverse.

    Args:
      factors: permuted moves, `[..., 3, S]`.
      signed: unbatched, or with as many leading axes as `factors`.
      ring: the arithmetic.

    Returns:
      The original factors, in the same dtype.
    """
    inverse_order = jnp.broadcast_to(jnp.argsort(signed.order, axis=-1), factors.shape)
    sign = jnp.broadcast_to(signed.sign, factors.shape)
    x = ring.reduce(factors.astype(jnp.int32) * sign)
    return jnp.take_along_axis(x, inverse_order, axis=-1).astype(factors.dtype)
