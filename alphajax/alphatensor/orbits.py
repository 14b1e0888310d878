"""Cyclic orbits: moves that keep a residual as symmetric as its target.

The tensor of the n x n product is the same when its modes are cycled (trace ABC = trace BCA).  Many of
its best decompositions are too (Ballard et al., *The geometry of rank decompositions of matrix
multiplication II*, 2018): they consist of *cubes* u (x) u (x) u and of *orbits*

    u (x) v (x) w + v (x) w (x) u + w (x) u (x) v,

23 = 2 + 7 * 3 for 3 x 3.  Whoever plays whole orbits has a third of the moves to find, and can only find
symmetric decompositions: a help, which a result has to state.  The move is still three factors; it is a
cube where they are multiples of one vector.  One orbit has three spellings, of which `first` is one.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from alphajax.alphatensor.moves import Ring


def is_symmetric(tensor: np.ndarray) -> bool:
    """Whether a tensor (NumPy) is the same when its modes are cycled."""
    cycled = np.moveaxis(tensor, 0, -1)
    return cycled.shape == tensor.shape and bool((cycled == tensor).all())


def is_cube(factors: Int[Array, "*B 3 S"], ring: Ring) -> Bool[Array, "*B"]:
    """Whether a canonical move is a multiple of one vector's cube: v = u, and w a multiple of u."""
    u, v, w = (factors[..., mode, :].astype(jnp.int32) for mode in range(3))
    minors = u[..., :, None] * w[..., None, :] - u[..., None, :] * w[..., :, None]
    return jnp.all(u == v, axis=-1) & jnp.all(ring.reduce(minors) == 0, axis=(-2, -1))


def terms(cube: Bool[Array, "*B"]) -> Int[Array, "*B"]:
    """Rank-one terms of a move: 1 of a cube, 3 of an orbit."""
    return jnp.where(cube, 1, 3)


def total(term: Int[Array, "S S S"], cube: Bool[Array, ""]) -> Int[Array, "S S S"]:
    """What a move takes away: its term, and the two that it becomes by cycling unless it is a cube."""
    cycled = jnp.moveaxis(term, 0, -1)
    return term + jnp.where(cube, 0, cycled + jnp.moveaxis(cycled, 0, -1))


def first(factors: Int[Array, "*B 3 S"], base: int) -> Int[Array, "*B 3 S"]:
    """The one of an orbit's three spellings whose first factor is the largest, read in base `base`.

    Where it is taught, a network need not spread its policy over all three.  (The result has still to be
    made canonical in its signs.)
    """
    # Beyond 31 bits this wraps, which orders factors no less well.
    weights = np.cumprod(np.full(factors.shape[-1], base, np.uint64)) % 2**31
    rank = jnp.einsum("...s,s->...", factors.astype(jnp.int32), weights.astype(np.int32))
    # Of two equal ones, that after which the larger follows.
    largest = rank == jnp.max(rank, axis=-1, keepdims=True)
    follows = jnp.where(largest, jnp.roll(rank, -1, axis=-1), np.iinfo(np.int32).min)
    turns = jnp.argmax(follows, axis=-1, keepdims=True)
    order = (turns + jnp.broadcast_to(np.arange(3), rank.shape)) % 3
    return jnp.take_along_axis(factors, order[..., None], axis=-2)


def expand(factors: np.ndarray, ring: Ring) -> np.ndarray:
    """All terms of canonical moves `[M, 3, S]` (NumPy), as `[R, 3, S]`; null moves are left out."""
    found = []
    for move in factors:
        if not move.any(axis=-1).all():
            continue
        cube = bool(is_cube(jnp.asarray(move), ring))
        found += [np.roll(move, -turn, axis=0) for turn in range(1 if cube else 3)]
    return np.array(found, factors.dtype).reshape(-1, *factors.shape[1:])
