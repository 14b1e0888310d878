"""Random walks in flip graphs: the search without learning that AlphaTensor is compared with.

Walkers change a scheme by flips (see `flip_moves`); one that gets a zero factor has lost a product.
In a step all walkers take the same row, compare it with every other row in all three modes, and
flip it with a random row that shares a factor. Rows are thus read at fixed places, and everything
vectorises over walkers. A walk that makes no progress goes through a plus transition.

Shapes: B walkers, R rows (some of them holes), P planes of a factor, see `flip_moves`.

Sources: Kauers and Moosbauer, "Flip graphs for matrix multiplication" (2022); Arai, Ichikawa and
Hukushima, "Adaptive flip graph algorithm for matrix multiplication" (2024).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec
from jaxtyping import Array, Int, UInt32

from alphajax.alphatensor.baselines.flip_moves import plus_transition, rank, stack, step
from alphajax.alphatensor.game.tensors import Target
from alphajax.alphatensor.schemes.composition import naive
from alphajax.alphatensor.schemes.scheme import Scheme, Sizes, check_sizes

RINGS = ("Z2", "Z")
STEPS_PER_CHECK = 64
"""Steps between two looks at the ranks."""
MAX_ENTRIES = 64
"""Largest number of entries of a factor."""
MAX_ROWS = 1024


class Walkers(NamedTuple):
    """The state of B walks."""

    factors: UInt32[Array, "3 P R B"]
    """Current schemes, as masks."""
    generator: UInt32[Array, " B"]
    """State of the random number generators, not zero."""
    stagnation: Int[Array, " B"]
    """Flips since the last improvement or plus transition."""
    flips: Int[Array, " B"]
    """Flips in the last call of `walk`."""
    best: UInt32[Array, "3 P R B"]
    """The shortest scheme since the restart, as masks."""
    best_rank: Int[Array, " B"]
    """Its rank."""


def num_words(entries: int) -> int:
    """Number of uint32 words of a mask of so many entries."""
    return -(-entries // 32)


def pack(scheme: Scheme, rows: int | None = None) -> np.ndarray:
    """Convert a scheme to masks, one row per product.

    Args:
      scheme: over "Z2" or "Z", with entries in {-1, 0, 1}.
      rows: R, at most 1024; the last ones are holes. None: the rank.

    Returns:
      uint32, `[3, P, R]`.

    Raises:
      ValueError: another ring, other entries, factors of more than 64 entries, or fewer rows than
        products.
    """
    if scheme.ring not in RINGS:
        raise ValueError(f"flip graph over {scheme.ring!r}; expected one of {RINGS}")
    if max(scheme.shape) > MAX_ENTRIES:
        raise ValueError(
            f"factors of {scheme.shape} entries; expected at most {MAX_ENTRIES} in each"
        )
    rows = scheme.rank if rows is None else rows
    if rows < scheme.rank:
        raise ValueError(
            f"{rows} rows for a scheme of rank {scheme.rank}; expected at least as many"
        )
    if rows > MAX_ROWS:
        raise ValueError(f"{rows} rows; expected at most {MAX_ROWS}")
    count = num_words(max(scheme.shape))
    planes = []
    for factor in scheme.factors:
        if np.abs(factor).max(initial=0) > 1:
            raise ValueError("a factor has an entry beyond {-1, 0, 1}; expected only these")
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


def unpack(
    masks: np.ndarray, shape: tuple[int, int, int], ring: str, sizes: Sizes | None = None
) -> Scheme:
    """Convert masks to a scheme; holes are dropped.

    Args:
      masks: uint32, `[3, P, R]`.
      shape: (I, J, K) of the tensor.
      ring: "Z2" or "Z".
      sizes: (n, m, p) of a matrix multiplication.

    Returns:
      The scheme; it is not verified.
    """
    masks = np.asarray(masks)
    masks = masks[:, :, (masks != 0).any(1).all(0)]
    bits = (masks[:, :, None] >> np.arange(32, dtype=np.uint32)[:, None]) & 1
    bits = bits.astype(np.int64)  # [3, P, 32, R]
    if ring == "Z":
        half = bits.shape[1] // 2
        bits = bits[:, :half] - bits[:, half:]
    flat = bits.reshape(3, 32 * bits.shape[1], bits.shape[-1])
    u, v, w = (flat[mode, : shape[mode]] for mode in range(3))
    return Scheme(u, v, w, sizes, ring)


def naive_scheme(target: Target, ring: str) -> Scheme:
    """The naive scheme of a target: one product per unit entry.

    Args:
      target: any target.
      ring: "Z2" or "Z".

    Returns:
      The scheme.

    Raises:
      ValueError: another ring.
    """
    if ring not in RINGS:
        raise ValueError(f"flip graph over {ring!r}; expected one of {RINGS}")
    if target.sizes:
        return naive(*check_sizes(target.sizes), ring)
    entries = target.array % 2 if ring == "Z2" else target.array
    places = np.repeat(np.argwhere(entries), np.abs(entries[entries != 0]), axis=0)
    signs = np.sign(entries[tuple(places.T)])
    u, v, w = (np.eye(size, dtype=np.int64)[:, places[:, m]] for m, size in enumerate(target.shape))
    return Scheme(u * signs, v, w, target.sizes, ring)


def make_walkers(masks: np.ndarray, walkers: int, seed: int) -> Walkers:
    """Walkers at the start of their walks.

    Args:
      masks: one scheme for all, `[3, P, R]`, or one for each, `[3, P, R, B]`.
      walkers: B.
      seed: of their random numbers.

    Returns:
      The walkers.
    """
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
    """Walk `checks` times 64 steps, with plus transitions of walkers that do not improve.

    Pure; to jit it, make `checks` and the arguments after it static.

    Args:
      walkers: B walks.
      key: of the order of the rows. Consumed.
      checks: rounds of 64 steps.
      ring: "Z2" or "Z".
      plus_after: flips without an improvement before a plus transition.
      margin: a plus transition keeps the rank at most so far above the walker's best.
      symmetric: whether a row stands for its three cyclic rotations, see `flip_moves.step`.

    Returns:
      The walkers.

    Source: Arai, Ichikawa and Hukushima (2024).
    """
    num_choices = walkers.factors.shape[2] * (3 if symmetric else 1)

    def check(k, state: Walkers) -> Walkers:
        rows = jax.random.randint(jax.random.fold_in(key, k), (STEPS_PER_CHECK,), 0, num_choices)

        def one_step(s, carry):
            planes, generator, flips = carry
            planes, generator, done = step(planes, generator, rows[s], ring, symmetric)
            return planes, generator, flips + done

        none = jnp.zeros_like(state.flips)
        planes = tuple(tuple(factor) for factor in state.factors)
        planes, generator, flips = jax.lax.fori_loop(
            0, STEPS_PER_CHECK, one_step, (planes, state.generator, none)
        )
        factors = stack(planes)
        ranks = rank(factors)
        better = ranks < state.best_rank
        best = jnp.where(better[None, None, None], factors, state.best)
        best_rank = jnp.minimum(ranks, state.best_rank)
        stagnation = jnp.where(better, 0, state.stagnation + flips)
        # A walker without any flip is in a dead end: only a plus transition leads out of it.
        is_stuck = (stagnation >= plus_after) | (flips == 0)
        mask = is_stuck & (ranks < best_rank + margin)
        factors, generator, added = jax.lax.cond(
            mask.any(),
            lambda f, g: plus_transition(f, g, mask, ring),
            lambda f, g: (f, g, jnp.zeros_like(mask)),
            factors,
            generator,
        )
        stagnation = jnp.where(added, 0, stagnation)
        return Walkers(factors, generator, stagnation, state.flips + flips, best, best_rank)

    walkers = walkers._replace(flips=jnp.zeros_like(walkers.flips))
    return jax.lax.fori_loop(0, checks, check, walkers)


@functools.cache
def compile_walk(
    mesh: Mesh, checks: int, ring: str, plus_after: int, margin: int, symmetric: bool = False
) -> Callable[[Walkers, Array], Walkers]:
    """Jit `walk` over a mesh: each device walks with its share of the walkers.

    Args:
      mesh: of one axis.
      checks: as in `walk`.
      ring: as in `walk`.
      plus_after: as in `walk`.
      margin: as in `walk`.
      symmetric: as in `walk`.

    Returns:
      A function of walkers and a key (consumed). B must be a multiple of the devices.
    """
    axis = mesh.axis_names[0]
    last = Spec(None, None, None, axis)
    each: Any = [last if name in ("factors", "best") else Spec(axis) for name in Walkers._fields]
    specs = Walkers(*each)

    def walk_share(walkers: Walkers, key: Array) -> Walkers:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        return walk(walkers, key, checks, ring, plus_after, margin, symmetric)

    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    jitted = jax.jit(
        jax.shard_map(
            walk_share, mesh=mesh, in_specs=(specs, Spec()), out_specs=specs, check_vma=False
        ),
        in_shardings=(shardings, NamedSharding(mesh, Spec())),
        out_shardings=shardings,
    )

    def compiled_walk(walkers: Walkers, key: Array) -> Walkers:
        # Placed first: walkers from the host and from the last call then share one compilation.
        return jitted(jax.device_put(walkers, shardings), key)

    return compiled_walk
